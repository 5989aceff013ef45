"""Paths, globs and lists become a stable, sorted stream of `Source`.

Nothing is read here but the headers of DICOM files, which say what series a folder's slices are of.
"""

import fnmatch
import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from medgemma_cli.errors import NoInputError, UsageError
from medgemma_cli.readers import tables
from medgemma_cli.readers.dicom import series as dicom_series
from medgemma_cli.records import Source

STDIN = "-"
ARCHIVES = frozenset({".zip", ".7z", ".rar", ".tar", ".gz", ".tgz"})


def printable(path: str) -> str:
    r"""A path as text that JSON can hold: undecodable bytes become ``\xNN``, NUL ``\0``."""
    if path.isascii() and "\0" not in path:
        return path
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace("\0", "\\0")


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
        columns: which columns of tables are read, a document a row; None leaves tables out.
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
        columns: tables.Columns | None = None,
        limit: int | None = None,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._tables: set[str] = set()
        self._paths = list(paths)
        self._files = list(files)
        self._suffixes = suffixes
        self._include = include
        self._exclude = exclude
        self._out = os.path.realpath(out) if out else None
        self._columns = columns
        self._limit = limit

    def __iter__(self) -> Iterator[Source]:
        self.skipped.clear()
        self._tables.clear()
        stream = self._all()
        plain = len(self._paths) == 1 and os.path.lexists(self._paths[0])
        if not plain or self._files:
            stream = _unique(stream)
        return islice(stream, self._limit)

    def _all(self) -> Iterator[Source]:
        for number, path in enumerate(self._paths, 1):
            if path == STDIN:
                yield Source(place=STDIN, relative=STDIN, origin=STDIN)
                continue
            matches = expand(path)
            if not matches:
                # Its number, not its name: this may end in a log.
                raise NoInputError(f"PATH number {number} matches nothing.", "Check the path.")
            for match in matches:
                if self._is_output(match):
                    self.skipped["output of this run"] += 1
                elif os.path.isdir(match):
                    yield from self._folder(match)
                else:
                    yield from self._named(match)
        for name in self._files:
            yield from self._listed(name)

    def _is_output(self, path: str) -> bool:
        if self._out is None:
            return False
        real = os.path.realpath(path)
        return real == self._out or real.startswith(f"{self._out}/")

    def _folder(self, top: str) -> Iterator[Source]:
        """Depth first, in the order of names. A stack: folders may be nested without end."""
        stack: list[Iterator[tuple[os.DirEntry[str], str]]] = []
        series: list[dict[str, Source | None]] = []

        def enter(folder: str, prefix: str) -> None:
            entries = self._entries(folder, prefix)
            stack.append(iter(entries))
            series.append(self._series(entries))

        enter(top, "")
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                series.pop()
                continue
            entry, relative = found
            if entry.is_symlink():
                self.skipped["symbolic link"] += 1
            elif entry.is_dir():
                if self._out is None or not self._is_output(entry.path):
                    enter(entry.path, relative + "/")
            elif not entry.is_file():
                self.skipped["special file"] += 1
            elif self._wanted(relative):
                suffix = os.path.splitext(entry.name)[1].lower()
                if suffix in self._suffixes:
                    yield from self._one_of(entry.path, relative, series[-1])
                elif self._columns is not None and suffix in tables.SUFFIXES:
                    yield from self._rows(_source(entry.path, relative))
                else:
                    self.skipped[printable(suffix) or "without suffix"] += 1

    def _entries(self, folder: str, prefix: str) -> "list[tuple[os.DirEntry[str], str]]":
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            self.skipped["unreadable folder"] += 1
            return []
        return [(e, prefix + e.name) for e in ordered if not e.name.startswith(".")]

    def _series(self, entries: "list[tuple[os.DirEntry[str], str]]") -> "dict[str, Source | None]":
        """The files of one folder that are slices: the first of a series stands for all of it."""
        files = {
            entry.path: relative
            for entry, relative in entries
            if entry.name.lower().endswith(dicom_series.SUFFIXES)
            and entry.is_file(follow_symlinks=False)
            and self._wanted(relative)
        }
        if len(files) < 2 or self._suffixes.isdisjoint(dicom_series.SUFFIXES):
            return {}
        found: dict[str, Source | None] = {}
        for mark, parts in dicom_series.groups(list(files)).items():
            found.update(dict.fromkeys(parts))
            first = parts[0]
            relative = files[first].rpartition("/")
            place = os.path.join(os.path.dirname(first), mark)
            name = f"{relative[0]}{relative[1]}{mark}"
            found[first] = _source(place, name).model_copy(update={"parts": parts})
        return found

    def _one_of(
        self, path: str, relative: str, series: "dict[str, Source | None]"
    ) -> Iterator[Source]:
        """A file of its own; the series that it is the first slice of; or nothing."""
        source = series[path] if path in series else _source(path, relative)
        if source is not None:
            yield source

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
            yield from self._rows(_source(path, name, self._kind_error(path)))

    def _listed(self, name: str) -> Iterator[Source]:
        if ".." in Path(name).parts:
            yield _source(name, name, "path_escape")
            return
        relative = os.path.relpath(name) if Path(name).is_absolute() else os.path.normpath(name)
        if relative.startswith(".."):
            relative = Path(name).name
        if self._is_output(name.replace("\0", "")):
            self.skipped["output of this run"] += 1
        elif self._wanted(relative):
            yield from self._rows(_source(name, relative, self._kind_error(name)))

    def _rows(self, source: Source) -> Iterator[Source]:
        """The rows of a table, each a source; anything else as it is."""
        if self._columns is None or source.error is not None or not _is_table(source.place):
            yield source
        elif (place := os.path.abspath(source.place)) not in self._tables:
            self._tables.add(place)
            yield from tables.sources(source, self._columns)

    def _kind_error(self, path: str) -> str | None:
        try:
            mode = Path(path).stat().st_mode
        except (OSError, ValueError):  # a NUL in the name is a ValueError
            return "vanished"
        suffix = Path(path).suffix.lower()
        if not stat.S_ISREG(mode):
            return "unsupported"
        if suffix in tables.SUFFIXES:
            return None if self._columns is not None else "no_text_column"
        if suffix in ARCHIVES:
            return "archive"
        return None if suffix in self._suffixes else "unsupported"


