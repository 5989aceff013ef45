"""The loop's numbers against plain forward passes and `generate` of transformers, in fp32."""

import math
import threading
import time
from collections.abc import Generator, Iterable
from typing import Any

import pytest
from tiny import MakeEngine, picture, prompt

from medgemma_cli import contracts, decoding, templates
from medgemma_cli.choices import normalised
from medgemma_cli.engines import vision
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.engines.schedule import slices
from medgemma_cli.engines.work import Work
from medgemma_cli.engines.writing import Answer
from medgemma_cli.records import Contract, Document, Generation, Limits, Prompt, Source

NOTE = "BP 12{} / 80 today, seen by the practice nurse. No fever, no chest pain. Return in 2/52."


def document(name: str, text: str = "", shade: int | None = None) -> Document:
    """A document as the readers make it."""
    return Document(
        source=Source(place=name, relative=name, origin="folder"),
        sha256="0" * 64,
        bytes=1,
        media_type="text/plain",
        text=text,
        images=() if shade is None else (picture(shade),),
        coverage={},
    )


def screens(tokens: int = 60) -> list[Prompt]:
    """Text and image documents of unlike lengths in the template `screen`."""
    template = templates.load("screen")
    limits = Limits(max_new_tokens=tokens)
    texts = [NOTE.format(1), "Cough since Monday, worse at night. " * 6, "Left knee swollen."]
    made = [document(f"t{i}", text) for i, text in enumerate(texts)]
    made += [document(f"i{i}", shade=shade) for i, shade in enumerate((0, 90, 255))]
    return [templates.render(template, one, one.source.place, limits) for one in made]


def loaded(engine: LocalEngine) -> tuple[Any, Encoder, Compiler]:
    """The engine's model, encoder and compiler, loaded."""
    return engine.loaded().model, engine.encoder(), engine.compiler()


def decoded(engine: LocalEngine, prompts: list[Prompt]) -> list[Answer]:
    """The answers of one batch, with their ids."""
    decoder = engine.decoder()
    works = [work for one in prompts if isinstance(work := engine._prepare(one), Work)]
    assert len(works) == len(prompts)
    for part in slices(works, 10_000):
        decoder.admit(part)
    while decoder.lines:
        decoder.step()
    return [work.answer for work in works]


def plain_log(engine: LocalEngine, asked: Prompt, before: list[int], option: list[int]) -> float:
    """An option's log-probability by one whole forward pass: no cache, no batch, no padding.

    Its last token may be any whose text begins with it: the closing mark, with more or without.
    """
    import torch

    model, encoder, compiler = loaded(engine)
    encoded = encoder.encode(asked)
    ids = torch.tensor([encoded.ids + before + option])
    more: dict[str, Any] = {"token_type_ids": (ids == encoder.image_id).long()}
    if asked.images:
        shown = [vision.pixels(encoder.processor, image) for image in asked.images]
        more["pixel_values"] = torch.stack(shown)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, **more).logits[0].float()
    logs = logits.log_softmax(dim=-1)
    start = len(encoded.ids) + len(before)
    closing = compiler.endings(option[-1])
    end = start + len(option) - 2
    before_end = sum(float(logs[start + i - 1, token]) for i, token in enumerate(option[:-1]))
    return before_end + float(logs[end, closing].logsumexp(dim=-1))


def log_of_any(logs: Iterable[float]) -> float:
    """The logarithm of a sum of probabilities."""
    return math.log(sum(map(math.exp, logs)))


def check_scores(engine: LocalEngine, asked: Prompt, answer: Answer) -> None:
    """Every score of an answer is what plain passes say."""
    _, _, compiler = loaded(engine)
    assert answer.scores
    for score in answer.scores:
        ends = [0]
        for token in answer.ids:
            begun = (byte & 0xC0 != 0x80 for byte in compiler.bytes(token))
            ends.append(ends[-1] + sum(begun))
        opened = score.at + 1 in ends
        before = answer.ids[: ends.index(score.at + opened)]
        heads = [f'{"" if opened else chr(34)}{option}"' for option in score.options]
        logs = [
            log_of_any(plain_log(engine, asked, before, way) for way in compiler.ways(head))
            for head in heads
        ]
        assert sum(score.options.values()) == pytest.approx(1)
        assert list(score.options.values()) == pytest.approx(normalised(logs), abs=1e-4)
        assert list(score.logs) == list(score.options)
        assert list(score.logs.values()) == pytest.approx(logs, abs=1e-3)


