"""The RULE of `--pair-by`: what of a document says whose it is, and when it is from.

`front-matter:KEY,…,KEY` reads the YAML between two --- lines at the beginning of a text; the last
key is the date. `name:PATTERN` is a regular expression with a group `date`, or `order`, and others
that together say whose it is. What they find is kept as a hash: no identifier goes further.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from medgemma_cli.errors import UsageError
from medgemma_cli.pairing.moments import Moment, moment
from medgemma_cli.readers import image, text
from medgemma_cli.readers.dicom import MEDIA_TYPES as DICOM
from medgemma_cli.readers.pair import FRONT_MATTER
from medgemma_cli.records import Source

_HEAD = 16_384  # bytes in which front matter has to end
_DEFAULT = "patient,date"
_WHEN = {"date", "order"}
_DIGITS = 15
_PICTURES = frozenset({*image.MEDIA_TYPES, *DICOM})
_EXAMPLES = "Examples: front-matter:patient,date or name:'(?P<patient>.+)_(?P<date>\\d{8})'."


class Marks(NamedTuple):
    """Of one document: whose it is, as a hash, and when it is from; None: not there, or unclear."""

    group: str
    when: Moment | None


class Rule(Protocol):
    """Tells whose a document is.

    Attributes:
        masks: whether it goes by text that a model is then not shown.
    """

    masks: bool

    def marks(self, source: Source) -> Marks | None:
        """What is known of a source; None where it says nothing of whose it is.

        Raises:
            OSError: it cannot be opened.
        """


def rule(written: str, encoding: str | None = None) -> Rule:
    """The rule of `--pair-by`.

    Raises:
        UsageError: 2, it is no rule; the message says what is amiss.
    """
    kind, _, rest = written.partition(":")
    if kind == "front-matter":
        return FrontMatter(rest or _DEFAULT, encoding)
    if kind == "name" and rest:
        return Names(rest)
    raise UsageError("--pair-by is neither front-matter:KEYS nor name:PATTERN.", _EXAMPLES)


class Names:
    """By file names: of a file its name, of a row its id; with a slash in the pattern, the path.

    The whole of it must match, without its suffix or with it.
    """

    masks = False

    def __init__(self, pattern: str) -> None:
        try:
            self._pattern = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            where = getattr(error, "pos", None)
            at = f" at character {where + 1}" if where is not None else ""
            raise UsageError(
                f"The pattern of --pair-by is no regular expression{at}.", _EXAMPLES
            ) from None
        groups = set(self._pattern.groupindex)
        if len(groups.intersection(_WHEN)) != 1:
            raise UsageError(
                "The pattern of --pair-by needs one group for the time: (?P<date>…), or "
                "(?P<order>…) for a number.",
                _EXAMPLES,
            )
        if len(groups) < 2:
            raise UsageError(
                "The pattern of --pair-by has no group that says whose a document is, such as "
                "(?P<patient>…).",
                _EXAMPLES,
            )
        self._path = "/" in pattern

    def marks(self, source: Source) -> Marks | None:
        """See `Rule`."""
        whole = source.custom_id or source.name or source.relative
        name = whole if self._path else whole.rpartition("/")[2]
        stem = name if source.row is not None else os.path.splitext(name)[0]
        found = self._pattern.fullmatch(stem) or self._pattern.fullmatch(name)
        if found is None:
            return None
        said = found.groupdict()
        whose = {name: value or "" for name, value in said.items() if name not in _WHEN}
        if "order" in said:
            return _marks(source, whose, _number(said["order"] or ""))
        return _marks(source, whose, moment(said["date"] or ""))


class FrontMatter:
    """By front matter, of texts and of the texts of rows."""

    masks = True

    def __init__(self, keys: str, encoding: str | None = None) -> None:
        self._keys = [key.strip() for key in keys.split(",")]
        if len(self._keys) < 2 or "" in self._keys or len(set(self._keys)) < len(self._keys):
            raise UsageError(
                "--pair-by front-matter takes two keys or more, each once; the last is the date.",
                _EXAMPLES,
            )
        self._encoding = encoding

    def marks(self, source: Source) -> Marks | None:
        """See `Rule`."""
        found = FRONT_MATTER.match(self._head(source))
        values = {} if found is None else _values(found[1])
        whose = {key: values.get(key, "") for key in self._keys[:-1]}
        return _marks(source, whose, moment(values.get(self._keys[-1], "")))

    def _head(self, source: Source) -> str:
        if source.row is not None:
            return source.row.text[:_HEAD]
        if os.path.splitext(source.place)[1].lower() not in text.MEDIA_TYPES:
            return ""
        # O_NONBLOCK: a FIFO put in the file's place cannot hang the run.
        descriptor = os.open(source.place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_HEAD)
        encoding = text.mark_of(data) or self._encoding or "utf-8"
        return data.decode(encoding, "replace")


def _values(header: str) -> Mapping[str, str]:
    """The plain values of front matter; none where it is no mapping, or no YAML."""
    import yaml

    try:
        # The base loader makes texts, lists and mappings, nothing else.
        values = yaml.load(header, Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {k: v for k, v in values.items() if isinstance(k, str) and isinstance(v, str)}


def _marks(source: Source, whose: Mapping[str, str], when: Moment | None) -> Marks | None:
    """With a hash of whose it is; films are never paired with their reports."""
    plain = {name: _plain(value) for name, value in whose.items()}
    if not all(plain.values()):
        return None
    group = json.dumps([_is_picture(source), sorted(plain.items())])
    return Marks(hashlib.sha256(group.encode("ascii")).hexdigest(), when)


def _number(text: str) -> Moment | None:
    if not text.isdecimal() or len(text) > _DIGITS:
        return None
    return Moment("number", int(text), int(text) + 1)


def _plain(value: str) -> str:
    """The same name in one spelling of its accents and spaces; capitals tell people apart."""
    return " ".join(unicodedata.normalize("NFC", value).split())


def _is_picture(source: Source) -> bool:
    if source.row is not None:
        return bool(source.row.image)
    return bool(source.parts) or os.path.splitext(source.place)[1].lower() in _PICTURES
