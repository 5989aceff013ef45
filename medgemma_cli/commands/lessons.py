"""What `tune` reads: files of examples, checked before any weight is loaded, as token ids."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medgemma_cli.errors import NoInputError

if TYPE_CHECKING:
    from medgemma_cli.engines.local import LocalEngine
    from medgemma_cli.engines.tuning.lessons import Lesson
    from medgemma_cli.tuning.examples import Example
    from medgemma_cli.tuning.settings import Settings

TRAIN = "The file of examples"
VALIDATION = "The file of --validation"
_LONG = "Raise --max-tokens, shorten them, or leave them out with --skip-long."


class File(NamedTuple):
    """The examples of a file, and the fingerprint of it, its images and templates."""

    examples: "list[Example]"
    hash: str
    what: str


class Split(NamedTuple):
    """What teaches, what measures, and how many examples were left out as too long."""

    train: "list[Lesson]"
    validation: "list[Lesson]"
    skipped: int


def read(path: Path, what: str) -> File:
    """The examples of a file.

    Raises:
        NoInputError: 66, it cannot be read, or has no line. UsageError: 2, a line is no example.
    """
    from medgemma_cli.evaluating.lines import objects
    from medgemma_cli.tuning import dividing, examples

    try:
        data = path.read_bytes()
    except (OSError, ValueError):  # a NUL in the name is a ValueError
        raise NoInputError(f"{what} cannot be read.", "Check the path.") from None
    lines = list(objects(data.splitlines(), "tuning"))
    if not lines:
        raise NoInputError(f"{what} has no line.", "Check the path.")
    found = examples.read(lines, path.parent, what)
    return File(found, dividing.fingerprint(data, found), what)


def split(
    engine: "LocalEngine", train: File, validation: File | None, settings: "Settings"
) -> Split:
    """The lessons; loads the tokenizer at most, and decodes every image once.

    Raises:
        UsageError: 2, an example cannot be shown to this model, or is too long.
        NoInputError: 66, nothing is left to learn from.
    """
    from medgemma_cli.tuning.dividing import divide

    taught, skipped = _lessons(engine, train, settings)
    if validation is not None:
        measured, more = _lessons(engine, validation, settings)
        made = Split(taught, measured, skipped + more)
    else:
        left = {lesson.number for lesson in taught}
        kept = [example for example in train.examples if example.number in left]
        _, apart = divide(kept, settings.validation_share, settings.seed)
        numbers = {example.number for example in apart}
        made = Split(
            [lesson for lesson in taught if lesson.number not in numbers],
            [lesson for lesson in taught if lesson.number in numbers],
            skipped,
        )
    if not made.train or (validation is not None and not made.validation):
        raise NoInputError("Every example is over --max-tokens.", "Raise it.")
    return made


def _lessons(engine: "LocalEngine", file: File, settings: "Settings") -> "tuple[list[Lesson], int]":
    from medgemma_cli.engines.tuning.lessons import lessons
    from medgemma_cli.tuning.pictures import unreadable
    from medgemma_cli.tuning.refusals import refusal

    most = min(settings.max_tokens, engine.window)
    made = lessons(engine.encoder(), file.examples, most)
    shown = [(example.number, one) for example in file.examples for one in example.pictures]
    if bad := sorted([*made.bad, *unreadable(shown)]):
        raise refusal(bad, len(file.examples), file.what)
    if made.long and not settings.skip_long:
        raise refusal(made.long, len(file.examples), file.what, _LONG)
    return made.taken, len(made.long)
