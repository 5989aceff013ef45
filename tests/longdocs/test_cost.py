"""What the calls for one document took together."""

from medgemma_cli.longdocs.cost import Cost
from medgemma_cli.records import Generation, Usage


def _call(**given: object) -> Generation:
    usage = Usage(prompt_tokens=10, completion_tokens=3, images=1)
    return Generation.model_validate({"id": "a", "usage": usage, "seconds": 0.5, **given})


def test_sums() -> None:
    """Tokens, images and seconds of every call."""
    cost = Cost()
    for _ in range(3):
        cost.add(_call())
    made = cost.generation("k", "text")
    assert (made.id, made.text, made.finish_reason, made.seconds) == ("k", "text", "stop", 1.5)
    assert made.usage == Usage(prompt_tokens=30, completion_tokens=9, images=3)
    assert made.degraded == () and made.attempts == 3


def test_one_cut_answer_is_a_cut_document() -> None:
    """What it would have said is missing."""
    cost = Cost()
    cost.add(_call(finish_reason="length"))
    cost.add(_call())
    assert cost.generation("k", "").finish_reason == "length"


def test_notes_once_and_attempts_in_sum() -> None:
    """Each note of any call, in order; the attempts are counted anew."""
    cost = Cost()
    cost.note("parts:2")
    cost.add(_call(degraded=("fp16", "attempts:2"), attempts=2))
    cost.add(_call(degraded=("fp16", "shortened")))
    made = cost.generation("k", "", ["left_out:a:1"])
    assert made.degraded == ("parts:2", "fp16", "shortened", "attempts:3", "left_out:a:1")


def test_a_failure_costs_what_it_cost() -> None:
    """With its code and no text."""
    cost = Cost()
    cost.add(_call())
    made = cost.failure("k", "oom")
    assert (made.error, made.finish_reason, made.text) == ("oom", "error", "")
    assert made.usage.prompt_tokens == 10
