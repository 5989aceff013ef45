"""The frozen records that travel from stage to stage, and `Record`, the public contract. No I/O."""

from bisect import bisect_right
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

RECORD_SCHEMA: Literal["medgemma.record/1"] = "medgemma.record/1"

Status = Literal["ok", "flagged", "failed", "rejected"]
Severity = Literal["stop", "review", "note"]
Which = Literal["prior", "current"]
Precision = Literal["auto", "bf16", "fp16", "fp32", "int8", "nf4", "fp4"]


class Frozen(BaseModel):
    """A record: immutable. Unknown fields are passed over: a later version may have added them."""

    # Built at first use: a run with nothing to do needs few of them.
    model_config = ConfigDict(
        frozen=True, extra="ignore", protected_namespaces=(), defer_build=True
    )


class Row(Frozen):
    """What a row of a table says: its text, and the path of its image beside the table.

    `columns` are those that it was read from, by their uses (``text``, ``image``, ``id``). The
    text of a `request` is the body of a chat request, as canonical JSON.
    """

    text: Annotated[str, SkipValidation] = Field(default="", repr=False)
    image: Annotated[str, SkipValidation] = Field(default="", repr=False)
    columns: Annotated[dict[str, str], SkipValidation] = Field(default_factory=dict)
    request: bool = False

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
    `relative`, and perhaps an id, `custom_id`. A pair is its current document, with the earlier
    one as `prior`; `masked` says that their front matter is not shown, since patients were told
    apart by it.
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
    prior: "Source | None" = None
    masked: bool = False

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


class Slide(Frozen):
    """Which patches of a whole-slide image were shown; lengths in pixels of its finest level.

    `places` are their top left corners (x, y), `side` is how long each is; `microns` are
    micrometres a pixel, known from the header (``mpp``), from the objective's power there, or
    assumed.
    """

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    side: int = Field(gt=0)
    microns: float = Field(gt=0, lt=1000)
    known: Literal["mpp", "objective", "assumed"]
    seed: int
    places: tuple[tuple[int, int], ...]


class Part(Frozen):
    """A piece of a message: the template's own words, the fence around a document, its text, which
    is data (of a pair's earlier document: ``prior``), an image slot, or the words beside one (what
    it is, ``SLICE 3``)."""

    kind: Literal["text", "fence", "document", "prior", "image", "label"]
    text: str = Field(default="", repr=False)


class Message(Frozen):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


class Request(Frozen):
    """A chat request: a conversation that asks for its next turn, and how it is to be answered.

    `schema_block` is the JSON Schema of the answer, as an `output:` block in JSON; empty: free
    text. What is None is left to the command.
    """

    messages: tuple[Message, ...]
    schema_block: str = ""
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


class Document(Frozen):
    """What a reader made of a source. `text` is code points as read; offsets count in it.

    `pages` has where in it each page begins, a page without text where the next one does;
    `header` is what a DICOM header says of modality, body part and side; `slide` where on a
    slide the images are. A chat request has its `request`; its text is what the user says in it. Of
    a pair all this is the current document's, but for the coverage, which has both; the earlier
    document is `prior`.
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
    request: Request | None = None
    slide: Slide | None = None
    prior: "Document | None" = None

    def page_of(self, at: int) -> int | None:
        """The page, from 1, of a character of the text; None where there are no pages."""
        return bisect_right(self.pages, at) or None

    def covered(self, shown: int) -> dict[str, tuple[int, int]]:
        """The coverage where only so many characters of the text, and every image, are shown.

        A page counts as seen if all of its text is, or if it is an image.
        """
        if shown >= len(self.text):
            return self.coverage
        seen = {**self.coverage, "characters": (shown, len(self.text))}
        if self.pages and "pages" in self.coverage:
            ends = [*self.pages[1:], len(self.text)]
            pictures = {image.page for image in self.images}
            pairs = zip(self.pages, ends, strict=True)
            unseen = sum(
                start < end and end > shown and page not in pictures
                for page, (start, end) in enumerate(pairs, 1)
            )
            before, total = self.coverage["pages"]
            seen["pages"] = (max(before - unseen, 0), total)
        return seen


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
    """How to generate. A temperature of 0 is greedy decoding.

    `max_input_tokens` is the longest prompt that may be shown; None: what the window leaves.
    """

    max_new_tokens: int = 700
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_input_tokens: int | None = None


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
        return self._shown("document")

    @property
    def prior(self) -> str:
        """The text of a pair's earlier document; empty where there is none."""
        return self._shown("prior")

    def _shown(self, kind: str) -> str:
        asked = (message for message in self.messages if message.role == "user")
        parts = (part for message in asked for part in message.parts)
        return "\n\n".join(part.text for part in parts if part.kind == kind)


class Usage(Frozen):
    """Token and image counts of one generation."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0


class Place(Frozen):
    """Where a quote of an answer stands in the document's text, in code points.

    `where` is the path of its finding in the output, as `Quote` has it.
    """

    where: str
    quote: str = Field(repr=False)
    start: int
    end: int


class PartAnswer(Frozen):
    """What was answered about a part of a long document: code points `start` to `end` of it."""

    start: int
    end: int
    output: dict[str, Any] = Field(repr=False)


class LeftOut(Frozen):
    """What parts of a long document gave and the answer about all of it has no room for.

    `where` is the field; `said` has the words of each item, quotes apart.
    """

    where: str
    said: tuple[str, ...] = Field(repr=False)


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
    and all, where an engine has such. Of a document that was read in parts, `places` has where the
    quotes were found, `parts` what was answered about each, `left_out` what of that the whole has
    no room for; of one that was not read to its end, `shown` has how many characters of its text
    were.
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
    places: tuple[Place, ...] = Field(default=(), repr=False)
    shown: int | None = None
    parts: tuple[PartAnswer, ...] = Field(default=(), repr=False)
    left_out: tuple[LeftOut, ...] = ()


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
    on, from 1; `page` counts the file's pages from 1, whatever is printed on them. Of a pair,
    `document` says in whose text it stands.
    """

    text: str
    start: int
    end: int
    page: int | None = None
    where: str = ""
    line: int | None = None
    document: Which | None = None


class Flag(Frozen):
    """Something a reader must know about the output; `why` is plain words, no document text.

    Of a pair, `document` says in whose text the `span` is, or whom the flag is about.
    """

    rule: str
    severity: Severity
    where: str
    value: str = ""
    why: str
    span: tuple[int, int] | None = None
    document: Which | None = None


class Seconds(Frozen):
    """Wall-clock seconds of the stages."""

    read: float = 0.0
    generate: float = 0.0
    check: float = 0.0


class ErrorInfo(Frozen):
    """Why a document failed or was rejected, and what to do; of a pair, which of both it was."""

    code: str
    stage: str
    hint: str
    document: Which | None = None


class Prior(Frozen):
    """The earlier document of a pair: the same as of the current one in the record itself."""

    source: str
    origin: str
    custom_id: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    media_type: str | None = None
    header: dict[str, str] | None = None


class Record(Frozen):
    """One line of `records.jsonl`. Within a version of the schema fields are only added.

    `reading` is how its source was read: the limits, and of a table's row the columns.
    """

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
    reading: dict[str, Any] | None = None
    slide: Slide | None = None
    views: str | None = None
    prior: Prior | None = None
    template: TemplateInfo
    model: ModelInfo
    status: Status
    attempt: int = 1
    duplicate_of: str | None = None
    reused: bool = False
    output: dict[str, Any] | None = None
    raw_text: str | None = None
    parts: tuple[PartAnswer, ...] = ()
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
