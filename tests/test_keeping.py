"""`--keep-views`: a sheet for each record whose prompt had images, whatever happened in between."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pdfs
import pytest
from PIL import Image as Pillow
from test_pipeline import Fake, current, lines, png, run

from medgemma_cli import files, pipeline, views
from medgemma_cli.asking import answer
from medgemma_cli.committing import Committer
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.errors import StorageError
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.records import Limits, Source
from medgemma_cli.templates import load
from medgemma_cli.verifying import Verifier

SHEET = "scan.png.views.jpg"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with a picture and a note."""
    folder = tmp_path / "scans"
    folder.mkdir()
    png(folder)
    (folder / "a.md").write_text("Dry cough since Monday.\n", "utf-8")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The output folder."""
    return tmp_path / "out"


def keep(out: Path, *paths: Path, **settings: Any) -> Any:
    """A run that keeps views."""
    return run(out, *paths, keep_views=True, **settings)


def sheets(out: Path) -> set[str]:
    """The sheets in the folder."""
    return set(views.walk(out))


def differences(out: Path) -> set[str]:
    """What `verify` finds in the folder: kind and name."""
    with Ledger(out, read_only=True) as ledger:
        return {f"{d.kind} {d.name}" for d in Verifier(ledger).of_the_folder()}


def assert_kept(out: Path, *names: str) -> None:
    """These records have their sheet, each current and for its owner alone; and no other is."""
    assert sheets(out) == {views.name_of(f"{name}.md") for name in names}
    for source, record in current(out).items():
        if source not in names:
            assert record["views"] is None
            continue
        assert record["views"] == views.name_of(record["summary"])
        path = out / record["views"]
        assert views.state(path, record["key"]) == "current"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert differences(out) == set()


def test_pictures_have_a_sheet_and_texts_have_none(scans: Path, out: Path) -> None:
    """Beside the summary; nothing is kept where it is not asked for."""
    run(out, scans)
    assert_kept(out)
    keep(out, scans, force=True)
    assert_kept(out, "scan.png")


def test_pages_of_a_scanned_document(tmp_path: Path, out: Path) -> None:
    """A page that went to the model as a picture is on the sheet."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "fax.pdf").write_bytes(pdfs.pdf([pdfs.scan()]))
    keep(out, tmp_path / "in")
    assert_kept(out, "fax.pdf")
    assert Pillow.open(out / "fax.pdf.views.jpg").width >= 1024


def test_the_option_is_not_in_the_key(scans: Path, out: Path) -> None:
    """A run without it takes up what one with it did, and the other way round."""
    keep(out, scans)
    assert run(out, scans).inferred == 0
    assert len(lines(out)) == 2
    assert_kept(out, "scan.png")


def test_kept_later(scans: Path, out: Path) -> None:
    """Of a document that is done a sheet is made without the model; its record then says so."""
    run(out, scans)
    engine = Fake()
    totals = keep(out, scans, engine=engine)
    assert engine.asked == [] and (totals.inferred, totals.rebuilt) == (0, 1)
    assert [line["reused"] for line in lines(out)] == [False, False, True]
    assert_kept(out, "scan.png")
    assert keep(out, scans).rebuilt == 0 and len(lines(out)) == 3


def test_a_sheet_that_is_gone(scans: Path, out: Path) -> None:
    """It is missed by `verify` and made again by the next run, asked for or not."""
    keep(out, scans)
    before = (out / SHEET).read_bytes()
    (out / SHEET).unlink()
    assert differences(out) == {f"views_missing {SHEET}"}
    assert run(out, scans).rebuilt == 1
    assert (out / SHEET).read_bytes() == before and len(lines(out)) == 2
    assert_kept(out, "scan.png")


def test_a_sheet_that_was_changed(scans: Path, out: Path) -> None:
    """It is told of and left, like a summary; so is somebody else's file in its place."""
    keep(out, scans)
    (out / SHEET).write_bytes((out / SHEET).read_bytes() + b"\0")
    assert differences(out) == {f"views_altered {SHEET}"}
    assert keep(out, scans).altered == 1
    (out / SHEET).write_bytes(b"mine")
    assert keep(out, scans).altered == 1
    assert (out / SHEET).read_bytes() == b"mine"


def test_a_sheet_that_others_may_read(scans: Path, out: Path) -> None:
    """`verify` tells, and mends it."""
    keep(out, scans)
    (out / SHEET).chmod(0o644)
    with Ledger(out, fsync=False) as ledger:
        (found,) = Verifier(ledger, repair=True).of_the_folder()
    assert (found.kind, found.name, found.repaired) == ("permissions", SHEET, True)
    assert_kept(out, "scan.png")


def test_a_foreign_file_in_the_way(scans: Path, out: Path) -> None:
    """It stays; the document is done all the same, and its record says that no sheet is there."""
    out.mkdir()
    (out / SHEET).write_bytes(b"mine")
    keep(out, scans)
    record = current(out)["scan.png"]
    assert record["status"] == "ok" and record["views"] is None
    assert "views_not_kept:file_in_the_way" in record["degraded"]
    assert (out / SHEET).read_bytes() == b"mine"
    keep(out, scans)
    assert len(lines(out)) == 2


def test_a_link_in_the_way(scans: Path, out: Path, tmp_path: Path) -> None:
    """Fault 40 for sheets: a planted link is replaced, and where it led is untouched."""
    out.mkdir()
    (tmp_path / "victim").write_bytes(b"mine")
    (out / SHEET).symlink_to(tmp_path / "victim")
    keep(out, scans)
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert_kept(out, "scan.png")


