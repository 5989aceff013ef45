"""What a run would take: tokens of every document, memory at each precision. No weights needed.

Documents are decided on, read, rendered and counted by the very functions that `run` uses, so
what is told here is what happens there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from medgemma_cli import models, paging, templates
from medgemma_cli.engines import sizing
from medgemma_cli.engines.base import Engine, check_fits
from medgemma_cli.errors import FAULTS, DocumentError
from medgemma_cli.job import Job
from medgemma_cli.longdocs import parts_of
from medgemma_cli.planning import Decision, Planner
from medgemma_cli.readers import pair
from medgemma_cli.readers.pool import InProcess, Reading
from medgemma_cli.records import Document, Precision, Prompt, Source
from medgemma_cli.speeds import Estimate, Speed, Work, answer_tokens, estimate

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8", "nf4")


class Forecast(NamedTuple):
    """One document.

    Attributes:
        action: as `planning.Decision` has it: ``infer``, ``cached``, ``reuse``, ``duplicate``;
            ``refuse`` also where reading, rendering or counting would end it.
        why: the reason; of a refusal its code in `errors.FAULTS`.
        prompt_tokens: the whole prompt, images among them; 0 where nothing was counted. Of a
            document in parts, all of theirs; what joins the answers is not known before.
        partial: of what only a part is read: unit, seen, total.
        degraded: what the reader had to change.
        parts: in how many it would be read.
        longest: the longest prompt, in tokens.
        prior: of a pair, the earlier document; `source` is the current one.
    """

    source: str
    action: str
    why: str
    key: str
    prompt_tokens: int = 0
    images: int = 0
    partial: tuple[tuple[str, int, int], ...] = ()
    degraded: tuple[str, ...] = ()
    parts: int = 1
    longest: int = 0
    prior: str | None = None

    @property
    def status(self) -> str | None:
        """``failed`` or ``rejected`` where it would be refused."""
        return FAULTS[self.why].status if self.action == "refuse" else None


def foresee(
    job: Job,
    planner: Planner,
    engine: Engine,
    sources: Iterable[Source],
    reading: Reading | None = None,
) -> Iterator[Forecast]:
    """What would be done with each source. One document is held at a time.

    Args:
        reading: decodes documents; in this process where it is left out.

    Raises:
        ModelUnavailableError: 69, the tokenizer cannot be loaded.
    """
    for source in sources:
        decision = planner.decide(source)
        prior = source.prior.relative if source.prior else None
        forecast = Forecast(
            source.relative, decision.action, decision.why, decision.key, prior=prior
        )
        if decision.action == "infer":
            forecast = _counted(job, engine, decision, forecast, reading or InProcess())
        yield forecast


def _counted(
    job: Job, engine: Engine, decision: Decision, forecast: Forecast, reading: Reading
) -> Forecast:
    assert decision.blob is not None
    try:
        document = pair.submit(reading, decision.source, decision.blob, job.read_limits).result()
        document = paging.fit(job.template, document, lambda: engine.reads_images)
        forecast = _read(forecast, document)
        prompt = templates.render(job.template, document, decision.key, job.limits, job.question)
        forecast = _shown(forecast, decision, document, engine, prompt)
        check_fits(prompt, engine)
    except DocumentError as error:
        if error.code == "too_long":
            forecast = forecast._replace(key=decision.long_key or decision.key)
        return forecast._replace(action="refuse", why=error.code)
    return forecast


def _shown(
    forecast: Forecast, decision: Decision, document: Document, engine: Engine, prompt: Prompt
) -> Forecast:
    """What the engine is shown of it: parts, or the beginning alone, of a long document."""
    parts = parts_of(engine, prompt)
    if not parts:
        count = engine.count(prompt)
        return forecast._replace(prompt_tokens=count, longest=count)
    tokens = [part.tokens for part in parts]
    seen = document.covered(parts[-1].end)
    return _read(forecast, document.model_copy(update={"coverage": seen}))._replace(
        key=decision.long_key or decision.key,
        prompt_tokens=sum(tokens),
        parts=len(parts),
        longest=max(tokens),
    )


def _read(forecast: Forecast, document: Document) -> Forecast:
    partial = tuple((unit, n, of) for unit, (n, of) in document.coverage.items() if n < of)
    images = len(document.images) + len(document.prior.images if document.prior else ())
    return forecast._replace(images=images, partial=partial, degraded=document.degraded)


class Summary(NamedTuple):
    """All documents together. The tokens and images are those of documents to be inferred."""

    actions: Counter[str]
    refused: Counter[str]
    prompt_tokens: int
    longest: int
    images: int
    partial: int

    @property
    def to_do(self) -> int:
        """How many documents the model would be asked about."""
        return self.actions["infer"]

    def work(self, new_tokens: float) -> Work:
        """What the model has to do, at so many new tokens a document."""
        return Work(self.to_do, self.prompt_tokens, round(self.to_do * new_tokens), self.images)


def summarise(forecasts: Iterable[Forecast]) -> Summary:
    """Counts and sums over the documents."""
    every = list(forecasts)
    asked = [one for one in every if one.action == "infer"]
    return Summary(
        actions=Counter(one.action for one in every),
        refused=Counter(one.why for one in every if one.action == "refuse"),
        prompt_tokens=sum(one.prompt_tokens for one in asked),
        longest=max((one.longest or one.prompt_tokens for one in asked), default=0),
        images=sum(one.images for one in asked),
        partial=sum(bool(one.partial) for one in asked),
    )


class Resources(NamedTuple):
    """What the work takes on one device.

    Attributes:
        free: bytes free on the device now.
        new_tokens: a document's answer, in tokens.
        known: whether that is the mean of past runs, or else the most that is allowed.
        time: None where no past run tells.
    """

    device: str
    precision: Precision
    free: float
    memory: "list[Memory]"
    new_tokens: float
    known: bool
    time: Estimate | None

    @property
    def fits(self) -> bool:
        """Whether `run` would load the model; unknown sizes are tried."""
        return all(row.fits for row in self.memory if row.chosen)


def time_needed(
    runs: Sequence[Speed], summary: Summary, template: str, most: int
) -> tuple[float, bool, Estimate | None]:
    """Answer tokens a document (at most `most`), whether past runs told them, and how long."""
    known = answer_tokens(runs, template)
    new_tokens = min(known, most) if known is not None else most
    return new_tokens, known is not None, estimate(runs, summary.work(new_tokens))


class Memory(NamedTuple):
    """One precision: bytes for weights and a small batch, then for a full one.

    Attributes:
        needed: to load and run at all; the estimate that `run` and `doctor` go by.
        rows: how many documents as long as the longest fit at once; 0 where nothing does.
        cache: keys and values of so many.
        chosen: whether `run` would take this precision.
    """

    precision: str
    needed: float
    rows: int
    cache: int
    fits: bool
    chosen: bool


class Bounds(NamedTuple):
    """What a batch may be: lines, tokens of each, and tokens that one slice of a prefill takes."""

    lines: int
    tokens: int
    slice_tokens: int


def memory(
    weights: int, shape: sizing.Shape, free: float, bounds: Bounds, chosen: Precision
) -> list[Memory]:
    """Each precision against what is free, the largest first."""
    rows = [
        _memory(one, models.memory_needed(weights, one), shape, free, bounds)
        for one in dict.fromkeys((*_PRECISIONS, chosen))
    ]
    rows.sort(key=lambda row: -row.needed)
    return [row._replace(chosen=row.precision == chosen) for row in rows]


def _memory(
    precision: Precision, needed: float, shape: sizing.Shape, free: float, bounds: Bounds
) -> Memory:
    # Quantised weights compute, and cache, in bf16.
    width = 4 if precision == "fp32" else 2
    lines, tokens, slice_tokens = bounds
    fits = needed <= free
    rows = sizing.rows_that_fit(
        shape, tokens, free - needed, width, slice_tokens=slice_tokens, most=lines
    )
    # What is needed has room for a small batch already.
    rows = max(rows, 1) if fits else 0
    cache = rows * sizing.kv_bytes(shape, tokens, width)
    return Memory(precision, needed, rows, cache, fits, chosen=False)
