"""A document longer than the window: parts in, one record out, every quote at its place."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import ECHO, lines

from medgemma_cli import readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.base import check_fits
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.errors import DocumentError
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger, current_lines
from medgemma_cli.longdocs import MERGE, LongDocuments
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Document, Generation, Limits, Prompt, Source


class Watched(EchoEngine):
    """The echo engine; keeps what it was shown, and fails where a word is."""

    def __init__(self, fail: str = "\0") -> None:
        super().__init__()
        self.fail = fail
        self.shown: list[Prompt] = []

    def _answer(self, prompt: Prompt) -> Generation:
        self.shown.append(prompt)
        if self.fail in prompt.document:
            return Generation(id=prompt.id, finish_reason="error", error="oom")
        return super()._answer(prompt)


def note(pages: int, lines_: int = 6) -> str:
    """A record of visits, no two sentences of it alike."""
    return "\n\n".join(
        f"## Visit {page}\n\n"
        + "\n".join(
            f"On day {page} at hour {line} the patient took {page + line} mg of drug {page * 31}."
            for line in range(lines_)
        )
        for page in range(pages)
    )


def run(tmp_path: Path, text: str, engine: Any, template: str, tokens: int) -> dict[str, Any]:
    """The record of one text."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.md").write_text(text, "utf-8")
    limits = Limits(max_new_tokens=200, max_input_tokens=tokens)
    job = Job(template=templates.load(template), limits=limits, fsync=False)
    with Ledger(out, fsync=False) as ledger:
        Run(job, ledger, engine, SilentReporter()).execute(
            Discovery([str(folder)], readers.SUFFIXES, out=out)
        )
    (line,) = current_lines(out)
    found: dict[str, Any] = line
    return found


def long(engine: EchoEngine, on_long: Any = "split") -> LongDocuments:
    """The engine, for long documents, too."""
    return LongDocuments(engine, on_long, templates.load(MERGE))


def assert_placed(record: dict[str, Any], text: str) -> None:
    """Every finding has its quote, and that stands where the record says."""
    assert record["quotes"]
    for quote in record["quotes"]:
        assert text[quote["start"] : quote["end"]] == quote["text"]
    assert "quote_not_in_source" not in {flag["rule"] for flag in record["flags"]}


@pytest.mark.parametrize("template", ["summarize", "labs", "handoff"])
def test_quotes_keep_their_place(tmp_path: Path, template: str) -> None:
    """Read in parts, from everywhere in the document, and counted as all seen."""
    text, engine = note(60), Watched()
    record = run(tmp_path, text, long(engine), template, 1500)
    assert record["status"] in ("ok", "flagged"), record["error"]
    assert_placed(record, text)
    assert max(quote["start"] for quote in record["quotes"]) > len(text) // 2
    assert record["coverage"]["characters"] == [len(text), len(text)]
    assert any(name.startswith("parts:") for name in record["degraded"])
    assert all(engine.count(prompt) <= 1500 for prompt in engine.shown)
    assert record["usage"]["prompt_tokens"] == sum(map(engine.count, engine.shown))


def test_the_same_words_twice_are_told_apart(tmp_path: Path) -> None:
    """A quote that stands in two parts is given the place in the part it was taken from."""
    text = f"# A\n\n{note(40)}\n\n# B\n\nBlood pressure was 120/80 today."
    record = run(tmp_path, text, long(Watched()), "summarize", 1500)
    assert_placed(record, text)


def test_head_is_the_beginning(tmp_path: Path) -> None:
    """One prompt, cut at a sentence; coverage, a note and a flag say so."""
    text, engine = note(60), Watched()
    record = run(tmp_path, text, long(engine, "head"), "summarize", 1500)
    (prompt,) = engine.shown
    seen, total = record["coverage"]["characters"]
    assert text[:seen] == prompt.document and total == len(text) and text[seen - 1].isspace()
    assert f"head:{seen}/{total}" in record["degraded"]
    assert "partial_coverage" in {flag["rule"] for flag in record["flags"]}


def test_fail_is_too_long(tmp_path: Path) -> None:
    """Without it: rejected, and nothing is asked."""
    engine = Watched()
    record = run(tmp_path, note(60), engine, "summarize", 1500)
    assert record["error"]["code"] == "too_long" and not engine.shown


def test_one_part_fails(tmp_path: Path) -> None:
    """The document fails with its code, and what comes after is not asked about."""
    engine = Watched("On day 3 ")
    record = run(tmp_path, note(80), long(engine), "summarize", 1500)
    assert (record["status"], record["error"]["code"]) == ("failed", "oom")
    assert not any("On day 30 " in prompt.document for prompt in engine.shown)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    """Five findings of many: counted and flagged."""
    record = run(tmp_path, note(80), long(Watched()), "summarize", 1500)
    assert len(record["output"]["key_findings"]) == 5
    assert any(note_.startswith("left_out:key_findings:") for note_ in record["degraded"])
    assert "left_out" in {flag["rule"] for flag in record["flags"]}


def test_free_text_is_joined(tmp_path: Path) -> None:
    """An answer without fields is written from the answers."""
    engine = Watched()
    record = run(tmp_path, note(60), long(engine), "general", 1000)
    assert record["status"] in ("ok", "flagged") and record["output"]["answer"]
    assert "/join/" in engine.shown[-1].id


def test_what_fits_goes_through() -> None:
    """The very prompt, and the count of the engine."""
    engine = EchoEngine()
    prompt = _prompt("Slept well. No pain today.")
    assert prompts_of(long(engine), prompt) == [engine.count(prompt)]
    assert [g.id for g in long(engine).generate([prompt])] == ["k"]


def test_begin_is_told_of_the_document() -> None:
    """Every prompt of it is the document to the journal of attempts."""
    told: list[str] = []
    prompt = _prompt(note(60))
    (made,) = long(EchoEngine()).generate([prompt], begin=told.extend)
    assert set(told) == {"k"} and made.id == "k" and len(told) > 3


def test_a_question_that_fills_the_window_is_too_long() -> None:
    """Nothing can be split there."""
    prompt = _prompt(note(60)).model_copy(update={"limits": Limits(max_input_tokens=20)})
    with pytest.raises(DocumentError, match="too_long"):
        check_fits(prompt, long(EchoEngine()))


def test_the_setting_is_in_the_key() -> None:
    """Another way of reading is other work."""
    made = [json.dumps(long(EchoEngine(), way).identity) for way in ("split", "head")]
    assert len({*made, json.dumps(EchoEngine().identity)}) == 3


def _prompt(text: str) -> Prompt:
    source = Source(place="a", relative="a", origin="a")
    document = Document(
        source=source, sha256="", bytes=0, media_type="text/plain", text=text, coverage={}
    )
    limits = Limits(max_new_tokens=200, max_input_tokens=1500)
    return templates.render(templates.load("summarize"), document, "k", limits)


@pytest.mark.parametrize("size", [600_000, 5_000_000])
def test_very_long_documents_finish(tmp_path: Path, size: int) -> None:
    """300 pages, and 5 MB: one record, every quote in its place."""
    text = note(size // 430)[:size]
    record = run(tmp_path, text, long(EchoEngine()), "summarize", 20_000)
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
