"""The local engine on a real checkpoint: text, image, mixed, every precision, and the ladder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import MakeEngine, picture, prompt

from medgemma_cli.engines.base import check_fits
from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.errors import DocumentError, ModelUnavailableError
from medgemma_cli.records import Generation, Prompt

Change = Callable[[dict[str, Any]], None]

MIXED = [
    prompt("short", "BP 120/80."),
    prompt("long", "The patient was seen in clinic. " * 20),
    prompt("image", images=(picture(10),)),
    prompt("both", "Chest film.", images=(picture(200),)),
    prompt("two images", "Before and after.", images=(picture(0), picture(255))),
]


def answers(engine: LocalEngine, prompts: list[Prompt]) -> dict[str, Generation]:
    """Generations by prompt."""
    return {generation.id: generation for generation in engine.generate(prompts)}


def test_every_prompt_is_answered(make_engine: MakeEngine) -> None:
    """Text, images and both in one run; counts are in the usage."""
    got = answers(make_engine(), MIXED)
    assert set(got) == {p.id for p in MIXED}
    assert all(g.error is None and g.text for g in got.values())
    assert got["two images"].usage.images == 2
    assert got["short"].usage.completion_tokens <= 12


def test_what_is_begun_is_told_first(make_engine: MakeEngine) -> None:
    """Loading is no prompt's fault; each prompt is told of before it is shown; loading once."""
    engine, told = make_engine(batch_size=2), []
    for generation in engine.generate(MIXED, begin=lambda ids: told.append(list(ids))):
        assert any(generation.id in ids for ids in told)
    assert told[:2] == [[], [MIXED[0].id]]
    assert {name for ids in told for name in ids} == {p.id for p in MIXED}
    told.clear()
    list(engine.generate(MIXED[:1], begin=lambda ids: told.append(list(ids))))
    assert told == [[MIXED[0].id]]


def test_batched_equals_alone_in_fp32(make_engine: MakeEngine) -> None:
    """Left padding and batch mates change nothing, images included."""
    together = answers(make_engine(batch_size=5), MIXED)
    engine = make_engine(batch_size=1)
    alone = answers(engine, MIXED)
    assert {k: g.text for k, g in together.items()} == {k: g.text for k, g in alone.items()}
    assert len({g.text for g in alone.values()}) > 1


def test_the_image_reaches_the_model(make_engine: MakeEngine) -> None:
    """Another picture, another answer: the pixels are not dropped."""
    engine = make_engine()
    dark = prompt("dark", images=(picture(0),), tokens=24)
    noise = picture(0).model_copy(update={"rgb": bytes(range(192))})
    other = prompt("other", images=(noise,), tokens=24)
    got = answers(engine, [dark, other])
    assert got["dark"].text != got["other"].text


@pytest.mark.parametrize("precision", ["bf16", "fp32", "nf4", "fp4", "int8"])
def test_precisions(make_engine: MakeEngine, precision: str) -> None:
    """Every precision loads and generates on the CPU, text and image, and is in the record."""
    engine = make_engine(precision=precision)
    got = answers(engine, [MIXED[0], MIXED[3]])
    assert all(g.error is None for g in got.values())
    assert engine.info.precision == precision
    assert engine.info.asked == precision


def test_nothing_is_loaded_without_a_prompt(make_engine: MakeEngine) -> None:
    """No document, no weights."""
    engine = make_engine()
    assert list(engine.generate([])) == []
    assert engine.info.precision is None


def test_stops_between_batches(make_engine: MakeEngine) -> None:
    """After a no, the rest gets no answer."""
    asked = iter([True, False])
    got = list(make_engine(batch_size=2).generate(MIXED[:2] * 2, lambda: next(asked)))
    assert len(got) == 2


def test_stream_is_the_generation(make_engine: MakeEngine) -> None:
    """The pieces joined are the text; the Generation comes last."""
    *pieces, last = make_engine().stream(prompt("s", "BP 120/80.", tokens=20))
    assert isinstance(last, Generation)
    assert "".join(map(str, pieces)) == last.text != ""


def test_length_is_said(make_engine: MakeEngine) -> None:
    """Fault 83: an answer cut by its limit says so."""
    got = answers(make_engine(), [prompt("cut", "BP 120/80.", tokens=2)])
    assert got["cut"].finish_reason == "length"


