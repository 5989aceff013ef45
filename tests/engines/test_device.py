"""Passes that fail: nothing is lost, nothing is answered twice, and it is in the records."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import MakeEngine, picture, prompt

from medgemma_cli import contracts, readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.decode import Decoder
from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.engines.store import Aside, Prefill, Step
from medgemma_cli.engines.work import Work
from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger, current_lines
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Generation, Limits, Prompt

torch = pytest.importorskip("torch")
OOM = "batch_halved:oom"
Raise = Callable[[Any, dict[str, Any]], Exception | None]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are no work for several threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """However a run ends, the device's thread ends with it."""
    yield
    assert not [t for t in threading.enumerate() if t.name == "device"]


def many(count: int, tokens: int = 12) -> list[Prompt]:
    """Texts of unlike lengths, some with a picture."""
    made = []
    for i in range(count):
        images = (picture(i),) if i % 5 == 4 else ()
        text = f"Note {i}. " + "Dry cough since Monday. " * (i * 7 % 11)
        made.append(prompt(str(i), text, images=images, tokens=tokens + i % 7))
    return made


class Faulty:
    """An engine whose text model fails as it is told, and what it was asked.

    Args:
        fault: cache of a pass, its arguments → what to raise, or nothing.
    """

    def __init__(self, engine: LocalEngine, fault: Raise) -> None:
        self.engine = engine
        self.rows: list[int] = []  # of decoding passes that went well
        self.hit: list[set[str]] = []  # the documents in the lines of passes that did not

        def hook(module: Any, args: Any, kwargs: Any) -> None:
            cache = kwargs["past_key_values"]
            error = fault(cache, kwargs)
            if error is not None:
                lines = engine.decoder().lines if isinstance(cache, Step) else []
                self.hit.append({line.work.prompt.id for line in lines})
                raise error
            if isinstance(cache, Step):
                self.rows.append(len(kwargs["position_ids"]))

        engine.loaded().model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)

    def run(self, prompts: list[Prompt]) -> dict[str, Generation]:
        """The answers; each document must have one."""
        made = list(self.engine.generate(prompts))
        assert sorted(g.id for g in made) == sorted(one.id for one in prompts)
        return {g.id: g for g in made}


def texts(made: dict[str, Generation]) -> dict[str, str]:
    """By document."""
    return {name: generation.text for name, generation in made.items()}


@pytest.fixture
def undisturbed(make_engine: MakeEngine) -> Callable[[list[Prompt]], dict[str, str]]:
    """What an engine without faults says."""
    engine = make_engine(batch_size=8)

    def answer(prompts: list[Prompt]) -> dict[str, str]:
        return {g.id: g.text for g in engine.generate(prompts)}

    return answer


Undisturbed = Callable[[list[Prompt]], dict[str, str]]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_too_many_lines_in_a_pass(
    make_engine: MakeEngine, undisturbed: Undisturbed, most: int
) -> None:
    """Fault 77: no memory for more than so many lines, ever: the batch halves until it fits."""

    def fault(cache: Any, kwargs: dict[str, Any]) -> Exception | None:
        over = isinstance(cache, Step) and len(kwargs["position_ids"]) > most
        return torch.OutOfMemoryError("no memory left") if over else None

    faulty = Faulty(make_engine(batch_size=8), fault)
    prompts = many(24)
    made = faulty.run(prompts)
    assert all(g.error is None for g in made.values())
    assert texts(made) == undisturbed(prompts)
    assert max(faulty.rows) <= most
    assert faulty.hit
    for name in set().union(*faulty.hit):
        assert made[name].degraded.count(OOM) == 1


@pytest.mark.parametrize("at", [1, 3, 9])
def test_once_in_the_middle(make_engine: MakeEngine, undisturbed: Undisturbed, at: int) -> None:
    """Fault 77: one pass fails: only its documents are noted, and the batch grows back."""
    passes = 0

    def fault(cache: Any, kwargs: dict[str, Any]) -> Exception | None:
        nonlocal passes
        passes += isinstance(cache, Step)
        failing = passes == at and isinstance(cache, Step)
        return torch.OutOfMemoryError("no memory left") if failing else None

    faulty = Faulty(make_engine(batch_size=8), fault)
    prompts = many(40)
    made = faulty.run(prompts)
    assert texts(made) == undisturbed(prompts)
    (hit,) = faulty.hit
    assert len(hit) == 8
    assert {name for name, g in made.items() if g.degraded == (OOM,)} == hit
    assert all(g.degraded == () for name, g in made.items() if name not in hit)
    assert faulty.rows[at - 1] == 4
    assert 8 in faulty.rows[at:]


