"""The device's own thread: it decodes, while the host reads, tokenises, checks and writes.

A pass that fails costs no document but the one at fault: half of the lines leave and are started
again later, until the pass succeeds or one line is left, and that one is given up. The batch
grows back as answers come in. What runs out of memory is noted, and so is everything else.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from medgemma_cli.engines.base import unwatched
from medgemma_cli.engines.decode import Decoder
from medgemma_cli.engines.schedule import Capacity, Waiting, slices
from medgemma_cli.engines.work import Line, Work
from medgemma_cli.errors import ModelUnavailableError

_LOG = logging.getLogger(__name__)
# How long a first batch waits to be filled, in seconds: reading is mostly faster than this.
_PATIENCE = 0.3
# New prompts interrupt the others' decoding, so a few are shown at a time.
_REFILL = 4


class Done(NamedTuple):
    """A line that has its answer, by weights of this precision."""

    line: Line
    precision: str


class Failed(NamedTuple):
    """A work that cannot be done, and the code of `errors.FAULTS` for why."""

    work: Work
    code: str


class Shown(NamedTuple):
    """What a line has written so far; only where it is watched."""

    name: str
    ids: list[int]


Event = Done | Failed | Shown


def _nobody(name: str) -> bool:
    return False


def _everybody(name: str) -> bool:
    return True


class Device:
    """Works go in, events come out, until `abort`, or until `keep_going` says no.

    Args:
        load: gives the decoder, again after `reload`; called in the device's thread.
        keep_going: asked before works are taken; after a no, lines are finished and no more.
        begin: told the ids of works before they are shown together.
        watched: whether to tell, after each pass, what the line of this prompt has written.
        wanted: asked before each pass; a line whose prompt is not is given up.
    """

    def __init__(
        self,
        load: Callable[[], Decoder],
        capacity: Capacity,
        keep_going: Callable[[], bool],
        begin: Callable[[Sequence[str]], None] = unwatched,
        *,
        watched: Callable[[str], bool] = _nobody,
        wanted: Callable[[str], bool] = _everybody,
    ) -> None:
        self._begin = begin
        self._load = load
        self._capacity = capacity
        self._keep_going = keep_going
        self._watched = watched
        self._wanted = wanted
        self._waiting = Waiting()
        self._changed = threading.Condition()
        self._events: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
        self._closed = self._aborted = self._stopped = self._reloading = False
        self._rows = capacity.rows
        self._finished = 0
        self.ended = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)

    # -- the host's side ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def put(self, work: Work, *, first: bool = False) -> None:
        """Have a work done; with `first`, before those that wait."""
        with self._changed:
            if first:
                self._waiting.put_back([work])
            else:
                self._waiting.add(work)
            self._changed.notify()

    def reload(self) -> None:
        """Ask for the model to be loaded again, once the lines of now are done."""
        with self._changed:
            self._reloading = True
            self._changed.notify()

    def full(self) -> bool:
        """Whether there is enough to choose from, or nothing more will be taken."""
        with self._changed:
            return self._stopped or self._waiting.full(self._capacity.rows)

    def close(self) -> None:
        """Hardly anything more comes: a batch need not wait to be filled."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def abort(self) -> None:
        """Stop after the pass under way; whatever is unfinished is dropped."""
        with self._changed:
            self._aborted = True
            self._changed.notify()
        self._thread.join()

    def next(self, *, wait: bool) -> Event | None:
        """The next event; None where there is none yet, and where there will be none: `ended`.

        Raises:
            ModelUnavailableError: the device was lost, or the model could not be loaded again.
        """
        try:
            event = self._events.get(block=wait)
        except queue.Empty:
            return None
        if isinstance(event, BaseException):
            raise event
        self.ended = event is None
        return event

    # -- the device's side --------------------------------------------------------------------

    def _work(self) -> None:
        decoder = None
        try:
            decoder = self._loaded()
            while self._admit_next(decoder):
                if self._reloading and not decoder.lines:
                    decoder = None  # or two models would be in memory
                    decoder = self._loaded()
                self._give_up(decoder)
                if decoder.lines:
                    self._step(decoder)
        except BaseException as error:
            self._events.put(error)
        finally:
            if decoder is not None:
                decoder.evict(len(decoder.lines))
            self._events.put(None)

    def _loaded(self) -> Decoder:
        decoder = self._load()
        # Not before: lines of the old weights may ask for it until then.
        self._reloading = False
        decoder.limit(self._capacity.tokens)
        return decoder

    def _admit_next(self, decoder: Decoder) -> bool:
        """Take more works, if there is room; False when all is done."""
        with self._changed:
            self._wait(decoder)
            if self._aborted:
                return False
            works = [] if self._reloading or self._stopped else self._take(decoder)
        wanted = []
        for work in works:
            if self._wanted(work.prompt.id):
                wanted.append(work)
            else:
                self._events.put(Failed(work, "engine"))
        for part in slices(wanted, self._capacity.shown):
            self._admit(decoder, part)
        return bool(decoder.lines) or not self._stopped

    def _wait(self, decoder: Decoder) -> None:
        """Until there is something to do; the device idles meanwhile."""
        if decoder.lines:
            return
        started = time.perf_counter()

        def over() -> bool:
            return self._aborted or self._stopped or self._reloading

        def filled() -> bool:
            return over() or self._closed or len(self._waiting) >= self._rows

        self._changed.wait_for(lambda: over() or len(self._waiting) > 0)
        self._changed.wait_for(filled, timeout=_PATIENCE)
        if self._waiting:
            decoder.timing.idle += time.perf_counter() - started

    def _take(self, decoder: Decoder) -> list[Work]:
        free = self._rows - len(decoder.lines)
        if not self._waiting or free < max(1, self._rows // _REFILL):
            return []
        if not self._keep_going():
            self._stopped = True
            self._waiting.clear()
            return []
        return self._waiting.take(self._rows, self._capacity.tokens, decoder.lines)

    def _admit(self, decoder: Decoder, works: list[Work]) -> None:
        """Show prompts; those that cannot be shown together are shown in halves."""
        code = "engine"
        self._begin([work.prompt.id for work in works])
        try:
            self._report(decoder, decoder.admit(works))
            return
        except (RuntimeError, ValueError, IndexError) as error:
            code = _code(error)
        # Outside the except block, or the traceback would keep the pass's memory alive.
        if not decoder.lines:
            decoder.evict(0)
        _release()
        if len(works) > 1:
            self._shrink(len(decoder.lines) + len(works) // 2)
            half = len(works) // 2
            noted = [work.again(f"batch_halved:{code}") for work in works]
            self._admit(decoder, noted[:half])
            self._admit(decoder, noted[half:])
        elif code == "oom" and decoder.lines:
            self._shrink(len(decoder.lines))
            with self._changed:
                self._waiting.put_back([works[0].again(f"batch_halved:{code}")])
        else:
            self._events.put(Failed(works[0], code))

    def _give_up(self, decoder: Decoder) -> None:
        """Lines that nobody waits for leave."""
        if all(self._wanted(line.work.prompt.id) for line in decoder.lines):
            return
        for line in decoder.drop(lambda work: not self._wanted(work.prompt.id)):
            self._events.put(Failed(line.work, "engine"))

    def _step(self, decoder: Decoder) -> None:
        code = "engine"
        try:
            done = decoder.step()
        except (RuntimeError, ValueError, IndexError) as error:
            code = _code(error)
        else:
            self._report(decoder, done)
            return
        _release()
        count = len(decoder.lines)
        if count == 1:
            self._events.put(Failed(decoder.evict(1)[0], code))
            return
        note = f"batch_halved:{code}"
        gone = [work.again(note) for work in decoder.evict(count - count // 2)]
        for line in decoder.lines:
            line.work = replace(line.work, notes=tuple(dict.fromkeys((*line.work.notes, note))))
        self._shrink(count // 2)
        with self._changed:
            self._waiting.put_back(gone)

    def _shrink(self, rows: int) -> None:
        self._rows, self._finished = max(1, min(rows, self._rows)), 0

    def _report(self, decoder: Decoder, done: list[Line]) -> None:
        for line in (*done, *decoder.lines):
            name = line.work.prompt.id
            if not line.work.tries and self._watched(name):
                self._events.put(Shown(name, list(line.answer.ids)))
        for line in done:
            self._events.put(Done(line, decoder.precision))
            self._finished += 1
        if self._rows < self._capacity.rows and self._finished >= 2 * self._rows:
            # It went well for a while: what was too much may have been one long document.
            self._rows, self._finished = min(2 * self._rows, self._capacity.rows), 0


def _code(error: Exception) -> str:
    """The fault's code.

    Raises:
        ModelUnavailableError: no document is at fault, the device is gone.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return "oom"
    text = str(error)
    if "ALLOC_FAILED" in text:
        return "oom"  # cuBLAS had no room for its workspace
    if any(word in text for word in ("device-side assert", "CUDA error", "device lost")):
        raise ModelUnavailableError(
            "The device was lost.", "Check it with `medgemma doctor`, then run again."
        ) from None
    # Shown with --debug alone: the message may quote what was being worked on.
    _LOG.debug("generation failed", exc_info=True)
    return "engine"


def _release() -> None:
    """Give the memory of a failed pass back to the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
