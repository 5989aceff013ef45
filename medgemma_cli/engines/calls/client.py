"""One server over HTTP. Nothing is taken from the environment, and nothing is followed."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines.calls import replies
from medgemma_cli.engines.calls.address import Address
from medgemma_cli.engines.calls.replies import Again
from medgemma_cli.errors import ModelUnavailableError

if TYPE_CHECKING:
    import httpx2

_LOG = logging.getLogger(__name__)
_CONNECT = 10.0  # seconds
_LINE = 2**20  # bytes of a line of events


class Client:
    """Requests to one server, each a fresh try; belongs to one event loop.

    Args:
        key: sent as a bearer token; None: there is none.
        timeout: seconds that a request may take, its answer included.
    """

    def __init__(self, address: Address, key: str | None, timeout: float) -> None:
        import httpx2

        self.address = address
        self._timeout = timeout
        headers = {"Host": address.authority, "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(timeout, connect=min(_CONNECT, timeout), pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            # Proxies, certificates and .netrc of the environment could lead documents elsewhere.
            trust_env=False,
            follow_redirects=False,
        )
        # The name may have several addresses, and the server listen at one of them.
        self._place = 0

    async def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(Exception):
            await self._http.aclose()

    async def models(self) -> dict[str, Any]:
        """The answer to ``GET /models``.

        Raises:
            Again, ModelUnavailableError: as `replies.check` has it.
        """
        async with self._sent("GET", "/models", None, min(self._timeout, 30.0)) as response:
            return replies.loaded(response.headers, await self._body(response))

    async def chat(self, body: dict[str, Any]) -> replies.Reply:
        """The whole answer of a chat completion.

        Raises:
            Again, Refused, ModelUnavailableError: as `replies` has it.
        """
        async with self._sent("POST", "/chat/completions", body, self._timeout) as response:
            value = replies.loaded(response.headers, await self._body(response))
        return replies.reply(value)

    async def pieces(self, body: dict[str, Any]) -> AsyncGenerator[str | replies.Reply, None]:
        """The answer as it comes, thoughts and all; the whole `Reply` last.

        Raises:
            Again, Refused, ModelUnavailableError: as `replies` has it.
        """
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        sent = self._sent("POST", "/chat/completions", body, self._timeout)
        async with sent as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":  # it does not stream: all at once
                value = replies.loaded(response.headers, await self._body(response))
                whole = replies.reply(value)
                yield whole.text
                yield whole
                return
            heard = _Heard()
            async for line in _lines(response):
                piece = heard.take(line)
                if piece:
                    yield piece
                if heard.done:
                    break
            yield heard.reply()

    @contextlib.asynccontextmanager
    async def _sent(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        seconds: float,
        good: tuple[int, ...] = (200,),
    ) -> "AsyncIterator[httpx2.Response]":
        """A response with a good status, its body not yet read; whatever fails means `Again`."""
        import httpx2

        try:
            # Whole: a server that sends a byte now and then would never be too slow.
            async with asyncio.timeout(seconds):
                response = await self._connected(method, path, body)
                try:
                    if response.status_code not in good:
                        said = await self._body(response)
                        replies.check(response.status_code, response.headers, said)
                    yield response
                finally:
                    await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            _refuse_certificates(error)
            raise Again("gone") from None
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, OSError, ValueError):
            # Shown with --debug alone; `from None`: it may quote what was sent.
            _LOG.debug("a request failed", exc_info=True)
            raise Again("fault") from None

    async def _connected(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> "httpx2.Response":
        import httpx2

        places = self.address.places
        for tried in range(len(places)):
            place = places[(self._place + tried) % len(places)]
            request = self._http.build_request(
                method,
                self.address.url(place, path),
                json=body,
                # To the address that was looked at, with the certificate of the name.
                extensions={"sni_hostname": self.address.host},
            )
            try:
                response = await self._http.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if tried + 1 == len(places):
                    raise
                continue
            self._place = (self._place + tried) % len(places)
            return response
        raise Again("gone")

    async def _body(self, response: "httpx2.Response") -> bytes:
        """The body, if it is not larger than any answer."""
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > replies.LONGEST:
                raise Again("fault")
            parts.append(part)
        return b"".join(parts)


def _refuse_certificates(error: BaseException) -> None:
    """A certificate that is not trusted will not be so a second later.

    Raises:
        ModelUnavailableError: 69, that is what it was.
    """
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, ssl.SSLCertVerificationError):
            raise ModelUnavailableError(
                "The server's certificate is not trusted here.",
                "Add its authority to the system's certificates, or check --base-url.",
            ) from None
        seen = seen and (seen.__cause__ or seen.__context__)


async def _lines(response: "httpx2.Response") -> AsyncIterator[bytes]:
    """Lines of a body; their bytes together are bounded."""
    held, size = b"", 0
    async for part in response.aiter_bytes():
        size += len(part)
        *whole, held = (held + part).split(b"\n")
        # Each piece has its envelope; a line has one piece.
        if size > 4 * replies.LONGEST or len(held) > _LINE:
            raise Again("fault")
        for line in whole:
            yield line


class _Heard:
    """Server-sent events of a chat completion, put together."""

    def __init__(self) -> None:
        self.done = False
        self._text: list[str] = []
        self._finish: Any = None
        self._usage: Any = None
        self._thought = False

    def take(self, line: bytes) -> str:
        """The new text of a line, if it has some.

        Raises:
            Again: the server says that it failed, or sends what is no event.
        """
        if not line.startswith(b"data:"):
            return ""
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return ""
        value = replies.loaded({"content-type": "application/json"}, data)
        if "error" in value:
            raise Again("fault")
        self._usage = value.get("usage") or self._usage
        choices = value.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(first, dict):
            raise Again("fault")
        self._finish = first.get("finish_reason") or self._finish
        delta = first.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        self._thought = self._thought or bool(delta.get("reasoning_content"))
        piece = delta.get("content")
        text = piece if isinstance(piece, str) else ""
        self._text.append(text)
        return text

    def reply(self) -> replies.Reply:
        """The whole answer.

        Raises:
            Again: it ended without an ending.
        """
        text = "".join(self._text)
        return replies.made(text, self._finish, self._usage, thought=self._thought)
