"""Damaged files at every reader: a document or a code; no crash, no hang, no memory over the limit.

`make torture` gives 10,000 of them; a run of the tests, a few hundred.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dicom_kit
import numpy as np
import pytest
import seeds
import slide_kit
from damage import damaged
from hypothesis import HealthCheck, given, settings

from medgemma_cli import readers
from medgemma_cli.batch import source_of
from medgemma_cli.discover import Discovery
from medgemma_cli.errors import FAULTS, DocumentError
from medgemma_cli.readers import Blob, ReadLimits, tables, worker
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.readers.tables import Columns
from medgemma_cli.records import Document, Row, Source

TORTURE = int(os.environ.get("MEDGEMMA_TORTURE", "1")) > 1
INPUTS = 9_400 if TORTURE else 235  # of files; and a few of tables, series and slides
LIMITS = ReadLimits(max_bytes=1_000_000, max_pixels=4_000_000, max_pages=50)
TABLES, PARQUETS, SERIES, SLIDES = (300, 150, 150, 300) if TORTURE else (40, 3, 4, 4)
TABLE_SECONDS = 60
TABLE_BYTES = 300 << 20
TARGETS = seeds.targets()
# Neither is an answer: a crash, and more time than sixty seconds of a processor.
BAD = {"reader_crashed", "timeout", "internal"}
quick = settings(
    deadline=None,
    database=None,
    derandomize=not TORTURE,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    """One process, with the limits that a run has; what it has taken at most is looked at."""
    with ReaderPool(1) as made:
        yield made
        for process in made._alive:
            status = Path(f"/proc/{process._process.pid}/status").read_text()
            (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
            assert int(peak) * 1024 < worker.memory_limit(LIMITS)


def source_for(kind: str) -> Source:
    """A source that the reader of a media type reads."""
    suffix = next((s for s, of in readers.MEDIA_TYPES.items() if of == kind), ".jsonl")
    row = Row(
        text="x", image="y" * (kind == readers.row.IMAGE), request=kind == readers.request.KIND
    )
    known = kind in readers.MEDIA_TYPES.values()
    return Source(place=f"/in/a{suffix}", relative="a", origin="/in/a", row=None if known else row)


def outcome(pool: ReaderPool, source: Source, blob: Blob) -> str:
    """`ok`, or the code that it ends with. What is ok is whole."""
    try:
        document = pool.submit(source, blob, LIMITS).result(300)
    except DocumentError as error:
        return error.code
    check(document)
    return "ok"


def check(document: Document) -> None:
    """A document that a run can work with."""
    document.text.encode()
    assert document.text.strip() or document.images
    assert sum(image.width * image.height for image in document.images) <= LIMITS.max_pixels
    for seen, total in document.coverage.values():
        assert 0 <= seen <= total


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files(pool: ReaderPool, name: str) -> None:
    """Fault 130: each ends as a document or with a code; sound ones are read."""
    target, ended = TARGETS[name], Counter[str]()
    source = source_for(target.kind)
    assert readers.media_type(source) == target.kind
    for seed in target.seeds:
        assert outcome(pool, source, Blob(target.wrap(seed), "0" * 64)) == "ok"
    assert sum(other.share for other in TARGETS.values()) == 94

    @settings(quick, max_examples=max(2, INPUTS * target.share // 94))
    @given(damaged(target.seeds))
    def one(data: bytes) -> None:
        code = outcome(pool, source, Blob(target.wrap(data), "0" * 64))
        ended[code] += 1
        assert code == "ok" or code in FAULTS.keys() - BAD, code

    one()
    assert ended.total() >= max(2, INPUTS * target.share // 94) // 2
    print(name, dict(ended))  # noqa: T201  -- shown with -s


@pytest.mark.parametrize("name", seeds.tables())
def test_damaged_tables(tmp_path: Path, name: str) -> None:
    """Rows, rows with codes, and an end, in no time and little memory."""
    sound = seeds.tables()[name]
    path = tmp_path / name
    path.write_bytes(sound)
    assert any(source.error is None for source in rows(path))
    before = peak()

    @settings(quick, max_examples=TABLES)
    @given(damaged((sound,)))
    def one(data: bytes) -> None:
        path.write_bytes(data)
        started = time.process_time()
        for source in rows(path):
            assert source.error is None or source.error in FAULTS.keys() - BAD
            assert source.error or source.row is not None
        assert time.process_time() - started < TABLE_SECONDS

    one()
    assert peak() - before < TABLE_BYTES


def rows(path: Path) -> list[Source]:
    """The sources of a table, or of a file of chat requests."""
    if path.name.startswith("b."):
        return list(tables.request_sources(source_of(str(path)), LIMITS.max_bytes, None))
    columns = Columns("text", None, "id", None, LIMITS.max_bytes)
    return list(tables.sources(source_of(str(path)), columns))


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024


def test_damaged_parquet(tmp_path: Path) -> None:
    """Each in a process of its own; a crash there is a code here, and no row is made up."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(arrow.table({"id": [1, 2], "text": ["Dry cough", "No fever"]}), path)
    sound = path.read_bytes()
    assert [source.error for source in rows(path)] == [None, None]

    @settings(quick, max_examples=PARQUETS)
    @given(damaged((sound,)))
    def one(data: bytes) -> None:
        path.write_bytes(data)
        # A crash of Arrow's costs the table, and is told of as what it is.
        for source in rows(path):
            assert source.error is None or source.error in FAULTS.keys() - {"internal", "timeout"}

    one()


