"""Paths, globs and lists become a stable, sorted stream of `Source`. Nothing is read here."""

import fnmatch
import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from medgemma_cli.errors import NoInputError, UsageError
from medgemma_cli.records import Source

STDIN = "-"


def printable(path: str) -> str:
    r"""A path as text that JSON can hold: undecodable bytes become ``\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Discovery:
    """Iterate the sources of a command line, in an order that depends on the paths alone.

    Args:
        paths: files, folders or globs (a glob counts only when no file has that very name),
            or ``-`` for standard input.
        suffixes: the kinds read from folders, lower case with their dot. Others are counted in
            `skipped`; named outright, they come out with the error ``unsupported``.
        files: further file names, one document each, relative to the working folder. ``..`` in
            one gives the error ``path_escape``; one that is not there, ``vanished``.
        include: keep files whose relative path or name matches any of these patterns.
        exclude: leave out files whose relative path or name matches any of these.
        out: a folder that is never read (the output of this run).
        limit: stop after so many.

    Symbolic links, hidden files and special files inside folders are left out; a link named
    outright is followed. Iterating twice gives the same stream and counts afresh.
    """

    def __init__(
        self,
        paths: Sequence[str],
        suffixes: frozenset[str],
        *,
        files: Iterable[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        out: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._paths = list(paths)
        self._files = list(files)
        self._suffixes = suffixes
        self._include = include
        self._exclude = exclude
        self._out = os.path.realpath(out) if out else None
        self._limit = limit

    def __iter__(self) -> Iterator[Source]:
        self.skipped.clear()
        stream = self._all()
        if len(self._paths) + len(self._files) > 1:
            stream = _unique(stream)
        return islice(stream, self._limit)

    def _all(self) -> Iterator[Source]:
        for path in self._paths:
            if path == STDIN:
                yield Source(path=Path(STDIN), relative=STDIN, origin=STDIN)
                continue
            matches = expand(path)
            if not matches:
                raise NoInputError(f"Nothing is at {printable(path)!r}.", "Check the path.")
            for match in matches:
                is_folder = Path(match).is_dir()
                yield from self._folder(match, "") if is_folder else self._named(match)
        for name in self._files:
            yield from self._listed(name)

    def _folder(self, folder: str, prefix: str) -> Iterator[Source]:
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            self.skipped["unreadable folder"] += 1
            return
        for entry in ordered:
            relative = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                self.skipped["symbolic link"] += 1
            elif entry.is_dir():
                if self._out is None or os.path.realpath(entry.path) != self._out:
                    yield from self._folder(entry.path, relative + "/")
            elif not entry.is_file():
                self.skipped["special file"] += 1
            elif self._wanted(relative):
                suffix = os.path.splitext(entry.name)[1].lower()
                if suffix in self._suffixes:
                    yield _source(entry.path, relative)
                else:
                    self.skipped[printable(suffix) or "without suffix"] += 1

    def _wanted(self, relative: str) -> bool:
        if not self._include and not self._exclude:
            return True
        name = relative.rpartition("/")[2]

        def matches(patterns: Sequence[str]) -> bool:
            return any(fnmatch.fnmatch(relative, p) or fnmatch.fnmatch(name, p) for p in patterns)

        return (not self._include or matches(self._include)) and not matches(self._exclude)

    def _named(self, path: str) -> Iterator[Source]:
        name = Path(path).name
        if self._wanted(name):
            yield _source(path, name, self._kind_error(path))

    def _listed(self, name: str) -> Iterator[Source]:
        if ".." in Path(name).parts:
            yield _source(name, name, "path_escape")
            return
        relative = os.path.relpath(name) if Path(name).is_absolute() else os.path.normpath(name)
        if relative.startswith(".."):
            relative = Path(name).name
        if self._wanted(relative):
            yield _source(name, relative, self._kind_error(name))

    def _kind_error(self, path: str) -> str | None:
        try:
            mode = Path(path).stat().st_mode
        except OSError:
            return "vanished"
        regular = stat.S_ISREG(mode) and Path(path).suffix.lower() in self._suffixes
        return None if regular else "unsupported"


def expand(path: str) -> list[str]:
    """The existing path itself, or what the glob matches, sorted; never hidden files."""
    if os.path.lexists(path):
        return [path]
    return sorted(glob.glob(path, recursive=True), key=os.fsencode)


def _source(path: str, relative: str, error: str | None = None) -> Source:
    origin = path if os.path.isabs(path) else os.path.abspath(path)
    return Source(
        path=Path(path), relative=printable(relative), origin=printable(origin), error=error
    )


def _unique(stream: Iterator[Source]) -> Iterator[Source]:
    seen: set[str] = set()
    for source in stream:
        if source.origin not in seen:
            seen.add(source.origin)
            yield source


def check_output_folder(paths: Sequence[str], out: Path) -> None:
    """Refuse an output folder that is an input folder, or lies above an input.

    Raises:
        UsageError: exit 2, before anything is written.
    """
    real_out = os.path.realpath(out)
    for path in paths:
        for match in [] if path == STDIN else expand(path):
            real = os.path.realpath(match)
            if real_out == real or real.startswith(real_out.rstrip("/") + "/"):
                raise UsageError(
                    "The output folder is, or lies above, an input.",
                    "Choose another -o; a folder inside the input is fine and is not read.",
                )


def read_list(lines: Iterable[str]) -> list[str]:
    """File names of a list, one a line; blank lines and ``#`` comments are left out."""
    names = (line.rstrip("\r\n") for line in lines)
    return [name for name in names if name.strip() and not name.startswith("#")]
