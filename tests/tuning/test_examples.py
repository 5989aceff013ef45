"""Lines become examples, or are refused by number and reason; no reason quotes a line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lessons_kit as kit
import pytest

from medgemma_cli import templates
from medgemma_cli.commands import lessons
from medgemma_cli.errors import ConfigError, NoInputError, UsageError
from medgemma_cli.tuning.dividing import divide, fingerprint
from medgemma_cli.tuning.examples import Example
from medgemma_cli.tuning.pictures import look, unreadable

CANARY = "Zebrastrasse"
NOTE = f"Lives in {CANARY}. Takes 5 mg of ramipril every day."
OUTPUT: dict[str, Any] = {
    "summary": "Takes ramipril.",
    "key_findings": [{"quote": "Takes 5 mg of ramipril", "statement": "Ramipril 5 mg."}],
    "medications": ["ramipril 5 mg daily"],
    "allergies": [],
    "risk_reason": "not stated",
    "risk_level": "unknown",
    "recommendations": [],
    "follow_up": "not stated",
}


def read(folder: Path, *rows: object) -> list[Example]:
    """The examples of a file with these lines."""
    return lessons.read(kit.write(folder / "data.jsonl", rows), "The file").examples


def test_both_shapes(tmp_path: Path) -> None:
    """Each line is one example, in the file's order, with its number and pictures."""
    found = read(tmp_path, *kit.mixed(tmp_path))
    assert [example.number for example in found] == list(range(1, 9))
    assert [example.answer for example in found] == [kit.taught(word) for word in kit.WORDS]
    assert [len(example.pictures) for example in found] == [0] * 5 + [1, 1, 0]


def test_a_conversation_of_several_turns(tmp_path: Path) -> None:
    """All but the last answer is shown; a system text may come first."""
    turns = kit.chat("One?", "1.")["messages"] + kit.chat("Two?", "2.")["messages"]
    row = {"messages": [{"role": "system", "content": "Be brief."}, *turns]}
    (found,) = read(tmp_path, row)
    assert [m.role for m in found.prompt.messages] == ["system", "user", "assistant", "user"]
    assert found.answer == "2."


def test_a_template_renders_as_run_does(tmp_path: Path) -> None:
    """System text, preamble and fence are the template's; the document is data."""
    (found,) = read(tmp_path, {"template": "summarize", "document": NOTE, "output": OUTPUT})
    system, user = found.prompt.messages
    assert system.parts[0].text == templates.load("summarize").system
    assert [part.kind for part in user.parts] == ["text", "fence", "document", "fence", "text"]
    assert found.prompt.document == NOTE


def test_outputs_are_written_as_run_writes(tmp_path: Path) -> None:
    """Compact, in the template's order, whatever the order of the line."""
    shuffled = dict(sorted(OUTPUT.items()))
    (found,) = read(tmp_path, {"template": "summarize", "document": NOTE, "output": shuffled})
    assert found.answer == json.dumps(OUTPUT, separators=(",", ":"))


def changed(**fields: object) -> dict[str, Any]:
    """A good example of a template, with changes."""
    return {"template": "summarize", "document": NOTE, "output": OUTPUT} | fields


PARTS = [{"type": "image", "path": "no.png"}]
BAD: dict[str, dict[str, Any]] = {
    "neither messages nor a template": {"text": CANARY},
    "field that is not known": changed(sytem=CANARY),
    "no list of objects": {"messages": CANARY},
    "user and assistant in turn": {"messages": [{"role": "user", "content": CANARY}]},
    "not user and assistant": {"messages": []},
    "message has no content": kit.chat([], CANARY),
    "neither text nor an image": kit.chat([{"type": "audio", "path": CANARY}], "x"),
    "that the user shows": kit.chat(CANARY, PARTS),
    "answer is empty": kit.chat(CANARY, " \n"),
    "image has no path": kit.chat([{"type": "image", "url": CANARY}], "x")
    | {"messages": kit.chat([{"type": "image"}], CANARY)["messages"]},
    "of no kind that is read here": kit.chat([{"type": "image", "path": "x.svg"}], CANARY),
    "went away": kit.chat(PARTS, CANARY),
    "no template of that name": changed(template=CANARY),
    "template is no name": changed(template=7),
    "document is no text": changed(document=[CANARY]),
    "only white space": changed(document=" \n "),
    "is binary": changed(document=f"{CANARY}\0"),
    "nor a question": {"template": "general", "output": CANARY},
    "question is no text": changed(question=[CANARY]),
    "does not accept this kind": changed(template="labs", document=None, question=CANARY),
    "no list of paths": changed(images=CANARY),
    "no object, which the template wants": changed(output=CANARY),
    "no text, which the template wants": changed(template="general", output={"a": CANARY}),
    "does not fit the template's fields": changed(output={"summary": CANARY}),
    "word for word": changed(
        output=OUTPUT
        | {"key_findings": [{"quote": f"{CANARY} is far away", "statement": "Lives far away."}]}
    ),
}


