"""How much is taken at once; and `deterministic`, where nothing depends on other documents."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tiny import MakeEngine, picture, prompt

from medgemma_cli.engines import fitting, sizing
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.engines.schedule import Capacity
from medgemma_cli.records import Prompt

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are no work for several threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def capacity(engine: LocalEngine) -> Capacity:
    """What was found when the decoder was made."""
    engine.decoder()
    assert engine._capacity is not None
    return engine._capacity


def test_what_is_asked_for_is_taken(make_engine: MakeEngine) -> None:
    """Lines and tokens as given."""
    shown = sizing.SHOWN["cpu"]
    assert capacity(make_engine(batch_size=7, batch_tokens=3000)) == Capacity(7, 3000, shown)
    assert capacity(make_engine(batch_size=None, batch_tokens=999)).tokens == 999


def test_auto_on_a_cpu(make_engine: MakeEngine) -> None:
    """What the device does best, and as many tokens as the free memory holds."""
    found = capacity(make_engine(batch_size=None))
    assert found.rows == sizing.LINES["cpu"] and found.tokens >= 512


def test_little_memory_takes_little(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never nothing: one document alone is tried in any case."""
    engine = make_engine(batch_size=None)
    loaded = engine.loaded()
    monkeypatch.setattr(fitting, "free_memory", lambda device: 1.0)
    found = fitting.fit(engine.decoder(), loaded, engine._settings(), engine._options)
    assert found.tokens == 512
    monkeypatch.setattr(fitting, "free_memory", lambda device: 8e6)
    some = fitting.fit(engine.decoder(), loaded, engine._settings(), engine._options)
    monkeypatch.setattr(fitting, "free_memory", lambda device: 16e6)
    more = fitting.fit(engine.decoder(), loaded, engine._settings(), engine._options)
    assert 512 <= some.tokens <= more.tokens


def test_deterministic_is_one_line(make_engine: MakeEngine) -> None:
    """Whatever batch size is asked for."""
    assert capacity(make_engine(deterministic=True, batch_size=8)).rows == 1


def test_small_token_budgets_answer_all(make_engine: MakeEngine) -> None:
    """Documents over the budget go alone; none is left."""
    prompts = [prompt(str(i), "BP 120/80. " * (1 + 5 * i), tokens=6) for i in range(8)]
    expected = {g.id: g.text for g in make_engine(batch_size=1).generate(prompts)}
    for tokens in (1, 100, 300):
        engine = make_engine(batch_size=8, batch_tokens=tokens)
        assert {g.id: g.text for g in engine.generate(prompts)} == expected


def full_from(engine: LocalEngine, tokens: int) -> list[int]:
    """Out of memory in every pass of more tokens, lines times all that they hold; all asked."""
    asked: list[int] = []

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        rows = kwargs["input_ids"].shape[0]
        held = rows * (int(kwargs["position_ids"].max()) + 1)
        asked.append(held)
        if held > tokens:
            raise torch.OutOfMemoryError("no memory left")

    engine.loaded().model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    return asked


@pytest.mark.parametrize("fits", [400, 1000, 3000, 100_000])
def test_tried_halves_until_it_passes(make_engine: MakeEngine, fits: int) -> None:
    """Out of memory halves the tokens of batch and prompts; the store is given back."""
    engine = make_engine()
    decoder = engine.decoder()
    asked = full_from(engine, fits)
    found = fitting._tried(decoder, Capacity(64, 1 << 14, 4096), 64)
    assert found.rows == 64 and found.shown >= 512
    if fits == 100_000:
        assert (found.tokens, found.shown) == (1 << 14, 4096)
    else:
        assert 64 <= found.tokens < 1 << 14
        assert found.tokens <= 512 or max(asked[-2:]) <= fits
    assert decoder._store._rows == decoder._store._columns == 0
    assert set(decoder._store._keys) == set(decoder._store._values) == {None}
    assert decoder.lines == [] and engine.timing.new_tokens == 0
    assert all(g.error is None for g in engine.generate([prompt("x", "BP.", tokens=4)]))


def test_off_the_cpu_it_is_tried_out(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arithmetic says is confirmed by a pass, and corrected."""
    engine = make_engine()
    decoder, loaded = engine.decoder(), engine.loaded()
    passes = full_from(engine, 2000)
    monkeypatch.setattr(fitting, "free_memory", lambda device: 4e9)
    options = LocalOptions(batch_size=64)
    there = replace(loaded, device="mps")
    found = fitting.fit(decoder, there, engine._settings(), options)
    assert passes and 512 <= found.tokens <= 64 * 64
    passes.clear()
    chosen = fitting.fit(decoder, there, engine._settings(), replace(options, batch_tokens=5000))
    assert chosen.tokens == 5000 and passes == []


# -- deterministic ------------------------------------------------------------------------------


def test_deterministic_is_in_identity_and_info_only_where_set(make_engine: MakeEngine) -> None:
    """Answers that shared a batch are not taken for it; other keys stay as they were."""
    plain, alone = make_engine(), make_engine(deterministic=True)
    assert "deterministic" not in plain.identity
    assert alone.identity == {**plain.identity, "deterministic": True}
    assert (plain.info.deterministic, alone.info.deterministic) == (False, True)


HEAD = "You assist a clinician who reads many letters a day. " * 4


def documents() -> list[Prompt]:
    """Texts and images of unlike lengths, some longer than the ring, one shared head and others."""
    grey, white = picture(90), picture(255)
    made = [
        prompt("short", "BP 120/80.", tokens=20),
        prompt("long", "Dry cough since Monday, worse at night. " * 30, tokens=30),
        prompt("copy", "5 mg 5 mg 5 mg " * 12, tokens=40),
        prompt("film", "Chest film.", images=(grey,), tokens=20),
        prompt("films", images=(white, grey), tokens=20),
        prompt("long film", "Seen in clinic. " * 25, images=(grey, white), tokens=20),
    ]
    headed = []
    for one in made[:4]:
        system = one.messages[0].parts[0].model_copy(update={"text": HEAD})
        message = one.messages[0].model_copy(update={"parts": (system,)})
        changes = {"id": f"headed {one.id}", "messages": (message, *one.messages[1:])}
        headed.append(one.model_copy(update=changes))
    return [*made, *headed]


def test_deterministic_bytes_do_not_depend_on_other_documents(make_engine: MakeEngine) -> None:
    """In bf16: any order, any subset, a new engine or one that has read others before."""
    prompts = documents()
    alone: dict[str, tuple[object, ...]] = {}

    def told(engine: LocalEngine, run: list[Prompt]) -> dict[str, tuple[object, ...]]:
        made = {g.id: g for g in engine.generate(run)}
        assert set(made) == {one.id for one in run}
        assert all(g.error is None for g in made.values())
        return {name: (g.text, g.tokens) for name, g in made.items()}

    def new() -> LocalEngine:
        return make_engine(precision="bf16", deterministic=True, batch_size=None)

    for one in prompts:
        alone |= told(new(), [one])
    assert len({text for text, _ in alone.values()}) > 5
    engine = new()
    for run in (prompts, prompts[::-1], prompts[1::2], prompts[4:] + prompts[:2]):
        assert told(engine, run) == {one.id: alone[one.id] for one in run}
    assert told(new(), prompts[::-1]) == alone
