"""Servers that mean harm, or have lost their wits: nothing hangs, grows or is lost."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from server_kit import QUICK, FakeServer, prompt, serving

from medgemma_cli.engines.server import ServerEngine, ServerOptions
from medgemma_cli.records import Generation, Prompt


def engine(*servers: FakeServer, **settings: Any) -> ServerEngine:
    """An engine that waits in milliseconds."""
    settings.setdefault("patience", QUICK)
    return ServerEngine(ServerOptions(urls=tuple(one.url for one in servers), **settings))


def prompts(count: int, **limits: Any) -> list[Prompt]:
    """Documents that are all different."""
    return [prompt(f"Document {i}.", name=f"d{i}", **limits) for i in range(count)]


def streams(made: ServerEngine, asked: Prompt) -> tuple[str, Generation]:
    """What was shown, and the generation."""
    *shown, last = made.stream(asked)
    assert isinstance(last, Generation)
    return "".join(map(str, shown)), last


def writing(parts: Callable[[], Iterator[bytes]], kind: str = "text/event-stream") -> Any:
    """A stream of the server's that writes these parts until it is hung up on."""

    def stream(handler: Any, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for part in parts():
            handler.wfile.write(part)
            handler.wfile.flush()
        handler.close_connection = True

    return stream


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(text: str) -> dict[str, Any]:
    """A piece of a completion."""
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def forever(part: bytes) -> Callable[[], Iterator[bytes]]:
    """The same part without an end."""

    def parts() -> Iterator[bytes]:
        while True:
            yield part

    return parts


@pytest.mark.parametrize(
    "part",
    [event(piece("all is well ")), b"x" * 65_536, b": still here\n" * 5000, event({"choices": []})],
    ids=["words", "one line", "comments", "nothing"],
)
def test_a_stream_without_an_end(part: bytes) -> None:
    """It is hung up on: after more words than were asked for, or more bytes than answers have."""
    with serving() as server:
        server.stream = writing(forever(part))  # type: ignore[method-assign]
        started = time.monotonic()
        made = engine(server, timeout=1.0, patience=QUICK._replace(faults=2))
        shown, last = streams(made, prompt(max_new_tokens=10))
        assert last.error == "server_failed" and time.monotonic() - started < 60
    assert len(shown) <= 10 * 200


def test_an_answer_far_over_its_limit() -> None:
    """A server that keeps no limit is given up for this document, and asked about others."""
    asked = prompts(3, max_new_tokens=10)
    with serving() as server:
        server.make = lambda body: "well " * (9999 if "Document 1." in str(body) else 3)
        found = {one.id: one for one in engine(server).generate(asked)}
    assert {name for name, one in found.items() if one.error} == {"d1"}
    assert found["d1"].error == "server_failed" and found["d1"].text == ""


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**30, "completion_tokens": 10**30},
        {"prompt_tokens": -1, "completion_tokens": -7},
        {"prompt_tokens": "9", "completion_tokens": None},
        {"prompt_tokens": True, "completion_tokens": 1.5},
        {"prompt_tokens": {}, "completion_tokens": []},
        [1, 2],
        "CANARY",
    ],
)
def test_counts_that_are_lies(usage: Any) -> None:
    """Answers are kept, counts that cannot be are none, and no window grows by them."""
    with serving() as server:
        whole = server.completion
        server.completion = lambda body: {**whole(body), "usage": usage}  # type: ignore[method-assign]
        found = list(engine(server, most=4).generate(prompts(20)))
        shown, last = streams(engine(server), prompt())
    assert not [one.error for one in found if one.error]
    assert {(one.usage.prompt_tokens, one.usage.completion_tokens) for one in found} == {(0, 0)}
    assert last.error is None and shown == last.text and server.most <= 4


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/html; charset=utf-8", "", "application/octet-stream", "text/event-stream"],
)
def test_wrong_content_types(kind: str) -> None:
    """What does not say that it is JSON is no answer, and is asked for again."""
    with serving() as server:
        right, times = server.send, iter(range(99))

        def send(handler: Any, status: int, value: Any, *args: Any, **headers: str) -> None:
            wrong = "choices" in value and next(times) < 2
            right(handler, status, value, *([kind] if wrong else args), **headers)

        server.send = send  # type: ignore[method-assign]
        (made,) = engine(server).generate([prompt()])
    assert made.error is None and len(server.asked) == 3


@pytest.mark.parametrize(
    "parts",
    [
        [event(piece("Fine.")), b"data: {\n\n"],
        [event(piece("Fine.")), b"data: [1]\n\n"],
        [event(piece("Fine.")), event({"error": {"message": "CANARY"}})],
        [event(piece("Fine.")), event({"choices": [5]})],
        [event(piece("Fine.")), b"data: [DONE]\n\n"],
        [event(piece("Fine."))],
        [event({"choices": [{"delta": {"content": 5}, "finish_reason": []}]})],
        [b"\xff\xfe\n\n"],
        [],
    ],
)
def test_streams_that_make_no_sense(parts: list[bytes]) -> None:
    """No answer is made of half of one, and nothing that the server says is quoted."""
    with serving() as server:
        server.stream = writing(lambda: iter(parts))  # type: ignore[method-assign]
        shown, last = streams(engine(server), prompt())
    assert last.error == "server_failed" and shown in ("", "Fine.")
    assert "CANARY" not in last.model_dump_json()


def test_one_of_two_dies_in_the_middle() -> None:
    """What was under way there is asked at the other: each document ends once."""
    with serving(delay=0.02) as one, serving(delay=0.02) as two:
        made = engine(one, two)
        found = []
        for answer in made.generate(prompts(60)):
            found.append(answer)
            if len(found) == 15:
                one.fault = lambda number, body: "down"
                threading.Thread(target=one._http.shutdown).start()
                one._http.server_close()
        assert sorted(answer.id for answer in found) == sorted(f"d{i}" for i in range(60))
        assert not [answer.error for answer in found if answer.error]
        assert set((one.answered + two.answered).values()) == {1}


def test_two_clients_at_once() -> None:
    """A server that takes two at a time, and turns the others away: both get all of theirs."""

    def fault(number: int, body: dict[str, Any]) -> str | None:
        return "429" if len(server.inside) > 2 else None

    with serving(delay=0.02) as server:
        server.fault = fault
        found: dict[int, list[Generation]] = {}

        def ask(client: int) -> None:
            found[client] = list(engine(server).generate(prompts(20)))

        threads = [threading.Thread(target=ask, args=(client,)) for client in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [len({one.id for one in found[client]}) for client in range(2)] == [20, 20]
    assert not [one.error for made in found.values() for one in made if one.error]