def expand(path: str) -> list[str]:
    """The existing path itself, or what the glob matches, sorted; never hidden files."""
    if os.path.lexists(path):
        return [path]
    found = glob.glob(path, recursive=True)
    return sorted((p for p in found if not _crosses_link(p, path)), key=os.fsencode)


def _crosses_link(path: str, pattern: str) -> bool:
    """Whether a match goes through a symbolic link that the pattern does not spell out."""
    parts = path.split("/")
    spelled = 0
    for mine, asked in zip(parts, pattern.split("/"), strict=False):
        if mine != asked:
            break
        spelled += 1
    return any(os.path.islink("/".join(parts[:i])) for i in range(spelled + 1, len(parts)))


def _source(path: str, relative: str, error: str | None = None) -> Source:
    origin = path if os.path.isabs(path) else os.path.abspath(path)
    return Source(place=path, relative=printable(relative), origin=printable(origin), error=error)


def _unique(stream: Iterator[Source]) -> Iterator[Source]:
    seen: set[str] = set()
    for source in stream:
        if source.row is not None:  # of a table that is met once
            yield source
            continue
        place = os.path.abspath(source.place)  # with its undecodable bytes
        if place not in seen:
            seen.add(place)
            yield source


def check_output_folder(paths: Sequence[str], out: Path, files: Sequence[str] = ()) -> None:
    """Refuse an output folder that is an input folder, or lies above an input.

    Of a list (`files`) all must lie in it: a list made with `find` may hold old summaries, which
    are passed over.

    Raises:
        UsageError: exit 2, before anything is written.
    """
    real_out = os.path.realpath(out)

    def inside(path: str) -> bool:
        return f"{os.path.realpath(path)}/".startswith(f"{real_out.rstrip('/')}/")

    if files and all("\0" not in name and inside(name) for name in files):
        raise _output_above_input()
    for path in paths:
        for match in [] if path == STDIN else expand(path):
            # A pattern may meet its own output, which is then not read.
            if match == path and inside(match):
                raise _output_above_input()


def _is_table(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in tables.SUFFIXES


def check_tables(paths: Sequence[str], columns: tables.Columns | None) -> None:
    """Refuse tables named outright of which no row could be read with these columns.

    Raises:
        UsageError: 2, no column was named, or the table has none of that name.
    """
    for number, path in enumerate(paths, 1):
        if path == STDIN or not _is_table(path) or not os.path.isfile(path):
            continue
        if columns is None and tables.has_requests(path, tables.Columns().max_bytes):
            raise UsageError(
                f"PATH number {number} is a file of chat requests.",
                "Answer it with `medgemma batch FILE -o OUT`.",
            )
        if columns is None:
            raise UsageError(
                f"PATH number {number} is a table, and no column was named.",
                "Say which column has the documents: --text-column NAME, or --image-column NAME.",
            )
        if tables.check(path, columns) == "no_column":
            raise UsageError(
                f"PATH number {number}, a table, lacks a column that was named, or has it twice.",
                "Check --text-column, --image-column and --id-column; names are exact.",
            )


def _output_above_input() -> UsageError:
    return UsageError(
        "The output folder is, or lies above, an input.",
        "Choose another -o; a folder inside the input is fine and is not read.",
    )


def read_list(lines: Iterable[str]) -> list[str]:
    """File names of a list, one a line; blank lines and ``#`` comments are left out."""
    names = (line.rstrip("\r\n") for line in lines)
    return [name for name in names if name.strip() and not name.startswith("#")]
