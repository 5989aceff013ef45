"""The gate, without a network: what is let in, what is not, and that every place comes back."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from medgemma_cli.serve.gate import Bounds, Gate

KEY = b"k" * 32


class Client:
    """One request to an ASGI application, message by message.

    Args:
        body: its chunks; None among them: nothing more comes, and the client stays.
        leaves: whether it goes away after the last.
    """

    def __init__(self, *body: bytes | None, leaves: bool = False, **headers: str) -> None:
        self.sent: list[dict[str, Any]] = []
        self._body = list(body) or [b""]
        self._leaves = leaves
        self._headers = {"host": "localhost:8000", **headers}
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        """The next of its messages."""
        if not self._body:
            if not self._leaves:
                await self.gone.wait()
            return {"type": "http.disconnect"}
        chunk = self._body.pop(0)
        if chunk is None:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        more = bool(self._body)
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def send(self, message: Any) -> None:
        """What it is told."""
        self.sent.append(message)

    async def ask(self, gate: Gate, path: str = "/v1/run", method: str = "POST") -> int:
        """The status that it got; 0 where it got none."""
        headers = [(k.replace("_", "-").encode(), v.encode()) for k, v in self._headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await gate(scope, self.receive, self.send)
        return self.status

    @property
    def status(self) -> int:
        """The same."""
        return self.sent[0]["status"] if self.sent else 0

    @property
    def error(self) -> str:
        """The code of the error."""
        return str(json.loads(self.sent[1]["body"])["error"]["code"])

    def header(self, name: bytes) -> bytes | None:
        """One of the response's headers."""
        return dict(self.sent[0]["headers"]).get(name)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """An application that says how long the body was."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def slow(seen: list[str]) -> Callable[..., Coroutine[Any, Any, None]]:
    """An application that works until it is cancelled, and notes that it was."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append("begun")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    return app


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """To its end."""
    return asyncio.run(work)


def test_a_body_goes_through_whole() -> None:
    """In one piece, however it came; the place is free afterwards."""

    async def go() -> None:
        gate, client = Gate(plain, Bounds()), Client(b"ab", b"", b"cde")
        assert await client.ask(gate) == 200
        assert client.sent[1]["body"] == b"5"
        assert gate.taken == 0

    run(go())


@pytest.mark.parametrize("size", ["101", "99999999999999999999"])
def test_a_length_too_large_is_refused_unread(size: str) -> None:
    """413 by what the header says, before anything is let in; the rest is thrown away."""

    async def go() -> None:
        gate = Gate(slow([]), Bounds(body=100))
        client = Client(b"x" * 50, b"x" * 50, content_length=size)
        assert await client.ask(gate) == 413
        assert client.error == "too_large" and gate.taken == 0

    run(go())


@pytest.mark.parametrize("headers", [{}, {"content_length": "50"}, {"content_length": "x"}])
def test_a_body_too_large_is_refused_while_it_comes(headers: dict[str, str]) -> None:
    """Without a length, with a false one, or with nonsense."""

    async def go() -> None:
        gate = Gate(slow([]), Bounds(body=100))
        assert await Client(b"x" * 60, b"x" * 60, b"x", **headers).ask(gate) == 413
        assert gate.taken == 0

    run(go())


def test_a_full_house_says_when_to_come_back() -> None:
    """503 with Retry-After; when one leaves, the next is let in."""

    async def go() -> None:
        seen: list[str] = []
        gate = Gate(slow(seen), Bounds(places=2))
        inside = [Client(b"x") for _ in range(2)]
        tasks = [asyncio.ensure_future(client.ask(gate)) for client in inside]
        await asyncio.sleep(0.01)
        late = Client(b"x")
        assert await late.ask(gate) == 503
        assert late.error == "busy" and int(late.header(b"retry-after") or 0) > 0
        inside[0].gone.set()
        assert await tasks[0] == 0
        assert gate.taken == 1 and seen.count("cancelled") == 1
        inside[1].gone.set()
        await tasks[1]
        assert gate.taken == 0

    run(go())


def test_bodies_are_bounded_together() -> None:
    """Requests that hold much memory are refused before the places are out."""

    async def go() -> None:
        gate = Gate(slow([]), Bounds(places=1000, body=100))
        inside = [Client(b"x" * 100, content_length="100") for _ in range(16)]
        tasks = [asyncio.ensure_future(client.ask(gate)) for client in inside]
        await asyncio.sleep(0.01)
        assert await Client(b"x" * 100, content_length="100").ask(gate) == 503
        for client in inside:
            client.gone.set()
        await asyncio.gather(*tasks)
        assert gate.taken == 0

    run(go())


def test_a_client_that_leaves_while_sending() -> None:
    """Nothing is begun, nothing is said, the place is free."""

    async def go() -> None:
        seen: list[str] = []
        gate, client = Gate(slow(seen), Bounds()), Client(b"x", None)
        client.gone.set()
        assert await client.ask(gate) == 0
        assert seen == [] and gate.taken == 0

    run(go())


def test_time_is_bounded() -> None:
    """504 for the whole of a request, 408 for a body that does not come."""

    async def go() -> None:
        seen: list[str] = []
        gate = Gate(slow(seen), Bounds(seconds=0.05))
        assert await Client(b"x").ask(gate) == 504
        assert seen == ["begun", "cancelled"] and gate.taken == 0
        gate = Gate(plain, Bounds(upload=0.05))
        late = Client(b"x", None)
        asyncio.get_running_loop().call_later(0.2, late.gone.set)
        assert await late.ask(gate) == 408
        assert gate.taken == 0

    run(go())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Bearer {KEY.decode()}"}, 200),
        ({"x_api_key": KEY.decode()}, 200),
    ],
)
def test_the_key_is_asked_for(headers: dict[str, str], status: int) -> None:
    """On every path that does something; health is for whoever watches the service."""

    async def go() -> None:
        gate = Gate(plain, Bounds(), key=KEY)
        assert await Client(b"x", **headers).ask(gate) == status
        assert await Client(**headers).ask(gate, "/v1/models", "GET") == status
        assert await Client().ask(gate, "/health", "GET") == 200

    run(go())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_a_page_that_calls_this_machine_by_its_own_name(host: str, status: int) -> None:
    """DNS rebinding: a browser sends the name of the page's host."""

    async def go() -> None:
        gate = Gate(plain, Bounds(), hosts=frozenset({"localhost", "127.0.0.1", "::1"}))
        assert await Client(b"x", host=host).ask(gate) == status

    run(go())


def test_an_error_is_told_without_its_words() -> None:
    """500, and nothing of the exception; in the midst of an answer the connection breaks off."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("CANARY")

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("CANARY")

    async def go() -> None:
        client = Client(b"x")
        assert await client.ask(Gate(fails, Bounds())) == 500
        assert b"CANARY" not in client.sent[1]["body"]
        gate = Gate(breaks, Bounds())
        with pytest.raises(ConnectionAbortedError):
            await Client(b"x").ask(gate)
        assert gate.taken == 0

    run(go())


def test_a_draining_gate_lets_nothing_in() -> None:
    """503 with Retry-After; health still answers."""

    async def go() -> None:
        gate = Gate(plain, Bounds())
        gate.draining = True
        client = Client(b"x")
        assert await client.ask(gate) == 503
        assert client.error == "draining" and client.header(b"retry-after")
        assert await Client().ask(gate, "/health", "GET") == 200

    run(go())
