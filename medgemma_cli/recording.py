"""One document's story → its `Record`."""

from datetime import UTC, datetime
from typing import Any

from medgemma_cli import readers
from medgemma_cli.errors import FAULTS
from medgemma_cli.job import Job
from medgemma_cli.planning import Decision
from medgemma_cli.records import (
    Document,
    ErrorInfo,
    Generation,
    ModelInfo,
    Prior,
    Record,
    Seconds,
    Source,
    TemplateInfo,
)
from medgemma_cli.safety.framing import notice
from medgemma_cli.safety.verdict import Verdict


def now() -> str:
    """The time in UTC, ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def reading_of(job: Job, source: Source) -> dict[str, Any]:
    """How a source is read: the limits, and of a table's row the columns by their uses.

    With it, and with the bytes, whatever was read can be read again: `verifying` does.
    """
    columns = source.row.columns if source.row is not None else {}
    return job.read_limits._asdict() | ({"columns": columns} if columns else {})


def _prior_of(source: Source, document: Document | None, blob: readers.Blob | None) -> Prior | None:
    """What a record says of a pair's earlier document, as far as it was read."""
    if source.prior is None:
        return None
    read, raw = document and document.prior, blob and blob.prior
    return Prior(
        source=source.prior.relative,
        origin=source.prior.origin,
        custom_id=source.prior.custom_id,
        sha256=read.sha256 if read else raw.sha256 if raw else None,
        bytes=read.bytes if read else raw.size if raw else None,
        media_type=read.media_type if read else readers.media_type(source.prior),
        header=read.header if read and read.header else None,
    )


def renamed(prior: Prior | None, source: Source) -> Prior | None:
    """What a copied record says of an earlier document, under the names of another pair."""
    if prior is None or source.prior is None:
        return None
    names = {"source": source.prior.relative, "origin": source.prior.origin}
    return prior.model_copy(update={**names, "custom_id": source.prior.custom_id})


def make_record(
    job: Job,
    model: ModelInfo,
    decision: Decision,
    verdict: Verdict,
    *,
    document: Document | None = None,
    generation: Generation | None = None,
    seconds: Seconds | None = None,
) -> Record:
    """The record; `document` and `generation` are None where it did not come to that."""
    source, blob, fault = decision.source, decision.blob, None
    if verdict.error is not None:
        known = FAULTS[verdict.error]
        fault = ErrorInfo(
            code=verdict.error, stage=known.stage, hint=known.hint, document=decision.about
        )
    degraded = (
        *(document.degraded if document else ()),
        *(generation.degraded if generation else ()),
        *verdict.degraded,
    )
    return Record(
        key=decision.key,
        source=source.relative,
        origin=source.origin,
        summary=decision.name,
        custom_id=source.custom_id,
        sha256=document.sha256 if document else blob.sha256 if blob else None,
        bytes=document.bytes if document else blob.size if blob else None,
        media_type=document.media_type if document else readers.media_type(source, blob),
        header=document.header if document and document.header else None,
        reading=reading_of(job, source),
        slide=document.slide if document else None,
        prior=_prior_of(source, document, blob),
        template=TemplateInfo(name=job.template.name, hash=job.template.hash),
        model=model,
        status=verdict.status,
        attempt=decision.attempt,
        output=verdict.output,
        raw_text=generation.text if generation else None,
        parts=generation.parts if generation else (),
        evidence="quotes" if verdict.quotes else "none",
        quotes=verdict.quotes,
        flags=verdict.flags,
        facts=verdict.facts,
        omissions=verdict.omissions,
        confidence=verdict.confidence,
        coverage=document.coverage if document else {},
        degraded=degraded,
        usage=generation.usage if generation else None,
        finish_reason=generation.finish_reason if generation else None,
        seconds=seconds or Seconds(),
        error=fault,
        created=now(),
        notice=notice(bool(document and document.images)),
    )
