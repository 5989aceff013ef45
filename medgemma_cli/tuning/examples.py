"""Lines of JSON → examples: what the model is shown, and what it should have answered.

Two shapes. `messages` is a conversation whose last turn is the answer. `template` names a
template as `run` does, with the document, and the output that `run` should give. Whatever does
not fit is named by its line and a reason; no reason quotes a line.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medgemma_cli.errors import DocumentError
from medgemma_cli.evaluating.lines import Line
from medgemma_cli.identity import digest
from medgemma_cli.records import Contract, Limits, Message, Part, Prompt
from medgemma_cli.tuning.pictures import Picture, picture
from medgemma_cli.tuning.refusals import Bad, BadExample, reason, refusal

_CONVERSATION = {"messages", "id"}


class Example(NamedTuple):
    """A prompt without pixels, and its answer.

    `number` is the line, from 1. Examples of one `group` show the same document: they must not
    be divided between training and validation. `template` is the hash of the one it names.
    """

    number: int
    prompt: Prompt
    answer: str
    pictures: tuple[Picture, ...]
    group: str
    template: str | None = None


def read(lines: Sequence[Line], folder: Path, what: str) -> list[Example]:
    """The examples of a file's lines.

    Args:
        folder: where the paths of images begin.
        what: the file, in words.

    Raises:
        UsageError: 2, naming the first lines that are none, each with its reason.
        ConfigError: 78, a template is malformed.
    """
    found: list[Example] = []
    bad: list[Bad] = []
    for line in lines:
        try:
            found.append(_example(line, folder))
        except BadExample as error:
            bad.append(Bad(line.number, str(error)))
        except DocumentError as error:
            bad.append(Bad(line.number, reason(error)))
    if bad:
        raise refusal(bad, len(lines), what)
    return found


def _example(line: Line, folder: Path) -> Example:
    from medgemma_cli.tuning.rendering import rendered

    if "messages" in line.fields:
        return _conversation(line, folder)
    if "template" in line.fields:
        return rendered(line, folder)
    raise BadExample("it has neither messages nor a template")


def check_fields(value: dict[str, Any], allowed: set[str]) -> None:
    """See that an object has no other field: a misspelt one would be passed over."""
    if not set(value) <= allowed:
        raise BadExample("it has a field that is not known here")


# -- conversations --------------------------------------------------------------------------------


def _conversation(line: Line, folder: Path) -> Example:
    check_fields(line.fields, _CONVERSATION)
    turns = line.fields["messages"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadExample("its messages are no list of objects")
    roles = [turn.get("role") for turn in turns]
    asked = roles[1:] if roles[:1] == ["system"] else roles
    if not asked or asked != ["user", "assistant"] * (len(asked) // 2):
        raise BadExample("its messages are not user and assistant in turn, the last the answer")
    pictures: list[Picture] = []
    messages = [_message(turn, folder, pictures) for turn in turns]
    answer = "".join(part.text for part in messages[-1].parts).strip()
    if not answer:
        raise BadExample("its answer is empty")
    shown = tuple(messages[:-1])
    words = [part.text for turn in shown for part in turn.parts]
    group = digest([words, [found.sha256 for found in pictures]])
    prompt = Prompt(
        id=f"line {line.number}",
        messages=shown,
        contract=Contract(kind="text"),
        limits=Limits(),
    )
    return Example(line.number, prompt, answer, tuple(pictures), group)


def _message(turn: dict[str, Any], folder: Path, pictures: list[Picture]) -> Message:
    check_fields(turn, {"role", "content"})
    role, content = turn["role"], turn.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise BadExample("a message has no content")
    return Message(role=role, parts=tuple(_part(item, role, folder, pictures) for item in content))


def _part(item: Any, role: str, folder: Path, pictures: list[Picture]) -> Part:
    if isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str):
        check_fields(item, {"type", "text"})
        return Part(kind="text", text=item["text"])
    if isinstance(item, dict) and item.get("type") == "image" and role == "user":
        check_fields(item, {"type", "path"})
        pictures.append(picture(item.get("path"), folder))
        return Part(kind="image")
    raise BadExample("a part of a message is neither text nor an image that the user shows")
