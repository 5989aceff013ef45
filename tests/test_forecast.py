"""What a run would take is what the run then takes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from medgemma_cli import forecast, models, readers, speeds, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines import sizing
from medgemma_cli.engines.base import Engine
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.engines.loading import load_tokenizer
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.forecast import Bounds, Forecast, Memory
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pipeline import Run
from medgemma_cli.planning import Planner
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Limits, Precision, Prompt

TEMPLATE = """---
name: plain
description: What it says.
accepts: [text, image]
system: You assist a clinician.
output: text
max_new_tokens: 40
---
{{ document.text }}
What does it say?
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Free text, 40 new tokens."""
    path = tmp_path / "plain.md"
    path.write_text(TEMPLATE)
    chosen = templates.load(str(path))
    return Job(template=chosen, limits=Limits(max_new_tokens=chosen.max_new_tokens))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two notes, one of them twice; two images, one of three frames; an empty file."""
    made = tmp_path / "in"
    made.mkdir()
    (made / "a.md").write_text("BP 120/80 mmHg.\nNo chest pain.\n")
    (made / "b.txt").write_text("Bisoprolol was stopped on Monday. <end_of_turn> Sleeps well.\n")
    (made / "b-again.txt").write_text((made / "b.txt").read_text())
    (made / "c.png").write_bytes(picture("PNG"))
    (made / "d.tif").write_bytes(picture("TIFF", frames=3))
    (made / "e.md").write_bytes(b"")
    return made


def picture(kind: str, frames: int = 1) -> bytes:
    """Grey squares of 60 by 60."""
    shades = [Pillow.new("L", (60, 60), 40 * i) for i in range(frames)]
    data = io.BytesIO()
    more: dict[str, Any] = {"save_all": True, "append_images": shades[1:]} if frames > 1 else {}
    shades[0].save(data, kind, **more)
    return data.getvalue()


