"""fp32: whatever the batch, tokens and logits are those of transformers' own `generate`.

The other side is a second model, loaded apart, with transformers' own attention, cache and loop,
one prompt at a time.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from tiny import NOTES, MakeEngine, prompt

from medgemma_cli import contracts, models
from medgemma_cli.engines import vision
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.loading import load_model, load_tokenizer
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.engines.work import Work
from medgemma_cli.records import Contract, Generation, Image, Limits, Message, Part, Prompt

torch = pytest.importorskip("torch")
WINDOW, RING = 64, 128
HEADS = [
    "You assist a clinician.",
    "You read one clinical document and say what matters in it for the next visit. " * 3,
    "Answer in the words of the document, shortly, and never guess what is not there. " * 2,
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are no work for several threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Plain(NamedTuple):
    """What a plain loop says of a prompt: its answer's tokens, and the logits behind it."""

    ids: list[int]
    logits: "torch.Tensor"


def headed(one: Prompt, head: str) -> Prompt:
    """The prompt under another system text."""
    message = Message(role="system", parts=(Part(kind="text", text=head),))
    return one.model_copy(update={"messages": (message, *one.messages[1:])})


def noise(seed: int) -> Image:
    """A small picture of random colours."""
    return Image(width=8, height=8, rgb=Random(seed).randbytes(192))


def many(count: int) -> list[Prompt]:
    """Texts and images of many lengths, under three heads; answers of 4 to 32 tokens."""
    random = Random(7)
    words = " ".join(path.read_text("utf-8") for path in sorted(NOTES.rglob("*.md"))).split()
    made = []
    for i in range(count):
        size = random.choice((1, 8, 20, 40, 90, 160))
        at = random.randrange(len(words) - size)
        text = " ".join(words[at : at + size]) + f" ({i})"
        images = tuple(noise(random.randrange(6)) for _ in range(random.choice((0, 0, 1, 2))))
        one = prompt(str(i), text, images=images, tokens=random.randint(4, 32))
        made.append(headed(one, HEADS[i % 3]))
    return made


def plain(model: Any, encoder: Encoder, asked: Prompt, stop: list[int]) -> Plain:
    """By `generate` and one forward pass of transformers."""
    from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

    ids = torch.tensor([encoder.encode(asked).ids])
    more: dict[str, Any] = {}
    if encoder.processor is not None:
        more["token_type_ids"] = (ids == encoder.image_id).long()
    if asked.images:
        shown = [vision.pixels(encoder.processor, image) for image in asked.images]
        more["pixel_values"] = torch.stack(shown)
    processors = LogitsProcessorList()
    if penalty := model.generation_config.repetition_penalty:
        # Ours counts the answer alone.
        own = RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=ids.shape[1])
        processors.append(own)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, **more).logits[0, -1].float()
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=asked.limits.max_new_tokens,
            do_sample=False,
            eos_token_id=stop,
            repetition_penalty=1.0,
            logits_processor=processors,
            **more,
        )
    return Plain(trimmed(made[0, ids.shape[1] :].tolist(), stop), logits)


def trimmed(ids: list[int], stop: list[int]) -> list[int]:
    """Up to the end of the answer."""
    return ids[: next((i for i, token in enumerate(ids) if token in stop), len(ids))]