@pytest.mark.parametrize("kind", ["t", "i"])
def test_choice_scores_are_those_of_plain_passes(make_engine: MakeEngine, kind: str) -> None:
    """Left-padded together, past the sliding window, with images and without."""
    engine = make_engine()
    asked = [one for one in screens() if one.id.startswith(kind)]
    assert min(map(engine.count, asked)) > 64
    for one, answer in zip(asked, decoded(engine, asked), strict=True):
        check_scores(engine, one, answer)


def test_what_closes_an_option_may_go_on(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more tokens than one close a string, a score has what the model gives to all of them.

    The tiny vocabulary has one alone, so ten others play that part.
    """
    engine = make_engine()
    asked = screens()[:2]
    alone = [answer.scores[0].logs for answer in decoded(engine, asked)]
    monkeypatch.setattr(Compiler, "endings", lambda _, token: [token, *range(300, 310)])
    for one, answer, narrow in zip(asked, decoded(engine, asked), alone, strict=True):
        check_scores(engine, one, answer)
        assert all(answer.scores[0].logs[name] > log for name, log in narrow.items())


def test_an_option_may_be_cut_in_several_ways(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score is of all of them; the tiny tokenizer knows one, so letters by themselves join it."""
    engine = make_engine()
    asked = screens()[:2]
    alone = [answer.scores[0].logs for answer in decoded(engine, asked)]
    plain = Compiler.ways

    def ways(self: Compiler, text: str) -> list[list[int]]:
        letters = [token for letter in text for token in self.tokens(letter)]
        return [*plain(self, text), letters]

    monkeypatch.setattr(Compiler, "ways", ways)
    for one, answer, narrow in zip(asked, decoded(engine, asked), alone, strict=True):
        check_scores(engine, one, answer)
        assert all(answer.scores[0].logs[name] > log for name, log in narrow.items())


def test_later_choices_are_scored_after_what_was_written(make_engine: MakeEngine) -> None:
    """A choice behind texts of unlike lengths, and choices in a list, in a compacted batch."""
    block = {"a": "low | moderate | high", "t": "text(9)", "l": ["yes | no", "2..3"], "b": "x | y"}
    contract = contracts.contract(block)
    limits = Limits(max_new_tokens=120)
    asked = [
        prompt(str(i), NOTE.format(i) * (i + 1), schema=contract.json_schema).model_copy(
            update={"contract": contract, "limits": limits}
        )
        for i in range(3)
    ]
    engine = make_engine()
    for one, answer in zip(asked, decoded(engine, asked), strict=True):
        assert len(answer.scores) >= 4
        check_scores(engine, one, answer)


def with_contract(asked: Prompt, contract: Contract, tokens: int) -> Prompt:
    """The prompt under another contract."""
    limits = Limits(max_new_tokens=tokens)
    return asked.model_copy(update={"contract": contract, "limits": limits})


def same(one: Generation, other: Generation) -> None:
    """Two generations agree but for rounding."""
    assert (one.text, one.finish_reason, one.degraded) == (
        other.text,
        other.finish_reason,
        other.degraded,
    )
    assert one.usage == other.usage
    assert [s.at for s in one.choices] == [s.at for s in other.choices]
    for mine, theirs in zip(one.choices, other.choices, strict=True):
        assert mine.options == pytest.approx(theirs.options, abs=1e-4)
    assert [log for _, log in one.tokens] == pytest.approx([g for _, g in other.tokens], abs=1e-3)


@pytest.mark.parametrize("kind", ["t", "i"])
def test_a_batch_equals_one_at_a_time(make_engine: MakeEngine, kind: str) -> None:
    """Constrained answers of unlike lengths, rows leaving at different steps."""
    short = contracts.contract({"a": "yes | no", "n": "integer"})
    long = contracts.contract({"a": "low | high", "t": "text(40)", "l": ["text(9)", "0..2"]})
    asked = [one for one in screens() if one.id.startswith(kind)]
    asked = [with_contract(one, short if i else long, 90) for i, one in enumerate(asked)]
    together = {g.id: g for g in make_engine(batch_size=3).generate(asked)}
    alone = {g.id: g for g in make_engine(batch_size=1).generate(asked)}
    assert len({g.usage.completion_tokens for g in alone.values()}) > 1
    for name, generation in alone.items():
        assert generation.error is None
        same(together[name], generation)


@pytest.mark.parametrize("penalty", [None, 1.4])
def test_greedy_text_equals_generate(make_engine: MakeEngine, penalty: float | None) -> None:
    """Token for token; a repetition penalty counts the answer alone."""
    import torch
    from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

    engine = make_engine()
    model, encoder, _ = loaded(engine)
    asked = [prompt(str(i), NOTE.format(i) * (1 + i), tokens=24) for i in range(2)]
    for one in asked:
        ids = torch.tensor([encoder.encode(one).ids])
        processors = LogitsProcessorList()
        if penalty:
            own = RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=ids.shape[1])
            processors.append(own)
        expected = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
            max_new_tokens=24,
            do_sample=False,
            logits_processor=processors,
        )
        model.generation_config.repetition_penalty, engine._decoder = penalty, None
        (answer,) = decoded(engine, [one])
        model.generation_config.repetition_penalty = None
        assert answer.ids == expected[0, ids.shape[1] :].tolist()


