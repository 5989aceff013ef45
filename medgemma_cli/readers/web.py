"""HTML through lxml and Inscriptis: the text that a browser would show, its tables in columns.

Nothing is fetched, no script is run. What is written into the page as hidden (`display: none`,
scripts, comments) is left out, as it is on a screen. Pictures, frames and embedded objects are
not read: each is told of.
"""

import codecs
import re

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import text as plain
from medgemma_cli.readers.limits import Content, ReadLimits

MEDIA_TYPES = {".html": "text/html", ".htm": "text/html"}
VERSION = "web/1"
LIBRARIES = ("inscriptis", "lxml")
_HEAD = 4096  # bytes in which a page says what its encoding is; browsers look at 1024
_CHARSET = re.compile(
    rb"<(?:meta|\?xml)\s[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)", re.I
)
# The WHATWG's Encoding Standard, section 4.2: these labels mean windows-1252.
_LATIN = {"ascii", "iso8859-1"}
_BLANK = re.compile(r"\n{4,}")


def read(data: bytes, limits: ReadLimits) -> Content:
    """The text of a page, in the encoding of its mark, of `--encoding`, or that it declares.

    Raises:
        DocumentError: ``no_converter``, ``not_text``, ``encoding``, ``no_text``, ``limit``
            (elements nested too deeply).
    """
    encoding = limits.encoding or _declared(data[:_HEAD])
    markup = plain.read(data, limits._replace(encoding=encoding)).text
    text, notes = convert(markup)
    if not text:
        raise DocumentError("no_text")
    return Content(text=text, coverage={"characters": (len(text), len(text))}, degraded=notes)


def _declared(head: bytes) -> str | None:
    found = _CHARSET.search(head)
    if found is None:
        return None
    try:
        name = codecs.lookup(found.group(1).decode("ascii")).name
    except (LookupError, ValueError):
        raise DocumentError("encoding") from None
    if name.startswith("utf-16"):
        return None  # it could not have been found there: the standard says UTF-8
    return "cp1252" if name in _LATIN else name


def convert(markup: str) -> tuple[str, tuple[str, ...]]:
    """The text of markup, and notes on what of it was not read.

    Raises:
        DocumentError: ``no_converter``, ``not_text`` (a NUL), ``limit``.
    """
    try:
        from inscriptis.html_engine import Inscriptis
        from lxml import etree, html
    except ImportError:
        raise DocumentError("no_converter") from None
    if "\0" in markup:
        raise DocumentError("not_text")  # libxml2 would end there
    # Comments and processing instructions take the text after them with them in Inscriptis.
    parser = html.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        tree = html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # there is no element in it
        return "", ()
    if any(entry.level >= etree.ErrorLevels.FATAL for entry in parser.error_log):
        raise DocumentError("limit")
    try:
        text = Inscriptis(tree).get_text()
    except RecursionError:
        raise DocumentError("limit") from None
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK.sub("\n\n\n", lines).strip("\n"), tuple(_unread(tree))


def _unread(tree: object) -> list[str]:
    """Notes on elements that show something else than text."""
    counts = {
        "pictures_not_read": ("img", "svg", "canvas", "picture"),
        "frames_not_read": ("iframe", "frame", "object", "embed"),
    }
    found = {name: sum(1 for _ in tree.iter(*tags)) for name, tags in counts.items()}  # type: ignore[attr-defined]
    return [f"{name}:{n}" for name, n in found.items() if n]