@pytest.mark.parametrize("why", BAD)
def test_bad_examples_are_named(tmp_path: Path, why: str) -> None:
    """Line and reason are told, and nothing of the line itself."""
    with pytest.raises(UsageError) as raised:
        read(tmp_path, kit.chat("Fine?", "Fine."), BAD[why])
    assert "Line 2: " in raised.value.message and why in raised.value.message
    assert "Line 1: " not in raised.value.message
    assert CANARY not in raised.value.message + raised.value.next_step


def test_ten_are_named(tmp_path: Path) -> None:
    """The rest is counted."""
    with pytest.raises(UsageError) as raised:
        read(tmp_path, *[{"text": CANARY}] * 14)
    assert "14 of 14" in raised.value.message and "Line 10: " in raised.value.message
    assert "Line 11: " not in raised.value.message and "4 more" in raised.value.message


@pytest.mark.parametrize(
    "data", [b"[1]\n", b"{\n", b'"text"', b"\xff\xfe{}", b"[" * 100_000, b'{"a": "\\ud800"}']
)
def test_a_line_that_is_no_object(tmp_path: Path, data: bytes) -> None:
    """Refused by its number, and the page that tells of examples is named."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n" + data)
    with pytest.raises(UsageError, match="Line 2: it is no JSON object") as raised:
        lessons.read(path, "The file")
    assert "docs/tuning.md" in raised.value.next_step


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_bytes(b"\n\n")])
def test_a_file_without_a_line(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """66: it is not there, or it is empty."""
    make(tmp_path / "data.jsonl")
    with pytest.raises(NoInputError):
        lessons.read(tmp_path / "data.jsonl", "The file")


def test_a_malformed_template_is_a_configuration_error(tmp_path: Path) -> None:
    """78, as with `run`: it is no fault of the line."""
    path = tmp_path / "bad.md"
    path.write_text("no front matter")
    with pytest.raises(ConfigError):
        read(tmp_path, changed(template=str(path)))


# -- images ---------------------------------------------------------------------------------------


def test_images_are_decoded_once_and_named(tmp_path: Path) -> None:
    """A damaged one is refused by its line; two lines may show the same."""
    kit.draw(tmp_path / "good.png", 3)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows = [kit.chat([{"type": "image", "path": f"{n}.png"}], "x") for n in ("good", "bad", "good")]
    found = read(tmp_path, *rows)
    bad = unreadable([(example.number, one) for example in found for one in example.pictures])
    assert [number for number, _ in bad] == [2]


def test_an_image_that_changed_is_not_shown(tmp_path: Path) -> None:
    """The pixels are those of the bytes that were checked."""
    from medgemma_cli.errors import DocumentError

    kit.draw(tmp_path / "a.png", 3)
    (found,) = read(tmp_path, kit.chat([{"type": "image", "path": "a.png"}], "x"))
    assert look(found.pictures[0]).width == 8
    kit.draw(tmp_path / "a.png", 4)
    with pytest.raises(DocumentError):
        look(found.pictures[0])


# -- the data as a whole --------------------------------------------------------------------------


def test_the_fingerprint_follows_images_and_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lines with another picture or another template are other data."""
    kit.draw(tmp_path / "a.png", 3)
    row = {"template": "general", "image": "a.png", "question": "What?", "output": "x"}
    before = fingerprint(b"data", read(tmp_path, row))
    assert fingerprint(b"data", read(tmp_path, row)) == before
    assert fingerprint(b"date", read(tmp_path, row)) != before
    kit.draw(tmp_path / "a.png", 4)
    other = read(tmp_path, row)
    assert fingerprint(b"data", other) != before
    assert fingerprint(b"data", [other[0]._replace(template="t")]) != fingerprint(b"data", other)


def test_one_document_is_on_one_side(tmp_path: Path) -> None:
    """Examples of the same document teach or measure, never both; the seed decides."""
    rows = [changed(document=f"{NOTE} {i % 5}", question=str(i)) for i in range(20)]
    found = read(tmp_path, *rows)
    train, validation = divide(found, 0.2, 0)
    assert len(train) == 16 and len(validation) == 4
    assert not {e.group for e in train} & {e.group for e in validation}
    assert divide(found, 0.2, 0) == (train, validation)
    assert any(divide(found, 0.2, seed)[1] != validation for seed in range(1, 9))


@pytest.mark.parametrize(
    ("rows", "share", "sizes"),
    [(1, 0.1, (1, 0)), (2, 0.1, (1, 1)), (8, 0.0, (8, 0)), (8, 0.9, (1, 7)), (30, 0.1, (27, 3))],
)
def test_shares(tmp_path: Path, rows: int, share: float, sizes: tuple[int, int]) -> None:
    """At least one group teaches; of two, one measures."""
    found = read(tmp_path, *[kit.chat(f"{i}?", "x") for i in range(rows)])
    train, validation = divide(found, share, 0)
    assert (len(train), len(validation)) == sizes
