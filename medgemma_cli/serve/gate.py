"""What stands before every request: who may ask, how much, how many at once, and for how long.

Pure ASGI, so that a body is counted while it comes and before anything looks into it. A client
that goes away, and a request whose time is up, are cancelled, and what they held is free.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from medgemma_cli.serve.keys import matches

_LOG = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = {"/", "/health"}
_DRAIN_SECONDS = 5.0
_DRAIN_BYTES = 1 << 30
_HELD_BODIES = 16  # of the largest size, at once


class Bounds(NamedTuple):
    """How much is taken.

    Attributes:
        places: requests at once, those that wait among them.
        body: bytes of one request.
        seconds: for the whole of a request.
        upload: seconds for its body to come.
    """

    places: int = 256
    body: int = 20_000_000
    seconds: float = 600.0
    upload: float = 60.0


class Refusal(Exception):
    """A request that is not let in: HTTP status, code, and words of our own."""

    def __init__(self, status: int, code: str, why: str, retry: int | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.why = why
        self.retry = retry


class _GoneError(Exception):
    """The client went away."""


class Gate:
    """Lets requests through to an ASGI application.

    Args:
        key: what they must show; None: nothing.
        hosts: what they may call this machine; None: anything. A page on the web that has its own
            name lead here (DNS rebinding) calls it by that name.

    Attributes:
        taken: requests inside.
        draining: whether no more are let in.
    """

    def __init__(
        self,
        app: App,
        bounds: Bounds,
        *,
        key: bytes | None = None,
        hosts: frozenset[str] | None = None,
    ) -> None:
        self.taken = 0
        self.draining = False
        self._app = app
        self._bounds = bounds
        self._key = key
        self._hosts = hosts
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; `lifespan` goes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = _Told(send)
        try:
            await self._request(scope, receive, told)
        except _GoneError:
            return
        except Refusal as refusal:
            await _discard(scope, receive)
            await told.refuse(refusal)
        except asyncio.CancelledError:
            raise
        except Exception:
            # Shown with --debug alone: the message may quote the request.
            _LOG.debug("a request could not be answered", exc_info=True)
            await told.refuse(Refusal(500, "internal", "The program failed; run with --debug."))

    async def _request(self, scope: Scope, receive: Receive, told: "_Told") -> None:
        self._check(scope)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, told.send)
            return
        size = _length(scope)
        if size is not None and size > self._bounds.body:
            raise _too_large(self._bounds.body)
        with self._place(self._bounds.body if size is None else size):
            try:
                async with asyncio.timeout(self._bounds.seconds):
                    body = await self._body(receive)
                    await self._answer(scope, body, receive, told)
            except TimeoutError:
                raise Refusal(504, "timeout", "It took too long; ask for less at once.") from None

    def _check(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        host = next((v for k, v in headers if k == b"host"), b"").decode("latin-1").lower()
        if self._hosts is not None and _name(host) not in self._hosts:
            raise Refusal(403, "host", "This machine is not called so here; use localhost.")
        if scope["path"] in _OPEN:
            return
        if self._key is not None and not matches(headers, self._key):
            raise Refusal(401, "key", "The API key is missing or wrong.")

    @contextlib.contextmanager
    def _place(self, size: int) -> Any:
        """A place among the requests, and room for its body."""
        if self.draining:
            raise Refusal(503, "draining", "It is shutting down; ask again soon.", retry=10)
        full = self.taken >= self._bounds.places
        if full or self._held + size > _HELD_BODIES * self._bounds.body:
            raise Refusal(503, "busy", "Too many requests wait already; ask again soon.", retry=5)
        self.taken += 1
        self._held += size
        try:
            yield
        finally:
            self.taken -= 1
            self._held -= size

    async def _body(self, receive: Receive) -> bytes:
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._bounds.upload):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _GoneError
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self._bounds.body:
                        raise _too_large(self._bounds.body)
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            raise Refusal(408, "upload", "The request did not come in time.") from None

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, told: "_Told") -> None:
        """Run the application; end it when the client goes away."""
        bodies = iter([body])

        async def replay() -> Message:
            with contextlib.suppress(StopIteration):
                return {"type": "http.request", "body": next(bodies), "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError

        answering = asyncio.ensure_future(self._app(scope, replay, told.send))
        watching = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise _GoneError
            await answering
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)


class _Told:
    """Sends, and knows what was sent: an answer that has begun cannot become a refusal."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        self._begun = True
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Say why; or, in the midst of an answer, break off, so that nobody takes it for whole.

        Raises:
            ConnectionAbortedError: the answer had begun.
        """
        if self._begun:
            raise ConnectionAbortedError
        body = json.dumps(error_body(refusal.code, refusal.why, refusal.status)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if refusal.retry is not None:
            headers.append((b"retry-after", str(refusal.retry).encode()))
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        with contextlib.suppress(OSError):
            await self.send(
                {"type": "http.response.start", "status": refusal.status, "headers": headers}
            )
            await self.send({"type": "http.response.body", "body": body})


def error_body(code: str, message: str, status: int) -> dict[str, Any]:
    """An error as OpenAI's clients read it, too."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"code": code, "message": message, "type": kind}}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _discard(scope: Scope, receive: Receive) -> None:
    """Take what still comes, for a while: a client that cannot send sees no answer."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS") or _length(scope) == 0:
        return
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while size < _DRAIN_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return


def _length(scope: Scope) -> int | None:
    """What the request says of its body's length; None where it does not, or says nonsense."""
    said = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
    return int(said) if said.isdigit() else None


def _name(host: str) -> str:
    """The name or address of a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"A request has {most} bytes at most (--max-body).")
