"""Pages that are pictures, and who can take them: a document as template and model will see it."""

from collections.abc import Callable

from medgemma_cli.display import ranges
from medgemma_cli.errors import DocumentError
from medgemma_cli.records import Document
from medgemma_cli.templates import Template


def fit(template: Template, document: Document, reads_images: Callable[[], bool]) -> Document:
    """With the pictures of its pages, or, where those are not taken, with the pages counted as
    not read. Which of both is noted under `degraded`.

    Images that were given as images are not touched: a template or model that takes none refuses
    those.

    Args:
        reads_images: whether the model does; asked only of documents with such pages.

    Raises:
        DocumentError: no page would be read, since the template takes no images
            (``not_accepted``) or the model does not (``no_text_layer``).
    """
    if document.prior is not None:
        return _both(template, document, document.prior, reads_images)
    pages = [image.page for image in document.images if image.page is not None]
    if not pages:
        return document
    accepted = "image" in template.accepts
    if accepted and reads_images():
        note = f"pages_as_images:{ranges(pages)}"
        return document.model_copy(update={"degraded": (*document.degraded, note)})
    others = tuple(image for image in document.images if image.page is None)
    if not others and not _has_pages_of_text(document, set(pages)):
        raise DocumentError("no_text_layer" if accepted else "not_accepted")
    seen, total = document.coverage["pages"]
    coverage = document.coverage | {"pages": (seen - len(pages), total)}
    note = f"image_pages_not_read:{ranges(pages)}"
    degraded = (*document.degraded, note)
    return document.model_copy(
        update={"images": others, "coverage": coverage, "degraded": degraded}
    )


def _both(
    template: Template, document: Document, prior: Document, reads_images: Callable[[], bool]
) -> Document:
    """Each of a pair by itself; what is told of the earlier one is told with its name."""
    earlier = fit(template, prior, reads_images)
    later = fit(template, document.model_copy(update={"prior": None}), reads_images)
    if (earlier.degraded, earlier.coverage) == (prior.degraded, prior.coverage):
        return later.model_copy(update={"prior": earlier})
    notes = [f"prior:{note}" for note in earlier.degraded[len(prior.degraded) :]]
    counts = {f"prior_{unit}": seen for unit, seen in earlier.coverage.items()}
    changes = {
        "prior": earlier,
        "coverage": later.coverage | counts,
        "degraded": (*later.degraded, *notes),
    }
    return later.model_copy(update=changes)


def _has_pages_of_text(document: Document, pictures: set[int]) -> bool:
    """Whether there is text but for what stands on pages that are pictures, such as a stamp."""
    text, starts = document.text, document.pages
    if not starts:  # of several files
        return bool(text.strip())
    spans = enumerate(zip(starts, (*starts[1:], len(text)), strict=True), 1)
    return any(n not in pictures and text[start:end].strip() for n, (start, end) in spans)
