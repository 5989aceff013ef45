"""Documents among replicas: each answered once, whatever the replicas do."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from crew_kit import Handle, Threads, prompt, prompts

from medgemma_cli.engines.crew import CRASHES, Crew
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.engines.replica import READY, Replica, Task
from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.records import Generation, Prompt


def answered(crew: Crew, asked: list[Prompt]) -> dict[str, Generation]:
    """What comes, by name; fails where a document is answered twice, or not at all."""
    made = list(crew.answer(asked))
    assert Counter(one.id for one in made) == Counter(one.id for one in asked)
    return {one.id: one for one in made}


@pytest.fixture
def fleet() -> Threads:
    """No replica yet."""
    return Threads()


def test_each_once(fleet: Threads) -> None:
    """Many documents on three replicas; the answers are the engine's own."""
    made = answered(Crew(fleet, 3), prompts(300))
    assert all(one.text == f"note {name}" for name, one in made.items())
    assert len(fleet.handles) == 3


def test_lazy_and_bounded(fleet: Threads) -> None:
    """Prompts are taken as they are needed: few are held at a time."""
    taken = answers = most = 0

    def stream() -> Iterator[Prompt]:
        nonlocal taken, most
        for one in prompts(400):
            taken += 1
            most = max(most, taken - answers)
            yield one

    for _ in Crew(fleet, 2).answer(stream()):
        answers += 1
    assert answers == 400
    # What waits in each, and an exchange's worth that is done and not handed on yet.
    assert most <= 2 * 4 * READY


def test_nothing_to_do_starts_nothing(fleet: Threads) -> None:
    """Stopped before it began, a crew has no replicas."""
    assert list(Crew(fleet, 2).answer(prompts(3), lambda: False)) == []
    assert fleet.handles == []


def test_replicas_stay(fleet: Threads) -> None:
    """A second question finds the replicas of the first: no model is loaded again."""
    crew = Crew(fleet, 2)
    for _ in range(3):
        answered(crew, prompts(5))
    assert len(fleet.handles) == 2


def test_killed_from_outside(fleet: Threads) -> None:
    """Three kills in the middle: everything is answered once, and nothing is called a failure."""
    crew, made, kills = Crew(fleet, 2), [], 0
    for one in crew.answer(prompts(400)):
        made.append(one)
        if len(made) in (100, 200, 300):
            next(h for h in reversed(fleet.handles) if not h.dead.is_set()).dead.set()
            kills += 1
    assert kills == 3
    assert Counter(one.id for one in made) == Counter(str(i) for i in range(400))
    assert not [one for one in made if one.error]
    assert len(fleet.handles) == 2 + 3


def test_a_document_that_kills(fleet: Threads) -> None:
    """It dies in company once and alone three times, then it is a failure; the others are well."""
    made = answered(Crew(fleet, 2), prompts(40, n7="die now"))
    assert made["7"].error == "replica_crashed" and made["7"].finish_reason == "error"
    assert [name for name, one in made.items() if one.error] == ["7"]
    assert len(fleet.handles) == 2 + 1 + CRASHES


def test_several_that_kill(fleet: Threads) -> None:
    """Each is found; those in whose company they died are answered."""
    made = answered(Crew(fleet, 2), prompts(40, n3="die", n4="die", n30="die"))
    assert sorted(name for name, one in made.items() if one.error) == ["3", "30", "4"]


def test_the_first_document_kills(fleet: Threads) -> None:
    """That the model was loaded is known before it is begun: the death is the document's."""
    made = answered(Crew(fleet, 1), prompts(3, n0="die"))
    assert [name for name, one in made.items() if one.error] == ["0"]


def test_kills_once_only(fleet: Threads) -> None:
    """What goes well alone is no failure, whatever happened in company."""
    died: list[Handle] = []

    def die(handle: Handle) -> None:
        if not died:
            died.append(handle)
            fleet.die(handle)

    fleet.orders["once"] = die
    made = answered(Crew(fleet, 2), prompts(20, n5="once upon"))
    assert not [one for one in made.values() if one.error] and died


def test_a_node_that_dies_blames_nobody(fleet: Threads) -> None:
    """Its documents go on at once, and a document that is always there is never given up."""
    left = 5

    def with_its_node(handle: Handle) -> None:
        nonlocal left
        if left:
            left -= 1
            fleet.gone.add(handle.node)
            fleet.die(handle)

    fleet.orders["node"] = with_its_node
    made = answered(Crew(fleet, 2), prompts(20, n5="node goes down"))
    assert left == 0 and not [one for one in made.values() if one.error]