@pytest.mark.parametrize("batch", [False, True])
def test_the_same_picture_twice(scans: Path, out: Path, batch: bool) -> None:
    """Each of two names has its own sheet; now, or found later, inferred once."""
    (scans / "twin.png").write_bytes((scans / "scan.png").read_bytes())
    engine = Fake(batch=batch)
    keep(out, scans, engine=engine)
    assert len(engine.asked) == 2
    assert_kept(out, "scan.png", "twin.png")
    (scans / "third.png").write_bytes((scans / "scan.png").read_bytes())
    assert keep(out, scans).duplicates == 1
    assert_kept(out, "scan.png", "twin.png", "third.png")


def test_settings_there_and_back(scans: Path, out: Path) -> None:
    """A, B, A: each time the sheet is that of the current record, without inference at the end."""
    for tokens in (700, 701, 700):
        totals = keep(out, scans, tokens=tokens)
        assert_kept(out, "scan.png")
    assert (totals.inferred, totals.reused) == (0, 2)


def test_a_record_that_follows_without_a_sheet(scans: Path, out: Path) -> None:
    """Other settings, and no sheet wanted: the old one is told of as nobody's."""
    keep(out, scans)
    run(out, scans, tokens=701)
    assert differences(out) == {f"views_orphan {SHEET}"}
    keep(out, scans, tokens=701)
    assert_kept(out, "scan.png")


def test_a_new_ledger_takes_the_sheets_away(scans: Path, out: Path) -> None:
    """`--fresh`: the old sheet is in the quarantine with its ledger."""
    keep(out, scans)
    run(out, scans, fresh=True)
    assert_kept(out)
    assert len(list((out / "quarantine").rglob(SHEET))) == 1


class _Killed(BaseException):
    """As sudden as a kill, as far as what is on the disk goes."""


def test_killed_between_sheet_and_record(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record never speaks of a sheet that is not there; the next run does both."""

    def killed(*_: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(Committer, "put", killed)
        with pytest.raises(_Killed):
            keep(out, scans / "scan.png")
    assert sheets(out) == {SHEET} and lines(out) == []
    keep(out, scans, tokens=701)  # and with another key than the sheet has
    assert_kept(out, "scan.png")


def test_killed_before_the_sheet(scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then neither is there, and what was half written is swept."""
    real = os.replace

    def killed(old: str, new: str) -> None:
        if str(new).endswith(views.SUFFIX):
            raise _Killed
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)
        with pytest.raises(_Killed):
            keep(out, scans / "scan.png")
    assert sheets(out) == set() and lines(out) == []
    (out / ".medgemma-0123456789abcdef.tmp").write_bytes(b"half")
    keep(out, scans)
    assert_kept(out, "scan.png")
    assert not list(out.glob(".medgemma-*"))


def test_no_room_for_a_sheet(scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """74, and the record is left for the next run, which has both."""
    real: Callable[..., None] = files.replace_file

    def full(path: str, data: bytes, **settings: Any) -> None:
        if str(path).endswith(views.SUFFIX):
            raise OSError(28, "No space left on device")
        real(path, data, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_file", full)
        with pytest.raises(StorageError):
            keep(out, scans / "scan.png")
    assert lines(out) == []
    keep(out, scans)
    assert_kept(out, "scan.png")


def test_a_source_that_cannot_be_read_again(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record stays as it is, nothing is appended run after run."""
    run(out, scans)

    def nothing(self: object, decision: object) -> tuple[()]:
        return ()

    monkeypatch.setattr(pipeline.Run, "_seen", nothing)
    for _ in range(2):
        assert keep(out, scans).cached == 2
    assert len(lines(out)) == 2 and sheets(out) == set()


def test_a_failed_document_has_its_sheet(scans: Path, out: Path) -> None:
    """What the model was shown is kept whatever it made of it."""
    keep(out, scans, engine=Fake(texts={"": "no JSON"}))
    assert current(out)["scan.png"]["status"] == "failed"
    assert_kept(out, "scan.png")


def ask(out: Path, place: Path, **job: Any) -> Any:
    """One question about a picture, kept."""
    settings = Job(template=load("general"), limits=Limits(), question="What is shown?", **job)
    source = Source(place=str(place), relative=place.name, origin=str(place))
    with Ledger(out, fsync=False) as ledger:
        return answer(settings, EchoEngine(), [source], lambda piece: None, ledger)


def test_ask_keeps_views(scans: Path, out: Path) -> None:
    """A sheet beside the answer's summary; of an answer that is there already it is made later."""
    place = scans / "scan.png"
    assert ask(out, place).views is None
    record = ask(out, place, keep_views=True)
    assert record.views == views.name_of(record.summary) and len(lines(out)) == 2
    assert views.state(out / record.views, record.key) == "current"
    assert ask(out, place, keep_views=True) == record and len(lines(out)) == 2
    (out / record.views).unlink()
    assert ask(out, place) == record
    assert views.state(out / record.views, record.key) == "current"
    assert differences(out) == set()


def test_ask_without_a_folder(cli: Callable[..., Any]) -> None:
    """2: there is nowhere to keep them."""
    result = cli("ask", "What is shown?", "--keep-views", "--engine", "echo")
    assert result.returncode == 2 and "-o" in result.stderr
