"""A document longer than the window: parts in, one record out, every quote at its place."""

import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from long_kit import (
    Answering,
    Line,
    Watched,
    assert_placed,
    document_of,
    execute,
    finding,
    long,
    note,
    prompt_of,
    record_of,
)
from outcomes import ECHO, lines

from medgemma_cli.engines.base import check_fits
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.errors import DocumentError
from medgemma_cli.longdocs import parts_of
from medgemma_cli.records import Generation, Image, Limits, Prompt


@pytest.mark.parametrize("template", ["summarize", "labs", "handoff"])
def test_quotes_keep_their_place(tmp_path: Path, template: str) -> None:
    """Read in parts, from everywhere in the document, and counted as all seen."""
    text, engine = note(60), Watched()
    record = record_of(tmp_path, text, long(engine), template)
    assert record["status"] in ("ok", "flagged"), record["error"]
    assert_placed(record, text)
    assert max(quote["start"] for quote in record["quotes"]) > len(text) // 2
    assert record["coverage"]["characters"] == [len(text), len(text)]
    assert all(engine.count(prompt) <= 1500 for prompt in engine.shown)
    assert record["usage"]["prompt_tokens"] == sum(map(engine.count, engine.shown))


def test_what_each_part_said_is_kept(tmp_path: Path) -> None:
    """From where to where it goes, and its answer, the findings that had no room among them."""
    text, engine = note(60), Watched()
    record = record_of(tmp_path, text, long(engine), "summarize")
    parts = record["parts"]
    assert f"parts:{len(parts)}" in record["degraded"] and len(parts) > 2
    assert parts[0]["start"] == 0 and parts[-1]["end"] == len(text)
    asked = [prompt for prompt in engine.shown if "/join/" not in prompt.id]
    assert [text[part["start"] : part["end"]] for part in parts] == [p.document for p in asked]
    for part in parts:
        for one in part["output"]["key_findings"]:
            assert one["quote"] in " ".join(text[part["start"] : part["end"]].split())


_SAID = "The dose was halved after the second visit."


def test_the_same_words_twice_are_told_apart(tmp_path: Path) -> None:
    """A quote that stands in two parts has its place in the part that it was taken from."""
    text = f"{_SAID}\n\n{note(30)}\n\n{_SAID}\n"  # few parts: each has a finding in the whole

    def change(prompt: Prompt, fields: Line) -> Line:
        if "key_findings" not in fields:
            return fields
        # The first part has the words, too, and quotes others.
        last = prompt.document.endswith(f"{_SAID}\n")
        chosen = [finding(_SAID)] if last else fields["key_findings"][1:]
        return {**fields, "key_findings": chosen, "risk_reason": "not stated"}

    record = record_of(tmp_path, text, long(Answering(change)), "summarize")
    assert_placed(record, text)
    (place,) = [quote["start"] for quote in record["quotes"] if quote["text"] == _SAID]
    assert place == text.rindex(_SAID) > text.index(_SAID) == 0


def test_head_is_the_beginning(tmp_path: Path) -> None:
    """One prompt, cut where the text parts; coverage, a note and a flag say so."""
    text, engine = note(60), Watched()
    record = record_of(tmp_path, text, long(engine, "head"), "summarize")
    (prompt,) = engine.shown
    seen, total = record["coverage"]["characters"]
    assert text[:seen] == prompt.document and total == len(text) and text[seen - 1].isspace()
    assert record["degraded"][0] == f"head:{seen}/{total}" and record["parts"] == []
    assert "partial_coverage" in {flag["rule"] for flag in record["flags"]}
    assert_placed(record, text)
    assert max(quote["end"] for quote in record["quotes"]) <= seen


def test_a_beginning_without_words_is_no_head(tmp_path: Path) -> None:
    """A blob that cannot be quoted: refused, and not answered by what it does not say."""
    text = "\n".join(["QUJD" * 400] * 40) + note(2)
    record = record_of(tmp_path, text, _bytes("head"), "summarize", 3000)
    assert record["error"]["code"] == "too_long"


def test_head_counts_pages_too() -> None:
    """A page counts if all of its text, or a picture of it, was shown."""
    pages = (0, 100, 200, 200, 300)
    picture = Image(width=1, height=1, rgb=b"abc", page=3)
    given = {"characters": (400, 400), "pages": (4, 5)}
    document = document_of("x" * 400, pages=pages, images=(picture,), coverage=given)
    # The third has no text, the fifth ends behind what is shown, one was not read at all.
    assert document.covered(300) == {"characters": (300, 400), "pages": (3, 5)}
    assert document.covered(150) == {"characters": (150, 400), "pages": (1, 5)}
    assert document.covered(400) == given


