"""What past runs say of the next one, and that nothing in the file can hurt."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from medgemma_cli import speeds
from medgemma_cli.engines.timing import Timing
from medgemma_cli.speeds import Setup, Work

HERE = Setup("sha-of-weights", "bf16", "cpu with 2 cores")
TEMPLATE = "hash-of-template"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, not made yet."""
    monkeypatch.setenv("MEDGEMMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def note(
    documents: int = 10,
    *,
    setup: Setup = HERE,
    template: str = TEMPLATE,
    images: int = 0,
    factor: float = 1.0,
) -> None:
    """A run: 100 prompt tokens and 20 new ones a document, at 1 ms and 50 ms (times `factor`)."""
    timing = Timing(
        prompt_tokens=7,
        new_tokens=20 * documents,
        images=images,
        prefill=0.1 * documents * factor,
        decode=1.0 * documents * factor,
        vision=2.0 * images * factor,
    )
    speeds.note(timing, setup, template, documents, 100 * documents)


def lines(cache: Path) -> list[bytes]:
    """The file's lines."""
    return (cache / "speeds.jsonl").read_bytes().splitlines()


def test_a_run_is_kept(cache: Path) -> None:
    """Counts, seconds and what identifies the setup; the file is its owner's alone."""
    note(3, images=2)
    (run,) = speeds.past(HERE)
    assert (run.documents, run.prompt_tokens, run.new_tokens, run.images) == (3, 300, 60, 2)
    assert (run.prefill, run.decode, run.vision) == (0.3, 3.0, 4.0)
    (line,) = map(json.loads, lines(cache))
    assert set(line) == set(speeds.Speed.model_fields)
    assert (cache / "speeds.jsonl").stat().st_mode & 0o077 == 0


def test_nothing_generated_is_nothing_to_keep(cache: Path) -> None:
    """Neither no documents nor a clock that never ran leaves a line."""
    note(0)
    speeds.note(Timing(), HERE, TEMPLATE, 5, 100)
    assert not cache.exists() and speeds.past(HERE) == []


def test_only_the_same_setup_counts() -> None:
    """Other weights, another precision and another device say nothing."""
    for other in ({"model": "x"}, {"precision": "fp32"}, {"device": "cuda H100"}):
        note(setup=HERE._replace(**other))
    assert speeds.past(HERE) == []
    note(4)
    note(5)
    assert [run.documents for run in speeds.past(HERE)] == [5, 4]


def test_an_estimate_is_linear_in_the_work() -> None:
    """Rates times amounts; an image only where there are images."""
    note(10, images=10)
    assert speeds.estimate(speeds.past(HERE), Work(5, 1000, 40, 0)) == (1.0 + 2.0, 1)
    assert speeds.estimate(speeds.past(HERE), Work(5, 1000, 40, 3)) == (1.0 + 2.0 + 6.0, 1)


def test_the_median_run_counts() -> None:
    """One run on a busy machine does not spoil the estimate."""
    for factor in (1.0, 1.0, 30.0):
        note(factor=factor)
    assert speeds.estimate(speeds.past(HERE), Work(5, 1000, 0, 0)) == (pytest.approx(1.0), 3)


def test_runs_of_like_size_count() -> None:
    """Of many runs the five nearest in documents: small ones are slower a token."""
    for _ in range(6):
        note(1, factor=8.0)
        note(100)
    runs = speeds.past(HERE)
    assert speeds.estimate(runs, Work(80, 1000, 0, 0)) == (pytest.approx(1.0), 5)
    assert speeds.estimate(runs, Work(2, 1000, 0, 0)) == (pytest.approx(8.0), 5)


def test_what_was_never_seen_is_not_guessed() -> None:
    """No runs, no work, or images without a run that had any: None."""
    assert speeds.estimate([], Work(1, 1, 1, 0)) is None
    note()
    assert speeds.estimate(speeds.past(HERE), Work(0, 0, 0, 0)) is None
    assert speeds.estimate(speeds.past(HERE), Work(1, 100, 20, 1)) is None


def test_the_length_of_answers() -> None:
    """The mean over documents, of runs with the same template only."""
    assert speeds.answer_tokens([], TEMPLATE) is None
    note(1)
    note(3, template="another")
    timing = Timing(new_tokens=300, decode=1.0)
    speeds.note(timing, HERE, TEMPLATE, 3, 300)
    assert speeds.answer_tokens(speeds.past(HERE), TEMPLATE) == (20 + 300) / 4
    assert speeds.answer_tokens(speeds.past(HERE), "unheard of") is None


GARBAGE = [
    b"\xff\xfe\0",
    b"[1, 2]",
    b'{"model": "sha-of-weights"}',
    b'{"model": "sha-of-weights", "precision": "bf1',
    b"null",
    b"\r",
]


@pytest.mark.parametrize("bad", GARBAGE)
def test_garbage_is_passed_over(cache: Path, bad: bytes) -> None:
    """A line that is damaged, before, between or after, takes no other with it."""
    note(1)
    with (cache / "speeds.jsonl").open("ab") as file:
        file.write(bad)  # and no newline: its writer was killed
    note(2)
    assert [run.documents for run in speeds.past(HERE)] == [2, 1]


@pytest.mark.parametrize("value", ["-1", "NaN", "Infinity", "1e999", '"fast"', "null"])
def test_numbers_that_are_none_are_passed_over(cache: Path, value: str) -> None:
    """A line whose seconds cannot be is no run."""
    note(1)
    text = (cache / "speeds.jsonl").read_text().replace('"decode":1.0', f'"decode":{value}')
    (cache / "speeds.jsonl").write_text(text)
    assert speeds.past(HERE) == []


def test_the_file_stays_small(cache: Path) -> None:
    """The last 200 runs count, and not many more lines are ever there."""
    for i in range(1, 450):
        note(i)
    assert len([line for line in lines(cache) if line]) <= 400
    assert [run.documents for run in speeds.past(HERE)] == list(range(449, 249, -1))


def _write(begin: int) -> None:
    for i in range(begin, begin + 50):
        note(i)


def test_two_writers(cache: Path) -> None:
    """Two processes that write at once lose nothing and mix nothing up."""
    note(999)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(begin,)) for begin in (100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    found = {run.documents for run in speeds.past(HERE)}
    assert found == {999, *range(100, 150), *range(200, 250)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(cache: Path) -> None:
    """No hint is worth an error."""
    cache.mkdir(mode=0o500)
    note()
    assert speeds.past(HERE) == []


def test_a_cache_that_is_no_folder(cache: Path) -> None:
    """Nor is this."""
    cache.write_text("a file")
    note()
    assert speeds.past(HERE) == []