def counted(engine: LocalEngine) -> list[int]:
    """The lengths of all forward passes from now on."""
    lengths: list[int] = []

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        lengths.append(kwargs["input_ids"].shape[1])

    engine.loaded().model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    return lengths


def test_forced_tokens_cost_no_pass_of_their_own(make_engine: MakeEngine) -> None:
    """At a batch of one there are fewer passes than tokens, and the end is not shown at all."""
    contract = contracts.contract(
        {"first_long_name": "boolean", "second_long_name": "integer", "third_long_name": "boolean"}
    )
    engine = make_engine(batch_size=1)
    passes = counted(engine)
    asked = with_contract(prompt("x", NOTE), contract, 90)
    (answer,) = engine.generate([asked])
    assert decoding.parse(contract, answer.text)
    assert len(passes) < answer.usage.completion_tokens / 2
    assert engine.timing.new_tokens < answer.usage.completion_tokens


@pytest.mark.parametrize("at", [0, 4])
def test_nan_in_one_row_leaves_the_others(make_engine: MakeEngine, at: int) -> None:
    """Logits that go bad in the middle of a constrained batch cost one answer."""
    contract = contracts.contract({"t": "text(40)", "n": "integer"})
    asked = [with_contract(prompt(str(i), NOTE.format(i)), contract, 90) for i in range(3)]
    engine = make_engine()
    expected = {g.id: g for g in engine.generate(asked)}
    passes = 0

    def poison(module: Any, args: Any, output: Any) -> None:
        nonlocal passes
        if passes == at:
            output.last_hidden_state[1] = float("nan")
        passes += 1

    engine.loaded().model.get_decoder().register_forward_hook(poison)
    got = {g.id: g for g in engine.generate(asked)}
    bad = [name for name, generation in got.items() if generation.error]
    assert len(bad) == 1 and got[bad[0]].error == "bad_logits"
    for name in set(got) - set(bad):
        same(got[name], expected[name])


def test_closing_the_stream_stops_the_worker(make_engine: MakeEngine) -> None:
    """Nobody reads on: no further passes, and no thread is left."""
    engine = make_engine()
    passes = counted(engine)
    before = threading.active_count()
    stream = engine.stream(prompt("s", NOTE, tokens=2000))
    assert isinstance(stream, Generator)
    next(stream)
    stream.close()
    end = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() <= before
    assert len(passes) < 1000