def test_fail_is_too_long(tmp_path: Path) -> None:
    """Without it: rejected, and nothing is asked."""
    engine = Watched()
    record = record_of(tmp_path, note(60), engine, "summarize")
    assert record["error"]["code"] == "too_long" and not engine.shown


def test_one_part_fails(tmp_path: Path) -> None:
    """The document fails with its code, and what comes after is not asked about."""
    engine = Watched("/2")
    record = record_of(tmp_path, note(80), long(engine), "summarize")
    assert (record["status"], record["error"]["code"]) == ("failed", "oom")
    assert engine.asked == ["1", "2"] and record["output"] is None


def test_short_ones_go_on_between(tmp_path: Path) -> None:
    """A failed long document takes nobody with it; a good one is done among short ones."""
    short = "Slept well tonight. No pain was reported today."
    texts = {"a.md": short, "b.md": note(60), "c.md": f"{short} Ate well.", "d.md": note(61)}

    class Failing(Watched):
        def _answer(self, prompt: Prompt) -> Generation:
            failing = "drug 1860" in prompt.document  # of the sixty-first visit
            made = super()._answer(prompt)
            return made.model_copy(update={"error": "oom"}) if failing else made

    records, totals = execute(tmp_path, texts, long(Failing()))
    ended = {name: record["error"] and record["error"]["code"] for name, record in records.items()}
    assert ended == {"a.md": None, "b.md": None, "c.md": None, "d.md": "oom"}
    assert records["b.md"]["parts"] and not records["a.md"]["parts"] and totals.left == 0


def test_what_is_left_out_of_a_selection_is_a_note(tmp_path: Path) -> None:
    """Five findings of many: counted, told, and no reason to flag every long document."""
    record = record_of(tmp_path, note(80), long(Watched()), "summarize")
    assert len(record["output"]["key_findings"]) == 5
    assert any(one.startswith("left_out:key_findings:") for one in record["degraded"])
    flags = {flag["where"]: flag for flag in record["flags"] if flag["rule"] == "not_selected"}
    assert flags["key_findings"]["severity"] == "note" and "recommendations" in flags
    missed = [flag for flag in record["flags"] if flag["rule"] == "left_out"]
    assert {flag["where"] for flag in missed} <= {"medications", "allergies"}


def test_what_is_left_out_of_a_table_is_for_review(tmp_path: Path) -> None:
    """Rows that there was no room for are missing."""
    record = record_of(tmp_path, note(400), long(Watched()), "labs")
    (flag,) = [flag for flag in record["flags"] if flag["rule"] == "left_out"]
    assert (flag["where"], flag["severity"], record["status"]) == ("results", "review", "flagged")
    assert len(record["output"]["results"]) == 40


def test_free_text_is_joined(tmp_path: Path) -> None:
    """An answer without fields is written from the answers."""
    engine = Watched()
    record = record_of(tmp_path, note(60), long(engine), "general", 1000)
    assert record["status"] in ("ok", "flagged") and record["output"]["answer"]
    assert "/join/" in engine.shown[-1].id and len(record["parts"]) > 1


def test_what_fits_goes_through() -> None:
    """The very prompt, and the count of the engine, which counts it once."""

    class Counting(EchoEngine):
        counted = 0

        def count(self, prompt: Prompt) -> int:
            self.counted += 1
            return super().count(prompt)

    engine = Counting()
    prompt, taken = prompt_of("Slept well. No pain today."), long(engine)
    check_fits(prompt, taken)
    assert parts_of(taken, prompt) == [] and engine.counted == 1
    assert taken.count(prompt) == EchoEngine().count(prompt)
    assert [one.id for one in taken.generate([prompt])] == ["k"]


def test_images_are_shown_once() -> None:
    """With the first part; the others have the room for themselves."""

    class Seeing(Watched):
        def count(self, prompt: Prompt) -> int:
            return super().count(prompt) + 500 * len(prompt.images)

    image, engine = Image(width=1, height=1, rgb=b"abc"), Seeing()
    prompt = prompt_of(note(60), images=(image,))
    (made,) = long(engine).generate([prompt])
    assert [len(one.images) for one in engine.shown] == [1] + [0] * (len(engine.shown) - 1)
    assert made.usage.images == 1 and made.error is None
    first, second, *_ = parts_of(long(engine), prompt)
    assert second.end - second.start > first.end - first.start
    assert all(engine.count(one) <= 1500 for one in engine.shown)


