"""Slices in folders: one source a series, in the place of its first file."""

from pathlib import Path

import numpy as np
from dicom_kit import ROOT, file, slice_of, write

from medgemma_cli import readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.readers.dicom.series import files_of
from medgemma_cli.records import Limits

PLANE = np.zeros((4, 4))


def found(folder: Path, **how: object) -> dict[str, tuple[str, ...]]:
    """The sources of a folder, with the names of their parts."""
    sources = Discovery([str(folder)], readers.SUFFIXES, **how)  # type: ignore[arg-type]
    return {one.relative: tuple(Path(p).name for p in one.parts) for one in sources}


def test_a_series_is_one_source(tmp_path: Path) -> None:
    """Beside notes, films and folders; the same folder twice gives the same."""
    write(tmp_path / "ct", (slice_of(PLANE, n) for n in range(3)))
    (tmp_path / "ct" / "film.dcm").write_bytes(file(PLANE.astype(np.uint8), modality="CR"))
    (tmp_path / "ct" / "note.md").write_text("A note.\n")
    (tmp_path / "ct" / "link.dcm").symlink_to(tmp_path / "ct" / "slice-000.dcm")
    first = found(tmp_path)
    mark = next(name for name in first if "series-" in name)
    slices = tuple(f"slice-{n:03}.dcm" for n in range(3))
    assert first == {"ct/film.dcm": (), "ct/note.md": (), mark: slices}
    assert list(first)[-1] == mark and first == found(tmp_path)


def test_patterns_choose_slices(tmp_path: Path) -> None:
    """What is excluded is no part; one slice that is left is a file of its own."""
    write(tmp_path, (slice_of(PLANE, n) for n in range(3)))
    (parts,) = found(tmp_path, exclude=["*-001.dcm"]).values()
    assert parts == ("slice-000.dcm", "slice-002.dcm")
    assert found(tmp_path, include=["*-001.dcm"]) == {"slice-001.dcm": ()}


def test_series_are_of_one_folder(tmp_path: Path) -> None:
    """The same series in two folders is two sources; files named outright are their own."""
    for name in "ab":
        write(tmp_path / name, (slice_of(PLANE, n) for n in range(2)))
    assert len(found(tmp_path)) == 2
    named = [str(path) for path in sorted((tmp_path / "a").iterdir())]
    assert [one.parts for one in Discovery(named, readers.SUFFIXES)] == [(), ()]


def test_without_dicom(tmp_path: Path) -> None:
    """Where the kind is not read, slices are counted like any other file."""
    write(tmp_path, (slice_of(PLANE, n) for n in range(2)))
    sources = Discovery([str(tmp_path)], frozenset({".md"}))
    assert list(sources) == [] and sources.skipped == {".dcm": 2}


def test_found_again_by_its_origin(tmp_path: Path) -> None:
    """As `verify` and a later run look for it."""
    places = write(tmp_path, (slice_of(PLANE, n) for n in range(2)))
    (source,) = Discovery([str(tmp_path)], readers.SUFFIXES)
    assert files_of(source.origin) == tuple(places) == source.parts
    assert ROOT not in source.origin and readers.media_type(source).startswith("multipart/related")
    Path(places[0]).unlink()
    assert files_of(source.origin) == ()


def test_prompt_order(tmp_path: Path) -> None:
    """Introduction, then pairs of image and label, then the question."""
    write(tmp_path, (slice_of(PLANE, n) for n in range(2)))
    (source,) = Discovery([str(tmp_path)], readers.SUFFIXES)
    limits = readers.ReadLimits()
    document = readers.decode(source, readers.load(source, limits), limits)
    template = templates.load("general")
    prompt = templates.render(template, document, "k", Limits(), "Which organ?")
    parts = prompt.messages[1].parts
    kinds = [part.kind for part in parts]
    assert kinds == ["label", "image", "label", "image", "label", "text"]
    assert [part.text for part in parts[2:5:2]] == ["SLICE 1", "SLICE 2\n\n"]
    assert parts[-1].text == "Which organ?" and len(prompt.images) == 2
