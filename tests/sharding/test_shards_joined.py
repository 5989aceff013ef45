"""`medgemma merge`: checked, whole or not at all, and again without harm."""

import contextlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from outcomes import contents, lines
from sharding.conftest import Medgemma
from sharding.test_shards import OUT, sharded

from medgemma_cli import summaries, views
from medgemma_cli.errors import ConfigError, StorageError
from medgemma_cli.ledger import Ledger
from medgemma_cli.sharding import clearing, folders, joining

SHARDS = OUT / ".shards"


def whole(medgemma: Medgemma, documents: int = 13) -> dict[str, dict[str, Any]]:
    """The records of a folder that was merged as it should be: each document once, by name."""
    found = lines(OUT)
    assert Counter(line["source"] for line in found).most_common(1)[0][1] == 1
    assert len(found) == documents
    assert not SHARDS.exists()
    assert medgemma("verify", OUT).code == 0
    assert "nothing to do" in medgemma("run", "papers", "-o", OUT).stderr
    return {line["source"]: line for line in found}


def test_merged_is_what_one_run_makes(medgemma: Medgemma, papers: Path) -> None:
    """The same records but for times, the same summaries, and nothing is left of the shards."""
    medgemma("run", "papers", "-o", "plain")
    plain = {line["source"]: line for line in lines(Path("plain"))}
    sharded(medgemma, 3)
    done = medgemma("merge", OUT)
    assert done.code == 0 and "merged 3 shards: 13 documents: " in done.stderr
    merged = whole(medgemma)
    for name, line in plain.items():
        same = {k: v for k, v in line.items() if k not in ("created", "seconds")}
        assert same.items() <= merged[name].items()
    pages = {name for name in contents(OUT) if name.endswith(".md")}
    assert pages == {name for name in contents(Path("plain")) if name.endswith(".md")}


def test_lines_are_kept_byte_for_byte(medgemma: Medgemma, papers: Path) -> None:
    """In the order of the shards, an earlier try's lines among them."""
    sharded(medgemma, 2)
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2", "--force")
    parts = [(folder / "records.jsonl").read_bytes() for folder in folders.found(OUT).values()]
    medgemma("merge", OUT)
    assert (OUT / "records.jsonl").read_bytes() == b"".join(parts)


def test_merging_again_does_nothing(medgemma: Medgemma, papers: Path) -> None:
    """0, and not a byte is changed."""
    sharded(medgemma, 2)
    medgemma("merge", OUT)
    before = contents(OUT)
    done = medgemma("merge", OUT)
    assert done.code == 0 and "nothing to merge" in done.stderr and contents(OUT) == before


def test_a_folder_that_is_none(medgemma: Medgemma, tmp_path: Path) -> None:
    """78, and nothing is made."""
    assert medgemma("merge", OUT).code == 78 and not OUT.exists()


def test_on_top_of_what_is_there(medgemma: Medgemma, papers: Path) -> None:
    """What is new and changed joins the ledger; a summary of before gives way."""
    medgemma("run", "papers", "-o", OUT)
    (papers / "0.md").write_text("Changed. Cough for 9 days.\n")
    (papers / "new.md").write_text("New. Cough for 10 days.\n")
    sharded(medgemma, 3)
    medgemma("merge", OUT)
    assert len(lines(OUT)) == 15 and "for 9 days" in (OUT / "0.md").read_text()
    assert medgemma("verify", OUT).code == 0


def test_missing_is_75(medgemma: Medgemma, papers: Path) -> None:
    """Which are missing is said; nothing is touched; --partial takes what is there."""
    sharded(medgemma, 3)
    shutil.rmtree(SHARDS / "2-of-3")
    before = {name: data for name, data in contents(OUT).items() if name != ".lock"}
    done = medgemma("merge", OUT)
    assert done.code == 75 and "missing (2)" in done.stderr
    after = {name: data for name, data in contents(OUT).items() if name != ".lock"}
    assert before.items() <= after.items() and not after.get("records.jsonl")
    done = medgemma("merge", OUT, "--partial")
    assert done.code == 0 and "missing (2)" in done.stderr
    assert 0 < len(lines(OUT)) < 13
    medgemma("run", "papers", "-o", OUT)
    whole(medgemma)


def test_half_done_is_75(medgemma: Medgemma, papers: Path) -> None:
    """A shard that was stopped; run again, it is merged with the others."""
    sharded(medgemma, 2)
    (papers / "0.md").write_text("Changed. Cough.\n")
    for i in (1, 2):
        medgemma("run", "papers", "-o", OUT, "--shard", f"{i}/2", "--max-time", "0.0001")
    assert medgemma("merge", OUT).code == 75
    sharded(medgemma, 2)
    assert medgemma("merge", OUT).code == 0
    assert medgemma("verify", OUT).code == 0