class Watched:
    """An engine that tells the ids of its answers, and the logits behind its prompts."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.ids: dict[str, list[int]] = {}
        self.logits: dict[str, torch.Tensor] = {}
        self.rows: list[int] = []
        self.shared: set[tuple[int, ...]] = set()
        decoder = engine.decoder()
        show, finish, step = decoder._show, engine._finish, decoder.step

        def showing(works: list[Work]) -> "torch.Tensor":
            logits = show(works)
            self.shared |= set(decoder._prefixes)
            # Copies: the engine chooses in place.
            copies = logits.clone()
            self.logits |= {work.prompt.id: row for work, row in zip(works, copies, strict=True)}
            return logits

        def finishing(device: Any, event: Any) -> Generation | None:
            self.ids[event.line.work.prompt.id] = trimmed(event.line.answer.ids, engine.stop)
            return finish(device, event)

        def stepping() -> Any:
            self.rows.append(len(decoder.lines))
            return step()

        engine._finish = finishing  # type: ignore[method-assign]
        decoder._show = showing  # type: ignore[method-assign]
        decoder.step = stepping  # type: ignore[method-assign]

    def run(self, prompts: list[Prompt]) -> list[Generation]:
        """All answers, each of which must be there once."""
        made = list(self.engine.generate(prompts))
        assert sorted(g.id for g in made) == sorted(one.id for one in prompts)
        return made


def check(watched: Watched, expected: dict[str, Plain]) -> None:
    """Tokens are equal, logits within 1e-4."""
    for name, one in expected.items():
        assert watched.ids[name] == one.ids, name
        torch.testing.assert_close(watched.logits[name], one.logits, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def sixty_four() -> list[Prompt]:
    """The prompts of the module."""
    return many(64)


@pytest.fixture(scope="module")
def expected(checkpoint: Path, sixty_four: list[Prompt]) -> dict[str, Plain]:
    """What transformers says, one at a time, by a model of its own."""
    model = load_model(
        checkpoint, multimodal=True, precision="fp32", device="cpu", double_quant=False
    )
    assert model.config.text_config._attn_implementation == "sdpa"
    encoder = Encoder(*load_tokenizer(checkpoint, True))
    own = model.generation_config.eos_token_id
    stop = list(dict.fromkeys([*own, *encoder.stop]))
    made = {one.id: plain(model, encoder, one, stop) for one in sixty_four}
    lengths = {one.id: len(encoder.encode(one).ids) for one in sixty_four}
    heads = {one.id: encoder.encode(one).head for one in sixty_four}
    # The set is worth comparing with.
    assert len({tuple(one.ids[:4]) for one in made.values()}) >= 50
    assert min(lengths.values()) < WINDOW
    assert sum(WINDOW < length < RING for length in lengths.values()) > 5
    assert sum(length > 2 * RING for length in lengths.values()) > 5
    assert {head >= 32 for head in heads.values()} == {True, False}
    assert {len(one.images) for one in sixty_four} == {0, 1, 2}
    return made


@pytest.mark.parametrize("rows", [1, 3, 16, 64])
def test_any_batch_equals_plain_generate(
    make_engine: MakeEngine, sixty_four: list[Prompt], expected: dict[str, Plain], rows: int
) -> None:
    """64 prompts, text and image, below and beyond window and ring; free rows are filled again."""
    watched = Watched(make_engine(batch_size=rows))
    watched.run(sixty_four)
    check(watched, expected)
    assert max(watched.rows) == rows
    # Two heads are long enough to be shown once for all.
    assert len(watched.shared) == 2


@pytest.mark.parametrize("tokens", [600, 3000])
def test_any_order_and_budget_equals_plain_generate(
    make_engine: MakeEngine, sixty_four: list[Prompt], expected: dict[str, Plain], tokens: int
) -> None:
    """Shuffled, with few tokens at once, and again with the rows that the first run left."""
    watched = Watched(make_engine(batch_size=7, batch_tokens=tokens))
    for seed in (1, 2):
        shuffled = Random(seed + tokens).sample(sixty_four, 32)
        watched.run(shuffled)
        check(watched, {one.id: expected[one.id] for one in shuffled})


def test_a_prompt_of_the_templates_words_alone(make_engine: MakeEngine) -> None:
    """A question without a document: the head is then the whole prompt."""
    words = "Which medicines are stopped before an operation, and for how long? " * 4
    asked = Prompt(
        id="q",
        messages=(Message(role="user", parts=(Part(kind="text", text=words),)),),
        contract=Contract(kind="text"),
        limits=Limits(max_new_tokens=8),
    )
    engine = make_engine()
    encoded = engine.encoder().encode(asked)
    assert len(encoded.ids) > 32 and encoded.head >= len(encoded.ids) - 1
    (made,) = engine.generate([asked])
    assert made.error is None and made.text


CONTRACTS = [
    {"a": "yes | no | cannot tell", "n": "integer"},
    {"t": "text(20)", "a": "low | moderate | high", "l": ["text(9)", "0..2"]},
    {"f": ["finding"], "b": "yes | no"},
]


@pytest.fixture(scope="module")
def constrained(sixty_four: list[Prompt]) -> list[Prompt]:
    """Sixteen prompts under three contracts."""
    made = []
    for i, one in enumerate(sixty_four[:16]):
        contract = contracts.contract(CONTRACTS[i % 3], quotable=True)
        limits = Limits(max_new_tokens=160)
        made.append(one.model_copy(update={"contract": contract, "limits": limits}))
    return made


def test_constrained_answers_do_not_depend_on_the_batch(
    make_engine: MakeEngine, constrained: list[Prompt]
) -> None:
    """Texts, ends and degradations are the same; the choices' probabilities within 1e-4."""
    alone = {g.id: g for g in make_engine(batch_size=1).generate(constrained)}
    assert all(g.error is None for g in alone.values())
    assert sum(len(g.choices) for g in alone.values()) >= 16
    for rows in (4, 16):
        got = {g.id: g for g in make_engine(batch_size=rows).generate(constrained)}
        assert set(got) == set(alone)
        for name, one in alone.items():
            other = got[name]
            assert (other.text, other.finish_reason, other.degraded, other.usage) == (
                one.text,
                one.finish_reason,
                one.degraded,
                one.usage,
            )
            assert [c.at for c in other.choices] == [c.at for c in one.choices]
            for mine, theirs in zip(other.choices, one.choices, strict=True):
                assert mine.options == pytest.approx(theirs.options, abs=1e-4)


# -- the real 270M ------------------------------------------------------------------------------


def test_sixteen_prompts_on_the_real_270m(demo_model: Path) -> None:
    """Batched equals one at a time equals `generate`; some prompts are past the window of 512."""
    notes = [path.read_text("utf-8") for path in sorted(NOTES.rglob("*.md"))]
    run = []
    for i in range(16):
        text = (notes[i % len(notes)] * 20)[: 40 * (i % 4 + 1) if i else 2000]
        run.append(headed(prompt(str(i), f"Note {i}. {text}", tokens=6), HEADS[(i + 1) % 2]))
    options = LocalOptions(precision="fp32", device="cpu", batch_size=16)
    watched = Watched(LocalEngine(models.resolve("demo"), options))
    encoder, stop = watched.engine.encoder(), watched.engine.stop
    model = load_model(
        demo_model, multimodal=True, precision="fp32", device="cpu", double_quant=False
    )
    want = {one.id: plain(model, encoder, one, stop) for one in run}
    assert max(len(encoder.encode(one).ids) for one in run) > 512
    del model
    watched.run(run)
    check(watched, want)
    assert max(watched.rows) == 16
    watched.logits.clear()
    alone = run[:4]
    for one in alone:
        watched.run([one])
    check(watched, {one.id: want[one.id] for one in alone})
