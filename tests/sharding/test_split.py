"""Which documents are whose: all of them somebody's, the same at every look."""

from collections import Counter
from pathlib import Path

import pytest

from medgemma_cli import discover, readers
from medgemma_cli.errors import UsageError
from medgemma_cli.readers.tables import Columns
from medgemma_cli.records import Source
from medgemma_cli.sharding.split import Portion, Shard, parse, part_of


def source(relative: str, name: str | None = None, root: str = "/x") -> Source:
    """A source by its relative path."""
    place = f"{root}/{relative}"
    return Source(place=place, relative=relative, origin=place, name=name)


def found(folder: Path, columns: Columns | None = None) -> discover.Discovery:
    """What a run over a folder would find."""
    return discover.Discovery([str(folder)], readers.SUFFIXES, columns=columns)


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("3/8", (3, 8)), ("8/8", (8, 8))])
def test_parse(text: str, shard: tuple[int, int]) -> None:
    """i/n, i from 1."""
    assert parse(text) == shard


@pytest.mark.parametrize(
    "text",
    ["", "3", "0/8", "9/8", "/8", "3/", "-1/8", "1/0", "1/2/3", "a/b", "١/٢", "1/9999999999"],
)
def test_what_is_no_shard(text: str) -> None:
    """Anything else is a usage error, and does not repeat what was typed."""
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert raised.value.exit_code == 2


def test_the_split_is_what_it_was() -> None:
    """Of a path and a number alone, for good: an array job may go on with another version."""
    names = ["a.md", "ward/b.txt", "scan/series-0123456789ab.dcm", "t.csv#7"]
    assert [part_of(source(name), 8) for name in names] == [6, 6, 2, 7]


def test_not_of_the_root() -> None:
    """Where a folder is mounted does not matter."""
    assert part_of(source("a.md", root="/here"), 97) == part_of(source("a.md", root="/there"), 97)


def test_even() -> None:
    """Parts are about as large as each other."""
    sizes = Counter(part_of(source(f"ward/{i}.md"), 8) for i in range(8000))
    assert set(sizes) == set(range(1, 9)) and min(sizes.values()) > 850


def test_rivals_for_a_name_are_together() -> None:
    """`a.txt` and `a.txt.md` want the same summary: one shard gives it to one of them."""
    for i in range(50):
        assert part_of(source(f"{i}.txt"), 16) == part_of(source(f"{i}.txt.md"), 16)


def test_rows_go_by_their_ids() -> None:
    """A row that moves within its table stays in its shard, if it has an id."""
    before = source("t.csv#3", name="t.csv/P-77")
    after = source("t.csv#4", name="t.csv/P-77")
    assert part_of(before, 64) == part_of(after, 64)


def test_every_source_in_one_shard(papers: Path) -> None:
    """The shards of any number are the folder, each document once."""
    everything = [one.relative for one in found(papers)]
    for of in (1, 2, 5, 30):
        parts = [list(Portion(found(papers), Shard(i, of))) for i in range(1, of + 1)]
        assert sorted(one.relative for part in parts for one in part) == sorted(everything)


def test_a_table_is_work_for_all(tmp_path: Path) -> None:
    """Rows are split one by one."""
    lines = ["id,note", *(f"p{i},Cough for {i} days" for i in range(60))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    columns = Columns("note", None, "id", None, 10**6)
    sizes = [len(list(Portion(found(tmp_path, columns), Shard(i, 3)))) for i in (1, 2, 3)]
    assert sum(sizes) == 60 and min(sizes) > 8


def test_what_a_shard_says_it_saw(papers: Path) -> None:
    """All shards count the same total and the same list, once they came to the end."""
    parts = [Portion(found(papers), Shard(i, 3)) for i in (1, 2, 3)]
    next(iter(parts[0]))
    assert parts[0].total is None
    taken = [len(list(part)) for part in parts]
    assert {part.total for part in parts} == {13} and len({part.listing for part in parts}) == 1
    assert [part.taken for part in parts] == taken
    (papers / "new.md").write_text("One more.")
    later = Portion(found(papers), Shard(1, 3))
    list(later)
    assert later.listing != parts[0].listing and later.total == 14