@pytest.mark.filterwarnings("ignore")
def test_damaged_series(pool: ReaderPool, tmp_path: Path) -> None:
    """One slice of three is damaged: a series, two documents, or codes."""
    plane = np.arange(0, 256, 4).reshape(8, 8)
    slices = [dicom_kit.slice_of(plane + n, float(n)) for n in range(3)]
    folder = tmp_path / "ct"
    dicom_kit.write(folder, slices)
    (whole,) = Discovery([str(folder)], readers.SUFFIXES)
    assert len(whole.parts) == 3

    @settings(quick, max_examples=SERIES)
    @given(damaged((slices[1],)))
    def one(data: bytes) -> None:
        (folder / "slice-001.dcm").write_bytes(data)
        for source in Discovery([str(folder)], readers.SUFFIXES):
            try:
                code = outcome(pool, source, readers.load(source, LIMITS))
            except DocumentError as error:
                code = error.code
            assert code == "ok" or code in FAULTS.keys() - BAD, code

    one()


@pytest.mark.filterwarnings("ignore")
def test_damaged_slides(pool: ReaderPool, tmp_path: Path) -> None:
    """A pyramid whose header or pixels are damaged: patches, a plain picture, or a code."""
    pixels = slide_kit.glass(2048, 1024, (0, 0, 896, 896))
    sound = slide_kit.aperio(pixels, mpp=1.0, power=10)
    place = tmp_path / "a.tiff"
    limits = LIMITS._replace(max_slide_bytes=2 * len(sound), max_bytes=2 * len(sound))
    place.write_bytes(sound)
    whole = slide_kit.source(place)
    assert pool.submit(whole, readers.load(whole, limits), limits).result(300).slide is not None

    @settings(quick, max_examples=SLIDES)
    @given(damaged((sound[:8] + b"%PIXELS%" + sound[len(sound) - 4096 :],)))
    def one(data: bytes) -> None:
        # Pixels are most of the file; damage is to be where something is read.
        place.write_bytes(data.replace(b"%PIXELS%", sound[8 : len(sound) - 4096], 1))
        source = slide_kit.source(place)
        try:
            code = "ok"
            check(pool.submit(source, readers.load(source, limits), limits).result(300))
        except DocumentError as error:
            code = error.code
        assert code == "ok" or code in FAULTS.keys() - BAD, code

    one()
