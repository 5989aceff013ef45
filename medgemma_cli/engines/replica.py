"""One engine in a process of its own, and what is said to it and by it. Knows nothing of Ray.

A thread runs the engine over a queue; `exchange` puts prompts in and takes generations out, and
waits a moment for either. Nothing is raised in it: what went wrong is in the report, without
document text, since exceptions end in the logs of whoever carries them.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from medgemma_cli.engines.base import Engine
from medgemma_cli.errors import MedgemmaError
from medgemma_cli.records import Generation, ModelInfo, Prompt

_LOG = logging.getLogger(__name__)
PATIENCE = 0.5  # seconds that an exchange waits for something to tell
LINGER = 0.2  # seconds that a batch is held open for another prompt
READY = 8  # prompts that wait in a replica, so that its device never does
_HEARD = 30.0  # seconds that the driver has to hear that the model is loaded


class Task(NamedTuple):
    """What a replica is told: prompts, whether `more` may follow soon, and whether to stop.

    After `stop` what is begun is finished, and the rest is dropped.
    """

    prompts: tuple[Prompt, ...] = ()
    more: bool = False
    stop: bool = False


class Failure(NamedTuple):
    """Why a replica's engine ended; `foreseen` is an error of the program's own."""

    message: str
    next_step: str
    foreseen: bool


class Report(NamedTuple):
    """What a replica tells.

    `waiting` counts prompts that are not begun; `loaded` says that documents are being worked on,
    so that a death is theirs and not the model's; `idle`, that it has nothing to do.
    """

    done: tuple[Generation, ...]
    waiting: int
    loaded: bool
    idle: bool
    pid: int
    node: str
    info: ModelInfo | None = None
    failed: Failure | None = None


class Replica:
    """Answers what it is given, in the order in which its engine finishes.

    Args:
        make: makes the engine; called in the replica's thread.
        identity: what the engine's identity must be: other weights give other answers.
        node: where this is.
    """

    def __init__(
        self, make: Callable[[], Engine], identity: dict[str, Any], node: str = ""
    ) -> None:
        self._make = make
        self._identity = identity
        self._node = node
        self._queue: deque[Prompt] = deque()
        self._done: list[Generation] = []
        self._changed = threading.Condition()
        self._more = self._stop = self._loaded = self._told = self._busy = False
        self._heard = self._told_at = 0
        self._engine: Engine | None = None
        self._failed: Failure | None = None
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)

    def exchange(self, task: Task) -> Report:
        """Take prompts; give what is done, as soon as there is something to tell."""
        with self._changed:
            self._queue.extend(task.prompts)
            self._more, self._stop = task.more, self._stop or task.stop
            if self._stop:
                self._queue.clear()
            self._heard += 1
            self._changed.notify_all()
            if self._thread.ident is None:
                self._thread.start()
            self._changed.wait_for(self._has_news, PATIENCE)
            return self._report()

    def _has_news(self) -> bool:
        hungry = self._more and len(self._queue) < READY // 2
        news = self._failed is not None or self._loaded != self._told
        first = self._heard == 1  # it says that it is there
        return bool(self._done) or news or hungry or first or (self._stop and not self._busy)

    def _report(self) -> Report:
        done, self._done = self._done, []
        if self._loaded and not self._told:
            self._told, self._told_at = True, self._heard
        return Report(
            done=tuple(done),
            waiting=len(self._queue),
            loaded=self._loaded,
            idle=not self._busy and not self._queue,
            pid=os.getpid(),
            node=self._node,
            info=self._engine.info if self._engine is not None else None,
            failed=self._failed,
        )

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            engine = self._make()
            if engine.identity != self._identity:
                failed: Failure | None = _OTHER
            else:
                self._engine = engine
                self._work(engine)
                return
        except MedgemmaError as error:
            failed = Failure(error.message, error.next_step, foreseen=True)
        except BaseException as error:  # its message may quote a document
            _LOG.debug("the engine of a replica ended", exc_info=True)
            kind = type(error).__name__
            failed = Failure(f"A replica's engine ended: {kind}.", _DEBUG, foreseen=False)
        with self._changed:
            self._failed, self._busy = failed, False
            self._changed.notify_all()

    def _work(self, engine: Engine) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._queue))
                self._busy = True
            for made in engine.generate(self._prompts(), self._keep_going, self._begin):
                with self._changed:
                    self._done.append(made)
                    self._changed.notify_all()

    def _prompts(self) -> Iterator[Prompt]:
        """What waits; with nothing more to come soon, a batch is not held open."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or not self._more, LINGER)
                if not self._queue:
                    return
                prompt = self._queue.popleft()
                if len(self._queue) < READY // 2:
                    self._changed.notify_all()
            yield prompt

    def _keep_going(self) -> bool:
        return not self._stop

    def _begin(self, ids: Sequence[str]) -> None:
        """Before the first document is begun, the driver knows that the model is loaded."""
        if not ids or self._loaded:
            return
        with self._changed:
            self._loaded = True
            self._changed.notify_all()
            # It asks again only when it has the report that says so.
            self._changed.wait_for(lambda: self._told and self._heard > self._told_at, _HEARD)


_DEBUG = "Run again with --debug, and report it."
_OTHER = Failure(
    "A replica has other weights or settings than this machine.",
    "Give --model a hub id, or a folder that is the same on every node; install the same version.",
    foreseen=True,
)
