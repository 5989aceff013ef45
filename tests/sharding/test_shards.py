"""`run --shard`: a part of the work, in a ledger of its own; what it keeps out."""

import json
from pathlib import Path

import pytest
from outcomes import lines
from sharding.conftest import Medgemma

from medgemma_cli.ledger.locking import Lock
from medgemma_cli.sharding import folders
from medgemma_cli.sharding.split import Shard

OUT = Path("out")


def sharded(medgemma: Medgemma, of: int, *more: object) -> list[int]:
    """The exit codes of all shards."""
    return [
        medgemma("run", "papers", "-o", OUT, "--shard", f"{i}/{of}", *more).code
        for i in range(1, of + 1)
    ]


def test_shards_are_the_whole(medgemma: Medgemma, papers: Path) -> None:
    """Each has a ledger, a journal and a lock of its own; each document is in one of them."""
    assert set(sharded(medgemma, 3)) <= {0, 3}
    names: list[str] = []
    for i in (1, 2, 3):
        folder = OUT / ".shards" / f"{i}-of-3"
        assert {path.name for path in folder.iterdir()} >= {".lock", "records.jsonl", "shard.json"}
        names += [line["source"] for line in lines(folder)]
    assert sorted(names) == sorted(p.relative_to(papers).as_posix() for p in papers.rglob("*.*"))
    assert not (OUT / "records.jsonl").exists()


def test_the_last_line_names_the_shard(medgemma: Medgemma, papers: Path) -> None:
    """A log of many runs says which one a line is of."""
    done = medgemma("run", "papers", "-o", OUT, "--shard", "2/3")
    assert done.stderr.startswith("medgemma: shard 2/3: ")


def test_a_shard_again_does_nothing(medgemma: Medgemma, papers: Path) -> None:
    """It is a run like any other."""
    sharded(medgemma, 2)
    done = medgemma("run", "papers", "-o", OUT, "--shard", "1/2")
    assert "nothing to do" in done.stderr


def test_a_shard_without_documents(medgemma: Medgemma, papers: Path) -> None:
    """It ends well, and is complete: it is not missing when they are merged."""
    assert set(sharded(medgemma, 20)) <= {0, 3}
    assert all(folders.complete(folder, shard) for shard, folder in folders.found(OUT).items())
    assert len(folders.found(OUT)) == 20
    assert any(not lines(folder) for folder in folders.found(OUT).values())


def test_nothing_matches_is_66(medgemma: Medgemma, tmp_path: Path) -> None:
    """A folder without documents is no empty shard."""
    (tmp_path / "papers").mkdir()
    assert sharded(medgemma, 1) == [66]


def test_run_refuses_unmerged_shards(medgemma: Medgemma, papers: Path) -> None:
    """78, with or without --dry-run, and nothing is made."""
    sharded(medgemma, 2)
    for more in ((), ("--dry-run",), ("--fresh",)):
        done = medgemma("run", "papers", "-o", OUT, *more)
        assert done.code == 78 and "not merged" in done.stderr
    assert not (OUT / "records.jsonl").exists()


def test_another_number_is_refused(medgemma: Medgemma, papers: Path) -> None:
    """Shards of 2 beside shards of 3 would do documents twice: 78, and no folder is left."""
    sharded(medgemma, 2)
    for more in ((), ("--dry-run",)):
        done = medgemma("run", "papers", "-o", OUT, "--shard", "1/3", *more)
        assert done.code == 78 and "shards of 2" in done.stderr
    assert {shard.of for shard in folders.found(OUT)} == {2}


@pytest.mark.parametrize("more", [("--fresh",), ("--shard", "4/3")])
def test_usage(medgemma: Medgemma, papers: Path, more: tuple[str, ...]) -> None:
    """2: a shard cannot start the whole folder anew, nor be beyond its number."""
    assert medgemma("run", "papers", "-o", OUT, "--shard", "1/3", *more).code == 2
    assert not OUT.exists()


