"""The local engine, alive: fed as requests come, shown as it writes, given up when nobody waits."""

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from tiny import prompt

from medgemma_cli import models
from medgemma_cli.engines.base import SoFar
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.records import Generation, Prompt
from medgemma_cli.serve.warm import Item, Warm

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are no work for several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> LocalEngine:
    """One engine on the tiny checkpoint."""
    options = LocalOptions(precision="fp32", device="cpu", batch_size=4)
    return LocalEngine(models.resolve(str(checkpoint)), options)


def prompts(count: int, tokens: int = 12) -> list[Prompt]:
    """Unlike texts."""
    return [
        prompt(str(i), f"Note {i}. " + "Dry cough. " * (i % 5), tokens=tokens) for i in range(count)
    ]


class Audience:
    """Watches all, and wants what is not in `left`."""

    def __init__(self, *left: str) -> None:
        self.left = set(left)

    def wanted(self, name: str) -> bool:
        """Unless it was left."""
        return name not in self.left

    def watched(self, name: str) -> bool:
        """Everything."""
        return True


def test_alive_writes_what_generate_writes(engine: LocalEngine) -> None:
    """The same texts, whether all prompts are there at once or come with pauses between."""
    expected = {made.id: made.text for made in engine.generate(prompts(9))}

    def coming() -> Iterator[Prompt | None]:
        yield None
        for one in prompts(9):
            yield one
            yield None

    shown: dict[str, str] = {}
    made: dict[str, str] = {}
    for event in engine.live(coming(), Audience()):
        if isinstance(event, SoFar):
            assert event.text.startswith(shown.get(event.id, ""))
            shown[event.id] = event.text
        else:
            made[event.id] = event.text
    assert made == expected
    assert all(made[name].startswith(text) for name, text in shown.items()) and len(shown) == 9


def test_what_is_done_comes_out_while_nothing_comes_in(engine: LocalEngine) -> None:
    """A generation is handed out though the prompts have not ended."""
    ended = threading.Event()

    def coming() -> Iterator[Prompt | None]:
        yield from prompts(2)
        while not ended.is_set():
            yield None

    made = []
    for event in engine.live(coming(), Audience()):
        if isinstance(event, Generation):
            made.append(event.id)
            if len(made) == 2:
                ended.set()
    assert sorted(made) == ["0", "1"]


def test_a_line_that_nobody_wants_leaves(engine: LocalEngine) -> None:
    """It ends early with an error; the others write what they would have written."""
    expected = {made.id: made.text for made in engine.generate(prompts(4, tokens=60))}
    audience = Audience()
    made: dict[str, Generation] = {}
    for event in engine.live(iter(prompts(4, tokens=60)), audience):
        if isinstance(event, SoFar) and event.id == "2":
            audience.left.add("2")
        elif isinstance(event, Generation):
            made[event.id] = event
    assert made["2"].error == "engine"
    assert {n: g.text for n, g in made.items() if n != "2"} == {
        n: t for n, t in expected.items() if n != "2"
    }


def test_one_that_is_unwanted_before_it_began_never_begins(engine: LocalEngine) -> None:
    """It comes back with an error, and shows nothing."""
    events = list(engine.live(iter(prompts(3)), Audience("1")))
    assert not [event for event in events if isinstance(event, SoFar) and event.id == "1"]
    errors = {event.id: event.error for event in events if isinstance(event, Generation)}
    assert errors == {"0": None, "1": "engine", "2": None}


def test_the_raw_text_has_what_the_text_has(engine: LocalEngine) -> None:
    """With the control tokens that ended it, if it came to an end."""
    for made in engine.generate(prompts(3)):
        assert made.text.strip() in made.raw


def test_warm_on_real_weights(engine: LocalEngine) -> None:
    """Twelve from three threads, one of them left: eleven right answers, in a batch."""
    wanted = prompts(12)
    expected = {made.id: made.text for made in engine.generate(wanted)}
    warm = Warm(engine)
    warm.start()
    try:
        queues: dict[str, Queue[Item]] = {one.id: Queue() for one in wanted}
        places = {one.id: warm.join(one, queues[one.id].put) for one in wanted}
        places["11"].leave()
        for name, items in queues.items():
            if name != "11":
                answer = items.get(timeout=120)
                assert isinstance(answer, Generation) and answer.text == expected[name]
    finally:
        warm.close(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "device"]
