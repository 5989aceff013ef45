"""`medgemma verify`: what differs is found and named, what follows from the ledger is mended."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli import verifying

Cli = Callable[..., Any]


@pytest.fixture
def cli(forked: Cli) -> Cli:
    """Most here does not depend on how Python starts."""
    return forked


@pytest.fixture
def out(cli: Cli, notes: Path, tmp_path: Path) -> Path:
    """A finished run over four notes."""
    assert cli("run", notes, "-o", "out", "--engine", "echo").returncode == 0
    return tmp_path / "out"


def found(cli: Cli, *more: str, code: int = 4) -> list[tuple[str, str, bool]]:
    """Kind, name and whether it was repaired, of each difference."""
    result = cli("verify", "out", "--json", *more)
    assert result.returncode == code, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [(line["kind"], line["name"], line["repaired"]) for line in lines]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and mode of every file below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode)
        for path in folder.rglob("*")
        if path.is_file()
    }


def change_record(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first line of the ledger."""
    path = out / "records.jsonl"
    first, *rest = path.read_text("utf-8").splitlines(keepends=True)
    line = json.loads(first)
    change(line)
    path.write_text(json.dumps(line) + "\n" + "".join(rest), "utf-8")


def test_nothing_differs(cli: Cli, out: Path) -> None:
    """After a run all is as it should be: 0, no line, and what was looked at is counted."""
    result = cli("verify", "out")
    assert (result.returncode, result.stdout) == (0, "")
    assert "4 records, 4 summaries, 4 sources; nothing differs" in result.stderr


def test_no_ledger_is_78(cli: Cli, tmp_path: Path) -> None:
    """A folder that no run wrote is refused, and nothing is made in it."""
    (tmp_path / "out").mkdir()
    assert cli("verify", "out").returncode == 78
    assert cli("verify", "out", "--repair").returncode == 78
    assert list((tmp_path / "out").iterdir()) == []


def _missing(out: Path) -> None:
    (out / "a.md").unlink()


def _altered(out: Path) -> None:
    (out / "a.md").write_text((out / "a.md").read_text("utf-8").replace("Dry", "Wet"), "utf-8")


def _stale(out: Path) -> None:
    (out / "a.md").write_bytes((out / "c.md").read_bytes())


def _outdated(out: Path) -> None:
    change_record(out, lambda line: line.update(notice="Another notice."))


def _temporary(out: Path) -> None:
    (out / "ward" / ".medgemma-0123456789abcdef.tmp").write_text("half")


def _temporary_in_quarantine(out: Path) -> None:
    (out / "quarantine").mkdir()
    (out / "quarantine" / ".medgemma-0123456789abcdef.tmp").write_text("half")


def _torn(out: Path) -> None:
    with (out / "records.jsonl").open("ab") as file:
        file.write(b'{"schema": "medg')


def _no_newline(out: Path) -> None:
    path = out / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-1])


def _damaged(out: Path) -> None:
    path = out / "records.jsonl"
    path.write_bytes(b"junk\n" + path.read_bytes())


def _open_ledger(out: Path) -> None:
    (out / "records.jsonl").chmod(0o644)


def _open_summary(out: Path) -> None:
    (out / "a.md").chmod(0o640)


MENDED = {
    "summary_missing": _missing,
    "summary_altered": _altered,
    "summary_stale": _stale,
    "summary_outdated": _outdated,
    "temporary_file": _temporary,
    "temporary_file in quarantine": _temporary_in_quarantine,
    "torn_line": _torn,
    "no_newline": _no_newline,
    "damaged_line": _damaged,
    "permissions": _open_ledger,
    "permissions of a summary": _open_summary,
}


@pytest.mark.parametrize("kind", MENDED)
def test_what_follows_from_the_ledger_is_mended(cli: Cli, out: Path, kind: str) -> None:
    """Found without a change, mended with --repair, and then nothing differs."""
    before = contents(out)
    MENDED[kind](out)
    damaged = contents(out)
    ((first, name, repaired),) = found(cli)
    assert (first, repaired) == (kind.partition(" ")[0], False)
    assert contents(out) == damaged
    assert found(cli, "--repair", code=0) == [(first, name, True)]
    assert found(cli, code=0) == []
    after = contents(out)
    if first not in ("summary_outdated", "damaged_line"):
        assert {name: after[name] for name in before} == before


