"""What is checked where there are two documents, a prior and a current one; or one, as ever.

Rules `quote_in_other_document` (a quote stands in the wrong document alone), `quote_in_both` (what
is called new or resolved stands in both) and `pair_differs` (two headers that are not of the same
kind of image). Facts are compared with both texts together, since a comparison speaks of both. So
this does not cover a value that is ascribed to the wrong one of them, a change told the wrong way
round, nor whether something in other words is really new: the quotes show that to a reader.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medgemma_cli.decoding import Quoted
from medgemma_cli.kinds import QUOTED
from medgemma_cli.quoting import locate
from medgemma_cli.records import Document, Flag, Quote, Which
from medgemma_cli.safety.grounding import quotes as verbatim
from medgemma_cli.safety.header import check_header
from medgemma_cli.safety.triage import triage

_BETWEEN = "\n\n"
_EXCLUSIVE = {"new_quote", "resolved_quote"}
_IN_BOTH = "What is called new or resolved is quoted with words that stand in both documents."
_DIFFERS = "The headers of the two images differ in this; they may not be comparable."


def by_name(document: Document) -> dict[Which, Document]:
    """The document alone as ``current``, or both of a pair, the earlier one first."""
    if document.prior is None:
        return {"current": document}
    return {"prior": document.prior, "current": document}


def check_quotes(quoted: Iterable[Quoted], document: Document) -> tuple[list[Quote], list[Flag]]:
    """Find quotes in the documents that they must be of, in their order.

    Returns:
        those that stand there, with page, and of a pair with the document; flags for the others.
    """
    documents = by_name(document)
    found: list[Quote] = []
    flags: list[Flag] = []
    for quote in quoted:
        own, pair = QUOTED[quote.form], len(documents) > 1
        text = documents[own].text if own in documents else ""
        right, wrong = verbatim.check_quotes([(quote.where, quote.text)], text)
        for one in right:
            about = {"page": documents[own].page_of(one.start), "document": own if pair else None}
            found.append(one.model_copy(update=about))
        flags += wrong
        if pair:
            other = documents["prior" if own == "current" else "current"].text
            flags += _elsewhere(quote, own, bool(right), other)
    return found, flags


def _elsewhere(quote: Quoted, own: Which, stands: bool, other: str) -> Iterator[Flag]:
    """What it means that a quote stands in the other document, if it does."""
    if (stands and quote.form not in _EXCLUSIVE) or locate(quote.text, other) is None:
        return
    rule, why = "quote_in_both", _IN_BOTH
    if not stands:
        away = "current" if own == "prior" else "prior"
        rule = "quote_in_other_document"
        why = f"The quote is to be of the {own} document, and stands in the {away} one alone."
    yield Flag(
        rule=rule, severity="review", where=quote.where, value=quote.text, why=why, document=own
    )


def triaged(document: Document) -> list[Flag]:
    """`triage` of the text, or of both texts, each flag with the document that it is about."""
    if document.prior is None:
        return triage(document.text)
    return [
        flag.model_copy(update={"document": name})
        for name, one in by_name(document).items()
        for flag in triage(one.text)
    ]


def check_headers(document: Document, fields: Mapping[str, Any]) -> list[Flag]:
    """The output against the header of its image; of a pair, where both headers agree.

    Two headers that differ are told of instead: what the output says may be of either.
    """
    if document.prior is None:
        return check_header(document.header, fields)
    before, now = document.prior.header, document.header
    shared = {name: word for name, word in now.items() if before.get(name) == word}
    flags = [
        Flag(rule="pair_differs", severity="review", where="source", value=name, why=_DIFFERS)
        for name in ("modality", "body_part", "laterality")
        if name in before and name in now and name not in shared
    ]
    return [*flags, *check_header(shared, fields)]


class Whole:
    """The text of a document, or of both of a pair, as one.

    Attributes:
        text: the earlier one first.
    """

    def __init__(self, document: Document) -> None:
        prior = document.prior
        self.text = document.text if prior is None else prior.text + _BETWEEN + document.text
        self._end = None if prior is None else len(prior.text)

    def placed(self, flag: Flag) -> Flag:
        """A flag whose span counts in `text`, with a span that counts in its own document."""
        if self._end is None or flag.span is None:
            return flag
        start, end = flag.span
        if start < self._end:
            return flag.model_copy(
                update={"document": "prior", "span": (start, min(end, self._end))}
            )
        shift = self._end + len(_BETWEEN)
        span = (max(start - shift, 0), max(end - shift, 0))
        return flag.model_copy(update={"document": "current", "span": span})
