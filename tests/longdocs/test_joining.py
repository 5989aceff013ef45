"""From the parts' answers to one: in one go, in groups of groups, or without the model."""

import json
from typing import Any

import pytest
from long_kit import Answering, Line, Watched, answer, document_of, long, note, prompt_of

from medgemma_cli import templates
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.longdocs import MERGE
from medgemma_cli.longdocs.asking import TOGETHER, Asking
from medgemma_cli.longdocs.settling import settle
from medgemma_cli.records import Generation, Prompt
from medgemma_cli.safety.verdict import judge


def _made(engine: EchoEngine, text: str, template: str = "summarize", tokens: int = 1500) -> Any:
    (made,) = long(engine).generate([prompt_of(text, template, tokens)])
    return made


def _joins(engine: Watched) -> list[str]:
    return [name for name in engine.asked if name.startswith("join")]


def test_one_join() -> None:
    """Answers that fit into one prompt are joined at once, after all parts."""
    engine = Watched()
    made = _made(engine, note(60))
    assert _joins(engine) == ["join/1.0"] == engine.asked[-1:]
    assert made.error is None and made.id == "k" and len(made.parts) == len(engine.shown) - 1


def test_joined_again_and_again() -> None:
    """Groups of answers, then groups of their answers: a tree, until one is left."""

    def wordy(prompt: Prompt, fields: Line) -> Line:
        return {**fields, "summary": f"{prompt.id[2:]} says " + "many words " * 40}

    engine = Answering(wordy)
    made = _made(engine, note(200), tokens=1000)
    levels = [name.removeprefix("join/").split(".")[0] for name in _joins(engine)]
    assert made.error is None and max(map(int, levels)) >= 2
    assert all(engine.count(prompt) <= 1000 for prompt in engine.shown)
    assert levels == sorted(levels) and levels.count(max(levels)) == 1
    # What a lower level had no room for is not lost to the whole: it is spread over all parts.
    places = [place.start for place in made.places if place.where.startswith("key_findings")]
    assert max(places) > len(note(200)) // 2


def test_more_answers_than_a_choice_has_options() -> None:
    """However small they are, so many at most are joined at once."""

    engine = Watched()
    asking = Asking(engine, prompt_of(note(3), tokens=900_000), templates.load(MERGE))
    fields = {"summary": "x", "key_findings": [], "medications": [], "allergies": []}
    rest = {"risk_reason": "not stated", "risk_level": "low", "recommendations": []}
    given = [
        answer({**fields, **rest, "summary": f"Summary {i}.", "follow_up": "not stated"})
        for i in range(70)
    ]
    groups = asking.groups(given)
    assert [len(group) for group in groups] == [TOGETHER, TOGETHER, 6]
    assert [one for group in groups for one in group] == given and not asking.shortened


@pytest.mark.parametrize("code", ["oom", "engine"])
def test_a_join_that_fails_loses_nothing(code: str) -> None:
    """The parts' own words stand together; every finding is there; note and flag say so."""
    text = note(60)

    class Failing(Watched):
        def _answer(self, prompt: Prompt) -> Generation:
            if "/join/" in prompt.id:
                return Generation(id=prompt.id, finish_reason="error", error=code)
            return super()._answer(prompt)

    whole, failed = _made(Watched(), text), _made(Failing(), text)
    assert failed.error is None and f"merge_failed:{code}" in failed.degraded
    one, other = json.loads(whole.text), json.loads(failed.text)
    assert other["key_findings"] == one["key_findings"]
    assert other["medications"] == one["medications"] and failed.places
    first = failed.parts[0].output["summary"]
    assert other["summary"].startswith(first)


def test_a_join_that_is_no_answer_is_a_failed_one() -> None:
    """Such as JSON that does not fit."""

    def broken(prompt: Prompt, fields: Line) -> Line:
        return {"summary": 3} if "/join/" in prompt.id else fields

    made = _made(Answering(broken), note(60))
    assert made.error is None and "merge_failed:invalid_output" in made.degraded


def test_a_join_that_fails_below_is_told_above() -> None:
    """One group of several: the rest is joined by the model, and the note stays."""

    class Once(Watched):
        def _answer(self, prompt: Prompt) -> Generation:
            failing = prompt.id.endswith("/join/1.0")
            made = super()._answer(prompt)
            return made.model_copy(update={"text": ""}) if failing else made

    engine = Once()
    made = _made(engine, note(400), tokens=1500)
    assert len(_joins(engine)) > 2 and made.error is None
    assert "merge_failed:invalid_output" in made.degraded


def test_free_text_that_cannot_be_joined() -> None:
    """Every answer stands in it."""
    made = _made(Watched("/join/"), note(60), "general", 1000)
    assert made.error is None and "merge_failed:oom" in made.degraded
    assert all(part.output["answer"] in made.text for part in made.parts)


def test_answers_too_long_to_be_joined_are_shortened() -> None:
    """Where not two fit: the beginning of each is shown, whole they stay in the record."""
    words = " ".join(["word"] * 90)

    def wordy(prompt: Prompt, fields: Line) -> Line:
        if "/join/" in prompt.id:
            return fields
        return {**fields, "medications": [f"{i} {words}"[:190] for i in range(20)]}

    engine = Answering(wordy)
    made = _made(engine, note(60), tokens=700)
    assert made.error is None and "answers_shortened" in made.degraded
    assert all(engine.count(prompt) <= 700 for prompt in engine.shown)
    assert _joins(engine)


def test_no_room_to_ask_at_all() -> None:
    """The merge prompt's own words are more than there is room for: side by side, and told."""
    engine = Watched()
    asking = Asking(engine, prompt_of(note(60), tokens=100), templates.load(MERGE))
    prompt = prompt_of(note(60))
    given = [answer(part.output) for part in _made(engine, note(60)).parts]
    groups = asking.groups(given)
    assert len(groups) == 1 and asking.shortened
    asked = settle(prompt.contract, given).asked
    assert asked is not None and asking.prompt(given, asked, "k/join/1.0") is None


def test_the_first_failing_part_is_the_documents_failure() -> None:
    """Its code; nothing is joined."""
    engine = Watched("k/3")
    made = _made(engine, note(60))
    assert made.error == "oom" and made.finish_reason == "error" and not _joins(engine)


def test_the_join_sees_the_question() -> None:
    """And which fields are wanted, with their options, and no quotes."""
    engine = Watched()
    _made(engine, note(60))
    words = "".join(part.text for message in engine.shown[-1].messages for part in message.parts)
    assert "Summarize the document below" in words and "no others" in words
    assert "summary" in words and '"quote"' not in words


def test_a_joined_answer_passes_every_check() -> None:
    """It is an answer of the template's contract, and its quotes stand in the whole text."""
    text = note(60)
    prompt = prompt_of(text)
    verdict = judge(document_of(text), prompt.contract, _made(Watched(), text))
    assert verdict.error is None and verdict.quotes
    assert all(text[q.start : q.end] == q.text for q in verdict.quotes)
