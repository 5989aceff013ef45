"""Questions through an engine, each in every way it is asked; what they came to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from medgemma_cli.engines.base import Engine, always, check_fits
from medgemma_cli.errors import DocumentError
from medgemma_cli.evaluating.answers import METHODS, Answer, Method, answer, key_of, prompts
from medgemma_cli.evaluating.measures import Measure, ratio
from medgemma_cli.evaluating.questions import Question
from medgemma_cli.records import Generation, Limits, Prompt


class Answered(NamedTuple):
    """A question and its answer."""

    question: Question
    answer: Answer


class _Open(NamedTuple):
    """A question on its way: what it was asked, and what came of it so far."""

    question: Question
    wanted: set[Method]
    got: dict[Method, Generation]


class Quiz:
    """Asks an engine questions.

    Attributes:
        keys: the key of each question, by its id.
    """

    def __init__(self, questions: Sequence[Question], engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._questions = questions
        self.keys = {one.id: key_of(one, engine.identity, limits) for one in questions}
        self._open: dict[str, _Open] = {}
        self._done: list[Answer] = []

    def answers(
        self, known: Mapping[str, Answer], keep_going: Callable[[], bool] = always
    ) -> Iterator[Answer]:
        """The answers to the questions whose keys are not known, as they are complete.

        Raises:
            ModelUnavailableError: 69.
        """
        for generation in self._engine.generate(self._prompts(known), keep_going):
            key, _, method = generation.id.rpartition(":")
            self._take(key, next(name for name in METHODS if name == method), generation)
            yield from self._finished()
        yield from self._finished()

    def answered(self, known: Mapping[str, Answer]) -> list[Answered]:
        """The questions that are answered, in their order."""
        keys = ((question, self.keys[question.id]) for question in self._questions)
        return [Answered(question, known[key]) for question, key in keys if key in known]

    def _prompts(self, known: Mapping[str, Answer]) -> Iterator[Prompt]:
        for question in self._questions:
            key = self.keys[question.id]
            if key in known:
                continue
            asked = list(prompts(question, key, self._limits))
            self._open[key] = _Open(question, {method for method, _ in asked}, {})
            for method, prompt in asked:
                try:
                    check_fits(prompt, self._engine)
                except DocumentError as error:
                    failed = Generation(id=prompt.id, finish_reason="error", error=error.code)
                    self._take(key, method, failed)
                else:
                    yield prompt

    def _take(self, key: str, method: Method, generation: Generation) -> None:
        question, wanted, got = self._open[key]
        got[method] = generation
        if set(got) == wanted:
            self._done.append(answer(question, key, got))
            del self._open[key]

    def _finished(self) -> Iterator[Answer]:
        while self._done:
            yield self._done.pop(0)


def measures(answered: Sequence[Answered]) -> list[Measure]:
    """Accuracy by each method, and what guessing would come to.

    A method by which nothing could be told of any question has no accuracy; else a question
    without a letter is wrong.
    """
    made = []
    for method, label in METHODS.items():
        told = any(a.picked.get(method) or method in a.errors for _, a in answered)
        # What is written can always be told, even that it names no letter.
        told = told or (method == "generated" and bool(answered))
        right = [float(a.picked.get(method) == q.answer) for q, a in answered]
        whole = [float(told)] * len(answered)
        made.append(ratio(method, label, "higher", right, whole))
    chance = [1 / len(question.options) for question, _ in answered]
    return [*made, ratio("chance", "guessing", "higher", chance)]


def tally(answered: Sequence[Answered]) -> dict[str, int]:
    """How many questions had no letter by each method, and how many failed in any way."""
    missing = {
        f"no letter: {METHODS[method]}": sum(not a.picked.get(method) for _, a in answered)
        for method in METHODS
    }
    return {**missing, "failed": sum(bool(a.errors) for _, a in answered)}