def test_every_kind_is_tested() -> None:
    """No kind of difference goes without its test here; those of sheets are in `test_keeping`."""
    final = {"record_invalid", "summary_blocked", "summary_orphan", "source_gone"}
    final |= {"source_changed", "quote_not_found"}
    final |= {"views_missing", "views_altered", "views_orphan"}
    mended = {kind.partition(" ")[0] for kind in MENDED}
    assert (mended, final) == (set(verifying.REPAIRABLE), set(verifying.FINAL))


def test_what_is_replaced_is_kept(cli: Cli, out: Path) -> None:
    """A summary changed by hand lies in the quarantine after it was written again."""
    (out / "a.md").write_text("A clinician's own words.", "utf-8")
    found(cli, "--repair", code=0)
    (kept,) = (out / "quarantine").rglob("a.md")
    assert kept.read_text("utf-8") == "A clinician's own words."
    assert kept.stat().st_mode & 0o777 == 0o600


def test_changed_source(cli: Cli, out: Path, notes: Path) -> None:
    """A source with other bytes is told of; repair cannot help, the next run does."""
    (notes / "a.md").write_text("Now a wet cough.\n", "utf-8")
    assert found(cli) == [("source_changed", "a.md", False)]
    assert found(cli, "--repair") == [("source_changed", "a.md", False)]
    assert found(cli, "--no-sources", code=0) == []
    cli("run", notes, "-o", "out", "--engine", "echo")
    assert found(cli, code=0) == []


def test_grown_source(cli: Cli, out: Path, notes: Path) -> None:
    """A source that grew is not read to its end to know that it changed."""
    with (notes / "a.md").open("a") as file:
        file.write("x" * 100_000)
    assert found(cli) == [("source_changed", "a.md", False)]


def test_source_gone(cli: Cli, out: Path, notes: Path) -> None:
    """A source that is not there any more is told of."""
    (notes / "b.txt").unlink()
    assert found(cli) == [("source_gone", "b.txt", False)]


def test_quote_that_does_not_stand(cli: Cli, out: Path) -> None:
    """A record whose quote stands elsewhere is told of, though its summary agrees with it."""

    def shift(line: dict[str, Any]) -> None:
        assert line["quotes"]
        line["quotes"][0]["start"] += 1

    change_record(out, shift)
    kinds = {kind for kind, _, _ in found(cli)}
    assert "quote_not_found" in kinds
    assert {kind for kind, _, repaired in found(cli, "--repair") if not repaired} == {
        "quote_not_found"
    }


def test_record_that_does_not_fit(cli: Cli, out: Path) -> None:
    """A line with the fields of the index, but no record."""
    change_record(out, lambda line: line.update(template="none"))
    assert found(cli) == [("record_invalid", "a.md", False)]


def test_folder_at_the_path_of_a_summary(cli: Cli, out: Path) -> None:
    """What is no file is not replaced."""
    (out / "a.md").unlink()
    (out / "a.md").mkdir()
    assert found(cli, "--repair") == [("summary_blocked", "a.md", False)]
    assert (out / "a.md").is_dir()


def test_a_copy_is_told_of_and_left(cli: Cli, out: Path) -> None:
    """A summary under another name, a clinician's own notes in it: told of, never moved."""
    copy = out / "a reviewed.md"
    text = (out / "a.md").read_text("utf-8")
    copy.write_text("Seen, agreed.\n" + text, "utf-8")
    assert found(cli, "--repair") == [("summary_orphan", "a reviewed.md", False)]
    assert copy.read_text("utf-8") == "Seen, agreed.\n" + text


def test_summaries_of_a_ledger_that_is_gone(cli: Cli, out: Path) -> None:
    """An emptied ledger is no reason to move its summaries away: 78, as `run` says."""
    (out / "records.jsonl").write_bytes(b"")
    before = contents(out)
    assert cli("verify", "out", "--repair").returncode == 78
    assert contents(out) == before


