"""The RULE of --pair-by: whose a document is, and what no rule is."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.errors import UsageError
from medgemma_cli.pairing import rule
from medgemma_cli.pairing.rules import Marks
from medgemma_cli.records import Row, Source

PATTERN = r"name:(?P<patient>.+)_(?P<date>\d{8})"


def source(name: str, **more: object) -> Source:
    """A source of that relative name."""
    return Source(place=f"/in/{name}", relative=name, origin=f"/in/{name}", **more)  # type: ignore[arg-type]


def named(written: str, name: str, **more: object) -> Marks | None:
    """What a rule says of a name."""
    return rule(written).marks(source(name, **more))


def fronted(
    tmp_path: Path, text: str, keys: str = "patient,date", name: str = "a.md"
) -> Marks | None:
    """What front matter says, of a file with that text."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    return rule(f"front-matter:{keys}").marks(
        Source(place=str(path), relative=name, origin=str(path))
    )


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "neither"),
        ("patient,date", "neither"),
        ("name", "neither"),
        ("name:", "neither"),
        ("Name:x", "neither"),
        ("name:(?P<patient>.+", "no regular expression at character"),
        ("name:(?P<p>.+)(?P<p>.+)", "no regular expression"),
        ("name:*", "no regular expression"),
        ("name:(.+)_(\\d{8})", "needs one group for the time"),
        ("name:(?P<patient>.+)", "needs one group for the time"),
        ("name:(?P<patient>.+)(?P<date>.)(?P<order>.)", "needs one group for the time"),
        ("name:(?P<date>\\d{8})", "no group that says whose"),
        ("front-matter:patient", "two keys or more"),
        ("front-matter:patient,", "two keys or more"),
        ("front-matter:date,date", "two keys or more"),
        ("name:" + "(" * 5000, "no regular expression"),
    ],
)
def test_no_rule_is_a_usage_error(written: str, told: str) -> None:
    """What is amiss, where, and two examples."""
    with pytest.raises(UsageError) as raised:
        rule(written)
    assert told in raised.value.message and "front-matter:patient,date" in raised.value.next_step
    assert raised.value.exit_code == 2


def test_a_name_with_its_suffix_or_without() -> None:
    """The whole name is matched; a date inside a longer number is none."""
    first, same = named(PATTERN, "p1_20240301.md"), named(PATTERN, "ward/p1_20240301.txt")
    assert first is not None and same == first
    assert named(PATTERN + r"\.md", "p1_20240301.md") == first
    assert named(PATTERN, "p1_202403015.md") is None
    assert named(PATTERN, "notes.md") is None


def test_a_slash_means_the_path() -> None:
    """Folders count where the pattern has them."""
    written = r"name:(?P<patient>[^/]+)/.*(?P<date>\d{8})"
    one, other = named(written, "A/note_20240301.md"), named(written, "B/note_20240301.md")
    assert one is not None and other is not None and one.group != other.group
    assert named(written, "note_20240301.md") is None


def test_every_group_says_whose() -> None:
    """Patient and modality together; an empty one says nothing."""
    written = r"name:(?P<patient>.+)_(?P<kind>ct|xr)?_(?P<date>\d{8})"
    ct, film = named(written, "p_ct_20240301.md"), named(written, "p_xr_20240301.md")
    assert ct is not None and film is not None and ct.group != film.group
    assert named(written, "p__20240301.md") is None


def test_films_and_reports_are_apart() -> None:
    """An image is compared with images, a text with texts, rows likewise."""
    text, film = named(PATTERN, "p_20240301.md"), named(PATTERN, "p_20240301.png")
    pdf, dicom = named(PATTERN, "p_20240301.pdf"), named(PATTERN, "p_20240301.dcm")
    assert text is not None and film is not None
    assert text == pdf and film == dicom and text.group != film.group
    row = named(PATTERN, "t.csv#1", custom_id="p_20240301", row=Row(image="a.png"))
    assert row == film


def test_a_row_goes_by_its_id() -> None:
    """The id is its name."""
    found = named(PATTERN, "t.csv#7", custom_id="p1_20240301", row=Row(text="x"))
    assert found == named(PATTERN, "p1_20240301.md")
    dotted = r"name:(?P<patient>.+)_(?P<date>.+)"
    assert named(dotted, "t#7", custom_id="p1_2024.03.01", row=Row(text="x")) == found


def test_an_order_is_a_number() -> None:
    """Of any length that is sensible; anything else is unclear."""
    written = "name:(?P<patient>[a-z]+)(?P<order>.*)"
    found = named(written, "p240301.md")
    assert found is not None and found.when is not None and found.when.start == 240301
    for name in ("p.md", "p-1.md", f"p{'9' * 30}.md", "p²"):
        unclear = named(written, name)
        assert unclear is None or unclear.when is None


