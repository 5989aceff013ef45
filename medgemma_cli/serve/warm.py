"""An engine that stays loaded: prompts go in from any thread, answers come out as they are written.

One thread owns the engine. Whoever asks takes a place; places with the same prompt share one
answer, and an answer whose last place was left is given up, in the queue and on the device.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

from medgemma_cli.engines.base import Engine, Live, SoFar, check_fits
from medgemma_cli.errors import DocumentError, MedgemmaError, ModelUnavailableError, one_document
from medgemma_cli.records import Generation, Prompt
from medgemma_cli.serve.rounds import Rounds

_LOG = logging.getLogger(__name__)
_LOOK = 0.01  # seconds between looks at what the engine has done, while it works
_FAULTS = 3

Item = str | Generation | Exception
Listener = Callable[[Item], None]


class Place:
    """Somebody who waits for an answer."""

    def __init__(self, warm: "Warm", name: str, listen: Listener, watch: bool) -> None:
        self.name = name
        self.listen = listen
        self.watch = watch
        self.seen = ""
        self._warm = warm

    def leave(self) -> None:
        """Wait no longer; after the answer came, this does nothing."""
        self._warm.leave(self)


class _Task:
    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.places: list[Place] = []


class Warm:
    """Runs an engine in a thread of its own, from `start` to `close`.

    Args:
        lost: called, in that thread, when the engine is of no use any more.

    Attributes:
        error: why it is not, or None.
    """

    def __init__(self, engine: Engine, lost: Callable[[], None] = lambda: None) -> None:
        self.error: MedgemmaError | None = None
        self._engine = engine
        self._lost = lost
        self._live: Live = engine if isinstance(engine, Live) else Rounds(engine)
        self._changed = threading.Condition()
        self._tasks: dict[str, _Task] = {}
        self._queue: deque[_Task] = deque()
        self._inside: dict[str, _Task] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    # -- from any thread ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take prompts. The model is loaded by the first."""
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """End; what is unfinished gets no answer. Waits for the pass under way, but not longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def join(self, prompt: Prompt, listen: Listener, *, watch: bool = False) -> Place:
        """Take a place. `listen` gets, in the engine's thread, the answer or an error, once; with
        `watch`, before that, what was written since it was told last.

        Raises:
            ModelUnavailableError: the engine is lost.
        """
        place = Place(self, prompt.id, listen, watch)
        with self._changed:
            if self.error is not None or self._closed:
                raise _gone(self.error)
            task = self._tasks.get(prompt.id)
            if task is None:
                task = self._tasks[prompt.id] = _Task(prompt)
                self._queue.append(task)
            task.places.append(place)
            self._changed.notify_all()
        return place

    def leave(self, place: Place) -> None:
        """See `Place.leave`."""
        with self._changed:
            task = self._tasks.get(place.name)
            if task is None or place not in task.places:
                return
            task.places.remove(place)
            if not task.places:
                del self._tasks[place.name]

    def wanted(self, name: str) -> bool:
        """Whether the answer under this name is still waited for."""
        task = self._inside.get(name)
        return task is not None and bool(task.places) and not self._closed

    def watched(self, name: str) -> bool:
        """Whether somebody wants to see it as it is written."""
        task = self._inside.get(name)
        return task is not None and any(place.watch for place in list(task.places))

    # -- the engine's thread ------------------------------------------------------------------

    def _work(self) -> None:
        faults = 0
        while not self._closed and self.error is None:
            try:
                for event in self._live.live(self._feed(), self):
                    self._deliver(event)
                    faults = 0
                self._give_back()
            except MedgemmaError as error:
                self._lose(error)
            except BaseException:  # a panic of a Rust library is no `Exception`
                # Shown with --debug alone: the message may quote what was being worked on.
                _LOG.debug("the engine failed", exc_info=True)
                faults += 1
                self._give_back()
                if faults >= _FAULTS:
                    self._lose(
                        ModelUnavailableError(
                            "The engine fails at everything.", "Start again with --debug."
                        )
                    )

    def _feed(self) -> Iterator[Prompt | None]:
        """Prompts as they come. Blocks while the engine has nothing to do."""
        while True:
            with self._changed:
                if not self._ready():
                    self._changed.wait(_LOOK if self._inside else None)
                if self._closed:
                    return
                task = self._next()
                if task is not None:
                    self._inside[task.prompt.id] = task
            if task is None:
                if self._inside:
                    yield None
                continue
            try:
                with one_document():
                    check_fits(task.prompt, self._engine)
            except DocumentError as error:
                self._end(task, error)
            else:
                yield task.prompt

    def _ready(self) -> bool:
        return self._closed or any(task.prompt.id not in self._inside for task in self._queue)

    def _next(self) -> _Task | None:
        """The first that is wanted; one given up under the same name must have left before."""
        for task in list(self._queue):
            if task.prompt.id not in self._inside:
                self._queue.remove(task)
                if task.places:
                    return task
        return None

    def _deliver(self, event: Generation | SoFar) -> None:
        task = self._inside.get(event.id)
        if task is None:
            return
        self._show(task, event.text)
        if isinstance(event, Generation):
            self._end(task, event)

    def _show(self, task: _Task, text: str) -> None:
        for place in list(task.places):
            if place.watch and text.startswith(place.seen) and text != place.seen:
                place.listen(text[len(place.seen) :])
                place.seen = text

    def _end(self, task: _Task, item: Generation | Exception) -> None:
        name = task.prompt.id
        with self._changed:
            self._inside.pop(name, None)
            if self._tasks.get(name) is task:
                del self._tasks[name]
            places, task.places = task.places, []
        for place in places:
            place.listen(item)

    def _give_back(self) -> None:
        """What was under way when the engine stopped has failed."""
        for task in list(self._inside.values()):
            self._end(task, Generation(id=task.prompt.id, finish_reason="error", error="engine"))

    def _lose(self, error: MedgemmaError) -> None:
        with self._changed:
            self.error = error
            left = [*self._inside.values(), *self._queue]
            self._queue.clear()
        for task in left:
            self._end(task, _gone(error))
        self._lost()


def _gone(error: MedgemmaError | None) -> ModelUnavailableError:
    """The engine's last error, as one that concerns every request alike."""
    if error is None:
        return ModelUnavailableError("It is shutting down.", "Ask again.")
    return ModelUnavailableError(error.message, error.next_step)
