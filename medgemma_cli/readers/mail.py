"""E-mail through the standard library: sender, date, subject and the text, plain before HTML.

Attachments, mails within the mail and pictures are never opened: they are counted and told of.
Nothing that the mail links to is fetched.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import web
from medgemma_cli.readers.limits import Content, ReadLimits

if TYPE_CHECKING:
    from email.message import EmailMessage

MEDIA_TYPES = {".eml": "message/rfc822"}
VERSION = "mail/1"
LIBRARIES = web.LIBRARIES
_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_SEALED = {"application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted"}
# Of the defects in `email.errors`, those after which a text may not be whole.
_DAMAGE = {
    "StartBoundaryNotFoundDefect",
    "CloseBoundaryNotFoundDefect",
    "NoBoundaryInMultipartDefect",
    "MultipartInvariantViolationDefect",
    "InvalidBase64PaddingDefect",
    "InvalidBase64LengthDefect",
    "InvalidBase64CharactersDefect",
}


class _Part(NamedTuple):
    """A part of a mail: its text, and notes; None is one that is not opened."""

    text: str | None
    notes: tuple[str, ...] = ()


def read(data: bytes, limits: ReadLimits) -> Content:
    """The head's lines that a reader sees, a blank line, and the text.

    Raises:
        DocumentError: ``office_corrupt`` (no mail, or cut short), ``office_encrypted``,
            ``no_converter`` (an HTML text, without the extra), ``encoding``, ``no_text``,
            ``limit`` (nested too deeply).
    """
    from email import message_from_bytes, policy

    try:
        message = message_from_bytes(data, policy=policy.default)
        if not message.keys():
            raise DocumentError("office_corrupt")
        parts = list(_parts(message, limits))
        broken = any(type(d).__name__ in _DAMAGE for part in message.walk() for d in part.defects)
    except RecursionError:
        raise DocumentError("limit") from None
    if broken:
        raise DocumentError("office_corrupt")
    body = "\n\n".join(part.text.strip("\r\n") for part in parts if part.text)
    if not body.strip():
        raise DocumentError("no_text")
    text = "\n".join([*_head(message), "", body])
    attached = sum(part.text is None for part in parts)
    coverage = {"characters": (len(text), len(text))}
    notes = [note for part in parts for note in part.notes]
    if attached:
        coverage["attachments"] = (0, attached)
        notes.append(f"attachments_not_opened:{attached}")
    return Content(text=text, coverage=coverage, degraded=tuple(notes))


def _head(message: "EmailMessage") -> Iterator[str]:
    for name in _HEADERS:
        value = ""
        # The parser of headers raises whatever a damaged one leads it to.
        with contextlib.suppress(Exception):
            value = str(message[name] or "")
        value = " ".join(value.encode("utf-8", "replace").decode().split())
        if value:
            yield f"{name}: {value}"


def _parts(part: "EmailMessage", limits: ReadLimits) -> Iterator[_Part]:
    """The texts of a mail in order, and a `_Part` without text for each that is not opened."""
    kind = part.get_content_type()
    if kind in _SEALED:
        raise DocumentError("office_encrypted")
    if kind == "multipart/alternative":
        yield from _alternative(part, limits)
    elif part.get_content_maintype() == "multipart":
        for child in part.iter_parts():
            yield from _parts(cast("EmailMessage", child), limits)
    elif kind not in ("text/plain", "text/html") or part.is_attachment() or part.get_filename():
        yield _Part(None)
    else:
        text = _text(part, limits)
        yield _Part(*web.convert(text)) if kind == "text/html" else _Part(text)


def _alternative(part: "EmailMessage", limits: ReadLimits) -> Iterator[_Part]:
    """The plain form of the same text, unless it is blank."""
    forms = [cast("EmailMessage", child) for child in part.iter_parts()]
    # The sort is stable: of two of a kind the first comes first.
    forms.sort(key=lambda form: form.get_content_type() != "text/plain")
    for form in forms:
        found = list(_parts(form, limits))
        if any(one.text and one.text.strip() for one in found):
            yield from found
            return


def _text(part: "EmailMessage", limits: ReadLimits) -> str:
    """Decoded as it says, and never with replacement characters."""
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    charset = part.get_content_charset() or limits.encoding or "utf-8"
    try:
        return data.decode("utf-8" if charset == "us-ascii" else charset)
    except (ValueError, LookupError):  # of a name with a NUL in it, too
        raise DocumentError("encoding") from None
