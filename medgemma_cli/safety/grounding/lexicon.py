"""The word lists of `safety/data`, read at first use, and the longest-match search over tokens."""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from medgemma_cli.safety.grounding.words import Token, fold, tokens

Entry = tuple[tuple[str, ...], str, str, str]  # further words, category, id, kind


class Term(NamedTuple):
    """A phrase found: tokens `first` up to `last` name `id`, which is a `kind` in `category`."""

    category: str
    id: str
    kind: str
    first: int
    last: int


class Phrases:
    """Phrases by their first words; each category finds its own longest matches."""

    def __init__(self) -> None:
        self._by_first: dict[str, list[Entry]] = {}
        self._by_second: dict[str, tuple[dict[str, list[Entry]], list[Entry]]] = {}

    def add(
        self, phrase: str, category: str, name: str, kind: str = "", *, exact: bool = False
    ) -> None:
        """Let a phrase stand for a name; words are compared in the singular, or exactly."""
        found = tokens(fold(phrase))
        words = tuple(token.text if exact else token.base for token in found)
        if words:
            self._by_first.setdefault(words[0], []).append((words[1:], category, name, kind))

    def sort(self) -> "Phrases":
        """Longest first; call once all phrases are in."""
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: -len(entry[0]))
        for first, entries in self._by_first.items():
            alone = [entry for entry in entries if not entry[0]]
            pairs: dict[str, list[Entry]] = {}
            for entry in entries:
                if entry[0]:
                    pairs.setdefault(entry[0][0], []).append(entry)
            self._by_second[first] = {word: own + alone for word, own in pairs.items()}, alone
        return self

    def find(self, bases: Sequence[str], first: int = 0, last: int | None = None) -> Iterator[Term]:
        """Every longest match, by category, in the order of the text."""
        free: dict[str, int] = {}
        end = len(bases) if last is None else last
        known = self._by_second
        for at in [at for at in range(first, end) if bases[at] in known]:
            longer, alone = known[bases[at]]
            entries = longer.get(bases[at + 1], alone) if longer and at + 1 < end else alone
            for rest, category, name, kind in entries:
                stop = at + 1 + len(rest)
                if free.get(category, 0) > at or stop > end:
                    continue
                if not rest or tuple(bases[at + 1 : stop]) == rest:
                    free[category] = stop
                    yield Term(category, name, kind, at, stop)


def split(value: str) -> list[str]:
    """The parts of a list written as `a|b|c`, over several lines if need be."""
    return [part for raw in value.split("|") if (part := raw.strip())]


@cache
def toml(name: str) -> dict[str, Any]:
    """One of the data files, parsed."""
    text = (
        resources.files("medgemma_cli.safety").joinpath("data", f"{name}.toml").read_text("utf-8")
    )
    return tomllib.loads(text)


def rows(name: str) -> Iterator[list[str]]:
    """The rows of a tab-separated data file, without its comments."""
    text = resources.files("medgemma_cli.safety").joinpath("data", f"{name}.tsv").read_text("utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield [cell.strip() for cell in line.split("\t")]


@cache
def terms() -> Phrases:
    """Findings, anatomy, analytes and drugs."""
    found = Phrases()
    for concept, kind, variants in rows("findings"):
        for phrase in (concept, *split(variants)):
            found.add(phrase, "finding", concept, kind)
    for row in rows("anatomy"):
        for phrase in (row[0], *split(row[1])):
            found.add(phrase, "anatomy", row[0])
    for name, variants in toml("analytes")["names"].items():
        for phrase in split(variants):
            found.add(phrase, "analyte", name)
    _add_drugs(found)
    return found.sort()


def _add_drugs(found: Phrases) -> None:
    for name, *more in rows("drugs"):
        own = [name] if "+" not in name else [name.replace("+", " "), name.replace("+", " and ")]
        if "+" in name:
            own += [name.replace("+", "/"), " ".join(reversed(name.split("+")))]
        for phrase in (*own, *split(more[0] if more else "")):
            found.add(phrase, "drug", name, "drug")
    for name, members in toml("words")["classes"].items():
        found.add(name, "class", name, members)


@cache
def regions() -> dict[str, str]:
    """The wider region of each region of the body."""
    return {row[0]: row[2] if len(row) > 2 else "" for row in rows("anatomy")}


@cache
def placed() -> dict[str, tuple[str, str]]:
    """Findings that name their place, as the finding and the place."""
    found = {}
    for name, value in toml("words")["placed"].items():
        finding, place = split(value)
        found[name] = finding, place
    return found


@cache
def words(name: str) -> frozenset[str]:
    """One of the plain word lists of `words.toml`."""
    return frozenset(split(toml("words")[name]))


def bases(found: Iterable[Token]) -> list[str]:
    """The singulars of tokens."""
    return [token.base for token in found]
