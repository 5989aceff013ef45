"""A warm engine: nobody is forgotten, nobody answered twice, and a fault costs what was inside."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Queue
from typing import Any

import pytest

from medgemma_cli.engines.base import Audience, SoFar
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.errors import DocumentError, ModelUnavailableError
from medgemma_cli.records import Contract, Generation, Limits, Message, Part, Prompt
from medgemma_cli.serve.rounds import Rounds
from medgemma_cli.serve.warm import Item, Warm


def asked(name: str, text: str = "Dry cough since Monday.") -> Prompt:
    """A question of free text."""
    part = Part(kind="document", text=text)
    return Prompt(
        id=name,
        messages=(Message(role="user", parts=(part,)),),
        contract=Contract(kind="text"),
        limits=Limits(max_new_tokens=20),
    )


class Slow(EchoEngine):
    """Says a word, then waits until it is let go on, or nobody wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.begun: list[str] = []
        self.given_up: list[str] = []

    def live(
        self, prompts: Iterable[Prompt | None], audience: Audience
    ) -> Iterator[Generation | SoFar]:
        """One by one."""
        for prompt in prompts:
            if prompt is None:
                continue
            self.begun.append(prompt.id)
            yield SoFar(prompt.id, "One")
            while not self.go.is_set() and audience.wanted(prompt.id):
                time.sleep(0.005)
            if not audience.wanted(prompt.id):
                self.given_up.append(prompt.id)
                yield Generation(id=prompt.id, finish_reason="error", error="engine")
            else:
                yield Generation(id=prompt.id, text="One two.")


class Failing(EchoEngine):
    """Raises what it is told at a prompt of this name."""

    def __init__(self, fault: Callable[[], BaseException]) -> None:
        super().__init__()
        self._fault = fault

    def live(
        self, prompts: Iterable[Prompt | None], audience: Audience
    ) -> Iterator[Generation | SoFar]:
        """As echo, but for that one."""
        for prompt in prompts:
            if prompt is None:
                continue
            if prompt.id.startswith("bad"):
                raise self._fault()
            yield Generation(id=prompt.id, text="fine")


@pytest.fixture
def made() -> Iterator[Callable[..., Warm]]:
    """Start warm engines; they end with the test."""
    started: list[Warm] = []

    def make(engine: Any, lost: Callable[[], None] = lambda: None) -> Warm:
        warm = Warm(engine, lost)
        warm.start()
        started.append(warm)
        return warm

    yield make
    for warm in started:
        warm.close()


def last(items: "Queue[Item]") -> Item:
    """The first item that is no piece."""
    while isinstance(item := items.get(timeout=60), str):
        pass
    return item