def test_a_torn_line_is_half_done(medgemma: Medgemma, papers: Path) -> None:
    """A shard's last line, cut short behind its back: its document is done again first."""
    sharded(medgemma, 2)
    ledger = SHARDS / "1-of-2" / "records.jsonl"
    os.truncate(ledger, ledger.stat().st_size - 5)
    done = medgemma("merge", OUT)
    assert done.code == 75 and "half done (1)" in done.stderr
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2")
    assert medgemma("merge", OUT).code == 0
    assert list((OUT / "quarantine").rglob("line-*"))  # the shard's, kept
    whole(medgemma)


def test_a_damaged_line_is_half_done(medgemma: Medgemma, papers: Path) -> None:
    """In the middle: the counts do not agree, and the shard is to run again."""
    sharded(medgemma, 1)
    ledger = SHARDS / "1-of-1" / "records.jsonl"
    data = bytearray(ledger.read_bytes())
    data[10] = 0
    ledger.write_bytes(data)
    assert medgemma("merge", OUT).code == 75
    medgemma("run", "papers", "-o", OUT, "--shard", "1/1")
    assert medgemma("merge", OUT).code == 0
    whole(medgemma)


def test_different_settings_are_78(medgemma: Medgemma, papers: Path) -> None:
    """Half of a folder under other options is nobody's wish, unless it is said to be."""
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2")
    medgemma("run", "papers", "-o", OUT, "--shard", "2/2", "--max-new-tokens", 99)
    done = medgemma("merge", OUT)
    assert done.code == 78 and "different things" in done.stderr
    assert medgemma("merge", OUT, "--partial").code == 0 and len(lines(OUT)) == 13


def test_different_numbers_are_78(medgemma: Medgemma, papers: Path) -> None:
    """Shards of two array jobs, put together by hand."""
    sharded(medgemma, 2)
    shutil.copytree(SHARDS / "2-of-2", SHARDS / "2-of-3")
    assert medgemma("merge", OUT).code == 78
    assert not (OUT / "records.jsonl").stat().st_size


def test_one_document_in_two_shards_is_78(medgemma: Medgemma, papers: Path) -> None:
    """It cannot be but by hand, and is not joined even with --partial; nothing is appended."""
    sharded(medgemma, 2)
    one, two = (SHARDS / f"{i}-of-2" / "records.jsonl" for i in (1, 2))
    with two.open("ab") as file:
        file.write(one.read_bytes().splitlines(keepends=True)[0])
    for more in ((), ("--partial",)):
        assert medgemma("merge", OUT, *more).code == 78
    assert not (OUT / "records.jsonl").stat().st_size and not folders.half_merged(OUT)


def test_inputs_that_changed_in_between(medgemma: Medgemma, papers: Path) -> None:
    """A document that came after its shard had run is in none: the reader is told."""
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2")
    (papers / "late.md").write_text("Late. A cough.")
    medgemma("run", "papers", "-o", OUT, "--shard", "2/2")
    done = medgemma("merge", OUT)
    assert done.code == 0 and "inputs changed" in done.stderr
    medgemma("run", "papers", "-o", OUT)
    whole(medgemma, 14)


def test_a_summary_changed_by_hand_is_kept(medgemma: Medgemma, papers: Path) -> None:
    """So is anything else in a shard's folder; the merged summary is the record's."""
    sharded(medgemma, 1)
    folder = SHARDS / "1-of-1"
    (folder / "1.md").write_text("my words")
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "link").symlink_to("/nowhere")
    (folder / "linked").symlink_to(papers)
    assert medgemma("merge", OUT).code == 0
    (kept,) = (OUT / "quarantine").glob("shard-1-of-1-*")
    assert (kept / "1.md").read_text() == "my words"
    assert (kept / "notes" / "mine.txt").read_text() == "mine"
    assert len(list(papers.rglob("*.md"))) == 9
    whole(medgemma)


def test_a_foreign_file_at_a_summarys_place(medgemma: Medgemma, papers: Path) -> None:
    """It came after the shard had looked: it stays, and the reader is told."""
    sharded(medgemma, 1)
    (OUT / "1.md").write_text("mine")
    done = medgemma("merge", OUT)
    assert done.code == 0 and "1 summaries or sheets have a file of somebody else" in done.stderr
    assert (OUT / "1.md").read_text() == "mine" and len(lines(OUT)) == 13


def test_files_are_the_owners_alone(medgemma: Medgemma, papers: Path) -> None:
    """0600 and 0700, before and after."""
    for command in ("run papers -o out --shard 1/1", "merge out"):
        medgemma(*command.split())
        for path in OUT.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path


# -- killed ---------------------------------------------------------------------------------------


