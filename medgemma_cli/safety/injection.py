"""Does a text address the model? By rule, on the text and on what it may hide.

Covers English instructions to a model and control tokens of chat templates: as they stand, with
white space folded, with invisible characters or tag characters, in look-alike forms that NFKC
folds, in Cyrillic or Greek letters that look Latin, with letters spaced out one by one, with
digits for letters, as HTML entities, and in base64 (also URL-safe, wrapped, or twice). Does not
cover other languages, other encodings, text inside images, or polite requests that could be a
clinician's. A document cannot end its turn whatever this finds: see `engines/encoding.py`.
"""

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Iterator

from medgemma_cli.safety.triage_rules import rules_of

_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ef]"
)
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}
# Letters of other scripts that look Latin; the Latin ones of the same look stand below.
_LOOKS = str.maketrans(
    "абвгдеёзікмнорстухуѕјһԁԛԝАВЕЅІЈКМНОРСТУХαβεικνορτυχηωΑΒΕΖΗΙΚΜΝΟΡΤΥΧıɡɑǃո",
    "a6brdee3ikmhopctyxysjhdqwABESIJKMHOPCTYXaBeikvoptuxnwABEZHIKMNOPTYXiga!n",
)
_DIGITS = str.maketrans("013457@$", "oieastas")
# One separator between each two letters, as in "i g n o r e" or "i.g.n.o.r.e".
_SPACED = re.compile(r"(?<![A-Za-z])(?:[A-Za-z][ .\-_*|]){2,}[A-Za-z](?![A-Za-z])")
_SEPARATORS = re.compile(r"[ .\-_*|]")
_MIXED = re.compile(r"[A-Za-z][013457@$][A-Za-z]")
_WRAPPED = re.compile(
    r"(?<=[A-Za-z0-9+/_-]{20})[ \t]*\r?\n[ \t]*(?=[A-Za-z0-9+/_-]{2,}={0,2}[ \t]*(?:\r?\n|$))"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}")
_URL_SAFE = str.maketrans("-_", "+/")
_SPACES = re.compile(r"\s+")
_READABLE = re.compile(r"[A-Za-z<\[][\x20-\x7e]{7}")


def find_injection(text: str) -> tuple[bool, tuple[int, int] | None]:
    """Whether the text addresses the model; where, if it does so as it stands."""
    if span := _search(text):
        return True, span
    return any(_search(form) for form in _hidden(text)), None


def _search(text: str) -> tuple[int, int] | None:
    """Where an instruction stands in the text, whatever white space it is spread over."""
    flat = " ".join(text.split())
    low = f" {flat.lower()}"
    for rule in rules_of("injection."):
        match = rule.trigger.search(flat) if rule.among(low) else None
        if match is not None:
            return _original(text, match.start()), _original(text, match.end() - 1) + 1
    return None


def _original(text: str, at: int) -> int:
    """The index in a text of the character at `at` once white space is folded and stripped."""
    removed = 0
    for run in _SPACES.finditer(text):
        if run.start() - removed >= at:
            break
        removed += len(run.group()) - (run.start() > 0)
    return at + removed


def _hidden(text: str, depth: int = 2) -> Iterator[str]:
    """What a text may say to a model that a reader does not see."""
    for form in _shown(text):
        if form != text:
            yield form
        yield from _respelled(form)
        for decoded in _decoded(form) if depth else ():
            yield decoded
            yield from _hidden(decoded, depth - 1)


def _shown(text: str) -> set[str]:
    """The text without what cannot be seen, in compatible forms."""
    if text.isascii():
        return {text}
    shown = text.translate(_TAGS)
    forms = [_INVISIBLE.sub("", shown), _INVISIBLE.sub(" ", shown), _INVISIBLE.sub("", text)]
    folded = {unicodedata.normalize("NFKC", form) for form in forms}
    bare = {_without_marks(form) for form in folded}
    return folded | bare | {form.translate(_LOOKS) for form in bare}


def _without_marks(text: str) -> str:
    """Without accents and other combining marks, which may be piled on letters."""
    return _MARKS.sub("", unicodedata.normalize("NFKD", text))


def _respelled(text: str) -> Iterator[str]:
    joined = _SPACED.sub(lambda match: _SEPARATORS.sub("", match.group()), text)
    if joined != text:
        yield joined
    if "&" in text and (plain := html.unescape(text)) != text:
        yield plain
    if _MIXED.search(text):
        yield text.translate(_DIGITS)


def _decoded(text: str) -> Iterator[str]:
    """What runs of base64 in the text decode to, where there is text in it."""
    for match in _BASE64.finditer(_WRAPPED.sub("", text)):
        run = match.group().translate(_URL_SAFE)
        # A run may begin with what is no part of it, such as the end of a path.
        for start in range(4):
            decoded = _text_of(run[start:])
            if _READABLE.search(decoded):
                yield decoded


def _text_of(run: str) -> str:
    """The text in what a run of base64 stands for."""
    try:
        data = base64.b64decode(run[: len(run) // 4 * 4] + _rest(run))
    except (binascii.Error, ValueError):
        return ""
    return data.decode("utf-8", "ignore")


def _rest(run: str) -> str:
    """The last, unfinished group of four, made whole; a single character is dropped."""
    rest = run[len(run) // 4 * 4 :]
    return rest + "=" * (4 - len(rest)) if len(rest) > 1 else ""
