"""Tables: each row a source, whatever is wrong with the rows around it."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli import readers
from medgemma_cli.discover import Discovery, check_tables
from medgemma_cli.errors import DocumentError, UsageError
from medgemma_cli.readers import ReadLimits, tables
from medgemma_cli.readers.tables import Columns
from medgemma_cli.records import Row, Source

TEXT = Columns("text")
FULL = Columns("text", None, "id")


def found(path: Path, columns: Columns = FULL) -> list[Source]:
    """The sources of a table."""
    return list(Discovery([str(path)], readers.SUFFIXES, columns=columns))


def told(path: Path, columns: Columns = FULL) -> list[tuple[str, str]]:
    """Of each row its number and its text, or its code."""
    rows = found(path, columns)
    return [(s.relative.partition("#")[2], s.error or (s.row.text if s.row else "")) for s in rows]


def written(path: Path, data: str | bytes) -> Path:
    """A file with this in it."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def parquet(path: Path, **columns: list[Any]) -> Path:
    """A Parquet file of these columns."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    pq.write_table(arrow.table(columns), path)
    return path


# -- names ---------------------------------------------------------------------------------------


def test_rows_without_ids(tmp_path: Path) -> None:
    """A row has its number in its name, in its summary's name and nowhere else."""
    (row,) = found(written(tmp_path / "t.csv", 'text\n"Left knee, swollen"\n'), TEXT)
    assert (row.relative, row.name, row.custom_id) == ("t.csv#1", "t.csv/1", None)
    assert row.origin == f"{tmp_path}/t.csv#1"
    assert tables.table_of(row.origin) == f"{tmp_path}/t.csv"


def test_rows_with_ids(tmp_path: Path) -> None:
    """A plain id is the name; others are made safe, and stay apart."""
    ids = ["A-1", "../B", "..__B", "x.md", "ñ", "a/b", "a_b", ".hidden", "", "~5"]
    lines = "".join(f'"{name}",text\n' for name in ids)
    rows = found(written(tmp_path / "t.csv", f"id,text\n{lines}"))
    leaves = [(row.name or "").removeprefix("t.csv/") for row in rows]
    assert leaves[0] == "A-1" and leaves[6] == "a_b" and leaves[8] == "~9"
    assert len(set(leaves)) == len(ids)
    for leaf in leaves:
        assert "/" not in leaf and not leaf.startswith(".") and not leaf.endswith(".md")
    assert [row.custom_id for row in rows] == [name or None for name in ids]


def test_an_id_twice(tmp_path: Path) -> None:
    """Fault 113: the first row has it; the other one is refused, under a name of its own."""
    first, second = found(written(tmp_path / "t.csv", "id,text\nA,one\nA,two\n"))
    assert (first.name, first.error) == ("t.csv/A", None)
    assert (second.name, second.error, second.custom_id) == ("t.csv/~2", "duplicate_id", "A")


# -- rows ----------------------------------------------------------------------------------------


def test_csv_rows_that_cannot_be_read(tmp_path: Path) -> None:
    """Fault 111: each costs itself: fields too many or few, a quote amiss, no text, bytes, size."""
    data = b'id,text\n1,good\n\n2,pain, fever\n3\n4,"a"b\n5, \n6,Se\xf1ora\n7,'
    data += b"x" * 300 + b'\n8,"two\nlines"\n'
    path = written(tmp_path / "t.csv", data)
    rows = told(path, FULL._replace(max_bytes=200))
    broken = ["row_broken"] * 3
    assert [what for _, what in rows] == [
        "good",
        *broken,
        "row_empty",
        "encoding",
        "too_large",
        "two\nlines",
    ]


def test_csv_open_quote(tmp_path: Path) -> None:
    """Fault 112: a quote that is never closed ends as a broken row, not as a long text."""
    rows = told(written(tmp_path / "t.csv", 'id,text\n1,good\n2,"open\n3,lost\n'))
    assert rows == [("1", "good"), ("2", "row_broken")]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_separators_and_marks(tmp_path: Path, separator: str, encoding: str) -> None:
    """The separator is the one under which the columns are there."""
    data = f"id{separator}text\r\n7{separator}Señora, 5 mg\r\n".replace("Señora,", '"Señora,')
    data = data.replace("5 mg", '5 mg"')
    assert told(written(tmp_path / "t.csv", data.encode(encoding))) == [("1", "Señora, 5 mg")]