class KilledError(BaseException):
    """As if the process were gone: nothing catches it."""


def kill_merge(monkeypatch: pytest.MonkeyPatch, where: str, number: int, must: bool = True) -> None:
    """Merge; the nth call of a step does not come back. It `must` come to that."""
    with monkeypatch.context() as patch:
        _kill_at(patch, where, number)
        with pytest.raises(KilledError) if must else contextlib.suppress(KilledError):
            joining.merge(OUT)


def _kill_at(patch: pytest.MonkeyPatch, where: str, number: int) -> None:
    owner, name = {
        "append": (Ledger, "append_line"),
        "sync": (Ledger, "sync"),
        "note": (folders, "write_merge"),
        "summaries": (summaries, "write"),
        "sheets": (views, "is_free"),
        "clear": (clearing, "clear"),
        "unlink": (Path, "unlink"),
        "rest": (clearing, "clear_rest"),
    }[where]
    honest, calls = getattr(owner, name), 0

    def counted(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KilledError
        return honest(*args, **settings)

    patch.setattr(owner, name, counted)


POINTS = [
    ("note", 1),
    ("append", 1),
    ("append", 7),
    ("sync", 1),
    ("note", 2),
    ("summaries", 1),
    ("clear", 1),
    ("clear", 2),
    *(("unlink", n) for n in (1, 4, 9, 15)),
    ("rest", 1),
]


@pytest.mark.parametrize(("where", "number"), POINTS)
def test_killed_at(
    medgemma: Medgemma,
    papers: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    number: int,
) -> None:
    """Killed at any step, twice: all or none of the lines are there to stay, and nobody else
    begins anything until it is merged again."""
    sharded(medgemma, 2)
    for first in (True, False):  # less is left to do, the second time
        kill_merge(monkeypatch, where, number, must=first)
        begun = folders.half_merged(OUT)
        if begun:
            assert medgemma("run", "papers", "-o", OUT, "--shard", "1/2").code in (75, 78)
            assert "interrupted" in medgemma("status", OUT).stdout
        if begun or folders.found(OUT):
            assert medgemma("run", "papers", "-o", OUT).code == 78
    assert medgemma("merge", OUT).code == 0
    whole(medgemma)


@pytest.mark.parametrize("torn", [1, 40, 100_000])
def test_a_torn_append(
    medgemma: Medgemma, papers: Path, monkeypatch: pytest.MonkeyPatch, torn: int
) -> None:
    """Killed inside of a line: the part is cut off with the rest."""
    sharded(medgemma, 2)
    kill_merge(monkeypatch, "append", 4)
    with (OUT / "records.jsonl").open("ab") as file:
        file.write(b'{"schema"' * torn)
    assert medgemma("merge", OUT).code == 0
    whole(medgemma)


def test_a_ledger_cut_short_behind_our_back(
    medgemma: Medgemma, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorter than when the merge began, it is somebody's to look at: 78."""
    medgemma("run", "papers", "-o", OUT)
    (papers / "0.md").write_text("Changed. A cough.")
    sharded(medgemma, 1)
    kill_merge(monkeypatch, "append", 1)
    os.truncate(OUT / "records.jsonl", 10)
    assert medgemma("merge", OUT).code == 78


def test_a_note_that_is_none(medgemma: Medgemma, papers: Path) -> None:
    """What cannot be read says nothing, and nothing is guessed: 78."""
    sharded(medgemma, 1)
    (SHARDS / "merge.json").write_text("{")
    with pytest.raises(ConfigError):
        joining.merge(OUT)


def test_no_room(medgemma: Medgemma, papers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """74; when there is room again, it is merged."""
    sharded(medgemma, 2)
    honest, left = Ledger.append_line, 5

    def full(ledger: Ledger, raw: bytes) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise StorageError("No room is left.", "Make room.")
        return honest(ledger, raw)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append_line", full)
        assert medgemma("merge", OUT).code == 74
    assert medgemma("merge", OUT).code == 0
    whole(medgemma)


def test_asking_into_a_folder_half_merged(
    medgemma: Medgemma, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record appended then could be cut off: 78 for every writer."""
    sharded(medgemma, 1)
    kill_merge(monkeypatch, "append", 3)
    assert medgemma("ask", "Which drugs were stopped?", "-o", OUT).code == 78
    assert medgemma("merge", OUT).code == 0
    whole(medgemma)


def test_the_state_is_public_enough(medgemma: Medgemma, papers: Path) -> None:
    """What a shard says of itself names no document."""
    sharded(medgemma, 2)
    said = json.loads((SHARDS / "1-of-2" / "shard.json").read_text())
    assert said["complete"] and said["total"] == 13 and 0 < said["taken"] < 13
    assert ".md" not in json.dumps(said)
