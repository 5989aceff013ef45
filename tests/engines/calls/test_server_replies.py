"""What a server sent, and what it is taken for."""

import json
from typing import Any

import pytest

from medgemma_cli.engines.calls import replies
from medgemma_cli.engines.calls.replies import Again, Refused
from medgemma_cli.errors import ModelUnavailableError

CANARY = "CANARY-7f3a"
JSON = {"content-type": "application/json; charset=utf-8"}


def chat(content: Any = "Fine.", finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    return {"choices": [{"message": {"content": content, **more}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "busy"), (503, "busy"), (408, "fault"), (500, "fault"), (502, "fault"), (504, "fault")],
)
def test_statuses_to_try_again(status: int, kind: str) -> None:
    """Too much to do is not the document's doing; a failure may be."""
    with pytest.raises(Again) as caught:
        replies.check(status, {}, b"")
    assert caught.value.kind == kind


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405])
def test_statuses_that_end_the_run(status: int) -> None:
    """Redirections, keys and paths concern all documents: 69."""
    with pytest.raises(ModelUnavailableError) as caught:
        replies.check(status, {"location": f"http://{CANARY}/"}, CANARY.encode())
    assert CANARY not in caught.value.message + caught.value.next_step


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("This model's maximum context length is 4096 tokens. However, you …", "too_long"),
        ("the request exceeds the available context size, try increasing it", "too_long"),
        ("context_length_exceeded", "too_long"),
        ("image input is not supported - you may need to provide the mmproj", "no_vision"),
        (f"Something else {CANARY}", "server_refused"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "server_refused"),
    ],
)
def test_refusals(said: str, code: str) -> None:
    """A refused document gets a code by what the server says of it, never its words."""
    with pytest.raises(Refused) as caught:
        replies.check(400, {}, json.dumps({"error": {"message": said}}).encode())
    assert caught.value.code == code and CANARY not in str(caught.value)


def test_retry_after() -> None:
    """Seconds or a date, at most five minutes; nonsense is none."""
    assert replies.retry_after("7") == 7.0
    assert replies.retry_after("86400") == 300.0
    assert replies.retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=784111770.0) == 7.0
    assert replies.retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=784111790.0) == 0.0
    for value in (None, "", "soon", "-3", "²", "1e999", "9" * 400 + "x"):
        assert replies.retry_after(value) is None
    assert replies.retry_after("9" * 4000) == 300.0


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/html"}, b'{"choices": []}'),
        ({}, b'{"choices": []}'),
        (JSON, b'{"choices": ['),
        (JSON, b"[" * 100_000),
        (JSON, b"\xff\xfe"),
        (JSON, b"[]"),
        (JSON, b"null"),
    ],
)
def test_what_is_no_answer(headers: dict[str, str], body: bytes) -> None:
    """Another type, half an answer, another shape: asked again."""
    with pytest.raises(Again):
        replies.loaded(headers, body)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"choices": []},
        {"choices": "no"},
        {"choices": [[]]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]},
        chat(finish=None),
        chat(finish="content_filter"),
        chat(finish="tool_calls"),
        chat(finish=["stop"]),
    ],
)
def test_answers_that_are_not_whole(value: dict[str, Any]) -> None:
    """No text, or no ending that is known."""
    with pytest.raises(Again):
        replies.reply(value)


def test_answer() -> None:
    """Text, ending and counts; counts that are none are 0."""
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    assert replies.reply({**chat(), "usage": usage}) == ("Fine.", "stop", 12, 3, False)
    assert replies.reply(chat(finish="length")).finish == "length"
    wrong = {"prompt_tokens": "12", "completion_tokens": True}
    assert replies.reply({**chat(), "usage": wrong})[2:4] == (0, 0)
    assert replies.reply({**chat(), "usage": [1]})[2:4] == (0, 0)


def test_lone_surrogates() -> None:
    """JSON can name half a character; a text has none."""
    made = replies.reply(
        json.loads('{"choices":[{"message":{"content":"a\\ud800b"},"finish_reason":"stop"}]}')
    )
    assert made.text.encode("utf-8") == b"a?b"


def test_thoughts() -> None:
    """A thought is no part of the answer; one that never closes is no answer."""
    made = replies.reply(chat("<unused94>thought\nHm.<unused95>Fine."))
    assert (made.text, made.thinking) == ("Fine.", False)
    made = replies.reply(chat("<unused94>thought\nHm.", "length"))
    assert (made.text, made.thinking) == ("", True)
    twice = "<unused94>a<unused95>One <unused94>b<unused95>two"
    assert replies.without_thoughts(twice) == ("One two", False)
    assert replies.reply(chat(None, "length", reasoning_content="Hm.")).thinking
    assert not replies.reply(chat("Fine.", "length", reasoning_content="Hm.")).thinking


def test_what_may_be_shown() -> None:
    """However an answer is cut into pieces, no part of a thought or of its mark is shown."""
    raw = "Yes <un> <unused94>thought CANARY<unused95>and no."
    seen = ""
    for end in range(len(raw) + 1):
        now = replies.shown(raw[:end])
        assert now.startswith(seen)
        seen = now
    assert seen == "Yes <un> and no."
