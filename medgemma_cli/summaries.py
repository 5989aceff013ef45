"""A record → one Markdown file, written atomically. A projection of the ledger, nothing more."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from medgemma_cli import files, pages
from medgemma_cli.errors import ConfigError, DocumentError, StorageError
from medgemma_cli.files import QUARANTINE, SHARDS, TEMPORARY, make_folder
from medgemma_cli.records import Record

MARK = "medgemma.summary/1"
_NAME_BYTES = 255
_PATH_BYTES = 4000  # of 4,096, with room for a temporary file's name
_TAIL = 300
_BLOCK = re.compile(
    rb"\n<!-- medgemma\.summary/1 key=([0-9a-f]{64}) created=(\S{1,40})"
    rb" sha256=([0-9a-f]{64}) -->\n\Z"
)


def output_name(relative: str, *, salt: str | None = None) -> str:
    """The summary's path under OUT: ``x.md`` → ``x.md``, any other ``x.txt`` → ``x.txt.md``.

    Names over 255 bytes are shortened with a hash; a `salt` (the path of a second document that
    would get the same name) adds one too.
    """
    if relative == "-":
        return "stdin.md"
    plain = relative.isascii() and len(relative) < _NAME_BYTES - 3 and "\0" not in relative
    if plain and salt is None and not relative.startswith((QUARANTINE, SHARDS)):
        return relative if relative.endswith(".md") else f"{relative}.md"
    *folders, name = relative.replace("\0", "\\0").split("/")
    name = name if name.endswith(".md") else f"{name}.md"
    mark = hashlib.sha256((salt or relative).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    stem = name.removesuffix(".md")
    if salt is not None or len(name.encode("utf-8", "surrogatepass")) > _NAME_BYTES:
        room = _NAME_BYTES - len(f"~{mark}.md")
        stem = stem.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore")
        name = f"{stem}~{mark}.md"
    folders = [_short(folder) for folder in folders]
    if folders and folders[0] in (QUARANTINE, SHARDS):
        folders[0] += "~"  # the ledger's own
    return "/".join([*folders, name])


def _short(folder: str) -> str:
    data = folder.encode("utf-8", "surrogatepass")
    if len(data) <= _NAME_BYTES:
        return folder
    mark = hashlib.sha256(data).hexdigest()[:12]
    return f"{data[: _NAME_BYTES - len(mark) - 1].decode('utf-8', 'ignore')}~{mark}"


def render(record: Record) -> str:
    """The whole summary file of a record, its provenance block last. Pure."""
    body = pages.page(record)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"{body}\n<!-- {MARK} key={record.key} created={record.created} sha256={digest} -->\n"


def key_of(path: str | Path) -> str | None:
    """The key in a file's provenance block, altered since or not; None if it is not ours."""
    match = _block_of(path)
    return match.group(1).decode() if match else None


def is_intact(path: str | Path) -> bool:
    """Whether a file is a summary as it was written."""
    try:
        return _intact(read(path)) is not None
    except OSError:
        return False


def state(path: str, key: str, created: str) -> str:
    """``current``, ``stale`` (of another record), ``altered`` (by hand) or ``missing``."""
    try:
        data = read(path)
    except OSError:
        return "missing"
    match = _intact(data)
    if match is None:
        return "altered"
    same = match.group(1).decode() == key and match.group(2).decode() == created
    return "current" if same else "stale"


def _intact(data: bytes) -> re.Match[bytes] | None:
    """The provenance block of a summary that is as it was written."""
    match = _BLOCK.search(data[-_TAIL:])
    if match is None:
        return None
    body = data[: len(data) - len(match.group())]
    return match if hashlib.sha256(body).hexdigest() == match.group(3).decode() else None