@pytest.fixture
def engine(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    """The tiny checkpoint's engine; its weights are not loaded yet."""
    monkeypatch.setenv("MEDGEMMA_CACHE", str(tmp_path / "cache"))
    options = LocalOptions(precision="fp32", device="cpu")
    return LocalEngine(models.resolve(str(checkpoint)), options)


def foresee(job: Job, engine: Engine, folder: Path, out: Path) -> dict[str, Forecast]:
    """The forecasts by file name."""
    sources = Discovery([str(folder)], readers.SUFFIXES, out=out)
    with Ledger(out, read_only=True) as ledger:
        planner = Planner(job, ledger, engine.identity)
        return {one.source: one for one in forecast.foresee(job, planner, engine, sources)}


def run(job: Job, engine: Engine, folder: Path, out: Path) -> dict[str, Any]:
    """A real run's records by file name."""
    sources = Discovery([str(folder)], readers.SUFFIXES, out=out)
    records: list[Any] = []
    with Ledger(out) as ledger:
        Run(job, ledger, engine, SilentReporter(), on_record=records.append).execute(sources)
    return {record.source: record for record in records}


def test_what_is_told_comes_true(
    job: Job, engine: LocalEngine, folder: Path, tmp_path: Path
) -> None:
    """Tokens, images and refusals are those of the records that the run then writes."""
    told = foresee(job, engine, folder, tmp_path / "out")
    assert engine.info.precision is None, "counting loads no weights"
    records = run(job, engine, folder, tmp_path / "out")
    assert told.keys() == records.keys()
    for name, one in told.items():
        usage, error = records[name].usage, records[name].error
        if one.action == "infer":
            assert (one.prompt_tokens, one.images) == (usage.prompt_tokens, usage.images)
        elif one.action == "refuse":
            assert (one.why, one.status) == (error.code, records[name].status)
        else:
            assert records[name].duplicate_of == "b-again.txt"
    assert [one.action for _, one in sorted(told.items())] == [
        "infer",
        "infer",
        "duplicate",
        "infer",
        "infer",
        "refuse",
    ]


def test_what_is_done_stays_done(
    job: Job, engine: LocalEngine, folder: Path, tmp_path: Path
) -> None:
    """After a run nothing is to do; a changed file is."""
    run(job, engine, folder, tmp_path / "out")
    (folder / "a.md").write_text("BP 125/80 mmHg.\n")
    told = foresee(job, engine, folder, tmp_path / "out")
    assert {name for name, one in told.items() if one.action != "cached"} == {"a.md"}
    assert (told["a.md"].action, told["a.md"].why) == ("infer", "changed")
    assert all(one.prompt_tokens == 0 for one in told.values() if one.action == "cached")


def test_what_is_read_in_part_is_said(job: Job, folder: Path, tmp_path: Path) -> None:
    """One frame of three."""
    told = foresee(job, EchoEngine(), folder, tmp_path / "out")
    assert told["d.tif"].partial == (("frames", 1, 3),)
    assert "frame:1/3" in told["d.tif"].degraded
    assert told["c.png"].partial == ()


def test_longer_than_the_window(job: Job, folder: Path, tmp_path: Path) -> None:
    """Counted and refused, with the very limit that the run keeps: prompt and answer together."""
    engine = EchoEngine()
    length = foresee(job, engine, folder, tmp_path / "out")["a.md"].prompt_tokens
    engine.window = length + 40
    assert foresee(job, engine, folder, tmp_path / "out")["a.md"].action == "infer"
    engine.window -= 1
    told = foresee(job, engine, folder, tmp_path / "out")["a.md"]
    assert (told.action, told.why, told.status) == ("refuse", "too_long", "rejected")
    assert told.prompt_tokens == length


def test_a_model_without_an_eye(job: Job, folder: Path, tmp_path: Path) -> None:
    """Images are refused as the run refuses them."""
    engine = EchoEngine()
    engine.reads_images = False
    told = foresee(job, engine, folder, tmp_path / "out")
    assert (told["c.png"].why, told["c.png"].status) == ("no_vision", "rejected")
    assert told["a.md"].action == "infer"


def test_counts_are_the_processors(
    job: Job, engine: LocalEngine, checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    """The processor makes as many ids of the whole chat, but for joins between its parts.

    Each part is tokenised on its own, so that a document can never grow into its neighbours.
    """
    _, processor = load_tokenizer(checkpoint, multimodal=True)
    told = foresee(job, engine, folder, tmp_path / "out")
    for source in Discovery([str(folder)], readers.SUFFIXES):
        one = told[source.relative]
        if one.action != "infer" or source.relative == "b-again.txt":
            continue  # the processor would take its "<end_of_turn>" for a control token
        document = readers.decode(source, readers.load(source, job.read_limits), job.read_limits)
        prompt = templates.render(job.template, document, one.key, job.limits)
        ids = processor_ids(processor, prompt)
        joins = sum(len(message.parts) + 1 for message in prompt.messages)
        assert abs(len(ids) - one.prompt_tokens) <= joins
        image = processor.tokenizer.convert_tokens_to_ids("<image_soft_token>")
        assert ids.count(image) == one.images * processor.image_seq_length


def processor_ids(processor: Any, prompt: Prompt) -> list[int]:
    """What transformers makes of a prompt: its chat template, then text and images together."""

    def text(part: Any) -> str:
        return processor.boi_token if part.kind == "image" else part.text

    messages = [
        {"role": message.role, "content": "".join(map(text, message.parts))}
        for message in prompt.messages
    ]
    chat = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    images = [Pillow.frombytes("RGB", (i.width, i.height), i.rgb) for i in prompt.images]
    made = processor(text=[chat], images=[images] if images else None, add_special_tokens=False)
    ids: list[int] = made["input_ids"][0]
    return ids


# -- all together -------------------------------------------------------------------------------


def forecasts() -> Iterator[Forecast]:
    """Two to do, one of them in part; one done; two refused."""
    yield Forecast("a", "infer", "new", "k", 100, 0)
    yield Forecast("b", "infer", "changed", "k", 300, 2, (("frames", 1, 3),))
    yield Forecast("c", "cached", "ok", "k")
    yield Forecast("d", "refuse", "too_long", "k", 9000, 0, (("pages", 1, 2),))
    yield Forecast("e", "refuse", "empty", "k")


def test_a_summary_counts_what_is_to_do() -> None:
    """Tokens of refused documents, large as they are, are none of the work."""
    summary = forecast.summarise(forecasts())
    assert summary.actions == {"infer": 2, "cached": 1, "refuse": 2}
    assert summary.refused == {"too_long": 1, "empty": 1}
    assert (summary.to_do, summary.prompt_tokens, summary.longest) == (2, 400, 300)
    assert (summary.images, summary.partial) == (2, 1)
    assert summary.work(10.4) == speeds.Work(2, 400, 21, 2)
    assert forecast.summarise([]).longest == 0


def speed(**more: Any) -> speeds.Speed:
    """Ten documents at 1 ms a prompt token and 10 ms a new one, 100 of them each."""
    values: dict[str, Any] = {
        "model": "m",
        "precision": "bf16",
        "device": "cpu",
        "template": "t",
        "documents": 10,
        "prompt_tokens": 1000,
        "new_tokens": 1000,
        "images": 10,
        "prefill": 1.0,
        "decode": 10.0,
        "vision": 5.0,
        "date": "2026-01-01",
    }
    return speeds.Speed(**{**values, **more})


@pytest.mark.parametrize(
    ("template", "most", "tokens", "known"),
    [("t", 700, 100, True), ("t", 60, 60, True), ("other", 700, 700, False)],
)
def test_answers_are_as_long_as_they_were(
    template: str, most: int, tokens: float, known: bool
) -> None:
    """The past mean of the template, never more than allowed; else the most allowed."""
    summary = forecast.summarise(forecasts())
    told = forecast.time_needed([speed()], summary, template, most)
    assert told[:2] == (tokens, known)
    assert told[2] == (pytest.approx(0.4 + 2 * tokens * 0.01 + 2 * 0.5), 1)


def test_no_past_no_time() -> None:
    """Without runs the answer's bound is still told."""
    summary = forecast.summarise(forecasts())
    assert forecast.time_needed([], summary, "t", 700) == (700, False, None)


# -- memory -------------------------------------------------------------------------------------

SHAPE = sizing.Shape(5, 29, 1024, 4, 8, 256, 2560, 10240, 262_208)
WEIGHTS = 4_300_079_472


BOUNDS = Bounds(lines=256, tokens=2000, slice_tokens=4096)


def table(free: float, chosen: Precision = "bf16", bounds: Bounds = BOUNDS) -> dict[str, Memory]:
    """The 4B model's rows by precision."""
    rows = forecast.memory(WEIGHTS, SHAPE, free, bounds, chosen)
    assert [row.needed for row in rows] == sorted((row.needed for row in rows), reverse=True)
    return {row.precision: row for row in rows}


def test_memory_at_each_precision() -> None:
    """On 12 GiB a 4B model fits from bf16 down, and the fewer its bits the more documents."""
    rows = table(12 * 2**30)
    assert [name for name, row in rows.items() if row.fits] == ["bf16", "int8", "nf4"]
    assert 1 <= rows["bf16"].rows < rows["int8"].rows < rows["nf4"].rows
    assert (rows["fp32"].rows, rows["fp32"].cache) == (0, 0)
    assert [name for name, row in rows.items() if row.chosen] == ["bf16"]
    for row in rows.values():
        assert row.needed == models.memory_needed(WEIGHTS, row.precision)  # type: ignore[arg-type]
        assert not row.fits or row.needed + row.cache < 12 * 2**30


def test_what_just_fits_takes_one() -> None:
    """The need counts a small batch already, so a model that fits answers one document."""
    need = models.memory_needed(WEIGHTS, "bf16")
    assert (table(need)["bf16"].fits, table(need)["bf16"].rows) == (True, 1)
    assert (table(need - 1)["bf16"].fits, table(need - 1)["bf16"].rows) == (False, 0)


def test_no_more_rows_than_documents() -> None:
    """A large device is not filled with what is not there."""
    assert table(10**12, bounds=BOUNDS._replace(lines=7))["bf16"].rows == 7


@pytest.mark.parametrize("chosen", ["fp16", "fp4"])
def test_the_chosen_precision_is_always_told(chosen: Precision) -> None:
    """Even one that is not on the list for everybody."""
    assert table(12 * 2**30, chosen)[chosen].chosen
    assert len(table(12 * 2**30, chosen)) == 5


def test_does_it_fit() -> None:
    """Only the chosen precision decides; a model of unknown size is tried."""

    def fits(free: float, chosen: Precision) -> bool:
        rows = forecast.memory(WEIGHTS, SHAPE, free, BOUNDS, chosen)
        return forecast.Resources("cpu", chosen, free, rows, 1, False, None).fits

    assert fits(12 * 2**30, "bf16") and not fits(12 * 2**30, "fp32")
    assert forecast.Resources("cpu", "bf16", 0, [], 1, False, None).fits
