"""`--keep-views` with `--shard`: the sheets go with their records, whatever happens in between."""

import stat
from pathlib import Path
from typing import Any

import pytest
from outcomes import lines
from PIL import Image as Pillow
from sharding.conftest import Medgemma
from sharding.test_shards import OUT, sharded
from sharding.test_shards_joined import SHARDS, kill_merge, whole

from medgemma_cli import views
from medgemma_cli.sharding import folders

SHEETS = {"1.png.views.jpg", "2.png.views.jpg", "ward/3.png.views.jpg"}


@pytest.fixture
def scans(papers: Path) -> Path:
    """The notes with three pictures among them; sixteen documents in all."""
    for number, name in enumerate(("1.png", "2.png", "ward/3.png"), 1):
        Pillow.new("RGB", (40, 30), (60 * number, 0, 0)).save(papers / name)
    return papers


def at_places() -> set[str]:
    """The sheets that stand in the folder itself, for their owner alone."""
    found = set(views.walk(OUT))
    assert all(stat.S_IMODE((OUT / name).stat().st_mode) == 0o600 for name in found)
    return found


def kept(medgemma: Medgemma) -> dict[str, dict[str, Any]]:
    """The records of a folder merged as it should be, each with the sheet that it speaks of."""
    records = whole(medgemma, 16)
    for record in records.values():
        if record["views"] is not None:
            assert views.state(OUT / record["views"], record["key"]) == "current"
    assert {record["views"] for record in records.values()} - {None} == at_places() == SHEETS
    return records


def test_sheets_come_with_their_records(medgemma: Medgemma, scans: Path) -> None:
    """Each lies in its shard first, unseen by the folder; then beside the merged summaries."""
    assert set(sharded(medgemma, 3, "--keep-views")) <= {0, 3}
    before = [name for folder in folders.found(OUT).values() for name in views.walk(folder)]
    assert sorted(before) == sorted(SHEETS) and at_places() == set()
    assert medgemma("verify", OUT).code == 0
    assert medgemma("merge", OUT).code == 0
    kept(medgemma)
    assert not (OUT / "quarantine").exists()


@pytest.mark.parametrize(
    ("where", "number"),
    [("sheets", 1), ("sheets", 3), ("clear", 1), ("clear", 2), ("unlink", 4), ("rest", 1)],
)
def test_killed(
    medgemma: Medgemma, scans: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    """Wherever a merge dies, the next one puts every sheet in its place, and none aside."""
    sharded(medgemma, 2, "--keep-views")
    kill_merge(monkeypatch, where, number)
    assert medgemma("merge", OUT).code == 0
    kept(medgemma)
    assert not (OUT / "quarantine").exists()


def test_a_sheet_changed_by_hand(medgemma: Medgemma, scans: Path) -> None:
    """It goes to the quarantine; the reader is told, and the next run makes another."""
    sharded(medgemma, 1, "--keep-views")
    path = SHARDS / "1-of-1" / "1.png.views.jpg"
    path.write_bytes(path.read_bytes() + b"mine")
    done = medgemma("merge", OUT)
    assert done.code == 0 and "1 sheets of views are gone or changed" in done.stderr
    (aside,) = (OUT / "quarantine").rglob("*.views.jpg")
    assert aside.read_bytes().endswith(b"mine") and at_places() == SHEETS - {"1.png.views.jpg"}
    assert medgemma("run", "papers", "-o", OUT).code in (0, 3)
    kept(medgemma)


def test_a_foreign_file_that_came_late(medgemma: Medgemma, scans: Path) -> None:
    """It stays; the sheet is not lost but in the quarantine, and the reader is told."""
    sharded(medgemma, 1, "--keep-views")
    (OUT / "1.png.views.jpg").write_text("mine")
    done = medgemma("merge", OUT)
    assert done.code == 0 and "1 summaries or sheets have a file of somebody else" in done.stderr
    assert (OUT / "1.png.views.jpg").read_text() == "mine"
    (aside,) = (OUT / "quarantine").rglob("*.views.jpg")
    assert views.key_of(aside) is not None


def test_a_foreign_file_that_was_there(medgemma: Medgemma, scans: Path) -> None:
    """A shard sees where its sheets will stand: the record says that there is none."""
    OUT.mkdir()
    (OUT / "1.png.views.jpg").write_text("mine")
    sharded(medgemma, 2, "--keep-views")
    done = medgemma("merge", OUT)
    assert done.code == 0 and "somebody else" not in done.stderr
    (record,) = (line for line in lines(OUT) if line["source"] == "1.png")
    assert record["views"] is None and "views_not_kept:file_in_the_way" in record["degraded"]
    assert (OUT / "1.png.views.jpg").read_text() == "mine"


def test_wanted_only_later(medgemma: Medgemma, scans: Path) -> None:
    """Records that are merged get their sheets by shards, without the model; texts stay."""
    medgemma("run", "papers", "-o", OUT)
    before = len(lines(OUT))
    for i in (1, 2):
        done = medgemma("run", "papers", "-o", OUT, "--shard", f"{i}/2", "--keep-views")
        assert "generated" not in done.stderr.replace("0 generated", "")
    assert medgemma("merge", OUT).code == 0
    found = lines(OUT)
    assert len(found) == before + 3 and all(line["reused"] for line in found[before:])
    assert at_places() == SHEETS and medgemma("verify", OUT).code == 0


def test_what_is_merged_is_left_to_the_whole(medgemma: Medgemma, scans: Path) -> None:
    """A shard neither copies sheets that are in place, nor makes one that is gone."""
    medgemma("run", "papers", "-o", OUT, "--keep-views")
    before = len(lines(OUT))
    (OUT / "1.png.views.jpg").unlink()
    sharded(medgemma, 2, "--keep-views")
    assert not any(list(views.walk(folder)) for folder in folders.found(OUT).values())
    assert medgemma("merge", OUT).code == 0 and len(lines(OUT)) == before
    medgemma("run", "papers", "-o", OUT)
    kept(medgemma)


def test_another_name_for_what_is_merged(medgemma: Medgemma, scans: Path) -> None:
    """The same picture under a new name: its sheet is copied from the merged one's."""
    medgemma("run", "papers", "-o", OUT, "--keep-views")
    (scans / "copy.png").write_bytes((scans / "1.png").read_bytes())
    sharded(medgemma, 2)
    assert medgemma("merge", OUT).code == 0
    assert at_places() == {*SHEETS, "copy.png.views.jpg"}
    one, other = ((OUT / f"{name}.png.views.jpg").read_bytes() for name in ("1", "copy"))
    assert one == other and medgemma("verify", OUT).code == 0
