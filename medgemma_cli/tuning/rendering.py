"""Examples that name a template: the prompt that `run` would show, the output it should give."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from medgemma_cli import decoding, quoting, readers, templates
from medgemma_cli.errors import ConfigError
from medgemma_cli.evaluating.lines import Line
from medgemma_cli.identity import digest
from medgemma_cli.readers import text
from medgemma_cli.records import Contract, Document, Image, Limits, Source
from medgemma_cli.tuning.examples import Example, check_fields
from medgemma_cli.tuning.pictures import Picture, picture
from medgemma_cli.tuning.refusals import BadExample

_FIELDS = {"template", "document", "image", "images", "question", "output", "id"}


def rendered(line: Line, folder: Path) -> Example:
    """The example of a line that names a template.

    Raises:
        BadExample, DocumentError: why it is none. ConfigError: 78, the template is malformed.
    """
    fields = line.fields
    check_fields(fields, _FIELDS)
    template = _template(fields["template"])
    pictures = _pictures(fields, folder)
    shown = _text(fields.get("document"))
    question = fields.get("question")
    if question is not None and not isinstance(question, str):
        raise BadExample("its question is no text")
    if not (shown or pictures or question):
        raise BadExample("it has neither a document nor an image nor a question")
    document = _document(shown, len(pictures))
    pixels = [found.sha256 for found in pictures]
    group = digest([shown, pixels] if shown or pixels else [question])
    key = digest(["tuning", template.hash, group, question])
    limits = Limits(max_new_tokens=template.max_new_tokens)
    prompt = templates.render(template, document, key, limits, question)
    answer = answer_text(prompt.contract, fields.get("output"), shown)
    light = prompt.model_copy(update={"images": (), "id": f"line {line.number}"})
    return Example(line.number, light, answer, pictures, group, template.hash)


@lru_cache(maxsize=32)
def _load(name: str) -> templates.Template:
    return templates.load(name)


def _template(name: Any) -> templates.Template:
    if not isinstance(name, str) or not name:
        raise BadExample("its template is no name")
    try:
        templates.find(name)
    except ConfigError:
        raise BadExample("there is no template of that name") from None
    return _load(name)


def _pictures(fields: dict[str, Any], folder: Path) -> tuple[Picture, ...]:
    paths = fields.get("images", [fields["image"]] if "image" in fields else [])
    if not isinstance(paths, list) or ("image" in fields and "images" in fields):
        raise BadExample("its images are no list of paths")
    return tuple(picture(path, folder) for path in paths)


def _text(value: Any) -> str:
    """The text as the reader of `run` would take it from a file."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadExample("its document is no text")
    return text.read(value.encode(), readers.ReadLimits()).text


def _document(shown: str, images: int) -> Document:
    """What a template may know: the text, and how many images; their pixels come later."""
    nothing = Image(width=1, height=1, rgb=b"")
    return Document(
        source=Source(place="", relative="", origin=""),
        sha256="",
        bytes=0,
        media_type="text/plain",
        text=shown,
        images=(nothing,) * images,
        coverage={},
    )


def answer_text(contract: Contract, output: Any, shown: str) -> str:
    """The output as `run` writes it: compact JSON in the template's order, or the text itself.

    Raises:
        BadExample: it does not fit the contract, or quotes what the document has not.
    """
    if contract.kind == "text":
        if not isinstance(output, str) or not output.strip():
            raise BadExample("its output is no text, which the template wants")
        return output.strip()
    if not isinstance(output, dict):
        raise BadExample("its output is no object, which the template wants")
    try:
        written = json.dumps(output, ensure_ascii=False, allow_nan=False)
        fields = decoding.parse(contract, written).fields
    except (ValueError, RecursionError):
        raise BadExample("its output does not fit the template's fields") from None
    for _, quote in decoding.quotes(contract, fields):
        if quote != " ".join(quote.split()) or quoting.locate(quote, shown) is None:
            raise BadExample("a quote of its output does not stand in the document word for word")
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
