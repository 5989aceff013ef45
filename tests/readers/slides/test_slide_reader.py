"""Slides: patches at 10x, where they are, and what becomes of files that are none."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from slide_kit import (
    GLASS,
    LIMITS,
    STAIN,
    Page,
    aperio,
    array,
    code,
    document,
    glass,
    pyramid,
    source,
    tiff,
)

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import slides
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.readers.slides import files
from medgemma_cli.readers.slides.files import check_same, is_slide, load, packed, unpacked
from medgemma_cli.records import Row, Source

PATCH = slides.PATCH
SPECIMEN = glass(1800, 1792, (100, 100, 1700, 1700))
PYRAMID = glass(2400, 1792, (100, 100, 1700, 1700))  # large enough without a maker's name

# Two patches of tissue, at 10x.
SMALL = glass(900, 1792, (0, 0, 900, 1700))
AS_IS = aperio(SMALL, mpp=1.0, power=10)


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    """One reader process."""
    with ReaderPool(1) as reading:
        yield reading


def written(folder: Path, data: bytes, name: str = "slide.svs") -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """An Aperio slide at 10x, of two columns and two rows; one column has tissue."""
    return written(tmp_path, AS_IS)


def test_patches_are_what_the_slide_shows(tmp_path: Path) -> None:
    """At 10x they are the pixels themselves, in their order, and the record says where."""
    made = document(written(tmp_path, aperio(SPECIMEN, mpp=1.0, power=10)))
    assert made.media_type == slides.KIND
    assert made.coverage == {"patches": (4, 4)} and made.degraded == ()
    assert made.slide is not None
    assert made.slide.places == ((0, 0), (896, 0), (0, 896), (896, 896))
    assert (made.slide.width, made.slide.height, made.slide.side) == (1800, 1792, 896)
    assert (made.slide.microns, made.slide.known, made.slide.seed) == (1.0, "mpp", 0)
    for image, (x, y) in zip(made.images, made.slide.places, strict=True):
        assert (array(image) == SPECIMEN[y : y + PATCH, x : x + PATCH]).all()


@pytest.mark.parametrize(
    ("mpp", "power", "microns", "known"),
    [
        ("0.25", "40", 0.25, "mpp"),
        ("0.5", "40", 0.5, "mpp"),
        ("4.0", "2.5", 4.0, "mpp"),
        ("", "20", 0.5, "objective"),
        ("", "40", 0.25, "objective"),
        ("9000", "20", 0.5, "objective"),
        ("-1", "20", 0.5, "objective"),
        ("nan", "20", 0.5, "objective"),
        ("inf", "20", 0.5, "objective"),
        ("0,25", "20", 0.5, "objective"),
        ("", "", 0.5, "assumed"),
        ("", "0", 0.5, "assumed"),
        ("", "1e99", 0.5, "assumed"),
        ("", "a name", 0.5, "assumed"),
    ],
)
def test_resolution(mpp: str, power: str, microns: float, known: str) -> None:
    """Micrometres a pixel, then the objective, then a guess; nothing that cannot be meant."""
    named = {"openslide.mpp-x": mpp, "openslide.mpp-y": mpp, "openslide.objective-power": power}
    assert slides.resolution(named) == (microns, known)
    assert slides.resolution(named | {"openslide.mpp-y": ""}).known != "mpp"


@pytest.mark.parametrize(
    ("mpp", "power", "side", "told", "note"),
    [
        (0.5, 20, 1792, "1.00 µm", ()),
        ("", 20, 1792, "1.00 µm", ()),
        ("", "", 1792, "not stated", ("magnification_assumed:20x",)),
        (4.0, 2.5, 896, "4.00 µm", ("coarser_than_10x:4.00um",)),
    ],
)
def test_patches_at_other_resolutions(
    tmp_path: Path, mpp: object, power: object, side: int, told: str, note: tuple[str, ...]
) -> None:
    """They are 896 pixels always, and nothing is made larger; what was guessed is told."""
    made = document(written(tmp_path, aperio(SPECIMEN, mpp=mpp, power=power)))
    assert made.slide is not None and made.slide.side == side
    assert {(image.width, image.height) for image in made.images} == {(PATCH, PATCH)}
    assert made.degraded == note and told in made.images[0].introduction


def test_patches_are_shrunk(tmp_path: Path) -> None:
    """At 20x a patch is twice as long, and its tissue half as long on the picture; what is over
    the edge is white.
    """
    made = document(written(tmp_path, aperio(glass(2400, 1792, (0, 0, 400, 1792)))))
    assert made.slide is not None and made.slide.places == ((0, 0),)
    seen = array(made.images[0])
    assert (seen[400, 100] == STAIN).all() and (seen[400, 300] == GLASS).all()
    made = document(written(tmp_path, aperio(glass(2400, 1792, (1792, 0, 2400, 1792)))))
    assert made.slide is not None and made.slide.places == ((1792, 0),)
    seen = array(made.images[0])
    assert (seen[400, 100] == STAIN).all() and (seen[400, 400] == 255).all()


def test_a_level_in_between_is_used(tmp_path: Path) -> None:
    """At 40x the level of 10x is taken as it is: its pixels are told apart by their colour."""
    first, second = pyramid(glass(2400, 1792, (0, 0, 2400, 1792)))
    other = Page(np.full_like(second.pixels, (90, 180, 90)), reduced=True)
    path = written(tmp_path, tiff([first._replace(per_centimetre=40_000), other]), "a.tif")
    made = document(path)
    assert made.slide is not None and made.slide.side == 3584
    assert made.slide.places == ((0, 0),)
    assert (array(made.images[0])[10, 10] == (90, 180, 90)).all()


@pytest.mark.parametrize("name", ["slide.tif", "slide.TIFF", "slide.svs"])
def test_names_do_not_make_a_slide(tmp_path: Path, name: str) -> None:
    """An Aperio slide is one under any of these names, with the same patches."""
    made = document(written(tmp_path, AS_IS, name))
    assert made.media_type == slides.KIND and len(made.images) == 2


def test_a_picture_stays_a_picture(tmp_path: Path) -> None:
    """A TIFF picture, in tiles too, is one image as it was before slides were read."""
    path = written(tmp_path, tiff([Page(glass(300, 200))]), "scan.tif")
    made = document(path)
    assert made.media_type == "image/tiff" and made.slide is None
    assert made.coverage == {"images": (1, 1), "frames": (1, 1)}
    assert made.images[0].introduction == made.images[0].label == ""


def test_a_bigtiff_without_a_maker(tmp_path: Path) -> None:
    """A pyramid of nobody's kind is read, its magnification assumed and that told of."""
    made = document(written(tmp_path, tiff(pyramid(PYRAMID), big=True), "a.tiff"))
    assert made.media_type == slides.KIND
    assert made.degraded == ("magnification_assumed:20x",)


