"""One question and its documents, answered piece by piece; kept in a ledger if wanted."""

import hashlib
from collections.abc import Callable, Sequence

from medgemma_cli import identity, longdocs, paging, readers, summaries, templates
from medgemma_cli.committing import has_page
from medgemma_cli.concluding import conclude
from medgemma_cli.engines.base import Engine, check_fits
from medgemma_cli.errors import FAULTS, DocumentError
from medgemma_cli.job import Job
from medgemma_cli.keeping import Keeper
from medgemma_cli.ledger import Entry, Ledger
from medgemma_cli.planning import Decision
from medgemma_cli.readers.pool import InProcess, Reading
from medgemma_cli.recording import make_record, now
from medgemma_cli.records import Document, Generation, Prompt, Record, Source
from medgemma_cli.safety.verdict import Verdict


def answer(
    job: Job,
    engine: Engine,
    sources: Sequence[Source],
    show: Callable[[str], None],
    ledger: Ledger | None = None,
    reading: Reading | None = None,
) -> Record:
    """Answer `job.question` about the sources; `show` gets the text as it comes.

    With a ledger, an answer that is there already is shown again without the model, and a new
    one is committed and gets its summary.
    """
    settings = job.settings(engine.identity)
    if ledger and not ledger.current:
        summaries.refuse_orphans(ledger.out, summaries.sweep(ledger.out))
    version = _version(sources)
    keeper = Keeper(ledger, wanted=job.keep_views, fsync=job.fsync) if ledger else None
    try:
        document = join(sources, job.read_limits, reading or InProcess())
    except DocumentError as error:
        key = identity.document_key(settings, error.code, version, tuple(job.read_limits))
        verdict = Verdict(FAULTS[error.code].status, error=error.code)
        return _keep(make_record(job, engine.info, _decision(key), verdict), ledger)
    key = identity.document_key(settings, document.sha256, version, tuple(job.read_limits))
    long_key = identity.long_key(key, longdocs.rule_of(engine))
    entry = _answered(ledger, long_key) or _answered(ledger, key)
    if ledger and keeper and entry:
        known = ledger.read(entry)
        show(known.raw_text or "")
        shown = keeper.copied(known, known.summary, lambda: _fitted(job, engine, document).images)
        if ledger.current[entry.slot] is entry and shown in (None, known.views):
            return known
        changed = {"reused": True, "created": now(), "views": shown or known.views}
        return _keep(known.model_copy(update=changed), ledger)
    decision = _decision(key, ledger)
    try:
        _check_name(decision, ledger)
        document = _fitted(job, engine, document)
        prompt = templates.render(job.template, document, key, job.limits, job.question)
        if long_key is not None and longdocs.parts_of(engine, prompt):
            decision = _decision(long_key, ledger)
            _check_name(decision, ledger)
            prompt = prompt.model_copy(update={"id": long_key})
        sheet = keeper.drawn(prompt.images, prompt.id) if keeper else None
        generation = _generate(engine, prompt, show)
    except DocumentError as error:
        verdict = Verdict(FAULTS[error.code].status, error=error.code)
        return _keep(make_record(job, engine.info, decision, verdict, document=document), ledger)
    record = conclude(job, engine.info, decision, document, prompt.contract, generation)
    return _keep(keeper.kept(record, sheet) if keeper else record, ledger)


def _fitted(job: Job, engine: Engine, document: Document) -> Document:
    """As the model is shown it."""
    return paging.fit(job.template, document, lambda: engine.reads_images)


def _version(sources: Sequence[Source]) -> str:
    """Of the joining and of each reader, in the order of the sources."""
    kinds = (readers.media_type(source) for source in sources)
    return " ".join(["ask/1", *(readers.reader_version(kind) for kind in kinds)])


def _answered(ledger: Ledger | None, key: str | None) -> Entry | None:
    entry = ledger.by_key.get(key) if ledger and key else None
    return entry if entry and entry.status in ("ok", "flagged") else None


def _decision(key: str, ledger: Ledger | None = None) -> Decision:
    name = f"ask/{key[:12]}"
    source = Source(place=name, relative=name, origin="-")
    earlier = ledger.by_key.get(key) if ledger else None
    attempt = earlier.attempt + 1 if earlier else 1
    return Decision("infer", "asked", source, summaries.output_name(name), key, attempt=attempt)


def join(sources: Sequence[Source], limits: readers.ReadLimits, reading: Reading) -> Document:
    """All sources as one document.

    Raises:
        DocumentError: the first of them that cannot be read.
    """
    return joined(
        [
            reading.submit(source, readers.load(source, limits), limits).result()
            for source in sources
        ]
    )


def joined(documents: Sequence[Document]) -> Document:
    """Several documents, or none, as one: texts one after the other, then the images."""
    text = "\n\n".join(document.text for document in documents if document.text)
    hashes = "".join(document.sha256 for document in documents)
    coverage: dict[str, tuple[int, int]] = {}
    for document in documents:
        for unit, (seen, total) in document.coverage.items():
            before = coverage.get(unit, (0, 0))
            coverage[unit] = (before[0] + seen, before[1] + total)
    return Document(
        source=documents[0].source if documents else Source(place="-", relative="-", origin="-"),
        sha256=hashlib.sha256(hashes.encode()).hexdigest(),
        bytes=sum(document.bytes for document in documents),
        media_type=documents[0].media_type if len(documents) == 1 else "multipart/mixed",
        text=text,
        images=tuple(image for document in documents for image in document.images),
        coverage=coverage,
        degraded=tuple(note for document in documents for note in document.degraded),
        # Of several documents, a page's number would not say whose it is.
        pages=documents[0].pages if len(documents) == 1 else (),
        header=documents[0].header if len(documents) == 1 else {},
        slide=documents[0].slide if len(documents) == 1 else None,
    )


def _generate(engine: Engine, prompt: Prompt, show: Callable[[str], None]) -> Generation:
    check_fits(prompt, engine)
    for piece in engine.stream(prompt):
        if isinstance(piece, Generation):
            return piece
        show(piece)
    raise DocumentError("engine")


def _check_name(decision: Decision, ledger: Ledger | None) -> None:
    if ledger is not None and decision.name is not None:
        known = ledger.by_key
        summaries.check_free(
            ledger.out, decision.name, lambda key: key == decision.key or key in known
        )


def _keep(record: Record, ledger: Ledger | None) -> Record:
    if ledger is not None:
        ledger.commit(record)
        if record.summary is not None and has_page(record):
            summaries.write(ledger.out, [(record.summary, summaries.render(record))])
    return record
