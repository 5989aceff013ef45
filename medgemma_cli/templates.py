"""`prompts/*.md` → `Template`; `Template` + `Document` → `Prompt`. The document is data throughout.

A template never sees the document's text: `document.text` renders to a sentinel that is replaced
by a data part between two marker lines, so a filter on it could not work and is an error. A
template that names `prior` is for pairs: `prior.text` is the earlier document, `document.text` the
current one.
"""

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from medgemma_cli import contracts, quoting
from medgemma_cli.errors import ConfigError, DocumentError
from medgemma_cli.records import (
    Contract,
    Document,
    Frozen,
    Image,
    Limits,
    Message,
    Part,
    Prompt,
)

PREAMBLE = "_preamble.md"
Accepts = Literal["text", "image", "none"]
_SENTINEL = "\ue000document\ue001"
_PRIOR = "\ue000prior\ue001"
_SENTINELS = re.compile(f"({_SENTINEL}|{_PRIOR})")
_TOKENS = "700"
_FIELDS = {
    "name", "description", "accepts", "system", "output", "decide", "covers", "max_new_tokens"
}  # fmt: skip
_COVERS = {"allergies"}


class Template(Frozen):
    """A parsed template. `hash` covers the preamble, the system text, the body and the contract.

    `image_contract` is for documents without a text that can be quoted; `pairs` says that it takes
    two documents at once.
    """

    name: str
    path: str
    description: str
    accepts: tuple[Accepts, ...]
    system: str
    body: str
    contract: Contract
    image_contract: Contract
    max_new_tokens: int
    hash: str
    pairs: bool = False


def folders() -> list[Path]:
    """Where templates are looked for by name: `./prompts`, the user's, then the packaged ones."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [Path("prompts"), config / "medgemma" / "prompts", packaged_folder()]


def packaged_folder() -> Path:
    """The templates of this package: inside it when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "prompts"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "prompts"


def preamble() -> str:
    """What every model reads before anything else.

    Raises:
        OSError, UnicodeDecodeError: the package is not whole.
    """
    return (packaged_folder() / PREAMBLE).read_text("utf-8").strip()