def read(path: str | Path, *, first: int | None = None, last: int | None = None) -> bytes:
    """A regular file's bytes, or its first or last ones; a FIFO put in its place does not block.

    Raises:
        OSError: also for anything that is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        size = status.st_size
        if last is not None and size > last:
            os.lseek(descriptor, size - last, os.SEEK_SET)
        if first is not None and size > first:
            return os.read(descriptor, first)
        data = os.read(descriptor, size)
        while more := os.read(descriptor, size + 1) if len(data) < size else b"":
            data += more
        return data
    finally:
        os.close(descriptor)


def _block_of(path: str | Path) -> re.Match[bytes] | None:
    try:
        return _BLOCK.search(read(path, last=_TAIL))
    except OSError:
        return None


def check_free(out: Path, name: str, known: Callable[[str], bool]) -> None:
    """Refuse a path at which a file stands that is not ours, or that leads out of OUT.

    A symbolic link at the path itself is fine: writing replaces the link, never its target.
    `known` says whether a key is one of this ledger: another's summaries are not ours either.

    Raises:
        DocumentError: ``output_exists``; ``output_too_long``, the system takes no such path.
    """
    check_parents(out, name)
    path = f"{out}/{name}"
    if not os.path.lexists(path) or os.path.islink(path):
        return
    key = key_of(path)
    if key is None or not known(key):
        raise DocumentError("output_exists")


def check_parents(out: Path, name: str) -> None:
    """Refuse a path that is too long, or that leads over a link or a file on its way.

    Raises:
        DocumentError: ``output_too_long``, ``output_exists``.
    """
    if len(os.fsencode(os.path.abspath(f"{out}/{name}"))) > _PATH_BYTES:
        raise DocumentError("output_too_long")
    at = str(out)
    for part in name.split("/")[:-1]:
        at = f"{at}/{part}"
        if os.path.islink(at) or (os.path.lexists(at) and not os.path.isdir(at)):
            raise DocumentError("output_exists")


def write(out: Path, pages: Iterable[tuple[str, str]], *, fsync: bool = True) -> None:
    """Write summaries, by name and text: each whole or not at all, see `files.replace_files`.

    Raises:
        StorageError: 74; the records stand and what is missing is made at the next start.
    """
    try:
        files.replace_files(((f"{out}/{n}", text.encode()) for n, text in pages), fsync=fsync)
    except OSError as error:
        raise StorageError(
            f"A summary could not be written ({error.strerror}).",
            "Make room or check the folder, then run again; its record is kept.",
        ) from None


def sweep(out: Path) -> Iterator[str]:
    """Every Markdown file under OUT, as a relative name; sweeps temporary files left by a kill."""
    for name in walk(out):
        if is_temporary(name):
            (out / name).unlink(missing_ok=True)
        else:
            yield name


def walk(out: Path) -> Iterator[str]:
    """Every Markdown file and every temporary file under OUT; of the quarantine only these."""
    for name in files_below(out):
        if is_temporary(name) or (name.endswith(".md") and not name.startswith(f"{QUARANTINE}/")):
            yield name


def files_below(out: Path) -> Iterator[str]:
    """Every regular file under a folder, as a relative name; temporary ones of any kind.

    Shards that are not merged are output folders of their own, and left out.
    """
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(out / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    stack.extend([] if name == SHARDS else [name + "/"])
                elif is_temporary(name) or entry.is_file(follow_symlinks=False):
                    yield name


def is_temporary(name: str) -> bool:
    """Whether a name is that of a file that was to be renamed into place."""
    return os.path.basename(name).startswith(TEMPORARY) and name.endswith(".tmp")


def refuse_orphans(out: Path, names: Iterable[str]) -> None:
    """Refuse to begin a ledger among summaries whose own ledger is gone.

    Raises:
        ConfigError: 78.
    """
    if any(key_of(out / name) is not None for name in names):
        raise ConfigError(
            "The output folder has summaries, but their records.jsonl is gone.",
            "Restore it, choose another -o, or start a new ledger with --fresh.",
        )


def retire(out: Path, names: Iterable[str], folder: str) -> list[str]:
    """Move the summaries among these files to a folder under OUT; the names that were moved."""
    moved = [name for name in names if key_of(out / name) is not None]
    for name in moved:
        make_folder((out / folder / name).parent)
        os.replace(out / name, out / folder / name)
    return moved
