"""What is between the caller's thread and the loop: documents under way, pieces to be shown."""

import asyncio
import contextlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

from medgemma_cli.engines.calls import replies
from medgemma_cli.engines.calls.client import Client
from medgemma_cli.engines.calls.replies import Again, Refused, Reply
from medgemma_cli.engines.calls.tries import Tries
from medgemma_cli.records import Generation


class UnderWay:
    """Documents that are being asked, from the caller's side."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: queue.SimpleQueue[Future[Generation | None]] = queue.SimpleQueue()
        self._tries: dict[Future[Generation | None], Tries] = {}

    def __len__(self) -> int:
        return len(self._tries)

    def add(self, attempts: Tries, future: "Future[Generation | None]") -> None:
        """A document that is asked now."""
        self._tries[future] = attempts
        future.add_done_callback(self._events.put)

    def ended(self, wait: float) -> Iterator[Generation]:
        """What has come; waits for one, up to `wait` seconds.

        Raises:
            ModelUnavailableError: no server can be reached.
        """
        while self._tries:
            try:
                future = self._events.get(timeout=wait) if wait else self._events.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            del self._tries[future]
            try:
                made = future.result()
            except CancelledError:
                continue
            if made is not None:
                yield made

    def leave_waiting(self) -> None:
        """End those that wait to be asked, or asked again; requests under way go on."""

        def leave() -> None:
            for future, attempts in waiting:
                if not attempts.asking:
                    future.cancel()

        waiting = list(self._tries.items())
        self._loop.call_soon_threadsafe(leave)

    def end(self) -> None:
        """Hang up on all that is left."""
        for future in self._tries:
            future.cancel()


class Shown:
    """Pieces of an answer on their way to a reader, thoughts taken out."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._sent = 0

    async def of(self, client: Client, body: dict[str, Any], longest: int) -> Reply:
        """The answer; what was shown of it is not taken back, so it is not asked for again.

        Args:
            longest: characters; a server that writes more does not end by itself.

        Raises:
            Refused: it failed, and something was shown. Again: it failed before that.
        """
        raw = ""
        try:
            async with contextlib.aclosing(client.pieces(body)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        self._tell(piece.text)
                        return piece
                    raw += piece
                    if len(raw) > longest:
                        raise Again("fault")
                    self._tell(replies.shown(raw))
        except Again:
            if self._sent:
                raise Refused("server_failed") from None
            raise
        raise Again("fault")

    def _tell(self, text: str) -> None:
        if len(text) > self._sent:
            new = text[self._sent :].encode("utf-8", "replace").decode("utf-8")
            self._sent = len(text)
            self._show(new)
