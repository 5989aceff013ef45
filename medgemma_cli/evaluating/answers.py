"""A question → prompts; what an engine wrote for them → `Answer`.

Every question is asked in three ways: which letter is likeliest, which option's text is likeliest
for its length, and what letter the model writes when it is free to write.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from medgemma_cli import contracts, identity, kinds
from medgemma_cli.evaluating.questions import Question
from medgemma_cli.records import Contract, Frozen, Generation, Limits, Message, Part, Prompt

Method = Literal["letters", "texts", "generated"]
METHODS: dict[Method, str] = {
    "letters": "likeliest letter",
    "texts": "likeliest option text, by its length",
    "generated": "letter written",
}
VERSION = 1  # of the prompts, in every key
_ROOM = 64  # tokens of the JSON around an option
_ASKED: dict[Method, str] = {
    "letters": "Answer as JSON with the field answer, the letter of the right option.",
    "texts": "Answer as JSON with the field answer, the right option word for word.",
    "generated": "Answer with the letter of the right option.",
}
# The letter and no word after it ("A patient …" names nothing), or what follows "answer is".
_FIRST = r"\W*(?:[Oo]ption\W+)?([A-J])(?=$|\s*\n|[.,:;)\]*])"
_SAID = r"\b[Aa]nswer(?:\s+is|\s*:)\W*(?:[Oo]ption\W+)?([A-J])(?![\w'’])"
_ALONE = r"\W*([a-j])\W*"


class Answer(Frozen):
    """One question answered; a line of `answers.jsonl`.

    Holds no text of the question but what the model repeats of it in `written`.

    `picked` has the letter that each method came to, None where it came to none; `letters` the
    probabilities of the letters, `texts` the log-likelihood of each option a character; both None
    where the engine cannot tell. `errors` has the codes of what failed.
    """

    key: str
    id: str
    picked: dict[Method, str | None]
    letters: dict[str, float] | None = None
    texts: dict[str, float] | None = None
    written: str | None = None
    errors: dict[Method, str] = Field(default_factory=dict)


def key_of(question: Question, engine: dict[str, Any], limits: Limits) -> str:
    """The key of a question to an engine: the right answer has no part in it."""
    asked = [question.id, question.context, question.question, question.options]
    return identity.digest([VERSION, asked, engine, limits.model_dump()])


def prompts(question: Question, key: str, limits: Limits) -> Iterator[tuple[Method, Prompt]]:
    """The ways to ask it; option texts only where they can be told apart."""
    for method in METHODS:
        contract = _contract(question, method)
        if contract is None:
            continue
        longest = max(len(text.encode()) for text in question.options.values())
        scored = limits.model_copy(update={"max_new_tokens": _ROOM + longest})
        yield (
            method,
            Prompt(
                id=f"{key}:{method}",
                messages=(Message(role="user", parts=(_asked(question, method),)),),
                contract=contract,
                limits=limits if method == "generated" else scored,
            ),
        )


def _asked(question: Question, method: Method) -> Part:
    options = "\n".join(f"{letter}. {text}" for letter, text in question.options.items())
    pieces = [question.context, question.question, options, _ASKED[method]]
    return Part(kind="text", text="\n\n".join(piece for piece in pieces if piece))


def _contract(question: Question, method: Method) -> Contract | None:
    if method == "generated":
        return Contract(kind="text", quotable=False)
    options = [*question.options] if method == "letters" else [*_plain(question)]
    try:
        kinds.check_options(options)
    except ValueError:  # empty, or the same twice
        return None
    schema = {"type": "object", "properties": {"answer": {"enum": options}}}
    return contracts.contract({"$schema": "", **schema}, quotable=False)


def _plain(question: Question) -> list[str]:
    """The options as they can be written: on one line."""
    return [" ".join(text.split()) for text in question.options.values()]


def answer(question: Question, key: str, got: Mapping[Method, Generation]) -> Answer:
    """What the generations say; a method that was not asked came to nothing."""
    letters, texts = _letters(got.get("letters")), _texts(question, got.get("texts"))
    free = got.get("generated")
    written = free.text if free is not None and not free.error else None
    return Answer(
        key=key,
        id=question.id,
        picked={
            "letters": _best(letters),
            "texts": _best(texts),
            "generated": None if written is None else letter_in(written, question.options),
        },
        letters=letters,
        texts=texts,
        written=written,
        errors={method: one.error for method, one in got.items() if one.error},
    )


def _letters(generation: Generation | None) -> dict[str, float] | None:
    scored = generation is not None and not generation.error and generation.choices
    return dict(scored[0].options) if scored else None


def _texts(question: Question, generation: Generation | None) -> dict[str, float] | None:
    """Log-likelihood of each option's text by its characters (`acc_norm` of lm-eval-harness)."""
    if generation is None or generation.error or not generation.choices:
        return None
    logs = generation.choices[0].logs
    pairs = zip(question.options, _plain(question), strict=True)
    return {letter: logs[text] / len(text) for letter, text in pairs} if logs else None


def _best(scores: Mapping[str, float] | None) -> str | None:
    return max(scores, key=lambda letter: scores[letter]) if scores else None


def letter_in(text: str, options: Mapping[str, str]) -> str | None:
    """The letter that a free answer names, or None: it begins with it, or says "answer is"."""
    text = text.strip()
    found = re.match(_FIRST, text) or re.search(_SAID, text) or re.fullmatch(_ALONE, text)
    letter = found[1].upper() if found else None
    return letter if letter in options else None
