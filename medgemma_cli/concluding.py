"""What an engine wrote for one document → its record, by every check there is."""

import time

from medgemma_cli.errors import DocumentError, one_document
from medgemma_cli.job import Job
from medgemma_cli.planning import Decision
from medgemma_cli.recording import make_record
from medgemma_cli.records import Contract, Document, Generation, ModelInfo, Record, Seconds
from medgemma_cli.safety.verdict import Verdict, covering, judge


def conclude(
    job: Job,
    model: ModelInfo,
    decision: Decision,
    document: Document,
    contract: Contract,
    generation: Generation,
    read_seconds: float = 0.0,
) -> Record:
    """The record of a document that an engine answered for.

    A check that fails in a way nobody foresaw ends as ``failed: internal``.
    """
    started = time.perf_counter()
    document = covering(document, generation)
    try:
        with one_document():
            verdict = judge(document, contract, generation)
    except DocumentError as error:
        verdict = Verdict(error.fault.status, error=error.code)
    seconds = Seconds(
        read=round(read_seconds, 6),
        generate=round(generation.seconds, 6),
        check=round(time.perf_counter() - started, 6),
    )
    return make_record(
        job, model, decision, verdict, document=document, generation=generation, seconds=seconds
    )
