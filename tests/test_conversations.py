"""Chat requests as prompts: the preamble first, the turns as they stand, the line's own limits."""

from typing import Any

import pytest
from batch_kit import body, png, said, shown

from medgemma_cli import conversations, readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import request
from medgemma_cli.records import Limits, Prompt, Row, Source

KEY = "ab" * 32


def prompt(fields: Any, **limits: Any) -> Prompt:
    """The prompt of a body."""
    row = Row(text=request.canonical(fields), request=True)
    source = Source(place="b.jsonl", relative="b.jsonl#1", origin="/b.jsonl#1", row=row)
    read = readers.ReadLimits()
    document = readers.decode(source, readers.load(source, read), read)
    template = conversations.template(100)
    return conversations.render(template, document, KEY, Limits(max_new_tokens=100, **limits))


def test_the_preamble_comes_first() -> None:
    """Before the request's own system text, or alone; the rest is as it stands."""
    template = conversations.template(100)
    bare = prompt(body("Why?"))
    assert [turn.role for turn in bare.messages] == ["system", "user"]
    assert bare.messages[0].parts[0].text == template.system
    own = {"messages": [{"role": "system", "content": "Be terse."}, *body("Why?")["messages"]]}
    assert prompt(own).messages[0].parts[0].text == f"{template.system}\nBe terse."
    assert prompt(own).messages[1:] == bare.messages[1:]


def test_the_lines_own_limits() -> None:
    """What a request says counts; what it leaves open is as the command says."""
    asked = prompt(body(max_tokens=5, temperature=0.5), temperature=0.0, seed=3).limits
    assert asked == Limits(max_new_tokens=5, temperature=0.5, seed=3)
    assert prompt(body(), seed=3).limits == Limits(max_new_tokens=100, seed=3)
    assert prompt(body(temperature=0), temperature=0.7).limits.temperature == 0


def test_more_at_least_than_at_most() -> None:
    """Refused, whichever of both the command said."""
    for fields in (body(min_tokens=6, max_tokens=5), body(min_tokens=101)):
        with pytest.raises(DocumentError, match="request_option"):
            prompt(fields)


def test_what_is_checked_is_what_the_user_said() -> None:
    """The text of the document is the prompt's own, images stand where they stood."""
    made = prompt(body([said("Left."), shown(png(1)), said("Right.")]))
    assert made.document == "Left.\n\nRight."
    assert [part.kind for part in made.messages[1].parts] == ["document", "image", "document"]
    assert len(made.images) == 1
