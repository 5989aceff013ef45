"""When the same request is made again, and when that is given up. Waiting is tenacity's work.

Waits are exponential with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), so that
many documents that failed together do not come back together. A server that says when to come
back (Retry-After) gets nothing before, from any document: see `pool.Server`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from medgemma_cli.engines.calls.pool import Pool, Server
from medgemma_cli.engines.calls.replies import Again, Refused, Reply
from medgemma_cli.errors import ModelUnavailableError


class Patience(NamedTuple):
    """How often and how long.

    Attributes:
        first: seconds; the first wait is at most this, each further one at most twice the last.
        longest: seconds of one wait.
        faults: failures that may be the document's doing, before it is given up.
        suspicious: after so many of them, it is asked with nothing else on that server.
        seconds: how long a server may be away or busy before the run ends.
    """

    first: float = 0.5
    longest: float = 30.0
    faults: int = 5
    suspicious: int = 2
    seconds: float = 300.0


class Tries:
    """The tries of one document.

    Attributes:
        asking: whether a request is under way now, not a wait.
    """

    def __init__(self, patience: Patience, stopped: Callable[[], bool]) -> None:
        self.asking = False
        self._patience = patience
        self._stopped = stopped
        self._faults = 0
        self._since: float | None = None

    async def ask(self, pool: Pool, send: Callable[[Server], Awaitable[Reply]]) -> Reply:
        """The first answer that comes.

        Raises:
            Again: given up; its `kind` is that of the last failure. What `send` raises else.
        """
        from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

        patience = self._patience
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Again),
            wait=wait_random_exponential(patience.first, patience.longest),
            stop=lambda state: self._given_up(state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        reply: Reply = await retrying(self._once, pool, send)
        return reply

    async def _once(self, pool: Pool, send: Callable[[Server], Awaitable[Reply]]) -> Reply:
        alone = self._faults >= self._patience.suspicious
        async with pool.taken(alone=alone) as server:
            self.asking = True
            try:
                return await send(server)
            except Again as error:
                self._faults += error.kind == "fault"
                self._since = self._since or time.monotonic()
                raise
            finally:
                self.asking = False

    def _given_up(self, error: BaseException | None) -> bool:
        if self._stopped() or self._faults >= self._patience.faults:
            return True
        waited = time.monotonic() - (self._since or time.monotonic())
        away = isinstance(error, Again) and error.kind != "fault"
        return away and waited > self._patience.seconds


async def alive(pool: Pool, patience: Patience) -> None:
    """Wait until a server answers; what failed at one that does was the document's doing.

    Raises:
        ModelUnavailableError: 69, none does.
    """
    ends = time.monotonic() + patience.seconds / 5
    while True:
        for server in pool.servers:
            try:
                await server.client.models()
            except Again:
                continue
            except Refused:
                return  # it answers
            return
        if time.monotonic() > ends:
            raise unavailable("gone")
        await asyncio.sleep(min(1.0, patience.longest))


def unavailable(kind: str) -> ModelUnavailableError:
    """The error of a run whose servers are away or busy; no document is charged with that."""
    if kind == "busy":
        return ModelUnavailableError(
            "The server has had too much to do for minutes.",
            "Run again later, or with a smaller --batch-size.",
        )
    return ModelUnavailableError(
        "No server of --base-url can be reached, or it does not answer as one.",
        "Start it, or check --base-url; `medgemma doctor --engine server` tells more.",
    )
