"""Which server gets the next request: the one with the most room. All on one event loop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from medgemma_cli.engines.calls.client import Client
from medgemma_cli.engines.calls.replies import Again
from medgemma_cli.engines.calls.window import Window

_LONGEST_REST = 30.0


class Server:
    """One server: its client, its window, and what is under way there."""

    def __init__(self, client: Client, most: int) -> None:
        self.client = client
        self.window = Window(most)
        self.under_way = 0
        self.reserved = False
        self._rests_until = 0.0
        self._away = 0

    @property
    def away(self) -> bool:
        """Whether it could not be reached the last time."""
        return self._away > 0

    def rests(self, now: float) -> float:
        """Seconds until it may be asked again."""
        return max(0.0, self._rests_until - now)

    def answered(self, tokens: int, now: float) -> None:
        """It answered."""
        self._away = 0
        self.window.answered(tokens, now)

    def failed(self, error: Again, began: float, now: float) -> None:
        """It did not: fewer at once, and none for a while where it asked for that or is away."""
        if error.kind == "gone":
            self._away += 1
            rest = min(0.25 * 2 ** min(self._away, 9), _LONGEST_REST)
        else:
            self.window.choked(began, now)
            rest = error.after or 0.0
        self._rests_until = max(self._rests_until, now + rest)


class Pool:
    """Several servers.

    Attributes:
        room: how many requests all of them take at once now.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self._changed = asyncio.Condition()

    @property
    def room(self) -> int:
        """At least one."""
        return sum(server.window.size for server in self.servers)

    @contextlib.asynccontextmanager
    async def taken(self, *, alone: bool = False) -> AsyncIterator[Server]:
        """A server to ask now; with `alone` nothing else is under way there meanwhile.

        `Again` that comes out of the block is noted in the server.
        """
        server = await (self._reserved() if alone else self._roomy())
        server.under_way += 1
        began = time.monotonic()
        server.window.taken(server.under_way, began)
        try:
            yield server
        except Again as error:
            server.failed(error, began, time.monotonic())
            raise
        finally:
            server.under_way -= 1
            server.reserved = server.reserved and not alone
            async with self._changed:
                self._changed.notify_all()

    async def _roomy(self) -> Server:
        while True:
            free = [
                server
                for server in self._awake()
                if not server.reserved and server.under_way < server.window.size
            ]
            if free:
                # Outstanding work by what each takes; of equals, the one that takes more.
                return min(free, key=lambda one: (one.under_way / one.window.size, one.under_way))
            await self._wait()

    async def _reserved(self) -> Server:
        chosen: Server | None = None
        try:
            while True:
                if chosen is None:
                    free = [server for server in self._awake() if not server.reserved]
                    chosen = min(free, key=lambda one: one.under_way, default=None)
                    if chosen is not None:
                        chosen.reserved = True
                if chosen is not None and not chosen.under_way:
                    return chosen
                await self._wait()
        except BaseException:
            if chosen is not None:
                chosen.reserved = False
            raise

    def _awake(self) -> list[Server]:
        now = time.monotonic()
        return [server for server in self.servers if not server.rests(now)]

    async def _wait(self) -> None:
        """Until something ends, or a server has rested."""
        now = time.monotonic()
        rests = [rest for server in self.servers if (rest := server.rests(now))]
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(rests, default=None))
