"""Multiple-choice questions in their shapes; what fits none is refused by its number."""

from typing import Any

import pytest
from samples import MEDMCQA, MEDQA, MMLU, MMLU_TABLE, OWN, PUBMEDQA, SHAPES, lines

from medgemma_cli.errors import UsageError
from medgemma_cli.evaluating.questions import Question, questions

CANARY = "CANARY7Q"


def one(row: dict[str, Any], cop_base: int | None = None) -> Question:
    """The question of a row."""
    (question,) = questions(lines(row), cop_base)
    return question


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_known_by_its_fields(name: str) -> None:
    """The data set is told, the right option is the right one."""
    question = one(SHAPES[name])
    assert question.data == name
    right = {"canonical": "two", "medqa": "two", "medmcqa": "one", "pubmedqa": "yes", "mmlu": "two"}
    assert question.options[question.answer] == right[name]
    assert question.question and next(iter(question.options)) == "A"


def test_own_shape() -> None:
    """With a context, if there is one."""
    assert one(OWN) == Question("own", "canonical", "Which?", {"A": "one", "B": "two"}, "B")
    assert one({**OWN, "context": "Read this."}).context == "Read this."


def test_options_may_stand_in_any_order() -> None:
    """They are asked by letter."""
    question = one({**OWN, "options": {"B": "two", "A": "one"}})
    assert list(question.options) == ["A", "B"]


def test_medqa_goes_by_the_letter() -> None:
    """`answer` is the text there, `answer_idx` the letter; options may be a list of pairs."""
    listed = [{"key": "B", "value": "two"}, {"key": "A", "value": "one"}]
    assert one({**MEDQA, "options": listed}).options == {"A": "one", "B": "two"}
    assert one({**MEDQA, "answer": "not the letter"}).answer == "B"


def test_pubmedqa_shows_no_conclusion() -> None:
    """Contexts and question; the long answer would give it away."""
    question = one(PUBMEDQA)
    assert question.context == "It was tried.\nIt helped." and question.id == "21645374"
    assert "secret" not in str(question)
    assert question.options == {"A": "yes", "B": "no", "C": "maybe"}


def test_pubmedqa_as_first_released() -> None:
    """Names in capitals, contexts a list."""
    row = {"QUESTION": "Does it?", "CONTEXTS": ["One."], "final_decision": "maybe"}
    question = one(row)
    assert (question.question, question.context, question.answer) == ("Does it?", "One.", "C")


@pytest.mark.parametrize(("answer", "letter"), [(0, "A"), (1, "B"), ("B", "B")])
def test_mmlu_on_the_hub(answer: object, letter: str) -> None:
    """The place of the answer, or its letter."""
    assert one({**MMLU, "answer": answer}).answer == letter


def test_mmlu_as_a_table() -> None:
    """A column an option."""
    question = one(MMLU_TABLE)
    assert (question.data, question.answer, len(question.options)) == ("mmlu", "C", 4)
    assert one({**MMLU_TABLE, "question": "What?", "input": ""}).question == "What?"


@pytest.mark.parametrize(
    ("cops", "letters"),
    [([0, 1, 3], "ABD"), ([1, 2, 4], "ABD"), ([4], "D"), ([0], "A")],
)
def test_medmcqa_shows_where_it_counts_from(cops: list[int], letters: str) -> None:
    """A 0 or a 4 anywhere in the file tells."""
    rows = [{**MEDMCQA, "id": str(i), "cop": cop} for i, cop in enumerate(cops)]
    assert "".join(q.answer for q in questions(lines(*rows))) == letters


@pytest.mark.parametrize("cops", [[1, 2, 3], [0, 4], [2], [-1]])
def test_medmcqa_that_does_not_show_it_is_refused(cops: list[int]) -> None:
    """A guess would make every answer wrong by one."""
    rows = [{**MEDMCQA, "id": str(i), "cop": cop} for i, cop in enumerate(cops)]
    with pytest.raises(UsageError, match="from 0 or from 1") as caught:
        questions(lines(*rows))
    assert "--cop-base" in caught.value.next_step


@pytest.mark.parametrize(("base", "letter"), [(0, "C"), (1, "B")])
def test_medmcqa_may_be_told(base: int, letter: str) -> None:
    """--cop-base says it."""
    assert one({**MEDMCQA, "cop": 2}, base).answer == letter


def test_names_of_questions() -> None:
    """Its id, a number too; else the number of its line."""
    rows = [{**OWN, "id": 7}, {key: value for key, value in OWN.items() if key != "id"}]
    assert [q.id for q in questions(lines(*rows))] == ["7", "line 2"]


def test_mixed_files() -> None:
    """Each line by its own fields."""
    found = questions(lines(*SHAPES.values()))
    assert [q.data for q in found] == list(SHAPES)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"question": "Which?"}, "no question known"),
        ({}, "no question known"),
        ({**OWN, "answer": "C"}, "none of its options"),
        ({**OWN, "answer": "b"}, "none of its options"),
        ({**OWN, "answer": ["B"]}, "answer is no text"),
        ({**OWN, "options": {"A": "one"}}, "not 2 to 10"),
        ({**OWN, "options": {"A": "one", "C": "two"}}, "lettered from A"),
        ({**OWN, "options": {"A": "one", "B": None}}, "option is no text"),
        ({**OWN, "options": ["one", "two"]}, "no object of letters"),
        ({**OWN, "options": {str(i): "x" for i in range(30)}}, "not 2 to 10"),
        ({**OWN, "question": "  "}, "question is empty"),
        ({**OWN, "question": None}, "question is no text"),
        ({**OWN, "context": ["x"]}, "context is no text"),
        ({**OWN, "id": [1]}, "neither a text nor a number"),
        ({**MEDQA, "answer_idx": None}, "answer_idx is no text"),
        ({**MEDMCQA, "cop": -1}, "cop is no number of an option"),
        ({**MEDMCQA, "cop": None}, "cop is no number of an option"),
        ({**MEDMCQA, "cop": True}, "cop is no number of an option"),
        ({**MEDMCQA, "opb": None}, "opb is no text"),
        ({**PUBMEDQA, "final_decision": "Yes."}, "final_decision"),
        ({**PUBMEDQA, "context": {}}, "contexts are no list"),
        ({**MMLU, "answer": 2}, "neither a letter nor the place"),
        ({**MMLU, "answer": -1}, "neither a letter nor the place"),
        ({**MMLU, "answer": None}, "neither a letter nor the place"),
        ({**MMLU, "choices": ["one"], "answer": 0}, "not 2 to 10"),
        ({**MMLU, "choices": "one"}, "choices are no list"),
        ({**MMLU, "choices": ["x"] * 11}, "choices are no list of up to 10"),
        ({**MMLU_TABLE, "target": 2}, "neither a letter nor the place"),
    ],
)
def test_what_fits_none(row: dict[str, Any], why: str) -> None:
    """Refused with number and reason; nothing of the line is quoted."""
    row = {**row, "note": CANARY}
    with pytest.raises(UsageError) as caught:
        questions(lines(OWN, {**MEDMCQA, "cop": 0}, row))
    assert caught.value.message.startswith("Line 3: ") and why in caught.value.message
    assert caught.value.exit_code == 2 and CANARY not in caught.value.message


def test_an_id_twice_is_refused() -> None:
    """Answers are kept by it."""
    with pytest.raises(UsageError, match="Line 2: its id"):
        questions(lines(OWN, OWN))