def test_dry_run_writes_nothing(medgemma: Medgemma, papers: Path) -> None:
    """It tells of the shard's documents alone."""
    told = [
        medgemma("run", "papers", "-o", OUT, "--shard", f"{i}/2", "--dry-run", "--json").stdout
        for i in (1, 2)
    ]
    assert sum(len(text.splitlines()) for text in told) == 13
    assert not OUT.exists()


def test_plan_of_a_shard(medgemma: Medgemma, papers: Path) -> None:
    """It tells of what that shard's run would do, with what it has done taken into account; of
    the whole it is refused as a run is. Nothing is made."""

    def told(*more: str) -> list[str]:
        text = medgemma("plan", "papers", "-o", OUT, "--json", *more).stdout
        return sorted(
            one["source"] for one in json.loads(text)["documents"] if one["action"] == "infer"
        )

    parts = [told("--shard", f"{i}/2") for i in (1, 2)]
    assert all(parts) and sorted(parts[0] + parts[1]) == told() and not OUT.exists()
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2")
    assert told("--shard", "1/2") == [] and told("--shard", "2/2") == parts[1]
    for more, code in (((), 78), (("--shard", "1/3"), 78), (("--shard", "3/2"), 2)):
        assert medgemma("plan", "papers", "-o", OUT, *more).code == code


def test_limit_is_of_the_whole(medgemma: Medgemma, papers: Path) -> None:
    """The first five inputs, split: not five of each shard."""
    sharded(medgemma, 3, "--limit", 5)
    assert sum(len(lines(folder)) for folder in folders.found(OUT).values()) == 5


def test_a_run_of_the_whole_keeps_shards_out(medgemma: Medgemma, papers: Path) -> None:
    """75, as a shard keeps the whole out; two shards at once are fine."""
    OUT.mkdir()
    lock = Lock(OUT)
    assert medgemma("run", "papers", "-o", OUT, "--shard", "1/2").code == 75
    lock.release()
    shared = Lock(OUT, shared=True)
    assert medgemma("run", "papers", "-o", OUT, "--shard", "1/2").code in (0, 3)
    assert medgemma("merge", OUT).code == 75
    shared.release()


def test_the_same_shard_twice_at_once(medgemma: Medgemma, papers: Path) -> None:
    """75: a shard has one writer, like a folder."""
    sharded(medgemma, 2)
    lock = Lock(OUT / ".shards" / "1-of-2")
    assert medgemma("run", "papers", "-o", OUT, "--shard", "1/2").code == 75
    lock.release()


def test_what_is_merged_is_not_done_again(medgemma: Medgemma, papers: Path) -> None:
    """A later array job, of any number, takes up only what is new and changed."""
    medgemma("run", "papers", "-o", OUT)
    (papers / "0.md").write_text("Changed. Cough for 9 days.\n")
    (papers / "new.md").write_text("New. Cough for 10 days.\n")
    sharded(medgemma, 4)
    done = [line["source"] for folder in folders.found(OUT).values() for line in lines(folder)]
    assert sorted(done) == ["0.md", "new.md"]


def test_settings_that_come_back(medgemma: Medgemma, papers: Path) -> None:
    """A, then B merged, then A in shards: A's records are taken from the folder's ledger."""
    medgemma("run", "papers", "-o", OUT)
    medgemma("run", "papers", "-o", OUT, "--max-new-tokens", 99)
    sharded(medgemma, 2)
    found = [line for folder in folders.found(OUT).values() for line in lines(folder)]
    assert len(found) == 13 and all(line["reused"] for line in found)


def test_the_same_bytes_as_something_merged(medgemma: Medgemma, papers: Path) -> None:
    """A copy of a document that is merged has its record, without inference."""
    medgemma("run", "papers", "-o", OUT)
    (papers / "copy.md").write_bytes((papers / "0.md").read_bytes())
    sharded(medgemma, 3)
    (line,) = [line for folder in folders.found(OUT).values() for line in lines(folder)]
    assert line["source"] == "copy.md" and line["duplicate_of"] == "0.md"


