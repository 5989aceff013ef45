"""`run --pair-by`: one record a pair, whatever is edited, swapped, doubled or gone in between."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import ECHO, lines

from medgemma_cli import forecast, readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pairing import Pairs, rule
from medgemma_cli.pipeline import Run, Totals
from medgemma_cli.planning import Planner
from medgemma_cli.progress import SilentReporter
from medgemma_cli.readers import tables
from medgemma_cli.readers.pool import InProcess
from medgemma_cli.records import Limits, Prompt
from medgemma_cli.verifying import Verifier

Line = dict[str, Any]
BY_NAME = r"name:(?P<patient>.+)_(?P<date>\d{8})"
FIRST = "Dry cough since Monday. No fever was measured today.\n"
THEN = "Dry cough since Monday. Fever of 39.1 measured this evening.\n"
LAST = "No cough any more. No fever was measured today.\n"


class Watched(EchoEngine):
    """The echo engine, with what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Prompt] = []

    def _answer(self, prompt: Prompt) -> Any:
        self.asked.append(prompt)
        return super()._answer(prompt)


class Folder:
    """Notes in `in/`, compared into `out/`, in this process."""

    def __init__(self, top: Path) -> None:
        self.notes, self.out = top / "in", top / "out"
        self.notes.mkdir()
        self.engine = Watched()
        self.columns: tables.Columns | None = None

    def write(self, **texts: str) -> None:
        """A note for each name."""
        for name, text in texts.items():
            (self.notes / f"{name}.md").write_text(text, "utf-8")

    def sources(self, written: str = BY_NAME) -> Pairs:
        """The pairs that are there now."""
        found = Discovery([str(self.notes)], readers.SUFFIXES, columns=self.columns)
        return Pairs(found, rule(written))

    def job(self, **settings: Any) -> Job:
        """What is asked of every pair."""
        limits = Limits(max_new_tokens=900)
        template = templates.load("compare")
        return Job(template=template, limits=limits, fsync=False, **settings)

    def run(self, written: str = BY_NAME, **settings: Any) -> Totals:
        """One run; `engine.asked` has what was inferred."""
        self.engine.asked.clear()
        with Ledger(self.out, fsync=False) as ledger:
            process = Run(self.job(**settings), ledger, self.engine, SilentReporter())
            process.prepare()
            return process.execute(self.sources(written))

    @property
    def records(self) -> dict[str, Line]:
        """The current record of each source."""
        return {line["source"]: line for line in lines(self.out)}

    def differences(self) -> list[tuple[str, str]]:
        """What `verify` finds."""
        with Ledger(self.out, read_only=True) as ledger:
            verifier = Verifier(ledger)
            found = [
                *verifier.of_the_folder(),
                *verifier.of_the_sources(InProcess(), readers.ReadLimits()),
            ]
        return [(difference.kind, difference.name) for difference in found]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Three notes of one patient, one of another."""
    made = Folder(tmp_path)
    made.write(a_20240101=FIRST, a_20240301=THEN, a_20240501=LAST, b_20240101=FIRST)
    return made


def test_one_record_a_pair(folder: Folder) -> None:
    """Both paths and hashes, coverage of both, quotes that name their document, its own page."""
    totals = folder.run()
    assert (totals.documents, totals.inferred) == (2, 2)
    record = folder.records["a_20240301.md"]
    assert record["prior"]["source"] == "a_20240101.md"
    assert record["prior"]["origin"] == str(folder.notes / "a_20240101.md")
    assert record["prior"]["bytes"] == len(FIRST) and record["bytes"] == len(THEN)
    assert record["sha256"] != record["prior"]["sha256"]
    assert record["coverage"] == {
        "characters": [len(THEN), len(THEN)],
        "prior_characters": [len(FIRST), len(FIRST)],
    }
    texts = {"prior": FIRST, "current": THEN}
    assert {q["document"] for q in record["quotes"]} == {"prior", "current"}
    for quote in record["quotes"]:
        assert texts[quote["document"]][quote["start"] : quote["end"]] == quote["text"]
    page = (folder.out / record["summary"]).read_text("utf-8")
    assert record["summary"] == "a_20240301.md.compared.md"
    assert "Compared with: a\\_20240101.md" in page and "prior document, line 1" in page
    assert "prior characters of" in page and record["prior"]["sha256"] in page


def test_the_next_run_has_nothing_to_do(folder: Folder) -> None:
    """And nothing differs."""
    folder.run()
    totals = folder.run()
    assert (totals.cached, totals.inferred) == (2, 0) and not folder.engine.asked
    assert folder.differences() == []


def test_an_edited_prior_is_compared_again(folder: Folder) -> None:
    """The key depends on both contents: only the pair that the note is in is asked again."""
    folder.run()
    folder.write(a_20240101=FIRST + "Chest X-ray was normal then.\n")
    assert ("source_changed", "a_20240101.md") in folder.differences()
    totals = folder.run()
    assert (totals.inferred, totals.cached) == (1, 1)
    assert folder.engine.asked[0].prior.endswith("normal then.\n")
    assert folder.differences() == []
    folder.write(a_20240301=THEN + "Slept well.\n")  # current of one pair, prior of another
    assert folder.run().inferred == 2


def test_a_note_in_between_makes_other_pairs(folder: Folder) -> None:
    """The page of the current document is of its new neighbour; no stale one stands."""
    folder.run()
    folder.write(a_20240401="Fever of 38.0 measured this morning.\n")
    assert folder.run().inferred == 2
    assert folder.records["a_20240501.md"]["prior"]["source"] == "a_20240401.md"
    pages = sorted(path.name for path in folder.out.glob("*.md"))
    assert pages == [f"a_20240{m}01.md.compared.md" for m in (3, 4, 5)]


def test_a_renamed_prior_costs_nothing(folder: Folder) -> None:
    """The same bytes under another name: the record follows, without the model."""
    folder.run()
    (folder.notes / "a_20240101.md").rename(folder.notes / "a_20240102.md")
    totals = folder.run()
    assert (totals.inferred, totals.reused) == (0, 1)
    assert folder.records["a_20240301.md"]["prior"]["source"] == "a_20240102.md"
    assert folder.differences() == [] and folder.run().cached == 2


def test_a_prior_that_is_gone_is_told_of(folder: Folder) -> None:
    """By `verify`; the next run pairs what is there."""
    folder.run()
    (folder.notes / "a_20240301.md").unlink()
    assert ("source_gone", "a_20240301.md") in folder.differences()
    assert folder.run().inferred == 1
    assert folder.records["a_20240501.md"]["prior"]["source"] == "a_20240101.md"


def test_swapped_dates_are_another_question(folder: Folder) -> None:
    """Prior and current are not the same pair the other way round."""
    folder.write(c_20240101=FIRST, c_20240301=THEN)
    folder.run()
    before = {(r["sha256"], r["prior"]["sha256"]): r["key"] for r in folder.records.values()}
    folder.write(c_20240101=THEN, c_20240301=FIRST)
    folder.run()
    record = folder.records["c_20240301.md"]
    assert (record["prior"]["sha256"], record["sha256"]) in before
    assert record["key"] not in before.values()
    assert [item["quote"] for item in record["output"]["resolved"]] == [
        "Fever of 39.1 measured this evening."
    ]


def test_the_same_two_texts_are_asked_once(folder: Folder) -> None:
    """Two patients with the same notes: one inference, two records, each with its own paths."""
    folder.write(b_20240301=THEN)
    totals = folder.run()
    assert (totals.inferred, totals.duplicates) == (2, 1)
    record = folder.records["b_20240301.md"]
    assert record["duplicate_of"] == "a_20240301.md"
    assert record["prior"]["source"] == "b_20240101.md"
    assert record["prior"]["origin"].endswith("/in/b_20240101.md")
    assert folder.differences() == []


def test_identical_documents(folder: Folder) -> None:
    """A pair like any other; nothing of it is new."""
    folder.write(d_20240101=FIRST, d_20240201=FIRST)
    folder.run()
    record = folder.records["d_20240201.md"]
    assert record["status"] == "ok" and record["sha256"] == record["prior"]["sha256"]
    assert record["output"]["new"] == record["output"]["resolved"] == []


def test_what_cannot_be_ordered_is_rejected(folder: Folder) -> None:
    """The same date twice: a record for each, and it is right again when one goes."""
    (folder.notes / "b_20240101.txt").write_text("Another note of that day.\n", "utf-8")
    folder.write(b_20240201="Feels well again, and sleeps through.\n")
    folder.run()
    codes = {s: (r["error"] or {}).get("code") for s, r in folder.records.items()}
    assert codes["b_20240101.md"] == codes["b_20240101.txt"] == codes["b_20240201.md"]
    assert codes["b_20240101.md"] == "pair_order"
    assert folder.run().cached == 5
    (folder.notes / "b_20240101.txt").unlink()
    assert folder.run().inferred == 1
    assert folder.records["b_20240201.md"]["status"] == "ok"
    (folder.notes / "b_20240101.txt").write_text("Another note of that day.\n", "utf-8")
    folder.run()
    assert folder.records["b_20240201.md"]["error"]["code"] == "pair_order"


def test_one_of_both_cannot_be_read(folder: Folder) -> None:
    """The code, and which of both it was; on the page, too."""
    (folder.notes / "b_20240101.md").write_bytes(b"\xff\xfe\xfa not UTF-8")
    (folder.notes / "c_20240101.md").write_text(FIRST, "utf-8")
    (folder.notes / "c_20240201.md").write_bytes(b"")
    folder.write(b_20240201=THEN)
    folder.run()
    errors = {s: r["error"] for s, r in folder.records.items() if r["error"]}
    assert {s: (e["code"], e["document"]) for s, e in errors.items()} == {
        "b_20240201.md": ("encoding", "prior"),
        "c_20240201.md": ("empty", "current"),
    }
    assert "The prior document: " in (folder.out / "b_20240201.md.compared.md").read_text("utf-8")
    folder.write(b_20240101=FIRST)
    assert folder.run().documents == 4 and folder.records["b_20240201.md"]["status"] == "ok"


def test_both_ways_of_running_share_a_folder(folder: Folder) -> None:
    """A summary of a note and a comparison of it have names, and records, of their own."""
    folder.run()
    with Ledger(folder.out, fsync=False) as ledger:
        job = Job(template=templates.load("summarize"), limits=Limits(), fsync=False)
        process = Run(job, ledger, EchoEngine(), SilentReporter())
        assert process.execute(Discovery([str(folder.notes)], readers.SUFFIXES)).inferred == 3
    assert folder.run().cached == 2
    names = {line["summary"] for line in lines(folder.out)}
    assert {"a_20240301.md", "a_20240301.md.compared.md"} <= names


NOTE = "---\npatient: XYZZY-1\ndate: {}\n---\n# Ward note\n\n{}"


def test_front_matter_says_whose_and_is_not_shown(folder: Folder) -> None:
    """No identifier reaches the prompt or the key; offsets count in the text as read."""
    first, then = NOTE.format("2024-01-01", FIRST), NOTE.format("2024-03-01", THEN)
    folder.write(one=first, two=then)
    totals = folder.run("front-matter")
    assert totals.inferred == 1
    record, (prompt,) = folder.records["two.md"], folder.engine.asked
    assert "XYZZY" not in prompt.model_dump_json() and "XYZZY" not in json.dumps(record)
    assert prompt.document.strip().startswith("# Ward note")
    texts = {"prior": first, "current": then}
    for quote in record["quotes"]:
        assert texts[quote["document"]][quote["start"] : quote["end"]] == quote["text"]
        assert quote["line"] == 7
    assert record["degraded"] == ["front_matter_not_shown", "prior:front_matter_not_shown"]
    assert record["status"] == "ok" and folder.differences() == []


def test_another_patient_of_the_same_text_is_another_file(folder: Folder) -> None:
    """Identifiers are part of the bytes, so of their hash; the rule is part of the key as well."""
    folder.write(a_20240101=NOTE.format("2024-01-01", FIRST))
    folder.write(a_20240301=NOTE.format("2024-03-01", THEN))
    folder.run()
    key = folder.records["a_20240301.md"]["key"]
    assert folder.run("front-matter").inferred == 1
    assert folder.records["a_20240301.md"]["key"] != key


def test_a_note_of_front_matter_alone(folder: Folder) -> None:
    """There is nothing to show: told of, and of which."""
    folder.write(one=NOTE.format("2024-01-01", FIRST))
    folder.write(two="---\npatient: XYZZY-1\ndate: 2024-02-01\n---\n")
    folder.run("front-matter")
    error = folder.records["two.md"]["error"]
    assert (error["code"], error["document"]) == ("no_text", "current")


def test_rows_of_a_table(folder: Folder) -> None:
    """By their ids, or by front matter in their texts."""
    rows = [{"id": f"r_2024010{i}", "text": text} for i, text in enumerate((FIRST, THEN), 1)]
    path = folder.notes / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    folder.columns = tables.Columns("text", None, "id")
    assert folder.run().documents == 3
    record = folder.records["t.jsonl#2"]
    assert (record["custom_id"], record["prior"]["custom_id"]) == ("r_20240102", "r_20240101")
    assert record["summary"] == "t.jsonl/r_20240102.compared.md"
    assert folder.differences() == [] and folder.run().cached == 3


def test_a_plan_counts_both(folder: Folder) -> None:
    """What would be asked, with the words of both documents."""
    with Ledger(folder.out, read_only=True) as ledger:
        planner = Planner(folder.job(), ledger, folder.engine.identity)
        told = list(forecast.foresee(folder.job(), planner, folder.engine, folder.sources()))
    assert [(one.prior, one.source, one.action) for one in told] == [
        ("a_20240101.md", "a_20240301.md", "infer"),
        ("a_20240301.md", "a_20240501.md", "infer"),
    ]
    folder.run()
    assert [one.prompt_tokens for one in told] == [
        line["usage"]["prompt_tokens"] for line in lines(folder.out)
    ]


def test_a_kill_in_between_costs_what_was_under_way(folder: Folder) -> None:
    """The second run goes on; every pair has one record."""
    with Ledger(folder.out, fsync=False) as ledger:
        process = Run(folder.job(), ledger, folder.engine, SilentReporter())
        process.execute(list(folder.sources())[:1])
    with (folder.out / "records.jsonl").open("ab") as file:
        file.write(b'{"schema": "medgemma.record/1", "torn')
    assert folder.run().inferred == 1
    assert [line["source"] for line in lines(folder.out)] == ["a_20240301.md", "a_20240501.md"]


def test_ten_thousand_files(tmp_path: Path) -> None:
    """Found and paired in a time that grows with their number; front matter is read of each."""
    seconds = []
    for count in (1000, 10_000):
        (tmp_path / str(count)).mkdir()
        folder = Folder(tmp_path / str(count))
        for i in range(count):
            text = f"---\npatient: {i // 4}\ndate: 2024-01-0{i % 4 + 1}\n---\nNote {i}.\n"
            (folder.notes / f"{i:05}.md").write_bytes(text.encode())
        started = time.process_time()
        assert len(list(folder.sources("front-matter"))) == count * 3 // 4
        seconds.append(time.process_time() - started)
    assert seconds[1] < 30 * seconds[0] + 1


# -- through the command -------------------------------------------------------------------------


def test_the_command(cli: Callable[..., Any], folder: Folder) -> None:
    """The template is chosen; what is not paired is told; no patient reaches the log.

    The echo engine says of a new finding what stands in the prior alone: that is flagged.
    """
    done = cli("run", "in", "-o", "out", *ECHO, "--pair-by", BY_NAME)
    assert done.returncode == 0, done.stderr
    assert "2 documents: 1 ok, 1 flagged; 2 generated" in done.stderr
    assert "skipped 1: 1 not paired (alone in its group)" in done.stderr
    assert "a_2024" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--pair-by", "patient"), "neither front-matter:KEYS nor name:PATTERN"),
        (("--pair-by", "name:(?P<patient>.+"), "no regular expression at character"),
        (("--pair-by", BY_NAME, "-t", "summarize"), "looks at one document"),
        (("-t", "compare"), "compares two documents"),
    ],
)
def test_usage(cli: Callable[..., Any], folder: Folder, args: tuple[str, ...], told: str) -> None:
    """2, before anything is written, and what to do."""
    done = cli("run", "in", "-o", "out", *ECHO, *args)
    assert done.returncode == 2 and told in done.stderr
    assert not folder.out.exists()


def test_a_pattern_that_matches_nothing(cli: Callable[..., Any], folder: Folder) -> None:
    """66, with how many documents there were."""
    done = cli("run", "in", "-o", "out", *ECHO, "--pair-by", r"name:(?P<p>\d+)x(?P<date>\d{8})")
    assert done.returncode == 66
    assert (
        "No pair was found; skipped 4: 4 not paired (--pair-by finds nothing in it)" in done.stderr
    )


def test_a_dry_run_names_both(cli: Callable[..., Any], folder: Folder) -> None:
    """And what is not paired, by name."""
    done = cli("run", "in", "-o", "out", *ECHO, "--pair-by", BY_NAME, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "a_20240101.md → a_20240301.md" in done.stdout
    assert "skip      not paired (alone in its group): b_20240101.md" in done.stdout
