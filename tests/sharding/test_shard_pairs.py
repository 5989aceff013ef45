"""`--shard` with `--pair-by`, and with long documents: pairs are made first, then divided."""

import json
from pathlib import Path
from typing import Any

import pytest
from outcomes import lines
from sharding.conftest import Medgemma
from sharding.test_shards import OUT, sharded

from medgemma_cli import discover, readers
from medgemma_cli.commands import inputs
from medgemma_cli.pairing import Pairs, rule
from medgemma_cli.sharding import folders
from medgemma_cli.sharding.split import Portion, Shard

BY_NAME = r"name:(?P<patient>.+)_(?P<date>\d{8})"
Pair = tuple[str, str]


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """Three visits of each of five patients, and one of a sixth."""
    folder = tmp_path / "papers"
    folder.mkdir()
    for patient in range(5):
        for day in (1, 2, 3):
            text = f"Patient {patient}, visit {day}. Dry cough since Monday. No fever today.\n"
            (folder / f"p{patient}_2026010{day}.md").write_text(text)
    (folder / "p9_20260101.md").write_text("Alone. A cough.\n")
    return folder


def paired(folder: Path) -> dict[Pair, dict[str, Any]]:
    """The records by their two documents; each pair once."""
    found = lines(folder)
    made = {(line["source"], line["prior"]["source"]): line for line in found}
    assert len(made) == len(found)
    return made


def test_merged_is_what_one_run_makes(medgemma: Medgemma, visits: Path) -> None:
    """The same pairs with the same keys, though a patient's are in several shards."""
    medgemma("run", "papers", "-o", "plain", "--pair-by", BY_NAME)
    plain = paired(Path("plain"))
    assert len(plain) == 10
    sharded(medgemma, 3, "--pair-by", BY_NAME)
    sizes = [len(lines(folder)) for folder in folders.found(OUT).values()]
    assert sum(sizes) == 10 and max(sizes) < 10
    assert medgemma("merge", OUT).code == 0
    merged = paired(OUT)
    assert {pair: line["key"] for pair, line in plain.items()} == {
        pair: line["key"] for pair, line in merged.items()
    }
    assert medgemma("verify", OUT).code == 0
    again = medgemma("run", "papers", "-o", OUT, "--pair-by", BY_NAME)
    assert "nothing to do" in again.stderr


def test_a_shard_has_a_pair_by_its_current_document(visits: Path) -> None:
    """Each pair is in the shard of its summary's name, and in no other."""
    found = Pairs(discover.Discovery([str(visits)], readers.SUFFIXES), rule(BY_NAME))
    parts = [list(Portion(found, Shard(i, 3))) for i in (1, 2, 3)]
    names = [(source.relative, source.prior and source.prior.relative) for source in found]
    assert sorted(names) == sorted(
        (source.relative, source.prior and source.prior.relative)
        for part in parts
        for source in part
    )
    assert all(Shard(i, 3).holds(source) for i, part in enumerate(parts, 1) for source in part)


def test_another_earlier_document_is_another_list(visits: Path) -> None:
    """The same current documents beside others: shards that saw that did not see the same."""
    sources = discover.Discovery([str(visits)], readers.SUFFIXES)
    pairs = list(Pairs(sources, rule(BY_NAME)))
    swapped = [one.model_copy(update={"prior": pairs[0]}) for one in pairs]
    listings = []
    for made in (pairs, swapped):
        portion = Portion(_Listed(made), Shard(1, 1))
        assert len(list(portion)) == 10
        listings.append(portion.listing)
    assert listings[0] != listings[1]


class _Listed(discover.Discovery):
    """Sources that are there already."""

    def __init__(self, sources: list[Any]) -> None:
        super().__init__([], frozenset())
        self._given = sources

    def __iter__(self) -> Any:
        return iter(self._given)


def test_what_is_alone_is_told_by_a_dry_run(medgemma: Medgemma, visits: Path) -> None:
    """As in a run of the whole, since it is in no shard."""
    done = medgemma(
        "run", "papers", "-o", OUT, "--pair-by", BY_NAME, "--shard", "1/2", "--dry-run", "--json"
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["source"] for one in told if one["action"] == "skip"] == ["p9_20260101.md"]
    assert 0 < len(told) < 11 and not OUT.exists()


def test_a_limit_is_of_the_whole(visits: Path) -> None:
    """`--limit` means the first pairs of the folder, then they are divided."""
    found = inputs.find(
        [str(visits)],
        Path("out"),
        include=[],
        exclude=[],
        columns=None,
        rule=rule(BY_NAME),
        limit=4,
    )
    parts = [inputs.make_portion(found, Shard(i, 2)) for i in (1, 2)]
    assert sum(len(list(part)) for part in parts) == 4
    assert inputs.make_portion(found, None) is found


def test_pairs_and_documents_are_different_things(medgemma: Medgemma, visits: Path) -> None:
    """Half of a folder compared, the other half summarised: 78 at the merge."""
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2", "--pair-by", BY_NAME)
    medgemma("run", "papers", "-o", OUT, "--shard", "2/2")
    assert medgemma("merge", OUT).code == 78


def test_long_documents_are_asked_for_the_same_way(medgemma: Medgemma, visits: Path) -> None:
    """Long ones in parts here, and refused there: 78, unless it is said to be."""
    medgemma("run", "papers", "-o", OUT, "--shard", "1/2", "--on-long", "split")
    medgemma("run", "papers", "-o", OUT, "--shard", "2/2", "--on-long", "fail")
    done = medgemma("merge", OUT)
    assert done.code == 78 and "different things" in done.stderr
    assert medgemma("merge", OUT, "--partial").code == 0 and len(lines(OUT)) == 16


def test_a_long_document_in_a_shard(medgemma: Medgemma, visits: Path) -> None:
    """In parts, once; merged, it stands, though its key was known only when it was read."""
    long = " ".join(f"On day {day} she coughed less than before." for day in range(400))
    (visits / "long.md").write_text(long)
    sharded(medgemma, 2, "--max-input-tokens", 1500)
    assert medgemma("merge", OUT).code == 0
    (record,) = (line for line in lines(OUT) if line["source"] == "long.md")
    assert len(record["parts"]) > 1
    for more in ((), ("--shard", "1/2"), ("--shard", "2/2")):
        done = medgemma("run", "papers", "-o", OUT, "--max-input-tokens", 1500, *more)
        assert "nothing to do" in done.stderr or " 0 documents" in done.stderr
