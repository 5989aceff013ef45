"""HTML through lxml and Inscriptis: the text that a browser would show, its tables in columns.

Nothing is fetched, no script is run. What is written into the page as hidden (`display: none`,
scripts, comments) is left out, as it is on a screen. Pictures, frames and embedded objects are
not read: each is told of.
"""

import codecs
import re
from typing import TYPE_CHECKING, Any

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import text as plain
from medgemma_cli.readers.limits import Content, ReadLimits

if TYPE_CHECKING:
    from inscriptis.model.config import ParserConfig

MEDIA_TYPES = {".html": "text/html", ".htm": "text/html"}
VERSION = "web/2"
LIBRARIES = ("inscriptis", "lxml")
_HEAD = 4096  # bytes in which a page says what its encoding is; browsers look at 1024
_CHARSET = re.compile(
    rb"<(?:meta|\?xml)\s[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)", re.I
)
# The WHATWG's Encoding Standard, section 4.2: these labels mean windows-1252.
_LATIN = {"ascii", "iso8859-1"}
_BLOCKS = re.findall(
    r"\S+",
    "address article aside blockquote caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form header hgroup hr legend li main menu nav ol optgroup option "
    "pre search section summary ul",
)
_BLANK = re.compile(r"\n{4,}")
# No character of XML 1.0 (section 2.2), which lxml holds to where it writes: a page may have them.
_UNWRITABLE = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


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
    markup = _UNWRITABLE.sub(" ", markup)
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
        _set_apart(tree)
        text = Inscriptis(tree, _config()).get_text()
    except RecursionError:
        raise DocumentError("limit") from None
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK.sub("\n\n\n", lines).strip("\n"), tuple(_unread(tree))


def _set_apart(tree: Any) -> None:
    """Each table in a block of its own: Inscriptis would write it on the line before it."""
    for table in list(tree.iter("table")):
        block = table.makeelement("div")
        block.tail, table.tail = table.tail, None
        table.getparent().replace(table, block)
        block.append(table)


def _config() -> "ParserConfig":
    """Without indents; all that the HTML standard (15.3) shows as blocks are blocks."""
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.html_properties import Display
    from inscriptis.model.config import ParserConfig
    from inscriptis.model.html_element import HtmlElement

    styles = dict(CSS_PROFILES["strict"])
    for name in _BLOCKS:
        styles.setdefault(name, HtmlElement(display=Display.block))
    return ParserConfig(css=styles)


def _unread(tree: Any) -> list[str]:
    """Notes on elements that show something else than text."""
    counts = {
        "pictures_not_read": ("img", "svg", "canvas", "picture"),
        "frames_not_read": ("iframe", "frame", "object", "embed"),
    }
    found = {name: sum(1 for _ in tree.iter(*tags)) for name, tags in counts.items()}
    return [f"{name}:{n}" for name, n in found.items() if n]