def test_encoding_option(tmp_path: Path) -> None:
    """`--encoding` holds for tables, and not for the rows taken from them."""
    path = written(tmp_path / "t.csv", "text\nSeñora\n".encode("cp1252"))
    (row,) = found(path, TEXT._replace(encoding="cp1252"))
    limits = ReadLimits(encoding="cp1252")
    blob = readers.load(row, limits)
    assert readers.decode(row, blob, limits).text == "Señora"
    assert blob.data == "Señora".encode()


def test_jsonl_rows(tmp_path: Path) -> None:
    """A row's number is its line's; what is no object, no text or no Unicode costs itself."""
    lines = [
        '{"id": 7, "text": "one"}',
        "",
        "{broken",
        "[1]",
        '{"text": 5}',
        '{"id": true, "text": null}',
        '{"other": 1}',
        "[" * 100_000,
        '{"text": "last"}',
    ]
    path = written(tmp_path / "t.jsonl", "\n".join(lines))
    assert told(path) == [
        ("1", "one"),
        ("3", "row_broken"),
        ("4", "row_broken"),
        ("5", "row_not_text"),
        ("6", "row_empty"),
        ("7", "no_column"),
        ("8", "row_broken"),
        ("9", "last"),
    ]
    assert [row.custom_id for row in found(path)][:1] == ["7"]


def test_half_a_character(tmp_path: Path) -> None:
    """A text that no record could hold is refused when it is read."""
    (row,) = found(written(tmp_path / "t.jsonl", '{"text": "\\ud800"}'), TEXT)
    with pytest.raises(DocumentError, match="encoding"):
        readers.load(row, ReadLimits())


def test_json_list(tmp_path: Path) -> None:
    """Fault 116: rows up to where it breaks, then the table itself."""
    path = written(tmp_path / "t.json", '[{"text": "a"} , 7,\n{"text": "b"}, {"text": oops}]')
    rows = found(path, TEXT)
    assert [row.error for row in rows] == [None, "row_broken", None, "table_corrupt"]
    assert rows[-1].relative == "t.json" and rows[-1].row is None


@pytest.mark.parametrize("data", ['{"text": "a"}', "", "[1,]", "[] x", "[", '["a" "b"]'])
def test_json_that_is_no_list(tmp_path: Path, data: str) -> None:
    """It ends as the table's own error."""
    assert found(written(tmp_path / "t.json", data), TEXT)[-1].error == "table_corrupt"


def test_parquet_rows(tmp_path: Path) -> None:
    """Strings are texts, whole numbers ids; null is no text, and a number is none."""
    path = parquet(tmp_path / "t.parquet", id=[1, 2], text=["one", None], n=[1.5, 2.5])
    assert told(path) == [("1", "one"), ("2", "row_empty")]
    assert [row.custom_id for row in found(path)] == ["1", "2"]
    assert [code for _, code in told(path, Columns("n"))] == ["row_not_text"] * 2
    assert [code for _, code in told(path, FULL._replace(max_bytes=2))] == [
        "too_large",
        "row_empty",
    ]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"x" * 60 + b"PAR1", bytes(500)])
def test_parquet_damage(tmp_path: Path, data: bytes) -> None:
    """Fault 117: it is decoded elsewhere, and ends with a code."""
    pytest.importorskip("pyarrow")
    (table,) = found(written(tmp_path / "t.parquet", data))
    assert table.error == "table_corrupt"


# -- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", "id,note\n1,x\n"),
        ("t.csv", "id,text,text\n1,x,y\n"),
        ("t.csv", ""),
        ("t.tsv", "id\tnote\n1\tx\n"),
        ("t.jsonl", '{"id": 1}\n'),
        ("t.jsonl", '{"text": "x"}\n'),
        ("t.json", '[{"id": 1}]'),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, name: str, data: str) -> None:
    """Fault 114: named outright it is a usage error; in a folder it costs that table."""
    path = written(tmp_path / name, data)
    with pytest.raises(UsageError) as caught:
        check_tables([str(path)], FULL)
    assert "--text-column" in caught.value.next_step
    (table,) = found(tmp_path)
    assert (table.relative, table.error) == (name, "no_column")


