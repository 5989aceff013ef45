"""Each line draws with its own settings and its own random numbers."""

from collections.abc import Iterator

import pytest
from tiny import MakeEngine, prompt

from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.records import Prompt

torch = pytest.importorskip("torch")

NOTES = ["BP 120/80.", "Dry cough since Monday. " * 4, "Left knee swollen. " * 12]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are no work for several threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def asked(name: str, text: str, **limits: float) -> Prompt:
    """A prompt of 16 tokens with these limits."""
    base = prompt(name, text, tokens=16)
    return base.model_copy(update={"limits": base.limits.model_copy(update=limits)})


def texts(engine: LocalEngine, prompts: list[Prompt]) -> dict[str, str]:
    """What comes out."""
    made = {g.id: g for g in engine.generate(prompts)}
    assert all(g.error is None for g in made.values())
    return {name: generation.text for name, generation in made.items()}


def mixed() -> list[Prompt]:
    """Greedy ones, hot ones, and ones with a nucleus."""
    settings: list[dict[str, float]] = [
        {},
        {"temperature": 1.5},
        {"temperature": 0.8, "top_p": 0.9},
        {"temperature": 3.0, "top_p": 0.3, "seed": 5},
    ]
    return [
        asked(f"{i}{j}", text, **limits)
        for i, text in enumerate(NOTES)
        for j, limits in enumerate(settings)
    ]


@pytest.mark.parametrize("rows", [3, 16])
def test_samples_do_not_depend_on_neighbours(make_engine: MakeEngine, rows: int) -> None:
    """The same seed and document draw the same in fp32, alone or among others, in any order."""
    prompts = mixed()
    alone = texts(make_engine(batch_size=1), prompts)
    assert texts(make_engine(batch_size=rows), prompts) == alone
    assert texts(make_engine(batch_size=rows), prompts[::-1]) == alone
    some = prompts[1::3]
    assert texts(make_engine(batch_size=rows), some) == {one.id: alone[one.id] for one in some}


def test_greedy_lines_stay_greedy_beside_hot_ones(make_engine: MakeEngine) -> None:
    """A temperature is of one line."""
    prompts = mixed()
    cool = [one for one in prompts if one.limits.temperature == 0]
    expected = texts(make_engine(batch_size=4), cool)
    got = texts(make_engine(batch_size=16), prompts)
    assert {name: got[name] for name in expected} == expected
    hot = [one for one in prompts if one.limits.temperature > 0]
    assert all(got[one.id] != expected[one.id[0] + "0"] for one in hot if one.limits.top_p == 1)


def test_a_tiny_nucleus_is_greedy(make_engine: MakeEngine) -> None:
    """Only the best token is left to draw from."""
    engine = make_engine(batch_size=8)
    for text in NOTES:
        pair = [asked("g", text), asked("n", text, temperature=2.0, top_p=1e-6)]
        got = texts(engine, pair)
        assert got["g"] == got["n"]


def test_seeds_and_names_draw_differently(make_engine: MakeEngine) -> None:
    """Another seed, or another document of the same text, draws other numbers."""
    hot = {"temperature": 2.0}
    run = [asked("a", NOTES[0], **hot), asked("b", NOTES[0], **hot)]
    got = texts(make_engine(), run)
    assert got["a"] != got["b"]
    assert texts(make_engine(), [asked("a", NOTES[0], **hot, seed=9)])["a"] != got["a"]
    assert texts(make_engine(), run) == got


def test_a_penalty_counts_each_lines_own_words(make_engine: MakeEngine) -> None:
    """With the checkpoint's repetition penalty, answers are those of documents alone."""
    prompts = mixed()

    def with_penalty(rows: int) -> dict[str, str]:
        engine = make_engine(batch_size=rows)
        engine.loaded().model.generation_config.repetition_penalty = 1.5
        return texts(engine, prompts)

    alone = with_penalty(1)
    assert with_penalty(7) == alone
    assert alone != texts(make_engine(batch_size=7), prompts)
