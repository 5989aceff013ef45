"""Questions through an engine, kept as they come, gone on from; accuracy of what came of it."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from samples import SHAPES, lines

from medgemma_cli.engines.base import always, unwatched
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.errors import OutputError, RunAgainError
from medgemma_cli.evaluating import bootstrap, quiz
from medgemma_cli.evaluating.answers import Answer
from medgemma_cli.evaluating.book import ANSWERS, AnswerBook
from medgemma_cli.evaluating.questions import Question, questions
from medgemma_cli.evaluating.quiz import Answered, Quiz
from medgemma_cli.records import ChoiceScore, Generation, Limits, Prompt

LIMITS = Limits(max_new_tokens=20)
QUESTIONS = questions(lines(*SHAPES.values()))
SMALL = Question("s", "canonical", "Which?", {"A": "one", "B": "two"}, "A")


class Sure(EchoEngine):
    """Likes the first option and writes B; answers what it was asked last, first.

    Attributes:
        asked: the ids of the prompts so far.
    """

    def __init__(self, error: str | None = None) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._error = error

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """All answers, once every prompt is there."""
        taken = []
        for prompt in prompts:
            if not keep_going():
                break
            taken.append(prompt)
        self.asked += [prompt.id for prompt in taken]
        for prompt in reversed(taken):
            yield self._made(prompt)

    def _made(self, prompt: Prompt) -> Generation:
        if self._error:
            return Generation(id=prompt.id, finish_reason="error", error=self._error)
        if prompt.contract.kind == "text":
            return Generation(id=prompt.id, text="B")
        options = json.loads(prompt.contract.json_schema)["properties"]["answer"]["enum"]
        shares = dict.fromkeys(options, 0.0) | {options[0]: 1.0}
        logs = {option: 50 * share - 60 for option, share in shares.items()}
        score = ChoiceScore(at=10, options=shares, logs=logs)
        return Generation(id=prompt.id, text="{}", choices=(score,))


def ask(made: EchoEngine, asked: list[Question], **settings: Any) -> list[Answer]:
    """All answers."""
    return list(Quiz(asked, made, LIMITS).answers(settings.pop("known", {}), **settings))


def accuracy(answered: list[Answered]) -> dict[str, float | None]:
    """Every method's accuracy."""
    made = quiz.measures(answered)
    found = bootstrap.values(made, len(answered))
    return dict(zip([m.name for m in made], found, strict=True))


def test_every_question_gets_one_answer() -> None:
    """In any order; the three ways of a question are put together again."""
    made = ask(Sure(), QUESTIONS)
    assert sorted(a.id for a in made) == sorted(q.id for q in QUESTIONS)
    for answer in made:
        assert answer.picked["letters"] == "A" and answer.picked["generated"] == "B"


def test_what_is_known_is_not_asked() -> None:
    """Going on: only the questions whose keys are missing."""
    first = ask(Sure(), QUESTIONS[:3])
    engine = Sure()
    rest = ask(engine, QUESTIONS, known={a.key: a for a in first})
    assert {a.id for a in rest} == {q.id for q in QUESTIONS[3:]}
    assert len(engine.asked) == 6


def test_stopping_keeps_what_is_whole() -> None:
    """A question of which not all was asked has no answer."""
    left = iter([True] * 4)
    made = ask(Sure(), QUESTIONS, keep_going=lambda: next(left, False))
    assert len(made) == 1


def test_what_does_not_fit_is_an_answer() -> None:
    """Over the window: the code, and no prompt for the engine."""
    engine = Sure()
    engine.window = 5
    made = ask(engine, QUESTIONS[:2])
    assert engine.asked == [] and len(made) == 2
    assert set(made[0].errors.values()) == {"too_long"} and len(made[0].errors) == 3


def test_accuracy_by_hand() -> None:
    """A is right in medmcqa and pubmedqa (2 of 5), B in the others."""
    asked = Quiz(QUESTIONS, Sure(), LIMITS)
    known = {a.key: a for a in asked.answers({})}
    found = accuracy(asked.answered(known))
    assert (found["letters"], found["texts"]) == (0.4, 0.4)
    assert found["generated"] == 0.6
    # Options: 2, 4, 4, 3, 2.
    assert found["chance"] == pytest.approx((0.5 + 0.25 + 0.25 + 1 / 3 + 0.5) / 5, abs=1e-6)


