"""What a run came to is counted by current records."""

from test_committing import make

from medgemma_cli.records import Flag, Generation, Usage
from medgemma_cli.totals import Totals


def test_answers_and_records_are_counted_apart() -> None:
    """A model that was asked is no record yet; a record counts its flags and degradations."""
    totals = Totals()
    usage = Usage(prompt_tokens=7, completion_tokens=3)
    for _ in range(2):
        totals.answered(Generation(id="a", text="x", usage=usage))
    assert (totals.inferred, totals.prompt_tokens, totals.completion_tokens) == (2, 14, 6)
    assert totals.documents == 0
    flag = Flag(rule="number", severity="review", where="summary", value="7", why="It differs.")
    totals.committed(make(0, status="flagged", flags=(flag, flag), degraded=("shortened",)))
    totals.committed(make(1))
    assert totals.documents == 2
    assert totals.status == {"flagged": 1, "ok": 1}
    assert totals.rules == {"number": 2} and totals.degraded == {"shortened": 1}


def test_two_do_not_share_their_counts() -> None:
    """Each run begins with nothing."""
    first, second = Totals(), Totals()
    first.committed(make(0))
    assert (first.documents, second.documents) == (1, 0)
