"""A pair: an earlier document and a current one, each read by its own reader, as one `Document`.

Nothing is known here of why they belong together; see `pairing`.
"""

import re
from concurrent.futures import Future

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.pool import Reading
from medgemma_cli.records import Document, Source

MASKED = "front_matter_not_shown"
FRONT_MATTER = re.compile(r"---[ \t\r]*\n((?:[^\n]*\n)*?)(?:---|\.\.\.)[ \t\r]*(?:\n|\Z)")
_INK = re.compile(r"[^\r\n]")


def submit(
    reading: Reading, source: Source, blob: readers.Blob, limits: ReadLimits
) -> "Future[Document]":
    """The document in the bytes, or both of a pair as one, when they are ready.

    The future raises:
        DocumentError: of the document that it concerns, as `Reading.submit`.
    """
    if source.prior is None or blob.prior is None:
        return reading.submit(source, blob, limits)
    prior = reading.submit(source.prior, blob.prior, limits)
    current = reading.submit(source, blob, limits)
    made: Future[Document] = Future()

    def both(_: "Future[Document]") -> None:
        try:
            with readers.about("prior"):
                earlier = prior.result()
            with readers.about("current"):
                later = current.result()
            made.set_result(joined(source, earlier, later))
        except BaseException as error:  # whoever waits for it is told
            made.set_exception(error)

    # One after the other: it runs once, when the second of them is ready.
    prior.add_done_callback(lambda _: current.add_done_callback(both))
    return made


def joined(source: Source, prior: Document, current: Document) -> Document:
    """The current document with the earlier one beside it, and the coverage of both.

    Raises:
        DocumentError: ``no_text``, one has front matter alone, and that is not shown.
    """
    if source.masked:
        with readers.about("prior"):
            prior = _masked(prior)
        with readers.about("current"):
            current = _masked(current)
    earlier = {f"prior_{unit}": counts for unit, counts in prior.coverage.items()}
    notes = (f"prior:{note}" for note in prior.degraded)
    return current.model_copy(
        update={
            "prior": prior,
            "coverage": current.coverage | earlier,
            "degraded": (*current.degraded, *notes),
        }
    )


def _masked(document: Document) -> Document:
    """With spaces in place of its front matter: every other character keeps its place."""
    found = FRONT_MATTER.match(document.text)
    if found is None:
        return document
    text = _INK.sub(" ", found.group()) + document.text[found.end() :]
    if not text.strip():
        raise DocumentError("no_text")
    return document.model_copy(update={"text": text, "degraded": (*document.degraded, MASKED)})