def available() -> Iterator[Path]:
    """Every template that a name would find, sorted by name."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in folder.glob("[!_.]*.md"):
            found.setdefault(path.stem, path)
    yield from (found[name] for name in sorted(found))


def find(name: str) -> Path:
    """The file of a template given by name or path.

    Raises:
        ConfigError: there is none.
    """
    if "/" in name or name.endswith(".md"):
        if Path(name).is_file():
            return Path(name)
    else:
        for folder in folders():
            if (path := folder / f"{name}.md").is_file():
                return path
    raise ConfigError(
        f"There is no template {name!r}.",
        "`medgemma templates` lists them; a path to a .md file works too.",
    )


def load(name: str, *, system: str | None = None) -> Template:
    """Read and check a template; `system` replaces its own system text, never the preamble.

    Raises:
        ConfigError: exit 78, naming the file and the line.
    """
    path = find(name)
    try:
        text = path.read_text("utf-8")
        before = preamble()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: cannot be read as UTF-8 text.", "Check the file.") from None
    header, body, body_line = _split(path, text)
    front = _front_matter(path, header)
    try:
        block = _block(path, front.get("output", "text"))
        decide = front.get("decide", {})
        contract = contracts.contract(block, decide=decide)
        image_contract = contracts.contract(block, quotable=False, decide=decide)
    except RecursionError:
        raise _bad(path, _line_of(header, "output"), "it is nested too deeply") from None
    except (ValueError, TypeError) as error:
        field = "decide" if str(error).startswith("decide") else "output"
        raise _bad(path, _line_of(header, field), str(error)) from None
    _check_body(path, body, body_line)
    pairs = _names_prior(body)
    if contract.kind == "json" and contracts.wants_pairs(contract.block) and not pairs:
        why = "quotes of a prior document need one: {{ prior.text }} in the message"
        raise _bad(path, _line_of(header, "output"), why)
    own = system if system is not None else front.get("system", "")
    full_system = f"{before}\n{own}".strip()
    covers = tuple(front.get("covers", []))
    identity = [full_system, body, contract.json_schema, image_contract.json_schema, block]
    if covers:
        identity.append(covers)
    return Template(
        name=front.get("name") or path.stem,
        path=str(path),
        description=front.get("description", ""),
        accepts=tuple(front.get("accepts", ["text"])),
        system=full_system,
        body=body,
        contract=contract.model_copy(update={"covers": covers}),
        image_contract=image_contract,
        max_new_tokens=int(front.get("max_new_tokens", _TOKENS)),
        hash=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        pairs=pairs,
    )


def _bad(path: Path, line: int, why: str) -> ConfigError:
    return ConfigError(f"{path}:{line}: {why}", "Correct the template; docs/templates.md has all.")


def _split(path: Path, text: str) -> tuple[str, str, int]:
    match = re.match(r"---[ \t]*\r?\n(.*?\n)---[ \t]*\r?\n", text, re.DOTALL)
    if not match:
        raise _bad(path, 1, "a template begins with YAML front matter between two --- lines")
    return match.group(1), text[match.end() :], match.group().count("\n") + 1


def _line_of(header: str, field: str) -> int:
    lines = header.splitlines()
    return next((i for i, line in enumerate(lines, 2) if line.startswith(f"{field}:")), 1)


def _front_matter(path: Path, header: str) -> dict[str, Any]:
    """The fields. Every scalar stays the text it is written as: a bare yes is a word, not true."""
    import yaml

    try:
        # The base loader makes texts, lists and mappings, nothing else.
        front = yaml.load(header, Loader=yaml.BaseLoader)  # noqa: S506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else 1
        raise _bad(path, line, "the front matter is not valid YAML") from None
    except RecursionError:
        raise _bad(path, 1, "the front matter is nested too deeply") from None
    if not isinstance(front, dict):
        raise _bad(path, 2, "the front matter is not a mapping of names to values")
    if unknown := [str(name) for name in front if name not in _FIELDS]:
        raise _bad(path, _line_of(header, unknown[0]), f"unknown field {unknown[0]!r}")
    for name in ("name", "description", "system"):
        if not isinstance(front.get(name, ""), str):
            raise _bad(path, _line_of(header, name), f"{name} is a text")
    accepts = front.get("accepts", ["text"])
    if not isinstance(accepts, list) or not set(map(str, accepts)) <= {"text", "image", "none"}:
        raise _bad(path, _line_of(header, "accepts"), "accepts is a list of text, image, none")
    covers = front.get("covers", [])
    if not isinstance(covers, list) or not set(map(str, covers)) <= _COVERS:
        raise _bad(path, _line_of(header, "covers"), f"covers is a list of {', '.join(_COVERS)}")
    tokens = front.get("max_new_tokens", _TOKENS)
    if not isinstance(tokens, str) or not re.fullmatch(r"[1-9][0-9]{0,5}", tokens):
        raise _bad(path, _line_of(header, "max_new_tokens"), "max_new_tokens is a number above 0")
    return front


def _block(path: Path, output: Any) -> Any:
    """The `output:` block; the name of a JSON Schema file beside the template is read."""
    if not isinstance(output, str) or not output.endswith(".json"):
        return output
    try:
        schema = json.loads((path.parent / output).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ValueError(f"{output} cannot be read as JSON") from None
    if not isinstance(schema, dict):
        raise ValueError(f"{output} is no JSON Schema object")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _check_body(path: Path, body: str, first_line: int) -> None:
    """Compile the body; a text may stand alone in `{{ }}` or be the test of an `if`, no more."""
    from jinja2 import TemplateError, nodes

    try:
        tree = _environment().parse(body)
        for has_text, images, question in ((True, 0, None), (False, 1, "?")):
            _message(body, _Shown(has_text, images), _Shown(has_text, images, _PRIOR), question)
    except TemplateError as error:
        line = getattr(error, "lineno", None) or _line_in_template(error)
        raise _bad(path, first_line + line - 1, f"{error.message}") from None
    except (TypeError, ValueError, ArithmeticError, RecursionError, AttributeError) as error:
        line = first_line + _line_in_template(error) - 1
        raise _bad(path, line, f"rendering fails: {type(error).__name__}") from None
    plain = {id(child) for node in tree.find_all(nodes.Output) for child in node.nodes}
    plain |= {id(node.test) for node in tree.find_all(nodes.If)}
    names = {id(node.node) for node in tree.find_all(nodes.Getattr)}
    for node in tree.find_all(nodes.Getattr):
        if node.attr == "text" and id(node) not in plain:
            raise _bad(
                path,
                first_line + node.lineno - 1,
                "document.text (prior.text) may only stand alone in {{ }} or be the test of an if",
            )
    for node in tree.find_all(nodes.Name):
        if node.name in ("document", "prior") and id(node) not in names:
            why = f"use {node.name}.text or {node.name}.images"
            raise _bad(path, first_line + node.lineno - 1, why)


def _names_prior(body: str) -> bool:
    from jinja2 import nodes

    return any(node.name == "prior" for node in _environment().parse(body).find_all(nodes.Name))


def _line_in_template(error: BaseException) -> int:
    """The line of the body that an error came from; Jinja2 puts it into the traceback."""
    line, at = 1, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == "<template>":
            line = at.tb_lineno
        at = at.tb_next
    return line


class _Shown:
    """What a template may know of a document: whether it has text, and how many images."""

    def __init__(self, has_text: bool, images: int, sentinel: str = _SENTINEL) -> None:
        self.text = sentinel if has_text else ""
        self.images = images


def _message(body: str, document: _Shown, prior: _Shown | None, question: str | None) -> str:
    shown = {} if prior is None else {"prior": prior}
    text: str = _compiled(body).render(document=document, question=question, **shown)
    return text.strip()


@lru_cache(maxsize=32)
def _compiled(body: str) -> Any:
    return _environment().from_string(body)


@lru_cache(maxsize=64)
def _rendered(
    body: str, document: tuple[bool, int], prior: tuple[bool, int] | None, question: str | None
) -> str:
    """The message around the document: the same for all documents of a kind."""
    earlier = None if prior is None else _Shown(*prior, _PRIOR)
    return _message(body, _Shown(*document), earlier, question)


def check_accepts(template: Template, document: Document) -> None:
    """See that the template is made for this kind, and for one document or for two.

    Raises:
        DocumentError: ``not_accepted``; ``pair_mixed``, of two only one has text.
    """
    prior = document.prior
    if template.pairs is (prior is None):
        raise DocumentError("not_accepted")
    if prior is not None and bool(prior.text) is not bool(document.text):
        raise DocumentError("pair_mixed")
    kinds = {"text"} if document.text else set()
    kinds |= {"image"} if document.images else set()
    if not (kinds or {"none"}) <= set(template.accepts):
        raise DocumentError("not_accepted")


def render(
    template: Template, document: Document, key: str, limits: Limits, question: str | None = None
) -> Prompt:
    """Put a document into a template. Pure: the same arguments give the same prompt.

    Args:
        key: the document's key; names the prompt, and nothing else: every engine has keys of its
            own, and is to be asked the same.

    Raises:
        DocumentError: as `check_accepts`.
    """
    check_accepts(template, document)
    asked = _SENTINELS.sub(" ", question) if question else None
    prior = document.prior
    rendered = _rendered(template.body, _looks(document), _looks(prior), asked)
    parts = _images(document.images) if prior is None else _two_sets(prior, document)
    texts = [document.text, *([prior.text] if prior else [])]
    seed = _seed(template, document, limits, question)
    for piece in _SENTINELS.split(rendered):
        if piece == _SENTINEL:
            parts += _fenced("document", texts[0], _fence(texts, seed))
        elif piece == _PRIOR:
            parts += _fenced("prior", texts[1], _fence(texts, f"prior {seed}"))
        elif piece:
            parts.append(Part(kind="text", text=piece))
    return Prompt(
        id=key,
        messages=(
            Message(role="system", parts=(Part(kind="text", text=template.system),)),
            Message(role="user", parts=tuple(parts)),
        ),
        images=(*(prior.images if prior else ()), *document.images),
        contract=_contract(template, document, parts),
        limits=limits,
    )


def _looks(document: Document | None) -> Any:
    return document and (bool(document.text), len(document.images))


def _fenced(kind: Literal["document", "prior"], text: str, fence: tuple[str, str]) -> list[Part]:
    begin, end = fence
    return [
        Part(kind="fence", text=begin),
        Part(kind=kind, text=text),
        Part(kind="fence", text=end),
    ]


def _two_sets(prior: Document, document: Document) -> list[Part]:
    """The images of a pair, the earlier ones first, each document's with a word before them."""
    parts: list[Part] = []
    for name, images in (("Prior", prior.images), ("Current", document.images)):
        if images:
            words = f"{name} image{'s' if len(images) > 1 else ''}:\n"
            parts += [Part(kind="label", text=f"\n{words}" if parts else words), *_images(images)]
    return parts


