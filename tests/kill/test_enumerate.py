"""Killed at every call that changes the folder, in every way, and again while it resumes."""

from typing import Any

import pytest
from kit import TIMES, Drive

# Every kind of step there is; a new one is to be added here, so that nobody forgets to kill it.
KINDS = {
    *("make folder", "sync folder", "create lock", "create records"),
    *("append records", "sync records", "append newline", "cut records"),
    *("create temporary", "write temporary", "sync temporary", "unlink temporary"),
    *("rename summary", "rename quarantined", "rename attempts"),
    *("append attempts", "create crash", "unlink crash"),
}
# Only a run that found what a kill had left takes these.
RESUMED = KINDS | {"empty crash"}


@pytest.fixture(scope="module")
def report(drive: Drive) -> dict[str, Any]:
    """Every scenario, one record at a time."""
    return drive(shards=2, times=TIMES, random=30 * TIMES)


def test_nothing_is_violated(report: dict[str, Any]) -> None:
    """Faults 1 to 7: whatever was killed where, the end is the same."""
    assert report["violations"] == []


def test_every_step_was_killed(report: dict[str, Any]) -> None:
    """No kind of step is left out: in a first run, and in one that resumes."""
    assert set(report["seen"]) == set(report["kinds"]) == KINDS
    assert set(report["resumed"]) == RESUMED


def test_enough_was_tried(report: dict[str, Any]) -> None:
    """Thousands of scenarios, nearly all of which kill at least twice."""
    assert report["scenarios"] > 1500
    assert report["kills"] > 1.7 * report["scenarios"]


def test_in_groups(drive: Drive) -> None:
    """The same where three records are made durable together, and are lost together."""
    states = ["deep", "changed"]
    report = drive(shards=2, times=TIMES, random=30 * TIMES, group=3, states=states)
    assert report["violations"] == []
