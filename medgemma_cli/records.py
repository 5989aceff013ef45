"""The frozen records that travel from stage to stage, and `Record`, the public contract. No I/O."""

from bisect import bisect_right
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

RECORD_SCHEMA: Literal["medgemma.record/1"] = "medgemma.record/1"

Status = Literal["ok", "flagged", "failed", "rejected"]
Severity = Literal["stop", "review", "note"]
Precision = Literal["auto", "bf16", "fp16", "fp32", "int8", "nf4", "fp4"]


class Frozen(BaseModel):
    """A record: immutable. Unknown fields are passed over: a later version may have added them."""

    # Built at first use: a run with nothing to do needs few of them.
    model_config = ConfigDict(
        frozen=True, extra="ignore", protected_namespaces=(), defer_build=True
    )


class Row(Frozen):
    """What a row of a table says: its text, and the path of its image beside the table."""

    text: Annotated[str, SkipValidation] = Field(default="", repr=False)
    image: Annotated[str, SkipValidation] = Field(default="", repr=False)

    @property
    def said(self) -> tuple[str, str]:
        """Both, for a key."""
        return self.text, self.image


class Source(Frozen):
    """One input, found but not yet read.

    `place` is the path as the system takes it, undecodable bytes and all; `relative` is the name
    made printable, relative to the PATH argument it came from. `error` is a code of
    `errors.FAULTS` found before reading. `parts` are the files of a DICOM series, whose place is
    a name that no file has. A row of a table has its `row`, a `name` for its summary in place of
    `relative`, and perhaps an id, `custom_id`.
    """

    # Not validated: pydantic refuses the surrogates that stand for undecodable bytes.
    place: Annotated[str, SkipValidation]
    relative: str
    origin: str
    error: str | None = None
    parts: Annotated[tuple[str, ...], SkipValidation] = ()
    row: Row | None = Field(default=None, repr=False)
    name: str | None = None
    custom_id: str | None = Field(default=None, repr=False)

    @property
    def path(self) -> Path:
        """The place as a `Path`; made when asked for, since a run makes very many sources."""
        return Path(self.place)


class Image(Frozen):
    """Decoded pixels: RGB, 8 bits a channel, row by row, `3 * width * height` bytes.

    `page` is the page that it shows, from 1, of a document in pages. In a prompt `introduction`
    stands before the image, `label` after it: a reader's own words, never the document's.
    """

    width: int
    height: int
    rgb: bytes = Field(repr=False)
    page: int | None = None
    introduction: str = ""
    label: str = Field(default="", pattern=r"^[A-Za-z0-9 ]{0,60}$")


class Document(Frozen):
    """What a reader made of a source. `text` is code points as read; offsets count in it.

    `pages` has where in it each page begins, a page without text where the next one does;
    `header` is what a DICOM header says of modality, body part and side.
    """

    source: Source
    sha256: str
    bytes: int
    media_type: str
    text: str = Field(default="", repr=False)
    images: tuple[Image, ...] = ()
    coverage: dict[str, tuple[int, int]]
    degraded: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    header: dict[str, str] = Field(default_factory=dict)

    def page_of(self, at: int) -> int | None:
        """The page, from 1, of a character of the text; None where there are no pages."""
        return bisect_right(self.pages, at) or None


class Part(Frozen):
    """A piece of a message: the template's own words, the fence around a document, its text, which
    is data, an image slot, or the words beside one (what it is, ``SLICE 3``)."""

    kind: Literal["text", "fence", "document", "image", "label"]
    text: str = Field(default="", repr=False)


class Message(Frozen):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


class Contract(Frozen):
    """What the answer must look like: free text, or JSON of the given JSON Schema.

    `block` is the template's own form of it, as JSON; `quotable` says whether there is a text
    that findings must quote; `covers` names what an answer may not leave out.
    """

    kind: Literal["text", "json"]
    json_schema: str = ""
    block: str = ""
    quotable: bool = True
    covers: tuple[str, ...] = ()


class Limits(Frozen):
    """How to generate. A temperature of 0 is greedy decoding."""

    max_new_tokens: int = 700
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Prompt(Frozen):
    """Everything an engine needs to answer; `id` comes back in the `Generation`."""

    id: str
    messages: tuple[Message, ...]
    images: tuple[Image, ...] = ()
    contract: Contract
    limits: Limits

    @property
    def document(self) -> str:
        """The text of the user's document parts: what quotes are taken from."""
        asked = (message for message in self.messages if message.role == "user")
        parts = (part for message in asked for part in message.parts)
        return "\n\n".join(part.text for part in parts if part.kind == "document")