def test_no_identifier_is_kept() -> None:
    """A group is a hash; capitals tell people apart, the spelling of an accent does not."""
    one, other = named(PATTERN, "José_20240301"), named(PATTERN, "José_20240301")
    assert one is not None and one == other and "Jos" not in repr(one)
    capital = named(PATTERN, "josé_20240301")
    assert capital is not None and capital.group != one.group


NOTE = "---\npatient: P-1\ndate: 2024-03-01\nward: 5\n---\n# Note\n"


def test_front_matter(tmp_path: Path) -> None:
    """YAML at the beginning of a text; quotes, comments and line ends aside."""
    found = fronted(tmp_path, NOTE)
    assert found is not None and found.when is not None
    for text in (
        NOTE.replace("\n", "\r\n"),
        "\ufeff" + NOTE,
        NOTE.replace("P-1", '"P-1"  # who'),
        NOTE.replace("---\n# Note", "...\n# Note"),
        NOTE.replace("2024-03-01", "'20240301'"),
    ):
        assert fronted(tmp_path, text) == found
    assert rule("front-matter").marks(
        Source(place=str(tmp_path / "a.md"), relative="a.md", origin="")
    ) == fronted(tmp_path, NOTE.replace("2024-03-01", "'20240301'"))


def test_front_matter_of_a_row() -> None:
    """A row's text may have some, too."""
    found = rule("front-matter").marks(source("t.csv#1", row=Row(text=NOTE)))
    assert found is not None and found.when is not None


def test_a_date_may_say_whose(tmp_path: Path) -> None:
    """A key that is called date is like any other, unless it is the last."""
    text = "---\ndate: 2024-03-01\nvisit: 2\n---\nx\n"
    one = fronted(tmp_path, text, "date,visit")
    other = fronted(tmp_path, text.replace("03-01", "04-01"), "date,visit")
    assert one is not None and other is not None and one.group != other.group
    assert one.when is not None and one.when.kind == "number"


@pytest.mark.parametrize(
    "text",
    [
        *("", "# Note\n", "patient: P-1\ndate: 2024-03-01\n", "---\npatient: P-1\n"),
        *("---\n---\n", "---\n- a\n- b\n---\n", "---\npatient: [P-1]\ndate: 2024-03-01\n---\n"),
        *(
            "---\npatient: ''\ndate: 2024-03-01\n---\n",
            "---\n\tpatient: {\n---\n",
            "---\n: :\n---\n",
        ),
        "\n" + NOTE,
        "---\n" + "[" * 9000 + "\n---\n",
        "---\n&a [*a, *a]: 5\n---\n",
        "---\n" + "x: y\n" * 20_000 + "patient: P-1\ndate: 2024-03-01\n---\n",
    ],
)
def test_what_has_no_patient_says_nothing(tmp_path: Path, text: str) -> None:
    """No front matter, none that is a mapping, none that ends; never an error."""
    assert fronted(tmp_path, text) is None


@pytest.mark.parametrize("date", ["", "date:", "date: soon", "date: 01/03/2024", "date: [1]"])
def test_a_patient_without_a_date(tmp_path: Path, date: str) -> None:
    """Whose it is is known, and when is not."""
    found = fronted(tmp_path, f"---\npatient: P-1\n{date}\n---\n")
    assert found is not None and found.when is None


def test_other_kinds_have_no_front_matter(tmp_path: Path) -> None:
    """A PDF is not looked into, whatever it begins with."""
    assert fronted(tmp_path, NOTE, name="a.pdf") is None


def test_another_encoding(tmp_path: Path) -> None:
    """As --encoding says, or a byte order mark."""
    (tmp_path / "a.md").write_bytes(NOTE.replace("P-1", "Señora").encode("cp1252"))
    (tmp_path / "b.md").write_bytes(NOTE.replace("P-1", "Señora").encode("utf-16"))
    marks = [
        rule("front-matter", "cp1252").marks(
            Source(place=str(tmp_path / name), relative=name, origin="")
        )
        for name in ("a.md", "b.md")
    ]
    assert marks[0] is not None and marks[0] == marks[1]


def test_an_unreadable_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    """The caller passes it on to be read, which then says why it cannot."""
    with pytest.raises(OSError, match="No such file"):
        rule("front-matter").marks(Source(place=str(tmp_path / "x.md"), relative="x", origin=""))


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_header_comes_to_an_end(text: str) -> None:
    """Whatever stands between the lines."""
    found = rule("front-matter").marks(source("t#1", row=Row(text=f"---\n{text}\n---\n")))
    assert found is None or len(found.group) == 64


def test_a_header_that_never_ends_takes_no_time() -> None:
    """Line ends of both kinds, without an end in sight."""
    started = time.perf_counter()
    text = "---\r\n" + "a: b\r\n" * 100_000
    assert rule("front-matter").marks(source("t#1", row=Row(text=text))) is None
    assert time.perf_counter() - started < 2