def test_too_many_prompts_in_a_pass(make_engine: MakeEngine, undisturbed: Undisturbed) -> None:
    """Fault 77: no memory where more than two prompts are shown: they are shown in halves."""

    def fault(cache: Any, kwargs: dict[str, Any]) -> Exception | None:
        shown = kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        over = isinstance(cache, Prefill) and len(shown) > 2
        return torch.OutOfMemoryError("no memory left") if over else None

    faulty = Faulty(make_engine(batch_size=8), fault)
    prompts = many(24)
    made = faulty.run(prompts)
    assert texts(made) == undisturbed(prompts)
    assert OOM in {note for g in made.values() for note in g.degraded}


def hostile(prompts: list[Prompt], at: int) -> tuple[list[Prompt], str]:
    """With one document that has a rare sign."""
    bad = prompt(prompts[at].id, "Dose in Ω.", tokens=12)
    return [*prompts[:at], bad, *prompts[at + 1 :]], bad.id


@pytest.mark.parametrize("at", [0, 6, 15])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("no memory left"), "oom"),
        (RuntimeError("shape mismatch"), "engine"),
        (ValueError("no"), "engine"),
        (IndexError("no"), "engine"),
    ],
)
def test_one_document_is_at_fault(
    make_engine: MakeEngine, undisturbed: Undisturbed, at: int, error: Exception, code: str
) -> None:
    """Faults 77 and 78: one answer is lost, with its reason; the others are as they would be."""
    engine = make_engine(batch_size=8)
    token = engine.encoder().data("Ω")[0]

    def fault(cache: Any, kwargs: dict[str, Any]) -> Exception | None:
        shown = kwargs.get("input_ids")
        return error if shown is not None and bool((shown == token).any()) else None

    prompts, bad = hostile(many(16), at)
    made = Faulty(engine, fault).run(prompts)
    assert made[bad].error == code and made[bad].finish_reason == "error"
    others = [one for one in prompts if one.id != bad]
    assert all(made[one.id].error is None for one in others)
    assert {one.id: made[one.id].text for one in others} == undisturbed(others)


def test_a_lost_device_ends_the_run(make_engine: MakeEngine) -> None:
    """Fault 84: no document is at fault: the run ends with 69, not with failed documents."""
    passes = 0

    def fault(cache: Any, kwargs: dict[str, Any]) -> Exception | None:
        nonlocal passes
        passes += 1
        return RuntimeError("CUDA error: an illegal memory access") if passes == 9 else None

    faulty = Faulty(make_engine(batch_size=4), fault)
    with pytest.raises(ModelUnavailableError) as caught:
        faulty.run(many(16))
    assert caught.value.exit_code == 69


# -- a fault behind the text model ---------------------------------------------------------------


def stepped(decoder: Decoder, works: list[Work]) -> list[Work]:
    """Decode until no line is left, but not forever; works that left because of faults."""
    for _ in range(200):
        if not decoder.lines:
            return works
        decoder.step()
    raise AssertionError("lines do not get on")


def prepared(engine: LocalEngine, prompts: list[Prompt]) -> list[Work]:
    """Works as the host makes them."""
    works = [work for one in prompts if isinstance(work := engine._prepare(one), Work)]
    assert len(works) == len(prompts)
    return works


@pytest.mark.parametrize("place", ["output layer", "sampler"])
def test_lines_stand_after_a_fault_behind_the_text_model(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Logits are what takes most memory: `step` raises, and the lines can go on."""
    engine = make_engine(batch_size=4)
    works = prepared(engine, [prompt(str(i), "BP " * (i + 1), tokens=8) for i in range(4)])
    decoder, calls = engine.decoder(), 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise torch.OutOfMemoryError("no memory left")

    if place == "output layer":
        engine.loaded().model.get_output_embeddings().register_forward_pre_hook(fail)
    else:
        pick = decoder._sampler.pick

        def picking(*args: Any) -> Any:
            fail()
            return pick(*args)

        monkeypatch.setattr(decoder._sampler, "pick", picking)
    decoder.admit(works)
    with pytest.raises(torch.OutOfMemoryError):
        stepped(decoder, works)
    stepped(decoder, works)
    alone = {
        g.id: g.usage.completion_tokens
        for g in make_engine(batch_size=1).generate([work.prompt for work in works])
    }
    assert {work.prompt.id: len(work.answer.ids) for work in works} == alone


def test_none_join_where_admit_raises(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in choosing the first tokens: no line is there, nothing is answered twice."""
    engine = make_engine(batch_size=4)
    works = prepared(engine, many(3))
    decoder = engine.decoder()

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(decoder._sampler, "pick", fail)
    with pytest.raises(torch.OutOfMemoryError):
        decoder.admit(works)
    assert decoder.lines == []


def test_choices_are_scored_once(make_engine: MakeEngine) -> None:
    """Out of memory between two parts of the scoring: the probabilities are the same."""
    options = " | ".join(f"{word} of the patient's left {word}" for word in ("knee", "hip", "eye"))
    contract = contracts.contract({"a": options, "b": "yes | no"})
    limits = Limits(max_new_tokens=200)
    prompts = [
        one.model_copy(update={"contract": contract, "limits": limits, "images": ()})
        for one in (prompt(str(i), "Dry cough. " * (i + 1)) for i in range(4))
    ]
    expected = {g.id: g for g in make_engine(batch_size=4).generate(prompts)}
    asides = 0

    def fault(cache: Any, kwargs: dict[str, Any]) -> Exception | None:
        nonlocal asides
        asides += isinstance(cache, Aside)
        failing = asides == 2 and isinstance(cache, Aside)
        return torch.OutOfMemoryError("no memory left") if failing else None

    made = Faulty(make_engine(batch_size=4), fault).run(prompts)
    assert asides > 2
    for name, one in expected.items():
        for mine, theirs in zip(made[name].choices, one.choices, strict=True):
            assert mine.options == pytest.approx(theirs.options, abs=1e-4)


# -- runs that end early -------------------------------------------------------------------------


def test_a_no_in_the_middle(make_engine: MakeEngine, undisturbed: Undisturbed) -> None:
    """What is being written is finished; the rest gets no answer, and keeps none waiting."""
    asked = 0

    def keep_going() -> bool:
        nonlocal asked
        asked += 1
        return asked <= 3

    prompts = many(30)
    made = {g.id: g for g in make_engine(batch_size=4).generate(prompts, keep_going)}
    assert 4 <= len(made) < 30
    assert all(g.error is None for g in made.values())
    expected = undisturbed(prompts)
    assert texts(made) == {name: expected[name] for name in made}


def test_closed_early_the_thread_ends(make_engine: MakeEngine) -> None:
    """Nobody reads on."""
    run = make_engine(batch_size=4).generate(many(30, tokens=200))
    next(iter(run))
    run.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["closed", "error"])