def test_dying_at_loading(fleet: Threads) -> None:
    """No document is blamed, and it is not tried for ever."""
    fleet.at_loading = fleet.die
    with pytest.raises(ModelUnavailableError, match="die before"):
        list(Crew(fleet, 2).answer(prompts(20)))
    assert len(fleet.handles) <= 2 * 3 + 2


def test_an_engine_that_cannot_be_made(fleet: Threads) -> None:
    """What is foreseen ends the run at once, in its own words."""

    def refuse(handle: Handle) -> EchoEngine:
        raise ModelUnavailableError("It does not fit.", "Take a smaller one.")

    fleet.make = refuse  # type: ignore[assignment]
    with pytest.raises(ModelUnavailableError, match="It does not fit"):
        list(Crew(fleet, 2).answer(prompts(20)))


def test_other_weights(fleet: Threads) -> None:
    """A replica that would answer under another key is not asked."""

    class Other(EchoEngine):
        def __init__(self) -> None:
            super().__init__()
            self.identity = {"engine": "echo", "version": 99}

    fleet.make = lambda handle: Other()
    with pytest.raises(ModelUnavailableError, match="other weights"):
        list(Crew(fleet, 1).answer(prompts(2)))


def test_a_device_lost_later(fleet: Threads) -> None:
    """A replica that has answered and then ends is replaced, and no document is charged."""
    lost: list[Handle] = []

    def lose(handle: Handle) -> None:
        if not lost:
            lost.append(handle)
            raise ModelUnavailableError("The device was lost.", "Look.")

    fleet.orders["lose"] = lose
    made = answered(Crew(fleet, 1), prompts(30, n20="lose it"))
    assert lost and not [one for one in made.values() if one.error]


def test_an_error_nobody_foresaw(fleet: Threads) -> None:
    """It costs the document that it comes with, and says nothing of what it holds."""

    def fall(handle: Handle) -> None:
        raise RuntimeError("CANARY7Q")

    fleet.orders["fall"] = fall
    made = answered(Crew(fleet, 2), prompts(20, n9="fall over"))
    assert [name for name, one in made.items() if one.error] == ["9"]
    assert "CANARY7Q" not in repr(made["9"])


def test_a_replica_that_never_comes_up(fleet: Threads) -> None:
    """It holds no document, and the others do the work."""
    fleet.silent.add(1)
    answered(Crew(fleet, 3), prompts(60))
    assert len(fleet.handles) == 3


def test_stopped_in_the_middle(fleet: Threads) -> None:
    """What is begun is answered, the rest is not; the next question is answered whole."""
    crew, made = Crew(fleet, 2), []
    for one in crew.answer(prompts(200), lambda: len(made) < 20):
        made.append(one.id)
    assert 20 <= len(made) < 100 and len(set(made)) == len(made)
    answered(crew, prompts(30))


def test_left_in_the_middle(fleet: Threads) -> None:
    """Answers that nobody took do not turn up among those to the next question."""
    crew = Crew(fleet, 2)
    stream = crew.answer(prompts(50))
    next(stream)
    del stream
    made = answered(crew, [prompt(f"other{i}") for i in range(20)])
    assert all(name.startswith("other") for name in made)


def test_closed(fleet: Threads) -> None:
    """Every replica is ended."""
    crew = Crew(fleet, 2)
    answered(crew, prompts(5))
    crew.close()
    assert all(handle.dead.is_set() for handle in fleet.handles) and crew.replicas == []


def test_loaded_is_known_before_a_document_is_begun() -> None:
    """Nothing is worked on before the driver has answered the report that says so."""
    at_work = threading.Event()

    class Watched(EchoEngine):
        def _answer(self, prompt: Prompt) -> Generation:
            at_work.set()
            return super()._answer(prompt)

    replica = Replica(Watched, EchoEngine().identity)
    assert not replica.exchange(Task()).loaded
    report = replica.exchange(Task((prompt("a"),)))
    while not report.loaded:
        report = replica.exchange(Task())
    assert not at_work.wait(0.3)
    done = replica.exchange(Task()).done
    while not done:
        done = replica.exchange(Task()).done
    assert at_work.is_set() and [one.id for one in done] == ["a"]
