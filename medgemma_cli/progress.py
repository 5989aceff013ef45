"""How a run is going: bars on a terminal, plain lines elsewhere, nothing in tests.

On a terminal the current document is named. Elsewhere (cron, CI) the log names a document only
by the first 12 hexadecimal digits of its key, so that no file name reaches it.
"""

import errno
import sys
import time
from collections import Counter
from typing import IO, TYPE_CHECKING, Protocol

from medgemma_cli.display import visible
from medgemma_cli.errors import StorageError
from medgemma_cli.records import Record

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress, TaskID
    from rich.text import Text

_LINE_EVERY = 60.0


class Reporter(Protocol):
    """What the pipeline, the engine and the model loader tell the user."""

    @property
    def wants_total(self) -> bool:
        """Whether counting the inputs beforehand is worth it."""

    def begin(self, total: int | None) -> None:
        """Documents will go by; `total` where it is known."""

    def document(self, record: Record) -> None:
        """One document has its record."""

    def note(self, text: str) -> None:
        """A sentence for the user; no document text, no file name."""

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """A slow step such as loading or converting: `done` of `total` (0: unknown)."""

    def tokens(self, count: int) -> None:
        """So many tokens were generated since the last call."""

    def end(self) -> None:
        """Nothing more will come."""


class SilentReporter:
    """Says nothing."""

    wants_total = False

    def begin(self, total: int | None) -> None:
        """Nothing."""

    def document(self, record: Record) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """Nothing."""

    def tokens(self, count: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class PlainReporter:
    """Lines on a stream: one a minute, and one for each document that failed.

    With `verbose`, every document is named as it is done.
    """

    wants_total = False

    def __init__(self, stream: IO[str] | None = None, *, verbose: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._verbose = verbose
        self._last = self._began = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._tokens = 0
        self._step = ""

    def begin(self, total: int | None) -> None:
        """Start the clock of the line a minute."""
        self._last = self._began = time.monotonic()

    def document(self, record: Record) -> None:
        """A line for a failure, or with `verbose` for each."""
        self._counts[record.status] += 1
        if self._verbose:
            code = f" {record.error.code}" if record.error else ""
            self.note(f"{record.status}{code}: {visible(record.source)}")
        elif record.error is not None:
            self.note(
                f"{record.status}: {(record.sha256 or record.key)[:12]} at {record.error.stage}: "
                f"{record.error.code}"
            )
        self._tick()

    def note(self, text: str) -> None:
        """The sentence, as a line."""
        emit(f"medgemma: {text}", self._stream)

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """A line when the step is new; then at most one a minute."""
        if text != self._step:
            self._step = text
            self.note(text)
        elif time.monotonic() - self._last > _LINE_EVERY:
            self._last = time.monotonic()
            self.note(f"{text} ({100 * done // total}%)" if total else text)

    def tokens(self, count: int) -> None:
        """Count them; a line when a minute has gone by."""
        self._tokens += count
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._last > _LINE_EVERY:
            self._last = now
            rate = self._tokens / max(now - self._began, 1e-9)
            self.note(f"{self._counts.total()} documents so far, {rate:.0f} tokens/s")

    def end(self) -> None:
        """Nothing: the command writes the final line."""


class RichReporter:
    """Two live lines on a terminal: the bar with its ETA; counts, speed, memory, the document."""

    wants_total = True

    def __init__(self) -> None:
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._details: Text | None = None
        self._task: TaskID | None = None
        self._step_task: tuple[str, TaskID] | None = None
        self._began = time.monotonic()
        self._tokens = 0
        self._counts: Counter[str] = Counter()
        self._name = ""

    def _start(self) -> "Progress":
        if self._progress is None:
            from rich.console import Console, Group
            from rich.live import Live
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.text import Text

            console = Console(stderr=True, markup=False, emoji=False, highlight=False)
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._details = Text(no_wrap=True, overflow="ellipsis", style="dim")
            group = Group(self._progress, self._details)
            self._live = Live(group, console=console, refresh_per_second=8, transient=True)
            self._live.start()
        return self._progress

    def begin(self, total: int | None) -> None:
        """Show the bar of documents."""
        self._began = time.monotonic()
        self._task = self._start().add_task("documents", total=total)

    def document(self, record: Record) -> None:
        """Move the bar on by one."""
        self._counts[record.status] += 1
        self._name = visible(record.source)
        if self._task is not None:
            self._start().advance(self._task)
        self._refresh()

    def note(self, text: str) -> None:
        """The sentence, above the bars."""
        if self._live is not None:
            self._live.console.print(text, style="dim", markup=False)
        else:
            emit(text, sys.stderr)

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """A bar of its own; it goes when the next step begins or a token comes."""
        progress = self._start()
        if self._step_task is not None and self._step_task[0] != text:
            self._drop_step()
        if self._step_task is None:
            self._step_task = (text, progress.add_task(text, total=total or None))
        progress.update(self._step_task[1], completed=done, total=total or None)

    def _drop_step(self) -> None:
        if self._step_task is not None:
            self._start().remove_task(self._step_task[1])
            self._step_task = None

    def tokens(self, count: int) -> None:
        """Bring tokens a second up to date."""
        self._tokens += count
        self._drop_step()
        self._refresh()

    def _refresh(self) -> None:
        if self._details is None:
            return
        import psutil

        rate = self._tokens / max(time.monotonic() - self._began, 1e-9)
        memory = psutil.Process().memory_info().rss / 2**30
        bad = self._counts["failed"] + self._counts["rejected"]
        self._details.plain = (
            f"{self._counts['flagged']} flagged, {bad} failed, {rate:.0f} tokens/s, "
            f"{memory:.1f} GiB, last: {self._name}"
        )

    def end(self) -> None:
        """Take the bars down."""
        self._drop_step()
        if self._live is not None:
            self._live.stop()
            self._live = self._progress = self._details = None


def emit(text: str, stream: IO[str] | None = None) -> None:
    """Print a line; a stream that is closed or whose reader went away is no reason to stop.

    Raises:
        StorageError: 74, results on standard output could not be written (a full disk).
    """
    target = stream if stream is not None else sys.stdout
    if target is None:
        return
    try:
        print(text, file=target, flush=True)
    except ValueError:
        return
    except OSError as error:
        if target is sys.stdout and error.errno not in (errno.EPIPE, errno.EBADF):
            raise StorageError(
                f"Standard output cannot be written ({error.strerror}).",
                "Make room, then run again; everything finished is kept.",
            ) from None


def reporter_for(*, quiet: bool, verbose: bool) -> Reporter:
    """The reporter that suits standard error."""
    if quiet:
        return SilentReporter()
    stream = sys.stderr
    if stream is not None and stream.isatty():
        return RichReporter()
    return PlainReporter(stream, verbose=verbose)