def test_an_engine_is_used_again_after_an_end(make_engine: MakeEngine, how: str) -> None:
    """The second run answers what it was asked, and nothing of the first."""
    engine = make_engine(batch_size=4)

    def prompts() -> Iterator[Prompt]:
        yield from many(12)
        raise OSError("the disk is gone")

    run = engine.generate(prompts() if how == "error" else many(30))
    if how == "error":
        with pytest.raises(OSError, match="disk"):
            list(run)
    else:
        next(iter(run))
        run.close()  # type: ignore[attr-defined]
    wanted = [prompt("new", "BP 120/80.", tokens=20)]
    assert [g.id for g in engine.generate(wanted)] == ["new"]


@pytest.mark.parametrize("at", [0, 1, 9])
def test_an_error_of_the_prompts_comes_out(make_engine: MakeEngine, at: int) -> None:
    """It is the caller's own, unchanged."""

    def prompts() -> Iterator[Prompt]:
        yield from many(at)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        list(make_engine(batch_size=4).generate(prompts()))


def test_a_slow_reader_does_not_hold_back_what_is_done(make_engine: MakeEngine) -> None:
    """Answers come out while the next prompt is still to come, if it takes its time."""
    engine = make_engine(batch_size=1)
    seen: list[str] = []

    def prompts() -> Iterator[Prompt]:
        for one in many(6, tokens=2):
            yield one
            deadline = time.monotonic() + 60
            while engine.timing.new_tokens == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(one.id)

    first = next(iter(engine.generate(prompts())))
    assert first.error is None and len(seen) <= 6


# -- end to end ----------------------------------------------------------------------------------


def test_a_run_with_too_little_memory(make_engine: MakeEngine, tmp_path: Path) -> None:
    """Fault 77: a record each, all of them ok or flagged, and the halving is in `degraded`."""
    notes = tmp_path / "in"
    notes.mkdir()
    for i in range(12):
        (notes / f"{i:02}.md").write_text(f"Note {i}. Dry cough, no fever. " * (i + 1), "utf-8")
    passes = 0

    def fault(cache: Any, kwargs: dict[str, Any]) -> Exception | None:
        nonlocal passes
        passes += isinstance(cache, Step)
        failing = passes == 5 and isinstance(cache, Step)
        return torch.OutOfMemoryError("no memory left") if failing else None

    faulty = Faulty(make_engine(batch_size=6), fault)
    out = tmp_path / "out"
    job = Job(template=templates.load("screen"), limits=Limits(max_new_tokens=90), fsync=False)
    with Ledger(out, fsync=False) as ledger:
        process = Run(job, ledger, faulty.engine, SilentReporter())
        process.prepare(fresh=False)
        totals = process.execute(Discovery([str(notes)], readers.SUFFIXES, out=out))
    assert totals.documents == 12 and totals.left == 0
    records = list(current_lines(out))
    assert sorted(line["source"] for line in records) == [f"{i:02}.md" for i in range(12)]
    assert {line["status"] for line in records} <= {"ok", "flagged"}
    assert sum(OOM in line["degraded"] for line in records) == len(faulty.hit[0]) > 1
    assert totals.degraded[OOM] == len(faulty.hit[0])