def test_linked_folder_on_the_way(cli: Cli, out: Path, tmp_path: Path) -> None:
    """What lies behind a link in OUT is neither read as ours nor written to."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "d.md").write_text("mine")
    (out / "ward" / "d.md").unlink()
    (out / "ward").rmdir()
    (out / "ward").symlink_to(tmp_path / "far")
    assert found(cli, "--repair") == [("summary_blocked", "ward/d.md", False)]
    assert (tmp_path / "far" / "d.md").read_text() == "mine"


def test_permissions_behind_a_link(cli: Cli, out: Path, tmp_path: Path) -> None:
    """The mode of a file that a link leads to is not ours to change."""
    target = tmp_path / "target.md"
    target.write_text("mine")
    target.chmod(0o644)
    (out / "a.md").unlink()
    (out / "a.md").symlink_to(target)
    assert found(cli, "--repair") == [("summary_blocked", "a.md", False)]
    assert target.stat().st_mode & 0o777 == 0o644


def test_summary_that_leads_out(cli: Cli, out: Path, tmp_path: Path) -> None:
    """A line that would have its summary outside OUT is damage, not a path to write to."""
    change_record(out, lambda line: line.update(summary="../evil.md"))
    assert "damaged_line" in {kind for kind, _, _ in found(cli)}
    cli("verify", "out", "--repair")
    assert not (tmp_path / "evil.md").exists()


def test_link_at_the_path_of_a_summary(cli: Cli, out: Path, tmp_path: Path) -> None:
    """A link planted there is replaced, or told of; where it led is never written to."""
    target = tmp_path / "target.md"
    target.write_text("mine")
    (out / "a.md").unlink()
    (out / "a.md").symlink_to(target)
    assert cli("verify", "out").returncode == 4
    cli("verify", "out", "--repair")
    assert target.read_text() == "mine"


def test_foreign_file_of_a_failed_record(cli: Cli, notes: Path, tmp_path: Path) -> None:
    """A file that a record failed for is its owner's: no difference, and left."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.md").write_text("mine")
    assert cli("run", notes, "-o", "out", "--engine", "echo").returncode == 3
    assert found(cli, "--repair", code=0) == []
    assert (tmp_path / "out" / "a.md").read_text() == "mine"


def test_beside_a_run(cli: Cli, out: Path) -> None:
    """While a run holds the folder there is nothing sure to say: 75."""
    from medgemma_cli.ledger import Ledger

    with Ledger(out):
        assert cli("verify", "out").returncode == 75
        assert cli("verify", "out", "--repair").returncode == 75


def test_beside_another_look(cli: Cli, out: Path) -> None:
    """Two may look at once."""
    from medgemma_cli.ledger.locking import share

    descriptor = share(out)
    assert descriptor is not None
    try:
        assert cli("verify", "out").returncode == 0
    finally:
        os.close(descriptor)


def test_images_and_failures(cli: Cli, tmp_path: Path) -> None:
    """Records without quotes, without text and without bytes are verified like any other."""
    from PIL import Image

    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("RGB", (40, 30), "grey").save(folder / "scan.png")
    (folder / "empty.md").touch()
    (folder / "latin.txt").write_bytes("Señora Pérez has a cough today.".encode("latin-1"))
    cli("run", folder, "-o", "out", "--engine", "echo")
    assert found(cli, code=0) == []
    cli("run", folder, "-o", "out", "--engine", "echo", "--encoding", "latin-1")
    result = cli("verify", "out")  # in the encoding of the record
    assert result.returncode == 0 and "not checked" not in result.stderr
    records = tmp_path / "out" / "records.jsonl"
    records.write_text(records.read_text().replace('"reading":{', '"unread":{'))
    earlier = cli("verify", "out")  # of an earlier version's it has to be said
    assert earlier.returncode == 0, earlier.stdout
    assert "quotes not checked of 1" in earlier.stderr
    again = cli("verify", "out", "--encoding", "latin-1")
    assert again.returncode == 0 and "not checked" not in again.stderr


def test_words_for_people(cli: Cli, out: Path) -> None:
    """A line names the kind, the file and what it means; the last line says how to mend it."""
    (out / "a.md").unlink()
    result = cli("verify", "out")
    assert result.stdout == "summary_missing\ta.md\tthe summary is not there\n"
    assert "medgemma verify out --repair" in result.stderr
    again = cli("verify", "out", "--repair", "-q")
    assert again.stdout.startswith("repaired: summary_missing")
    assert again.stderr == ""