def test_every_place_gets_its_answer(made: Callable[..., Warm]) -> None:
    """A hundred prompts from four threads: each is answered once, with its own text."""
    warm = made(EchoEngine())
    queues: dict[str, Queue[Item]] = {str(i): Queue() for i in range(100)}

    def ask(names: list[str]) -> None:
        for name in names:
            warm.join(asked(name, f"Case {name} coughs."), queues[name].put)

    threads = [threading.Thread(target=ask, args=(list(queues)[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for name, items in queues.items():
        answer = last(items)
        assert isinstance(answer, Generation) and answer.text == f"Case {name} coughs."
        assert items.empty()


def test_the_same_prompt_is_inferred_once(made: Callable[..., Warm]) -> None:
    """Two who ask the same at the same time share an answer; a later one is asked anew."""
    engine = Slow()
    warm = made(engine)
    first: Queue[Item] = Queue()
    second: Queue[Item] = Queue()
    warm.join(asked("a"), first.put, watch=True)
    assert first.get(timeout=60) == "One"
    warm.join(asked("a"), second.put)
    engine.go.set()
    assert last(first) == last(second)
    assert engine.begun == ["a"]
    third: Queue[Item] = Queue()
    warm.join(asked("a"), third.put)
    assert isinstance(last(third), Generation) and engine.begun == ["a", "a"]


def test_pieces_are_what_is_new(made: Callable[..., Warm]) -> None:
    """Pieces and the end make the text; who does not watch gets no piece."""
    warm = made(EchoEngine())
    items: Queue[Item] = Queue()
    warm.join(asked("a"), items.put, watch=True)
    got: list[Item] = []
    while not got or isinstance(got[-1], str):
        got.append(items.get(timeout=60))
    assert got[:-1] == ["Dry ", "cough ", "since ", "Monday."]
    quiet: Queue[Item] = Queue()
    warm.join(asked("b"), quiet.put)
    assert isinstance(quiet.get(timeout=60), Generation)


def test_a_place_left_in_the_queue_is_never_begun(made: Callable[..., Warm]) -> None:
    """What waits behind another and is left never reaches the engine."""
    engine = Slow()
    warm = made(engine)
    first: Queue[Item] = Queue()
    third: Queue[Item] = Queue()
    warm.join(asked("a"), first.put, watch=True)
    assert first.get(timeout=60) == "One"
    warm.join(asked("b"), Queue().put).leave()
    warm.join(asked("c"), third.put)
    engine.go.set()
    assert isinstance(last(third), Generation)
    assert engine.begun == ["a", "c"]


def test_a_place_left_in_the_engine_is_given_up(made: Callable[..., Warm]) -> None:
    """The engine hears of it; who asks the same again gets a whole answer, not the broken one."""
    engine = Slow()
    warm = made(engine)
    first: Queue[Item] = Queue()
    place = warm.join(asked("a"), first.put, watch=True)
    assert first.get(timeout=60) == "One"
    place.leave()
    place.leave()
    again: Queue[Item] = Queue()
    warm.join(asked("a"), again.put)
    engine.go.set()
    answer = last(again)
    assert isinstance(answer, Generation) and answer.error is None
    assert engine.given_up == ["a"] and first.empty()


def test_a_fault_costs_what_was_inside(made: Callable[..., Warm]) -> None:
    """An exception of the engine fails that prompt; the next is answered."""
    warm = made(Failing(lambda: RuntimeError("CANARY")))
    bad: Queue[Item] = Queue()
    good: Queue[Item] = Queue()
    warm.join(asked("bad"), bad.put)
    failed = last(bad)
    assert isinstance(failed, Generation) and failed.error == "engine"
    warm.join(asked("good"), good.put)
    assert isinstance(last(good), Generation)
    assert warm.error is None


def test_a_lost_device_is_told_to_all(made: Callable[..., Warm]) -> None:
    """What is under way and what comes later hear of it, and whoever runs the server."""
    told = threading.Event()
    warm = made(Failing(lambda: ModelUnavailableError("Lost.", "Look.")), told.set)
    items: Queue[Item] = Queue()
    warm.join(asked("bad"), items.put)
    assert isinstance(last(items), ModelUnavailableError)
    assert told.wait(60)
    with pytest.raises(ModelUnavailableError):
        warm.join(asked("next"), items.put)


def test_an_engine_that_always_fails_is_given_up(made: Callable[..., Warm]) -> None:
    """Three faults in a row, and nothing between them that went well."""
    told = threading.Event()
    warm = made(Failing(lambda: RuntimeError("CANARY")), told.set)
    for i in range(3):
        items: Queue[Item] = Queue()
        warm.join(asked(f"bad{i}"), items.put)
        last(items)
    assert told.wait(60)
    assert warm.error is not None and "CANARY" not in str(warm.error)


def test_what_does_not_fit_is_told_before_the_engine(made: Callable[..., Warm]) -> None:
    """A prompt over the window is refused with its code, and its neighbours are answered."""
    engine = EchoEngine()
    engine.window = 30
    warm = made(engine)
    items: Queue[Item] = Queue()
    warm.join(asked("long", "word " * 40), items.put)
    refused = last(items)
    assert isinstance(refused, DocumentError) and refused.code == "too_long"
    warm.join(asked("short"), items.put)
    assert isinstance(last(items), Generation)


def test_close_ends_at_once_with_an_answer_under_way() -> None:
    """Closing does not wait for an answer that nobody will read."""
    warm = Warm(Slow())
    warm.start()
    items: Queue[Item] = Queue()
    warm.join(asked("a"), items.put, watch=True)
    assert items.get(timeout=60) == "One"
    started = time.monotonic()
    warm.close()
    assert time.monotonic() - started < 4  # and not the five seconds that closing waits
    with pytest.raises(ModelUnavailableError):
        warm.join(asked("b"), items.put)


def test_an_engine_that_takes_lists_is_asked_in_rounds(made: Callable[..., Warm]) -> None:
    """What has no `live` answers, too: all that waits together, what was left not at all."""
    batches: list[list[str]] = []

    class Plain:
        """Echo without `live`."""

        def __init__(self) -> None:
            self._echo = EchoEngine()
            self.window, self.reads_images, self.count = 1000, True, self._echo.count

        def generate(self, prompts: Iterable[Prompt], *_: Any) -> Iterator[Generation]:
            """As echo."""
            batch = list(prompts)
            batches.append([prompt.id for prompt in batch])
            time.sleep(0.05)
            yield from self._echo.generate(batch)

    warm = made(Plain())
    queues: list[Queue[Item]] = [Queue() for _ in range(9)]
    for i, items in enumerate(queues):
        warm.join(asked(str(i)), items.put)
    assert all(isinstance(last(items), Generation) for items in queues)
    assert sorted(name for batch in batches for name in batch) == [str(i) for i in range(9)]
    assert len(batches) < 9


def test_rounds_give_up_what_nobody_wants() -> None:
    """An unwanted prompt comes back with an error and is never generated."""

    class Nobody:
        """Wants b alone."""

        def wanted(self, name: str) -> bool:
            """Only b."""
            return name == "b"

        watched = wanted

    made = list(Rounds(EchoEngine()).live([asked("a"), asked("b"), None], Nobody()))
    assert [(one.id, one.error) for one in made] == [("a", "engine"), ("b", None)]
