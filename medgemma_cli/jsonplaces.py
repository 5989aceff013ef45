"""Where each value of a JSON text stands; `json` itself does not tell. Pure."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Leaf(NamedTuple):
    """A value of a JSON text that is no object or list: where, and its characters with quotes."""

    path: str
    start: int
    end: int
    value: Any


def leaves(text: str) -> Iterator[Leaf]:
    """Every value of a JSON object, in order, with its place in the text.

    Raises:
        ValueError: the text is no JSON.
    """
    load(text)
    yield from _Scanner(text).value("", 0)


def load(text: str) -> Any:
    """The value of a JSON text; a name may stand once in an object.

    Raises:
        ValueError: it is not JSON, or nested out of all reason.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return made


class _Scanner:
    """Walks a JSON text; `json` itself does not tell where a value stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self.end = 0

    def value(self, path: str, at: int) -> Iterator[Leaf]:
        at = self._skip(at)
        opening = self._text[at : at + 1]
        if opening not in ("{", "["):
            value, self.end = self._decoder.raw_decode(self._text, at)
            yield Leaf(path, at, self.end, value)
            return
        index, at = 0, self._skip(at + 1)
        while self._text[at : at + 1] not in ("}", "]", ""):
            inside = f"{path}[{index}]"
            if opening == "{":
                key, at = self._decoder.raw_decode(self._text, at)
                inside, at = f"{path}.{key}" if path else key, self._skip(at) + 1
            yield from self.value(inside, at)
            index, at = index + 1, self._skip(self.end)
            at = self._skip(at + 1) if self._text[at : at + 1] == "," else at
        self.end = at + 1

    def _skip(self, at: int) -> int:
        while self._text[at : at + 1] in (" ", "\n", "\r", "\t"):
            at += 1
        return at
