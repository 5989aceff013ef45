"""Chat requests: a `Document` that is one, and what a command leaves open → `Prompt`.

The conversation reaches the model as it stands, behind the safety preamble that every prompt of
this program begins with. Of the texts in it none can be a control token: see `engines.encoding`.
"""

from medgemma_cli import templates
from medgemma_cli.errors import ConfigError, DocumentError
from medgemma_cli.identity import digest
from medgemma_cli.readers import asked
from medgemma_cli.records import Contract, Document, Limits, Message, Part, Prompt
from medgemma_cli.templates import Template

NAME = "chat"


def template(max_new_tokens: int) -> Template:
    """What stands in a template's place: the preamble, and no message of its own.

    Raises:
        ConfigError: 78, the preamble cannot be read.
    """
    path = templates.packaged_folder() / templates.PREAMBLE
    try:
        preamble = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: cannot be read as UTF-8 text.", "Install again.") from None
    free = Contract(kind="text")
    return Template(
        name=NAME,
        path="",
        description="Chat requests of a batch file.",
        accepts=("text", "image"),
        system=preamble,
        body="",
        contract=free,
        image_contract=free,
        max_new_tokens=max_new_tokens,
        hash=digest([NAME, preamble]),
    )


def render(
    template: Template, document: Document, key: str, limits: Limits, question: str | None = None
) -> Prompt:
    """The prompt of a request; what it leaves open is as `limits` say.

    Raises:
        DocumentError: ``request_option``, it asks for more tokens at least than at most;
            ``request_format``.
    """
    request = document.request
    assert request is not None and question is None
    given = {name: getattr(request, name, None) for name in Limits.model_fields}
    limits = limits.model_copy(update={k: v for k, v in given.items() if v is not None})
    if limits.min_new_tokens > limits.max_new_tokens:
        raise DocumentError("request_option")
    return Prompt(
        id=key,
        messages=_with_preamble(template.system, request.messages),
        images=document.images,
        contract=asked.contract(request.schema_block, document.text),
        limits=limits,
    )


def _with_preamble(preamble: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The preamble, then the request's own system text, as one system turn."""
    first, *others = messages
    if first.role != "system":
        return (Message(role="system", parts=(Part(kind="text", text=preamble),)), *messages)
    own = "".join(part.text for part in first.parts)
    part = Part(kind="text", text=f"{preamble}\n{own}")
    return (Message(role="system", parts=(part,)), *others)