def answered(right: str, **picked: str | None) -> Answered:
    """A small question and what was picked."""
    known: dict[Any, str | None] = {"letters": None, "texts": None, "generated": None, **picked}
    return Answered(SMALL._replace(answer=right), Answer(key="k", id="s", picked=known))


def test_no_letter_is_wrong_where_others_have_one() -> None:
    """Half of the questions could be scored: the other half is not left out."""
    found = accuracy([answered("A", letters="A"), answered("A")])
    assert found["letters"] == 0.5 and found["texts"] is None


def test_an_engine_without_likelihoods_has_no_accuracy_by_them() -> None:
    """Echo: nothing by letters and texts; what it writes names no letter, and that is wrong."""
    asked = Quiz(QUESTIONS, EchoEngine(), LIMITS)
    known = {a.key: a for a in asked.answers({})}
    found = accuracy(asked.answered(known))
    assert found["letters"] is None and found["texts"] is None and found["generated"] == 0


def test_failures_are_wrong() -> None:
    """Out of memory every time is an accuracy of 0, not none."""
    asked = Quiz([SMALL], Sure("oom"), LIMITS)
    known = {a.key: a for a in asked.answers({})}
    found = accuracy(asked.answered(known))
    assert found["letters"] == found["texts"] == found["generated"] == 0
    assert quiz.tally(asked.answered(known))["failed"] == 1


def test_the_tally_counts_missing_letters() -> None:
    """By method, under the words that stand in the table."""
    told = quiz.tally([answered("A", letters="A", generated="B"), answered("B", letters="A")])
    assert told == {
        "no letter: likeliest letter": 0,
        "no letter: likeliest option text, by its length": 2,
        "no letter: letter written": 1,
        "failed": 0,
    }


def test_answers_stand_in_the_order_of_the_file() -> None:
    """Whatever order the engine has."""
    asked = Quiz(QUESTIONS, Sure(), LIMITS)
    known = {a.key: a for a in asked.answers({})}
    assert [pair.question for pair in asked.answered(known)] == QUESTIONS


# -- the book -----------------------------------------------------------------------------------


def answer(key: str, **changes: Any) -> Answer:
    """An answer of that key."""
    return Answer(key=key, id=key, picked={"letters": "A"}, **changes)


def test_a_book_keeps_answers(tmp_path: Path) -> None:
    """What was put is there again, and nobody else may read it."""
    with AnswerBook(tmp_path / "out") as book:
        book.put(answer("a"))
        book.put(answer("b", written="B"))
    with AnswerBook(tmp_path / "out") as book:
        assert book.known == {"a": answer("a"), "b": answer("b", written="B")}
    assert (tmp_path / "out" / ANSWERS).stat().st_mode & 0o777 == 0o600


def test_a_book_keeps_no_failures(tmp_path: Path) -> None:
    """They are asked again; in this run they are known."""
    with AnswerBook(tmp_path) as book:
        book.put(answer("a", errors={"letters": "oom"}))
        assert list(book.known) == ["a"]
    with AnswerBook(tmp_path) as book:
        assert book.known == {}


def test_a_book_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept in memory; nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    with AnswerBook(None) as book:
        book.put(answer("a"))
        assert list(book.known) == ["a"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    """A kill in the middle of a line costs that line, and the next is not glued to it."""
    with AnswerBook(tmp_path) as book:
        book.put(answer("a"))
        book.put(answer("b"))
    path = tmp_path / ANSWERS
    os.truncate(path, path.stat().st_size - cut)
    with AnswerBook(tmp_path) as book:
        assert list(book.known) == ["a"]
        book.put(answer("c"))
    with AnswerBook(tmp_path) as book:
        assert list(book.known) == ["a", "c"]


def test_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    """Its question is asked again."""
    with AnswerBook(tmp_path) as book:
        book.put(answer("a"))
    with (tmp_path / ANSWERS).open("ab") as file:
        file.write(b"not json\n[]\n\xff\n")
    with AnswerBook(tmp_path) as book:
        book.put(answer("b"))
    with AnswerBook(tmp_path) as book:
        assert list(book.known) == ["a", "b"]


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    """The second leaves with 75."""
    with AnswerBook(tmp_path), pytest.raises(RunAgainError), AnswerBook(tmp_path):
        pass
    with AnswerBook(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_73(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError) as caught, AnswerBook(tmp_path / "out"):
        pass
    assert caught.value.exit_code == 73
