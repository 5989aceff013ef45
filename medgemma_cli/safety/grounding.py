"""Does the output stand in the source? So far: are its quotes verbatim.

Covers quotes of findings, compared with white space folded and nothing else. It does not yet
compare numbers, drugs, negations or sides; a record's `facts` stays empty until it does.
"""

import re
from typing import Any

from medgemma_cli.records import Flag, Quote

# A letter or digit of a script that puts spaces between words (not Thai, Chinese, Japanese …).
_WORD = re.compile(
    r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)


def locate(quote: str, text: str) -> tuple[int, int] | None:
    """Start and end of a quote in a text, in code points, white space folded; None if absent.

    A quote does not begin or end inside a word or number: "5 mg" does not stand in "125 mg" or
    "2.5 mg".
    """
    words = quote.split()
    if not words:
        return None
    start = text.find(quote)
    if start >= 0 and _is_whole(text, start, start + len(quote)):
        return start, start + len(quote)
    for match in re.finditer(r"\s+".join(map(re.escape, words)), text):
        if _is_whole(text, *match.span()):
            return match.span()
    return None


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether a span is not cut out of a word or a number at either end."""
    if _WORD.match(text, start) and start > 0:
        before = text[start - 1]
        inside = before in ".," and text[start - 2 : start - 1].isdigit()
        if inside or _WORD.match(before):
            return False
    if _WORD.match(text, end - 1) and end < len(text):
        after = text[end]
        inside = after in ".," and text[end + 1 : end + 2].isdigit()
        if inside or _WORD.match(after):
            return False
    return True


def check_quotes(output: dict[str, Any], text: str) -> tuple[list[Quote], list[Flag]]:
    """Find every finding's quote in the text; one that is not there is a `review` flag."""
    quotes: list[Quote] = []
    flags: list[Flag] = []
    for where, finding in _findings(output):
        span = locate(finding["quote"], text)
        if span:
            quotes.append(Quote(text=text[span[0] : span[1]], start=span[0], end=span[1]))
        else:
            flags.append(
                Flag(
                    rule="quote_not_in_source",
                    severity="review",
                    where=where,
                    value=finding["quote"],
                    why="The quote does not stand in the document; do not rely on the finding.",
                )
            )
    return quotes, flags


def _findings(output: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}[{i}]" if isinstance(value, list) else name, item)
        for name, value in output.items()
        for i, item in enumerate(value if isinstance(value, list) else [value])
        if isinstance(item, dict) and "quote" in item
    ]
