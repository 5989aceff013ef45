"""Long documents on replicas: their parts go wherever there is room, and die with a replica."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from crew_kit import Handle, Threads

from medgemma_cli import templates
from medgemma_cli.engines.base import always, unwatched
from medgemma_cli.engines.crew import Crew
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.longdocs import MERGE, LongDocuments
from medgemma_cli.records import Document, Generation, Limits, Prompt, Source

TEXT = "\n".join(f"On day {day} she took {day * 31} mg of drug {day} twice." for day in range(500))


class Crewed(EchoEngine):
    """The echo engine on the replicas of a crew, as `RayEngine` has it."""

    def __init__(self, fleet: Threads) -> None:
        super().__init__()
        self.crew = Crew(fleet, 2)
        self.asked: list[str] = []

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """On whichever replica."""

        def seen() -> Iterator[Prompt]:
            for prompt in prompts:
                self.asked.append(prompt.id)
                yield prompt

        begin(())
        yield from self.crew.answer(seen(), keep_going)


def prompt_of(name: str, text: str) -> Prompt:
    """A note to be summarised, in prompts of 1500 tokens at most."""
    source = Source(place="a", relative="a", origin="a")
    coverage = {"characters": (len(text), len(text))}
    document = Document(
        source=source, sha256="", bytes=0, media_type="text/plain", text=text, coverage=coverage
    )
    limits = Limits(max_new_tokens=200, max_input_tokens=1500)
    return templates.render(templates.load("summarize"), document, name, limits)


def answered(engine: EchoEngine) -> dict[str, Generation]:
    """A long document between two short ones; each has one answer."""
    taking = LongDocuments(engine, "split", templates.load(MERGE))
    texts = {"a": "Cough.", "b": TEXT, "c": "Fever."}
    asked = [prompt_of(name, text) for name, text in texts.items()]
    made = list(taking.generate(asked))
    assert sorted(one.id for one in made) == ["a", "b", "c"]
    return {one.id: one for one in made}


@pytest.fixture
def fleet() -> Threads:
    """No replica yet."""
    return Threads()


def test_the_answer_is_that_of_one_engine(fleet: Threads) -> None:
    """Parts and what joins them go through the crew; what comes out is the same."""
    engine = Crewed(fleet)
    made, plain = answered(engine), answered(EchoEngine())
    assert len(made["b"].parts) > 2 and made["b"].error is None
    assert {name: one.text for name, one in made.items()} == {
        name: one.text for name, one in plain.items()
    }
    assert made["b"].parts == plain["b"].parts


def test_a_replica_that_dies_in_a_part(fleet: Threads) -> None:
    """The part is done by another; the document has its one answer, with nothing left out."""
    deaths: list[Handle] = []

    def once(handle: Handle) -> Any:
        if not deaths:
            deaths.append(handle)
            fleet.die(handle)

    fleet.orders["On"] = once  # as every part begins
    made, plain = answered(Crewed(fleet)), answered(EchoEngine())
    assert len(deaths) == 1 and len(fleet.handles) > 2
    assert made["b"].error is None and made["b"].text == plain["b"].text


def test_a_part_that_kills_every_replica(fleet: Threads) -> None:
    """Its document is given up, and the others are not."""

    fleet.orders["On"] = fleet.die
    made = answered(Crewed(fleet))
    assert made["b"].error == "replica_crashed"
    assert made["a"].error is None and made["c"].error is None