def _images(images: tuple[Image, ...]) -> list[Part]:
    """Image slots with the words beside them. They stand before the message."""
    parts = []
    for image in images:
        if image.introduction:
            parts.append(Part(kind="label", text=image.introduction))
        parts.append(Part(kind="image"))
        if image.label:
            parts.append(Part(kind="label", text=image.label))
    if parts and parts[-1].kind == "label":
        parts[-1] = Part(kind="label", text=f"{parts[-1].text}\n\n")
    return parts


def _contract(template: Template, document: Document, parts: list[Part]) -> Contract:
    """With quotes where the prompt shows a text, or of a pair both, that can be quoted."""
    shown = {part.kind for part in parts}
    quotable = "document" in shown and _quotable(document.text)
    if document.prior is not None:
        quotable = quotable and "prior" in shown and _quotable(document.prior.text)
    return template.contract if quotable else template.image_contract


@lru_cache(maxsize=8)
def _quotable(text: str) -> bool:
    return quoting.is_quotable(text)


def _seed(template: Template, document: Document, limits: Limits, question: str | None) -> str:
    """What markers are made of: what is asked, and of which documents; not who is asked."""
    both = [document, *([document.prior] if document.prior else [])]
    asked = [template.hash, question, limits.model_dump(exclude_none=True), *map(_mark, both)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _mark(document: Document) -> str:
    """The document by its bytes; one that was not read from any, by its text."""
    text = document.text.encode("utf-8", "surrogatepass") if not document.sha256 else b""
    return document.sha256 or hashlib.sha256(text).hexdigest()


def _fence(texts: list[str], key: str) -> tuple[str, str]:
    """Marker lines around a text: the first HMAC of a key and a counter that no text has.

    A text cannot hold its own marker, and the marker is the same at every run and on every engine.
    """
    counter = 0
    while True:
        digest = hmac.new(key.encode(), str(counter).encode(), hashlib.sha256).hexdigest()
        marker = digest[:8]
        if not any(marker in text for text in texts):
            return f"<<<{marker}\n", f"\n{marker}>>>"
        counter += 1
