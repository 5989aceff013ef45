"""The summaries follow the ledger: made again where missing, never over what is not ours."""

from pathlib import Path

import pytest
from test_committing import make

from medgemma_cli import summaries
from medgemma_cli.errors import ConfigError, DocumentError, StorageError
from medgemma_cli.ledger import Ledger
from medgemma_cli.projection import Projection
from medgemma_cli.records import ErrorInfo, Record


def fill(out: Path, *records: Record) -> None:
    """A ledger with these records and their summaries."""
    with Ledger(out, fsync=False) as ledger:
        for record in records:
            ledger.commit(record)
            if record.summary is not None:
                summaries.write(out, [(record.summary, summaries.render(record))], fsync=False)


def prepared(out: Path, *, fresh: bool = False) -> Projection:
    """A projection after its beginning."""
    with Ledger(out, fsync=False) as ledger:
        projection = Projection(ledger, fsync=False)
        projection.prepare(fresh=fresh)
        return projection


def followed(out: Path, slot: str = "n0.md") -> Projection:
    """A projection that met one record that stands."""
    with Ledger(out, fsync=False) as ledger:
        projection = Projection(ledger, fsync=False)
        projection.follow(ledger.current[slot])
        return projection


def test_missing_summaries_are_made_again(tmp_path: Path) -> None:
    """Fault 5: of current records alone, and without a model."""
    fill(tmp_path, make(0), make(1, summary="n0.md", source="n0.md"), make(2))
    (tmp_path / "n0.md").unlink()
    assert prepared(tmp_path).rebuilt == 1
    expected = summaries.render(make(1, summary="n0.md", source="n0.md"))
    assert (tmp_path / "n0.md").read_text("utf-8") == expected
    assert prepared(tmp_path).rebuilt == 0


def test_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    """Fault 6: temporary files are gone before anything is made."""
    fill(tmp_path, make(0))
    (tmp_path / ".medgemma-12ab.tmp").write_text("half")
    prepared(tmp_path)
    assert not (tmp_path / ".medgemma-12ab.tmp").exists()


def test_records_without_a_summary(tmp_path: Path) -> None:
    """A source that can have none is passed over."""
    fill(tmp_path, make(0, summary=None, status="rejected"))
    assert prepared(tmp_path).rebuilt == 0
    assert followed(tmp_path, "//n0.md").rebuilt == 0


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    """Fault 98: where a foreign file came in the place of a summary, it is counted and left."""
    fill(tmp_path, make(0))
    (tmp_path / "n0.md").write_text("mine")
    assert followed(tmp_path).altered == 1
    with Ledger(tmp_path, fsync=False) as ledger:
        projection = Projection(ledger, fsync=False)
        projection.rebuild(ledger.current["n0.md"])
        assert (projection.rebuilt, projection.altered) == (0, 1)
        with pytest.raises(DocumentError):
            projection.check_name("n0.md", make(0).key)
    assert (tmp_path / "n0.md").read_text() == "mine"


def test_the_file_it_failed_for_is_no_alteration(tmp_path: Path) -> None:
    """Fault 98: of a record that failed for a foreign file, that file is no news."""
    error = ErrorInfo(code="output_exists", stage="write", hint="Move it.")
    with Ledger(tmp_path, fsync=False) as ledger:
        ledger.commit(make(0, status="failed", error=error))
    (tmp_path / "n0.md").write_text("mine")
    assert followed(tmp_path).altered == 0
    (tmp_path / "n0.md").unlink()
    assert prepared(tmp_path).rebuilt == 0
    assert not (tmp_path / "n0.md").exists()


def test_a_stale_summary_follows(tmp_path: Path) -> None:
    """A summary of an older record of the slot is replaced, one that is current is not."""
    fill(tmp_path, make(0))
    newer = make(0, created="2026-02-02T00:00:00+00:00")
    with Ledger(tmp_path, fsync=False) as ledger:
        ledger.commit(newer)
    assert followed(tmp_path).rebuilt == 1
    assert (tmp_path / "n0.md").read_text("utf-8") == summaries.render(newer)
    assert followed(tmp_path).rebuilt == 0


def test_summaries_without_their_ledger(tmp_path: Path) -> None:
    """Fault 14: 78, unless a new ledger is wanted: then they go to the quarantine."""
    fill(tmp_path, make(0))
    (tmp_path / "mine.md").write_text("mine")
    (tmp_path / "records.jsonl").unlink()
    with pytest.raises(ConfigError):
        prepared(tmp_path)
    prepared(tmp_path, fresh=True)
    assert not (tmp_path / "n0.md").exists() and (tmp_path / "mine.md").exists()
    assert len(list((tmp_path / "quarantine").rglob("n0.md"))) == 1


def test_a_new_ledger(tmp_path: Path) -> None:
    """`--fresh`: the old records and summaries are in the quarantine, and none is made again."""
    fill(tmp_path, make(0))
    projection = prepared(tmp_path, fresh=True)
    assert projection.rebuilt == 0
    assert (tmp_path / "records.jsonl").read_bytes() == b""
    (old,) = (tmp_path / "quarantine").rglob("records.jsonl")
    assert old.read_bytes().count(b"\n") == 1


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 12: 74, with what the system says."""

    def cannot(out: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(summaries, "sweep", cannot)
    with pytest.raises(StorageError):
        prepared(tmp_path)