def test_without_columns(tmp_path: Path) -> None:
    """In a folder a table is counted; named outright it is a usage error."""
    path = written(tmp_path / "t.csv", "text\nx\n")
    sources = Discovery([str(tmp_path)], readers.SUFFIXES)
    assert list(sources) == [] and sources.skipped == {".csv": 1}
    with pytest.raises(UsageError, match="no column was named"):
        check_tables([str(path)], None)
    (listed,) = Discovery([], readers.SUFFIXES, files=[str(path)])
    assert listed.error == "no_text_column"


def test_archives(tmp_path: Path) -> None:
    """Fault 119: one named outright says that it is not opened."""
    (source,) = Discovery([str(written(tmp_path / "a.zip", b"PK"))], readers.SUFFIXES)
    assert source.error == "archive"


def test_a_table_twice_on_the_line(tmp_path: Path) -> None:
    """It is read once; so it is at the second walk."""
    path = written(tmp_path / "t.csv", "text\na\nb\n")
    sources = Discovery([str(tmp_path), str(path)], readers.SUFFIXES, columns=TEXT)
    assert len(list(sources)) == len(list(sources)) == 2


# -- images --------------------------------------------------------------------------------------


def image_row(folder: Path, name: str, text: str = "") -> Source:
    """The source of a row with an image."""
    line = json.dumps({"text": text, "image": name})
    (row,) = found(written(folder / "t.jsonl", line), Columns("text", "image"))
    return row


def test_image_and_text(tmp_path: Path) -> None:
    """A row has both; the hash is of them, not of the table."""
    from PIL import Image

    (tmp_path / "films").mkdir()
    Image.new("RGB", (4, 3), (9, 9, 9)).save(tmp_path / "films" / "a.png")
    row = image_row(tmp_path, "films/a.png", "Cough.")
    blob = readers.load(row, ReadLimits())
    document = readers.decode(row, blob, ReadLimits())
    assert document.text == "Cough."
    assert [(i.width, i.height) for i in document.images] == [(4, 3)]
    assert document.coverage == {"characters": (6, 6), "images": (1, 1), "frames": (1, 1)}
    alone = readers.load(image_row(tmp_path, "films/a.png"), ReadLimits())
    assert alone.sha256 != blob.sha256


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../a.png", "image_path"),
        ("/etc/passwd", "image_path"),
        ("http://x/a.png", "image_path"),
        ("file:///a.png", "image_path"),
        ("link.png", "image_path"),
        ("a\0.png", "image_path"),
        ("none.png", "image_missing"),
        ("t.jsonl", "unsupported"),
    ],
)
def test_image_paths(tmp_path: Path, name: str, code: str) -> None:
    """Fault 115: never out of the table's folder, over links neither, and nothing is fetched."""
    folder = tmp_path / "in"
    folder.mkdir()
    written(tmp_path / "a.png", b"x")
    (folder / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DocumentError) as caught:
        readers.load(image_row(folder, name), ReadLimits())
    assert caught.value.code == code


def test_a_text_is_never_taken_for_an_image() -> None:
    """What marks the bytes of an image cannot be said by a text."""
    row = Source(place="t.csv", relative="t.csv#1", origin="t.csv#1", row=Row(text="\0{}\nx"))
    with pytest.raises(DocumentError, match="not_text"):
        readers.load(row, ReadLimits())


# -- size ----------------------------------------------------------------------------------------


def test_many_rows_take_no_memory(tmp_path: Path) -> None:
    """Fault 118: 20,000 rows of 200 characters: under 1 MB at any time, of 4 MB."""
    path = tmp_path / "t.csv"
    path.write_text("text\n" + "".join(f"{n:0200}\n" for n in range(20_000)))
    tracemalloc.start()
    count = sum(1 for _ in Discovery([str(path)], readers.SUFFIXES, columns=TEXT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 1_000_000


@given(st.sampled_from(["t.csv", "t.tsv", "t.json", "t.jsonl"]), st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    """Whatever stands behind a head: rows, errors with codes, and an end."""
    folder = tmp_path_factory.mktemp("any")
    heads = {".csv": b"id,text\n", ".tsv": b"id\ttext\n", ".json": b'[{"id":1,"text":"a"},'}
    path = written(folder / name, heads.get(Path(name).suffix, b'{"id":1,"text":"a"}\n') + data)
    for source in found(path):
        assert source.error or (source.row and source.row.text)