def test_seeded_sampling_repeats(make_engine: MakeEngine) -> None:
    """The same seed, the same text; another seed, another."""

    def sample(seed: int) -> str:
        base = prompt("x", "BP 120/80.", tokens=16)
        limits = base.limits.model_copy(update={"temperature": 1.5, "seed": seed})
        return answers(make_engine(), [base.model_copy(update={"limits": limits})])["x"].text

    assert sample(1) == sample(1) != sample(2)


def test_too_long_is_known_before_generating(make_engine: MakeEngine) -> None:
    """Fault 50: counted against the window, with the answer's room."""
    engine = make_engine()
    assert engine.window == tiny.WINDOW
    long = prompt("long", "word " * tiny.WINDOW)
    with pytest.raises(DocumentError, match="too_long"):
        check_fits(long, engine)


def _edited(checkpoint: Path, target: Path, change: Change) -> Path:
    """A copy of the checkpoint with its tensors changed in place."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    shutil.copytree(checkpoint, target)
    path = target / "model.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata)
    return target


def _scale(part: str, factor: float) -> Change:
    def change(tensors: dict[str, Any]) -> None:
        for name in tensors:
            if part in name:
                tensors[name] *= factor

    return change


def test_fp16_overflow_climbs_to_bf16(
    make_engine: MakeEngine, checkpoint: Path, tmp_path: Path
) -> None:
    """Faults 80 and 82: weights beyond fp16's range; the model is loaded again, and it is said."""
    folder = _edited(checkpoint, tmp_path / "overflow", _scale("mlp.down_proj", 1e6))
    engine = make_engine(folder, precision="fp16")
    got = answers(engine, [MIXED[0]])["short"]
    assert got.error is None
    assert any(note.startswith("precision:fp16->") for note in got.degraded)
    assert engine.info.asked == "fp16" != engine.info.precision


def test_nan_everywhere_is_an_error(
    make_engine: MakeEngine, checkpoint: Path, tmp_path: Path
) -> None:
    """Fault 80: greedy decoding would emit padding, a silently empty summary."""
    folder = _edited(checkpoint, tmp_path / "nan", _scale("embed_tokens", float("nan")))
    got = answers(make_engine(folder), MIXED)
    assert {g.error for g in got.values()} == {"bad_logits"}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_in_one_row_leaves_the_others(
    make_engine: MakeEngine, checkpoint: Path, tmp_path: Path, temperature: float
) -> None:
    """Fault 81: the NaN of one document costs one document, sampling or not."""
    engine = make_engine()
    engine.count(MIXED[0])
    assert engine._encoder is not None
    poison = engine._encoder.data("Ω")[0]

    def change(tensors: dict[str, Any]) -> None:
        tensors["language_model.model.embed_tokens.weight"][poison] = float("nan")

    folder = _edited(checkpoint, tmp_path / "one", change)
    batch = [prompt("bad", "Dose in Ω."), prompt("good", "Dose in mg.")]
    batch = [
        p.model_copy(update={"limits": p.limits.model_copy(update={"temperature": temperature})})
        for p in batch
    ]
    got = answers(make_engine(folder), batch)
    assert got["bad"].error == "bad_logits"
    assert got["good"].error is None and got["good"].text


def test_an_empty_answer_is_tried_once_more(
    make_engine: MakeEngine, checkpoint: Path, tmp_path: Path
) -> None:
    """Fault 82: a model that stops at once is asked for 48 tokens; the step is noted."""

    def change(tensors: dict[str, Any]) -> None:
        # RMSNorm gives x·(1+w): with w = -1 but for one coordinate, that coordinate decides
        # alone, and one of the two stop tokens wins, whatever its sign.
        norm = tensors["language_model.model.norm.weight"]
        norm[:], norm[0] = -1.0, 0.0
        head = tensors[next(name for name in tensors if "lm_head" in name)]
        head[1, 0], head[106, 0] = 100.0, -100.0

    folder = _edited(checkpoint, tmp_path / "mute", change)
    got = answers(make_engine(folder), [prompt("mute", "BP 120/80.", tokens=60)])["mute"]
    assert "min_new_tokens:48" in got.degraded
    assert got.text or got.error == "empty_output"
    assert got.usage.completion_tokens >= 48 or got.error


def test_a_missing_device_is_69(make_engine: MakeEngine) -> None:
    """A device that is not here is an error before anything is generated."""
    with pytest.raises(ModelUnavailableError) as caught:
        answers(make_engine(device="cuda:99"), MIXED[:1])
    assert caught.value.exit_code == 69
