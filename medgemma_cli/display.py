"""Text from documents and file names, made safe to show. Imports nothing local."""

import re
from collections.abc import Iterable

# C0 (tab and newline are handled by the caller), DEL, C1, bidirectional and zero-width controls,
# line and paragraph separators, the BOM, tags, and the lone surrogates of undecodable names.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e01ef]"
)
_UNSAFE_BUT_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str, *, keep_lines: bool = False) -> str:
    r"""Show control, bidirectional and zero-width characters as escapes such as ``\x1b``.

    rich escapes markup but passes terminal controls through, so everything that came from
    outside goes through here before it meets a terminal, a log or a summary. With
    ``keep_lines`` newline and tab survive.
    """
    return (_UNSAFE_BUT_LINES if keep_lines else _UNSAFE).sub(_escape, text)


def pair_name(source: str, prior: str | None) -> str:
    """A document's name, of a pair both: the earlier one first."""
    return source if prior is None else f"{prior} → {source}"


_WWW = re.compile(r"(?<![A-Za-z0-9])(www)\.", re.IGNORECASE)

# What Markdown or HTML would act on. A backslash keeps the character and takes its meaning.
_MARKDOWN = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]!|~#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)


def markdown_text(text: str) -> str:
    """One line of plain text as Markdown that shows exactly that text.

    No HTML, image, link or control character survives as such: ``<script>`` is shown, not run,
    and nothing is fetched.
    """
    flat = " ".join(text.split())
    if not (flat.isascii() and flat.isprintable()):
        flat = visible(flat)
    # "://" and "www." would be made links by several renderers.
    shown = flat.translate(_MARKDOWN).replace("://", ":&#47;&#47;")
    return _WWW.sub(r"\1&#46;", shown) if "www." in shown.lower() else shown


def ranges(numbers: Iterable[int], most: int = 20) -> str:
    """Rising whole numbers in short, as ``1-3,7``; after so many ranges an ellipsis."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    told = [str(first) if first == last else f"{first}-{last}" for first, last in found[:most]]
    return ",".join([*told, *(["…"] if len(found) > most else [])])
