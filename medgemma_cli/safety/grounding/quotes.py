"""Are an output's quotes verbatim?

Covers quotes of findings, compared with white space folded and nothing else.
"""

from collections.abc import Iterable

from medgemma_cli.quoting import locate
from medgemma_cli.records import Flag, Place, Quote
from medgemma_cli.sentences import line_of


def check_quotes(
    quotes: Iterable[tuple[str, str]], text: str, places: Iterable[Place] = ()
) -> tuple[list[Quote], list[Flag]]:
    """Find quotes, each with the path of its finding; one that is not there is a `review` flag.

    Args:
        places: where quotes are known to stand; one that does not is searched for.
    """
    found: list[Quote] = []
    flags: list[Flag] = []
    known = {(place.where, place.quote): (place.start, place.end) for place in places}
    for where, quote in quotes:
        span = _confirmed(quote, known.get((where, quote)), text) or locate(quote, text)
        if span:
            start, end = span
            line = line_of(start, text)
            found.append(Quote(text=text[start:end], start=start, end=end, where=where, line=line))
        else:
            why = "The quote does not stand in the document; do not rely on the finding."
            flags.append(
                Flag(
                    rule="quote_not_in_source", severity="review", where=where, value=quote, why=why
                )
            )
    return found, flags


def _confirmed(quote: str, span: tuple[int, int] | None, text: str) -> tuple[int, int] | None:
    """The span, if the quote does stand there."""
    if span is None or text[span[0] : span[1]].split() != quote.split():
        return None
    return span