def test_images_alone_are_not_split() -> None:
    """A series that is too much for the window is refused as before."""

    class Seeing(EchoEngine):
        def count(self, prompt: Prompt) -> int:
            return 500 * len(prompt.images)

    images = tuple(Image(width=1, height=1, rgb=b"abc", label=f"SLICE {k}") for k in range(4))
    with pytest.raises(DocumentError, match="too_long"):
        check_fits(prompt_of("", images=images), long(Seeing()))
    check_fits(prompt_of("", images=images[:3]), long(Seeing()))


def test_begin_is_told_of_the_document() -> None:
    """Every prompt of it is the document to the journal of attempts."""
    told: list[str] = []
    (made,) = long(EchoEngine()).generate([prompt_of(note(60))], begin=told.extend)
    assert set(told) == {"k"} and made.id == "k" and len(told) > 3


def test_loading_is_nobodys_fault() -> None:
    """`begin` of nothing is handed on as it is."""

    class Loading(EchoEngine):
        def generate(self, prompts: Any, keep_going: Any = None, begin: Any = None) -> Any:
            begin(())
            return super().generate(prompts, keep_going, begin)

    told: list[Sequence[str]] = []
    list(long(Loading()).generate([prompt_of("Slept well tonight.")], begin=told.append))
    assert [list(ids) for ids in told] == [[], ["k"]]


def test_a_stop_between_parts_leaves_no_answer() -> None:
    """The document is for the next run; nothing is asked after the no."""
    engine, left = Watched(), [True, True]
    made = long(engine).generate([prompt_of(note(60))], lambda: bool(left and left.pop()))
    assert list(made) == [] and engine.asked == ["1", "2"]


def test_a_question_that_fills_the_window_is_too_long() -> None:
    """Nothing can be split there."""
    prompt = prompt_of(note(60)).model_copy(update={"limits": Limits(max_input_tokens=20)})
    with pytest.raises(DocumentError, match="too_long"):
        check_fits(prompt, long(EchoEngine()))


def _bytes(way: str = "split") -> Any:
    """An engine that counts characters, not words."""

    class Bytes(EchoEngine):
        def count(self, prompt: Prompt) -> int:
            return sum(len(p.text) for m in prompt.messages for p in m.parts) // 4

    return long(Bytes(), way)


def test_a_part_of_which_nothing_can_be_quoted(tmp_path: Path) -> None:
    """A blob in the middle adds no findings, is counted, and harms no other part."""
    blob = "\n".join(["QUJD" * 400] * 40)
    text = f"{note(20)}\n\n{blob}\n\n{note(25)[2000:]}"

    record = record_of(tmp_path, text, _bytes(), "summarize", 3000)
    assert record["error"] is None
    assert any(one.startswith("parts_without_quotes:") for one in record["degraded"])
    assert_placed(record, text)


@pytest.mark.parametrize("size", [600_000, 5_000_000], ids=["300 pages", "5 MB"])
def test_very_long_documents_finish(tmp_path: Path, size: int) -> None:
    """300 pages, and 5 MB: one record, every quote in its place."""
    text = note(size // 430)[:size]
    record = record_of(tmp_path, text, long(EchoEngine()), "summarize", 20_000)
    assert record["status"] in ("ok", "flagged"), record["error"]
    assert_placed(record, text)


_KILLED = """
import os, signal
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
real, calls = EchoEngine._answer, 0

def answer(self, prompt):
    global calls
    calls += 1
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, prompt)

EchoEngine._answer = answer
main()
"""


def test_killed_between_parts(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Killed at the third part: no record; run again, there is one, and nothing more to do."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text(note(60), "utf-8")
    args = ("run", "in", "-o", "out", *ECHO, "--max-input-tokens", "1500")
    assert cli(*args, python=("-c", _KILLED)).returncode == -signal.SIGKILL
    assert lines(tmp_path / "out") == []
    assert cli(*args).returncode == 0
    (line,) = lines(tmp_path / "out")
    assert_placed(line, note(60))
    again: subprocess.CompletedProcess[str] = cli(*args)
    assert again.returncode == 0 and len(lines(tmp_path / "out")) == 1


def test_ask_and_plan_take_long_documents(cli: Callable[..., Any], tmp_path: Path) -> None:
    """`ask` answers about all of it; `plan` tells in how many parts it would be read."""
    (tmp_path / "a.md").write_text(note(60), "utf-8")
    few = (*ECHO, "--max-input-tokens", "1500")
    told = json.loads(cli("ask", "Which drugs?", "-f", "a.md", "--json", *few).stdout)
    assert told["error"] is None and any(n.startswith("parts:") for n in told["degraded"])
    (one,) = json.loads(cli("plan", "a.md", "--json", *few).stdout)["documents"]
    assert one["parts"] > 1 and one["longest"] <= 1500 < one["prompt_tokens"]
