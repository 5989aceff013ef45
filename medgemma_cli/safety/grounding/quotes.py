"""Are an output's quotes verbatim?

Covers quotes of findings, compared with white space folded and nothing else.
"""

from collections.abc import Iterable

from medgemma_cli.quoting import locate
from medgemma_cli.records import Flag, Quote
from medgemma_cli.sentences import line_of


def check_quotes(quotes: Iterable[tuple[str, str]], text: str) -> tuple[list[Quote], list[Flag]]:
    """Find quotes, each with the path of its finding; one that is not there is a `review` flag."""
    found: list[Quote] = []
    flags: list[Flag] = []
    for where, quote in quotes:
        span = locate(quote, text)
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
