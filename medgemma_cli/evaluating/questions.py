"""Multiple-choice questions in the shapes they are published in → `Question`.

Known are this project's own shape, MedQA, MedMCQA, PubMedQA and MMLU; docs/evaluation.md shows a
line of each. Nothing is guessed: a line that fits none, or has no answer, is an error.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from medgemma_cli.errors import UsageError
from medgemma_cli.evaluating.lines import Line, bad_line

LETTERS = "ABCDEFGHIJ"
_COP = {"A": "opa", "B": "opb", "C": "opc", "D": "opd"}
_DECISIONS = {"A": "yes", "B": "no", "C": "maybe"}


class Question(NamedTuple):
    """A question with its options by letter, A first, and the letter of the right one.

    `data` names the shape it came in; `context` is what is to be read before it.
    """

    id: str
    data: str
    question: str
    options: dict[str, str]
    answer: str
    context: str = ""


class _Misfit(Exception):
    """Why a line is not a question; in words without its text."""


def questions(lines: Iterable[Line], cop_base: int | None = None) -> list[Question]:
    """The questions of the lines.

    Args:
        cop_base: what MedMCQA's `cop` begins at; None: what the file itself shows.

    Raises:
        UsageError: 2, with the number of the first line that is no question, and why.
    """
    kept = list(lines)
    base = cop_base if cop_base is not None else _cop_base(kept)
    made: dict[str, Question] = {}
    for line in kept:
        try:
            question = _question(line, base)
        except _Misfit as misfit:
            raise bad_line(line.number, str(misfit)) from None
        if question.id in made:
            raise bad_line(line.number, "its id is that of an earlier line")
        made[question.id] = question
    return list(made.values())


def _cop_base(lines: list[Line]) -> int | None:
    """MedMCQA counts from 1 in its own release and from 0 on the Hugging Face hub."""
    cops = {line.fields["cop"] for line in lines if type(line.fields.get("cop")) is int}
    if not cops:
        return None
    if {0, 4} & cops in ({0}, {4}):
        return 0 if 0 in cops else 1
    raise UsageError(
        "MedMCQA's cop counts from 0 or from 1, and this file does not show which.",
        "Say it with --cop-base 0 (as on the Hugging Face hub) or --cop-base 1.",
    )


def _question(line: Line, base: int | None) -> Question:
    fields = line.fields
    shapes: tuple[tuple[str, Callable[[], Question]], ...] = (
        ("cop", lambda: _medmcqa(fields, base)),
        ("final_decision", lambda: _pubmedqa(fields)),
        ("choices", lambda: _mmlu(fields)),
        ("target", lambda: _mmlu_columns(fields)),
        ("options", lambda: _with_options(fields)),
    )
    for field, make in shapes:
        if field in fields:
            made = make()
            name = next((fields[n] for n in ("id", "pubid") if fields.get(n) is not None), None)
            if not isinstance(name, str | int | None):
                raise _Misfit("its id is neither a text nor a number")
            return _checked(made._replace(id=f"line {line.number}" if name is None else str(name)))
    raise _Misfit("it has the shape of no question known: see the docs for those there are")


def _checked(made: Question) -> Question:
    if not 2 <= len(made.options) <= len(LETTERS) or set(made.options) != set(
        LETTERS[: len(made.options)]
    ):
        raise _Misfit(f"its options are not 2 to {len(LETTERS)}, lettered from A")
    if made.answer not in made.options:
        raise _Misfit("its answer is none of its options")
    if not made.question.strip():
        raise _Misfit("its question is empty")
    return made._replace(options=dict(sorted(made.options.items())))


def _with_options(fields: dict[str, Any]) -> Question:
    """MedQA, whose `answer_idx` is the letter and `answer` the text; or this project's own."""
    options = fields["options"]
    if isinstance(options, list) and all(isinstance(one, dict) for one in options):
        options = {one.get("key"): one.get("value") for one in options}
    if not isinstance(options, dict):
        raise _Misfit("its options are no object of letters and texts")
    medqa = "answer_idx" in fields
    return Question(
        "",
        "medqa" if medqa else "canonical",
        _text(fields, "question"),
        _texts(options),
        _text(fields, "answer_idx" if medqa else "answer"),
        _text(fields, "context") if "context" in fields else "",
    )


def _medmcqa(fields: dict[str, Any], base: int | None) -> Question:
    cop = fields["cop"]
    if type(cop) is not int or base is None or not 0 <= cop - base < len(_COP):
        raise _Misfit("its cop is no number of an option (test sets have no answers)")
    options = {letter: _text(fields, name) for letter, name in _COP.items()}
    return Question("", "medmcqa", _text(fields, "question"), options, LETTERS[cop - base])


def _pubmedqa(fields: dict[str, Any]) -> Question:
    lower = {name.lower(): value for name, value in fields.items()}
    context = lower.get("contexts", lower.get("context"))
    if isinstance(context, dict):
        context = context.get("contexts")
    if not isinstance(context, list) or not all(isinstance(part, str) for part in context):
        raise _Misfit("its contexts are no list of texts")
    right = [letter for letter, word in _DECISIONS.items() if word == fields["final_decision"]]
    if not right:
        raise _Misfit("its final_decision is not yes, no or maybe")
    text = _text(lower, "question")
    return Question("", "pubmedqa", text, dict(_DECISIONS), right[0], "\n".join(context))


def _mmlu(fields: dict[str, Any]) -> Question:
    """As on the Hugging Face hub: `choices` is a list, `answer` a place in it, or its letter."""
    choices, answer = fields["choices"], fields.get("answer")
    if not isinstance(choices, list) or len(choices) > len(LETTERS):
        raise _Misfit(f"its choices are no list of up to {len(LETTERS)}")
    if type(answer) is int and 0 <= answer < len(choices):
        answer = LETTERS[answer]
    options = _texts(dict(zip(LETTERS, choices, strict=False)))
    return Question("", "mmlu", _text(fields, "question"), options, _letter(answer))


def _mmlu_columns(fields: dict[str, Any]) -> Question:
    """As in MMLU's tables: a column an option, `target` the letter."""
    options = {letter: fields[letter] for letter in LETTERS if letter in fields}
    name = "question" if "question" in fields else "input"
    return Question("", "mmlu", _text(fields, name), _texts(options), _letter(fields["target"]))


def _letter(answer: Any) -> str:
    if not isinstance(answer, str):
        raise _Misfit("its answer is neither a letter nor the place of an option")
    return answer


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _Misfit(f"its {name} is no text")
    return value


def _texts(options: dict[Any, Any]) -> dict[str, str]:
    if not all(isinstance(one, str) for pair in options.items() for one in pair):
        raise _Misfit("an option is no text")
    return options
