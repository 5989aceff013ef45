"""What the tower looks at: every picture of a run once, and in batches as alone."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from tiny import IMAGE_TOKENS, MakeEngine, prompt

from medgemma_cli.engines import vision
from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.engines.timing import Timing
from medgemma_cli.records import Image, Prompt

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are no work for several threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(seed: int, side: int = 8) -> Image:
    """A square of random colours."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (3 * side * side,), generator=generator)
    return Image(width=side, height=side, rgb=bytes(values.tolist()))


def watched(engine: LocalEngine) -> list[int]:
    """How many pictures each pass of the tower had, from now on."""
    counts: list[int] = []

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        pixels = kwargs["pixel_values"] if "pixel_values" in kwargs else args[0]
        counts.append(pixels.shape[0])

    tower = engine.loaded().model.model.vision_tower
    tower.register_forward_pre_hook(hook, with_kwargs=True)
    return counts


def shown(name: str, *images: Image) -> Prompt:
    """A prompt with images."""
    return prompt(name, f"Film {name}.", images=images, tokens=6)


def test_a_picture_is_looked_at_once(make_engine: MakeEngine) -> None:
    """Twice in a document, in two documents, in a later run: one look."""
    engine = make_engine(batch_size=2)
    counts = watched(engine)
    same, other = noise(1), noise(2)
    run = [shown("a", same, same), shown("b", same), shown("c", other), shown("d", same, other)]
    first = {g.id: g for g in engine.generate(run)}
    assert sum(counts) == 2 == engine.timing.images
    assert [first[name].usage.images for name in "abcd"] == [2, 1, 1, 2]
    again = {g.id: g.text for g in engine.generate(run)}
    assert again == {name: made.text for name, made in first.items()}
    assert sum(counts) == 2


def test_another_picture_is_another_look(make_engine: MakeEngine) -> None:
    """The same bytes in another shape are another picture."""
    engine = make_engine()
    counts = watched(engine)
    wide = noise(1).model_copy(update={"width": 16, "height": 4})
    assert vision.digest(wide) != vision.digest(noise(1)) != vision.digest(noise(2))
    run = [shown("a", noise(1)), shown("b", wide), shown("c", noise(2))]
    assert all(g.error is None for g in engine.generate(run))
    assert sum(counts) == 3


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 17])
def test_batches_of_pictures_equal_single_ones(make_engine: MakeEngine, count: int) -> None:
    """In fp32, in any order and with repeats, each gets its own features."""
    engine = make_engine()
    model, processor = engine.loaded().model, engine.encoder().processor
    images = [noise(seed, 8 + seed) for seed in range(count)]
    pictures = [(vision.digest(image), vision.pixels(processor, image)) for image in images]
    asked = [*reversed(pictures), *pictures[: count // 2]]
    with torch.inference_mode():
        made = vision.Eye(model, Timing()).features(asked)
        alone = [model.get_image_features(pixels[None]).pooler_output[0] for _, pixels in asked]
    assert made.shape[0] == len(asked) * IMAGE_TOKENS
    torch.testing.assert_close(made, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_what_is_forgotten_is_looked_at_again(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pictures than are kept, even in one document: right features, bounded memory."""
    monkeypatch.setattr(vision, "_KEPT", 2)
    engine = make_engine()
    model, processor = engine.loaded().model, engine.encoder().processor
    pictures = [
        (vision.digest(image), vision.pixels(processor, image)) for image in map(noise, range(5))
    ]
    with torch.inference_mode():
        eye = vision.Eye(model, Timing())
        first = eye.features(pictures)
        assert len(eye._seen) == 2
        torch.testing.assert_close(eye.features(pictures), first, atol=1e-5, rtol=1e-4)


def test_several_pictures_go_through_together(make_engine: MakeEngine) -> None:
    """Batches of documents make batches of pictures, of bounded size."""
    engine = make_engine(batch_size=12)
    counts = watched(engine)
    list(engine.generate([shown(str(i), noise(i)) for i in range(12)]))
    assert sum(counts) == 12 and 1 < max(counts) <= vision.AT_ONCE


def test_deterministic_looks_at_one_at_a_time(make_engine: MakeEngine) -> None:
    """Neighbours in a pass of the tower may change the last bits."""
    engine = make_engine(deterministic=True)
    counts = watched(engine)
    run = [shown("a", noise(1), noise(2), noise(3)), shown("b", noise(4), noise(1))]
    assert all(g.error is None for g in engine.generate(run))
    assert counts == [1, 1, 1, 1]


def test_pictures_reach_their_own_document(make_engine: MakeEngine) -> None:
    """Documents of like length in one pass, each with other pictures in another order."""
    images = [noise(seed) for seed in range(3)]
    pairs = list(itertools.permutations(images, 2))
    run = [prompt(str(i), "Film.", images=pair, tokens=24) for i, pair in enumerate(pairs)]
    together = {g.id: g.text for g in make_engine(batch_size=6).generate(run)}
    alone = {g.id: g.text for g in make_engine(batch_size=1).generate(run)}
    assert together == alone
    assert len(set(alone.values())) > 1
