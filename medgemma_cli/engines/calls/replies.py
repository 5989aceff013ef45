"""What a server sent → an answer, or what is wrong with it. Nothing of it is ever quoted.

A status says whether to ask again (`Again`), whether this document was refused (`Refused`), or
whether nothing can be had from the server at all (`ModelUnavailableError`).
"""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from medgemma_cli.engines.thoughts import CLOSE, OPEN
from medgemma_cli.errors import ModelUnavailableError

LONGEST = 16 * 2**20  # bytes of an answer
_LONGEST_WAIT = 300.0
_STOPPED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}
_CUT = {"length", "max_tokens", "max_new_tokens", "model_length"}
_TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|maximum (context|model|input|prompt|sequence)|max_model_len"
    r"|too (long|many tokens)|(exceed|longer than|larger than).{0,80}(token|context|window|limit)",
    re.IGNORECASE,
)
_NO_VISION = re.compile(r"image|vision|multi-?modal|mmproj", re.IGNORECASE)


class Again(Exception):
    """The same may be asked again. `kind` says what of it is the document's doing, perhaps.

    ``busy`` and ``gone`` are not: the server has too much to do, or is not there. ``fault`` may
    be: it failed, hung up in the middle, took too long, or sent what is no answer.
    """

    def __init__(self, kind: Literal["busy", "gone", "fault"], after: float | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.after = after


class Refused(Exception):
    """The server does not take this request; `code` is one of `errors.FAULTS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Reply(NamedTuple):
    """An answer. `thinking`: it ends inside a thought, or has nothing but one."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    thinking: bool = False


# -- statuses -----------------------------------------------------------------------------------


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Pass a 200; for everything else say what it comes to.

    Raises:
        Again: 408, 425, 429 and 5xx. Refused: 400, 413, 422 and other 4xx.
        ModelUnavailableError: 69, a redirection, or the key, the path or the model is wrong.
    """
    if status == 200:
        return
    if status in (429, 503):
        raise Again("busy", retry_after(headers.get("retry-after")))
    if status in (408, 425, 502, 504) or (status >= 500 and status != 501):
        raise Again("fault", retry_after(headers.get("retry-after")))
    if status < 400:
        raise ModelUnavailableError(
            f"The server answers with status {status}; redirections are not followed.",
            "Give the address that it leads to, if documents may go there.",
        )
    if status in (401, 402, 403, 407):
        raise ModelUnavailableError(
            f"The server does not let you in (status {status}).",
            "Set the variable MEDGEMMA_SERVER_API_KEY to its key.",
        )
    if status in (404, 405):
        raise ModelUnavailableError(
            f"The server has no such model, or no chat there (status {status}).",
            "Check --base-url (its path is mostly /v1) and --served-model.",
        )
    raise Refused(_refusal(body))


def _refusal(body: bytes) -> str:
    """Why, by what the server says; that is read here and shown nowhere."""
    said = body[:20_000].decode("utf-8", "replace")
    if _TOO_LONG.search(said):
        return "too_long"
    return "no_vision" if _NO_VISION.search(said) else "server_refused"


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); 5 minutes at most."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _LONGEST_WAIT)
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(at - (time.time() if now is None else now), 0.0), _LONGEST_WAIT)


# -- bodies -------------------------------------------------------------------------------------


def loaded(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Again: it says that it is something else, or is.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Again("fault")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Again("fault") from None
    if not isinstance(value, dict):
        raise Again("fault")
    return value


def reply(value: dict[str, Any]) -> Reply:
    """The answer of a chat completion.

    Raises:
        Again: it has none, or not the whole of one.
    """
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        raise Again("fault")
    content = message.get("content")
    if not isinstance(content, str | None):
        raise Again("fault")
    thought = message.get("reasoning_content") or message.get("reasoning")
    usage = value.get("usage")
    return made(content or "", first.get("finish_reason"), usage, thought=bool(thought))


def made(raw: str, finish: Any, usage: Any, *, thought: bool = False) -> Reply:
    """An answer of its parts; an ending that is not known is no ending.

    Raises:
        Again: the server says that the answer is not whole.
    """
    if not isinstance(finish, str) or finish not in _STOPPED | _CUT:
        raise Again("fault")
    text, thinking = without_thoughts(raw)
    usage = usage if isinstance(usage, dict) else {}
    cut = finish in _CUT
    return Reply(
        # A lone surrogate, which JSON can name, is no text.
        text=text.encode("utf-8", "replace").decode("utf-8"),
        finish="length" if cut else "stop",
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        thinking=thinking or (cut and thought and not text.strip()),
    )


def _count(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**31 else 0


def without_thoughts(text: str) -> tuple[str, bool]:
    """A text without thought blocks, and whether the last of them was left open."""
    kept = ""
    while OPEN in text:
        before, _, thought = text.partition(OPEN)
        kept += before
        _, closed, text = thought.partition(CLOSE)
        if not closed:
            return kept, True
    return kept + text, False


def shown(text: str) -> str:
    """What of an answer so far may be shown: no thoughts, no beginning of one's mark."""
    kept, thinking = without_thoughts(text)
    if thinking:
        return kept
    for size in range(min(len(OPEN) - 1, len(kept)), 0, -1):
        if kept.endswith(OPEN[:size]):
            return kept[:-size]
    return kept