class Usage(Frozen):
    """Token and image counts of one generation."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0


class ChoiceScore(Frozen):
    """The probabilities of a choice's options, which sum to 1.

    `at` is the character of the generation's text at which the value begins. `logs` has the
    natural logarithms behind them, before they were normalised over the options: of each option's
    whole string, up to its closing quotation mark. Empty where an engine cannot tell.
    """

    at: int
    options: dict[str, float]
    logs: dict[str, float] = Field(default_factory=dict)


class Generation(Frozen):
    """What an engine wrote for one prompt, or the code of why it could not.

    `tokens` has, for each token that the model chose, the end of its text in characters and its
    natural logarithm of probability, before any constraint; both are empty where an engine cannot
    tell. `attempts` counts the answers asked for. `raw` is the text with control tokens, thoughts
    and all, where an engine has such.
    """

    id: str
    text: str = Field(default="", repr=False)
    raw: str = Field(default="", repr=False)
    finish_reason: Literal["stop", "length", "error"] = "stop"
    usage: Usage = Usage()
    degraded: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    choices: tuple[ChoiceScore, ...] = ()
    tokens: tuple[tuple[int, float], ...] = Field(default=(), repr=False)
    attempts: int = 1


class AdapterInfo(Frozen):
    """Which LoRA adapter was on the weights; the hash covers its configuration and weights."""

    name: str
    hash: str


class ServerInfo(Frozen):
    """Which servers answered: their hosts, and what they say of their model.

    Nothing else is known of a server's weights.
    """

    hosts: tuple[str, ...]
    says: dict[str, str | int]


class ModelInfo(Frozen):
    """Which weights answered. `precision` is what was loaded, `asked` what was asked for.

    `deterministic` says that no other document had a part in the answer's bytes.
    """

    id: str
    revision: str | None = None
    path: str | None = None
    precision: str | None = None
    asked: str | None = None
    engine: str
    adapter: AdapterInfo | None = None
    deterministic: bool = False
    server: ServerInfo | None = None


class TemplateInfo(Frozen):
    """Which template asked; the hash covers the preamble, the system text and the contract."""

    name: str
    hash: str


class Quote(Frozen):
    """A verbatim quote: code points `start` to `end` of the document's text.

    `where` is the path of the finding in the output, `line` the line of the text that it begins
    on, from 1; `page` counts the file's pages from 1, whatever is printed on them.
    """

    text: str
    start: int
    end: int
    page: int | None = None
    where: str = ""
    line: int | None = None


class Flag(Frozen):
    """Something a reader must know about the output; `why` is plain words, no document text."""

    rule: str
    severity: Severity
    where: str
    value: str = ""
    why: str
    span: tuple[int, int] | None = None


class Seconds(Frozen):
    """Wall-clock seconds of the stages."""

    read: float = 0.0
    generate: float = 0.0
    check: float = 0.0


class ErrorInfo(Frozen):
    """Why a document failed or was rejected, and what to do."""

    code: str
    stage: str
    hint: str


class Record(Frozen):
    """One line of `records.jsonl`. Within a version of the schema fields are only added."""

    record_schema: Literal["medgemma.record/1"] = Field(default=RECORD_SCHEMA, alias="schema")
    key: str
    source: str
    origin: str
    summary: str | None
    custom_id: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    media_type: str | None = None
    header: dict[str, str] | None = None
    template: TemplateInfo
    model: ModelInfo
    status: Status
    attempt: int = 1
    duplicate_of: str | None = None
    reused: bool = False
    output: dict[str, Any] | None = None
    raw_text: str | None = None
    evidence: Literal["quotes", "none"] = "none"
    quotes: tuple[Quote, ...] = ()
    flags: tuple[Flag, ...] = ()
    facts: dict[str, int] | None = None
    omissions: tuple[str, ...] = ()
    confidence: dict[str, Any] | None = None
    coverage: dict[str, tuple[int, int]] = Field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    usage: Usage | None = None
    finish_reason: str | None = None
    seconds: Seconds = Seconds()
    error: ErrorInfo | None = None
    created: str
    notice: str

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
