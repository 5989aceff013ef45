"""How a question is asked, and what an answer comes to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SHAPES, lines

from medgemma_cli.evaluating import answers
from medgemma_cli.evaluating.answers import METHODS
from medgemma_cli.evaluating.questions import Question, questions
from medgemma_cli.records import ChoiceScore, Generation, Limits

OPTIONS = {"A": "ramipril", "B": "salbutamol 100 micrograms", "C": "rest"}
QUESTION = Question("q", "canonical", "Which lowers blood pressure?", OPTIONS, "A", "Read this.")
LIMITS = Limits(max_new_tokens=20)


def scored(options: dict[str, float], logs: dict[str, float] | None = None) -> Generation:
    """A generation with a choice."""
    return Generation(id="k", choices=(ChoiceScore(at=0, options=options, logs=logs or {}),))


def test_a_question_is_asked_three_times() -> None:
    """Same words but for the last sentence; each with its own contract and limit."""
    asked = dict(answers.prompts(QUESTION, "key", LIMITS))
    assert list(asked) == list(METHODS)
    assert [prompt.id for prompt in asked.values()] == [f"key:{method}" for method in METHODS]
    texts = [prompt.messages[0].parts[0].text for prompt in asked.values()]
    begin = (
        "Read this.\n\nWhich lowers blood pressure?\n\n"
        "A. ramipril\nB. salbutamol 100 micrograms\nC. rest\n\nAnswer "
    )
    assert all(text.startswith(begin) for text in texts) and len(set(texts)) == 3
    assert asked["generated"].contract.kind == "text"
    assert asked["generated"].limits == LIMITS


def test_the_contracts_are_the_options() -> None:
    """Letters, and texts; nothing else can be written."""
    asked = dict(answers.prompts(QUESTION, "key", LIMITS))
    for method, options in (("letters", ["A", "B", "C"]), ("texts", list(OPTIONS.values()))):
        schema = json.loads(asked[method].contract.json_schema)  # type: ignore[index]
        assert schema["properties"]["answer"]["enum"] == options


def test_there_is_room_for_the_longest_option() -> None:
    """The limit of what is scored is not that of what is written freely."""
    long = QUESTION._replace(options={"A": "x" * 900, "B": "y"})
    asked = dict(answers.prompts(long, "key", LIMITS))
    assert asked["texts"].limits.max_new_tokens > 900


@pytest.mark.parametrize("name", SHAPES)
def test_the_right_answer_is_in_no_prompt(name: str) -> None:
    """Exchanging the right option changes neither prompt nor key."""
    (question,) = questions(lines(SHAPES[name]))
    other = question._replace(answer="A" if question.answer != "A" else "B")
    one, two = (list(answers.prompts(q, "key", LIMITS)) for q in (question, other))
    assert one == two
    assert answers.key_of(question, {}, LIMITS) == answers.key_of(other, {}, LIMITS)


@pytest.mark.parametrize(
    "options", [{"A": "same", "B": "same"}, {"A": "", "B": "x"}, {"A": "a\x07", "B": "b"}]
)
def test_texts_that_cannot_be_told_apart_are_not_asked(options: dict[str, str]) -> None:
    """Empty, twice the same, unprintable: the letters are asked all the same."""
    asked = dict(answers.prompts(QUESTION._replace(options=options), "key", LIMITS))
    assert list(asked) == ["letters", "generated"]


def test_options_over_several_lines_are_scored_as_one() -> None:
    """A line break cannot be written in a choice."""
    question = QUESTION._replace(options={"A": "first\nsecond", "B": "x"})
    got = {"texts": scored({}, {"first second": -12.0, "x": -5.0})}
    made = answers.answer(question, "key", got)  # type: ignore[arg-type]
    assert made.texts == {"A": -1.0, "B": -5.0} and made.picked["texts"] == "A"


def test_keys_are_of_question_engine_and_limits() -> None:
    """Anything that could change an answer is in its key."""
    key = answers.key_of(QUESTION, {"engine": "echo"}, LIMITS)
    others = [
        answers.key_of(QUESTION._replace(id="other"), {"engine": "echo"}, LIMITS),
        answers.key_of(QUESTION._replace(question="Other?"), {"engine": "echo"}, LIMITS),
        answers.key_of(QUESTION._replace(context=""), {"engine": "echo"}, LIMITS),
        answers.key_of(QUESTION, {"engine": "local"}, LIMITS),
        answers.key_of(QUESTION, {"engine": "echo"}, Limits(max_new_tokens=21)),
    ]
    assert len({key, *others}) == 6


def test_letters_are_picked_by_probability() -> None:
    """The likeliest, whatever is written."""
    got = {"letters": scored({"A": 0.2, "B": 0.7, "C": 0.1})}
    made = answers.answer(QUESTION, "key", got)  # type: ignore[arg-type]
    assert made.picked == {"letters": "B", "texts": None, "generated": None}
    assert made.letters == {"A": 0.2, "B": 0.7, "C": 0.1}


def test_texts_are_picked_by_their_length() -> None:
    """A long option has less likelihood as a whole and may have more a character."""
    logs = dict(zip(OPTIONS.values(), (-8.0, -12.5, -6.0), strict=True))
    made = answers.answer(QUESTION, "key", {"texts": scored({}, logs)})
    assert made.texts == {"A": -1.0, "B": -0.5, "C": -1.5} and made.picked["texts"] == "B"


def test_an_engine_that_cannot_tell() -> None:
    """No probabilities: nothing is picked, and nothing failed."""
    got = {m: Generation(id="k", text='{"answer":"C"}') for m in ("letters", "texts")}
    made = answers.answer(QUESTION, "key", got)  # type: ignore[arg-type]
    assert set(made.picked.values()) == {None} and not made.errors
    made = answers.answer(QUESTION, "key", {"texts": scored({"ramipril": 1.0})})
    assert made.texts is None


def test_what_failed_is_kept_by_its_code() -> None:
    """One way may fail and another not."""
    got = {
        "letters": scored({"A": 0.9, "B": 0.1, "C": 0.0}),
        "texts": Generation(id="k", finish_reason="error", error="oom"),
        "generated": Generation(id="k", finish_reason="error", error="empty_output"),
    }
    made = answers.answer(QUESTION, "key", got)  # type: ignore[arg-type]
    assert made.errors == {"texts": "oom", "generated": "empty_output"}
    assert made.picked["letters"] == "A" and made.written is None


def test_an_answer_has_no_text_of_the_question() -> None:
    """The line that is kept names the question by its id alone."""
    got = {"letters": scored({"A": 0.9, "B": 0.1, "C": 0.0})}
    line = answers.answer(QUESTION, "key", got).model_dump_json()  # type: ignore[arg-type]
    for text in (QUESTION.question, QUESTION.context, *OPTIONS.values()):
        assert text not in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B) salbutamol", "B"),
        ("B. salbutamol", "B"),
        ("B: salbutamol", "B"),
        ("B\nsalbutamol", "B"),
        ("  B  ", "B"),
        ("Option B.", "B"),
        ("The answer is B", "B"),
        ("The correct answer is (B) salbutamol", "B"),
        ("Answer: B", "B"),
        ("The best answer is **B**.", "B"),
        ("A patient with asthma needs it, so the answer is B.", "B"),
        ("A patient with asthma", None),
        ("I think so", None),
        ("salbutamol", None),
        ("D", None),  # no such option
        ("The answer is a beta agonist", None),
        ("Both", None),
        ("answer is B's", None),
        ("", None),
    ],
)
def test_the_letter_in_a_free_answer(text: str, expected: str | None) -> None:
    """It begins with the letter, or says what the answer is; nothing is guessed."""
    assert answers.letter_in(text, OPTIONS) == expected


@given(st.text(max_size=80))
def test_any_text_comes_to_a_letter_or_none(text: str) -> None:
    """Whatever is written, what comes of it is an option or nothing."""
    assert answers.letter_in(text, OPTIONS) in {*OPTIONS, None}