def test_the_prompt_says_what_follows(slide: Path) -> None:
    """The first patch has the introduction, each its number after it, and none a place."""
    first, second = document(slide).images
    assert first.introduction.startswith("2 of 2 patches with tissue of one whole-slide")
    assert "at random" not in first.introduction and "1.00 µm" in first.introduction
    assert (first.label, second.label, second.introduction) == ("PATCH 1", "PATCH 2", "")
    (only,) = document(slide, LIMITS._replace(max_pixels=PATCH**2)).images
    assert only.introduction.startswith("1 of 2") and "chosen at random" in only.introduction


def test_seeds(slide: Path) -> None:
    """The same seed gives the same patches, others give others; both are in the record."""
    limits = LIMITS._replace(max_pixels=PATCH**2)
    found = [document(slide, limits._replace(seed=seed)) for seed in (0, 0, 1, 2, 3, 4)]
    places = [made.slide.places for made in found if made.slide]
    assert places[0] == places[1] and len(set(places)) > 1
    assert {made.coverage["patches"] for made in found} == {(1, 2)}
    assert [made.slide.seed for made in found if made.slide] == [0, 0, 1, 2, 3, 4]
    assert found[0].images == found[1].images


def test_at_most_125(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever --max-pixels allows, no more patches than MedGemma's card says."""
    assert slides.MOST == 125
    monkeypatch.setattr(slides, "MOST", 1)
    made = document(slide, LIMITS._replace(max_pixels=10**10))
    assert made.coverage == {"patches": (1, 2)}


SECRETS = "|Filename = QUILLFEATHER|Patient = QUILLFEATHER|Date = 01/02/1903|User = abc"


def test_nothing_of_the_header_is_in_the_document(tmp_path: Path) -> None:
    """No name, number or date of it, and neither label nor macro: they are blue and green here."""
    made = document(written(tmp_path, aperio(SMALL, mpp=1.0, more=SECRETS), "a.svs"))
    told = repr(made.model_dump(exclude={"images": {"__all__": {"rgb"}}}))
    assert "QUILLFEATHER" not in told and "1903" not in told
    for image in made.images:
        colours = {tuple(c) for c in array(image).reshape(-1, 3)[::97].tolist()}
        assert colours <= {GLASS, STAIN}


# -- what is no slide --------------------------------------------------------------------------


def test_no_tissue(tmp_path: Path) -> None:
    """Glass alone is a failure of its own, and so is a speck."""
    assert code(written(tmp_path, aperio(glass(1200, 900)))) == "no_tissue"
    assert code(written(tmp_path, aperio(glass(1800, 1800, (5, 5, 205, 205))))) == "no_tissue"


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_cut_short(tmp_path: Path, share: float) -> None:
    """A slide without its end is refused, wherever it ends."""
    whole = aperio(glass(900, 700, (0, 0, 900, 600)), mpp=1.0)
    assert code(written(tmp_path, whole[: int(share * len(whole))])) == "slide_corrupt"


@pytest.mark.parametrize("suffix", files.SUFFIXES)
@pytest.mark.parametrize(
    "data", [b"just words", b"\x89PNG\r\n\x1a\n", bytes(5000), b"II*\0\x08\0\0\0"]
)
def test_garbage(tmp_path: Path, suffix: str, data: bytes) -> None:
    """Other bytes under the name of a slide are refused."""
    assert code(written(tmp_path, data, f"a{suffix}")) == "slide_corrupt"
    assert code(written(tmp_path, b"", f"b{suffix}")) == "empty"


def test_a_label_is_never_the_slide(tmp_path: Path) -> None:
    """A scanner's file whose marks are gone would begin with its label: it is refused."""
    label, *levels = Page(np.full((512, 512, 3), STAIN, np.uint8)), *pyramid(PYRAMID)
    damaged = tiff([label, *levels])
    assert code(written(tmp_path, damaged, "a.scn")) == "slide_corrupt"
    assert code(written(tmp_path, damaged, "a.tif")) == "slide_corrupt"
    # Under a scanner's suffix a picture is none of its slides, and may be its label.
    picture = tiff([Page(np.full((60, 80, 3), STAIN, np.uint8), tile=0)])
    assert code(written(tmp_path, picture, "a.bif")) == "slide_corrupt"


def test_limits(slide: Path) -> None:
    """No patch within --max-pixels, no level small enough, or too many bytes: each is told."""
    assert code(slide, LIMITS._replace(max_pixels=PATCH**2 - 1)) == "too_many_pixels"
    single = slide.with_name("single.svs")
    single.write_bytes(aperio(SMALL, mpp=1.0, levels=1))
    assert code(single, LIMITS._replace(max_pixels=PATCH**2)) == "too_many_pixels"
    size = slide.stat().st_size
    assert code(slide, LIMITS._replace(max_slide_bytes=size, max_bytes=1)) == "ok"
    assert code(slide, LIMITS._replace(max_slide_bytes=size - 1)) == "slide_too_large"


def test_a_patch_larger_than_allowed(tmp_path: Path) -> None:
    """One whose pixels would be many, for want of levels, is not read."""
    path = written(tmp_path, aperio(SMALL, mpp=0.25, levels=1))
    assert code(path, LIMITS._replace(max_pixels=3 * PATCH**2)) == "too_many_pixels"


def test_without_the_extra(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure names it."""
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert code(slide) == "no_slide_reader"


def test_damage_in_the_middle(tmp_path: Path) -> None:
    """Wherever bytes of the pages' headers are changed, a document or a code comes out."""
    whole = aperio(glass(900, 700, (0, 0, 900, 600)), mpp=1.0, power=10)
    first = int.from_bytes(whole[4:8], "little")
    ends = set()
    for at in range(first, first + 180, 11):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        ends.add(code(written(tmp_path, bytes(damaged))))
    known = {"ok", "slide_corrupt", "no_tissue", "too_many_pixels", "limit"}
    assert ends <= known and "slide_corrupt" in ends


# -- files ------------------------------------------------------------------------------------


def test_the_hash_is_of_the_bytes(slide: Path) -> None:
    """As of any other file, though they are never all in memory; its name has no part in it."""
    digest, found = load(str(slide), LIMITS)
    data = slide.read_bytes()
    assert digest == readers.loading.sha256(data) and found.bytes == len(data)
    blob = readers.load(source(slide), LIMITS)
    assert blob.data == b"" and blob.size == len(data) and blob.sha256 == digest
    other = written(slide.parent, data, "other.svs")
    assert load(str(other), LIMITS)[0] == digest


def test_a_slide_of_several_files(tmp_path: Path) -> None:
    """A .mrxs and its folder are one: any byte, any name of them changes the hash."""
    place = str(written(tmp_path, b"\xff\xd8\xff", "a.mrxs"))
    alone = load(place, LIMITS)[0]
    beside = tmp_path / "a"
    beside.mkdir()
    (beside / "Slidedat.ini").write_bytes(b"[GENERAL]")
    (beside / "Data0000.dat").write_bytes(b"0123")
    digest, found = load(place, LIMITS)
    assert digest != alone and found.bytes == 3 + 9 + 4
    assert load(place, LIMITS)[0] == digest
    with pytest.raises(DocumentError, match="slide_too_large"):
        load(place, LIMITS._replace(max_slide_bytes=15))
    (beside / "Data0000.dat").write_bytes(b"0124")
    changed = load(place, LIMITS)[0]
    (beside / "Data0000.dat").rename(beside / "Data0001.dat")
    assert len({alone, digest, changed, load(place, LIMITS)[0]}) == 4
    assert code(Path(place)) == "slide_corrupt"


def test_a_file_that_changed(slide: Path) -> None:
    """Between hash and pixels it may be another: it is not read as that which was hashed."""
    blob = readers.load(source(slide), LIMITS)
    assert blob.slide is not None
    check_same(blob.slide)
    os.utime(slide, ns=(1, 1))
    with pytest.raises(DocumentError, match="unstable"):
        readers.decode(source(slide), blob, LIMITS)
    slide.unlink()
    with pytest.raises(DocumentError, match="vanished"):
        readers.decode(source(slide), blob, LIMITS)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """As of any other file; a FIFO under such a name holds up nobody."""
    assert code(tmp_path / "no.svs") == "vanished"
    os.mkfifo(tmp_path / "pipe.svs")
    assert code(tmp_path / "pipe.svs") == "unsupported"
    os.mkfifo(tmp_path / "pipe.tif")
    assert not is_slide(str(tmp_path / "pipe.tif"))
    assert not is_slide(str(tmp_path / "no.tif")) and not is_slide("-")


def test_paths_that_are_no_text(tmp_path: Path) -> None:
    """A name of any bytes goes to the reader and comes back."""
    place = os.path.join(os.fsencode(tmp_path), b"s\xe9ance.svs")
    Path(os.fsdecode(place)).write_bytes(b"II")
    _, found = load(os.fsdecode(place), LIMITS)
    assert unpacked(packed(found)) == found


# -- in a process of its own ------------------------------------------------------------------


def test_the_same_in_a_reader_process(pool: ReaderPool, slide: Path) -> None:
    """Every pixel and every place, and its codes."""
    found = source(slide)
    limits = ReadLimits(max_pixels=PATCH**2, seed=5)
    there = pool.submit(found, readers.load(found, limits), limits).result()
    assert there == document(slide, limits)
    bad = written(slide.parent, b"II*\0", "bad.svs")
    with pytest.raises(DocumentError, match="slide_corrupt"):
        pool.submit(source(bad), readers.load(source(bad), LIMITS), LIMITS).result()


def test_a_reader_that_lies(pool: ReaderPool, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places outside the slide, or not one for each image, are nonsense and no document."""
    from medgemma_cli.readers import pool as pools

    about = document(slide).slide
    assert about is not None
    told = about.model_dump()
    assert pools._slide(told, 2, {"patches": (2, 2)}) == about
    assert pools._slide(None, 2, {}) is None
    for bad in (
        told | {"places": [[0, 0]]},
        told | {"places": [[0, 0], [9999, 0]]},
        told | {"places": [[0, 0], [-1, 0]]},
        told | {"microns": float("nan")},
        told | {"known": "a name"},
        {},
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            pools._slide(bad, 2, {"patches": (2, 2)})
    with pytest.raises(ValueError):  # noqa: PT011
        pools._slide(told, 2, {"images": (2, 2)})


def test_keys_know_the_library() -> None:
    """Another version of the reader or of OpenSlide is another answer."""
    version = readers.reader_version(slides.KIND)
    assert version.startswith("slides/1 ") and "openslide-bin/" in version


def test_a_row_of_a_table_has_no_slide(slide: Path) -> None:
    """Its image is one picture: the first of a slide's file might be the label."""
    slide.rename(slide.with_suffix(".tif"))
    table = slide.with_name("t.csv")
    row = Source(
        place=str(table), relative="t.csv#1", origin=f"{table}#1", row=Row(image="slide.tif")
    )
    with pytest.raises(DocumentError, match="unsupported"):
        readers.load(row, LIMITS)