def test_a_file_of_somebody_else(medgemma: Medgemma, papers: Path) -> None:
    """At the path of a summary-to-be it is found by the shard already: failed/output_exists."""
    OUT.mkdir()
    (OUT / "3.md").write_text("mine")
    sharded(medgemma, 2)
    found = [line for folder in folders.found(OUT).values() for line in lines(folder)]
    (failed,) = [line for line in found if line["error"] and line["source"] == "3.md"]
    assert failed["error"]["code"] == "output_exists"
    assert (OUT / "3.md").read_text() == "mine"


def test_half_done(medgemma: Medgemma, papers: Path) -> None:
    """A shard says that it is complete when it has come to its end, and not before."""
    shard, folder = Shard(1, 1), OUT / ".shards" / "1-of-1"
    assert medgemma("run", "papers", "-o", OUT, "--shard", "1/1", "--max-time", "0.0001").code == 75
    state = folders.read_state(folder, shard)
    assert state is not None and not state.complete
    medgemma("run", "papers", "-o", OUT, "--shard", "1/1")
    assert folders.complete(folder, shard)
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b"{")
    assert not folders.complete(folder, shard)


@pytest.mark.parametrize("said", ["", "{}", '{"schema": "medgemma.shard/2"}', "[]", "\0"])
def test_a_state_that_is_none(medgemma: Medgemma, papers: Path, said: str) -> None:
    """A damaged or later one says nothing: the shard counts as half done."""
    sharded(medgemma, 1)
    folder = OUT / ".shards" / "1-of-1"
    (folder / "shard.json").write_text(said)
    assert folders.read_state(folder, Shard(1, 1)) is None
    assert medgemma("merge", OUT).code == 75


def test_a_renamed_shard_is_not_believed(medgemma: Medgemma, papers: Path) -> None:
    """One shard's folder under another's name is half done."""
    sharded(medgemma, 2)
    root = OUT / ".shards"
    (root / "2-of-2").rename(root / "away")
    (root / "1-of-2").rename(root / "2-of-2")
    done = medgemma("merge", OUT)
    assert done.code == 75 and "missing (1)" in done.stderr and "half done (2)" in done.stderr


def test_a_document_named_like_our_folder(medgemma: Medgemma, tmp_path: Path) -> None:
    """`.shards/x.md` named outright gets a summary beside it, not among the shards."""
    (tmp_path / ".shards").mkdir()
    (tmp_path / ".shards" / "x.md").write_text("A cough.")
    (tmp_path / "list").write_text(".shards/x.md\n")
    assert medgemma("run", "--files-from", "list", "-o", OUT).code == 0
    assert lines(OUT)[0]["summary"] == ".shards~/x.md"


def test_status(medgemma: Medgemma, papers: Path) -> None:
    """Counts what is merged and what is not, each document once, and says what comes next."""
    medgemma("run", "papers", "-o", OUT)
    (papers / "0.md").write_text("Changed. Cough.\n")
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2")
    told = medgemma("status", OUT).stdout
    assert told.startswith("13 documents") and "1 of 2 shards are complete" in told
    shown = [json.loads(line) for line in medgemma("status", OUT, "--json").stdout.splitlines()]
    assert len(shown) == len({line["source"] for line in shown}) == 13
    assert "empty.md" in medgemma("status", OUT, "--failed").stdout


def test_verify(medgemma: Medgemma, papers: Path) -> None:
    """Each shard is held to its summaries and sources; --repair mends there, too."""
    sharded(medgemma, 2)
    assert medgemma("verify", OUT).code == 0
    folder, other = folders.found(OUT).values()
    victim = next(p for p in folder.rglob("*.md"))
    victim.unlink()
    done = medgemma("verify", OUT)
    name = victim.relative_to(OUT).as_posix()
    assert done.code == 4 and f"summary_missing\t{name}" in done.stdout
    assert "in 2 shards that are not merged" in done.stderr
    assert medgemma("verify", OUT, "--repair").code == 0 and victim.exists() and other.exists()
