"""What each query sees, and what comes of it, against one dense mask and a plain softmax."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.engines import attention
from medgemma_cli.engines.attention import Causal, Seen, attend
from medgemma_cli.engines.loading import load_model

torch = pytest.importorskip("torch")


def dense(causal: Causal) -> "torch.Tensor":
    """What is seen, from the words of the docstring: bool (lines or 1, queries, keys)."""
    query = torch.arange(causal.queries)[:, None] + causal.past
    key = torch.arange(causal.past + causal.queries)[None]
    seen = (key <= query)[None]
    if causal.images is not None:
        keys = causal.images
        queries = keys[:, causal.past :]
        seen = seen | ((queries[:, :, None] == keys[:, None]) & (queries[:, :, None] != -1))
    if causal.window is not None:
        seen = seen & (query - key < causal.window)
    return seen


def from_blocks(causal: Causal, lines: int) -> "torch.Tensor":
    """The blocks put together; they must follow each other without a gap."""
    made = torch.zeros(lines, causal.queries, causal.past + causal.queries, dtype=torch.bool)
    at = 0
    for block in causal.blocks:
        assert block.first == at < block.last
        made[:, block.first : block.last, block.begin : block.end] = block.seen[:, 0]
        at = block.last
    assert at == causal.queries
    return made


def some_images(past: int, queries: int, lines: int, seed: int) -> "torch.Tensor":
    """Runs of image tokens at other places in every line, none in the past."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((lines, past + queries), -1)
    for line in range(lines):
        at, number = past, 0
        while True:
            at += int(torch.randint(0, 90, (1,), generator=generator))
            if at + 6 >= past + queries:
                break
            images[line, at : at + 6] = number
            at, number = at + 6, number + 1
    return images


def plain(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    seen: "torch.Tensor",
    scale: float,
) -> "torch.Tensor":
    """Softmax attention in float64, every head with its own copy of the keys."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query.double() @ key.double().transpose(2, 3) * scale
    weights = scores.masked_fill(~seen[:, None], float("-inf")).softmax(dim=-1)
    return (weights @ value.double()).transpose(1, 2)


def tensors(lines: int, heads: tuple[int, int], queries: int, keys: int) -> list["torch.Tensor"]:
    """Query, key and value."""
    generator = torch.Generator().manual_seed(queries)
    shapes = [(heads[0], queries), (heads[1], keys), (heads[1], keys)]
    return [torch.randn(lines, *shape, 8, generator=generator) for shape in shapes]


@settings(max_examples=60, deadline=None)
@given(
    queries=st.one_of(st.integers(1, 700), st.sampled_from([255, 256, 257, 383, 384, 385, 512])),
    past=st.integers(0, 400),
    window=st.one_of(st.none(), st.integers(1, 600)),
    seed=st.one_of(st.none(), st.integers(0, 1000)),
)
def test_blocks_are_the_dense_mask(
    queries: int, past: int, window: int | None, seed: int | None
) -> None:
    """Whatever the lengths: no query sees more or less than the one mask over all says."""
    images = None if seed is None else some_images(past, queries, 2, seed)
    causal = Causal(past, queries, window, "cpu", images)
    assert torch.equal(from_blocks(causal, 2), dense(causal).expand(2, -1, -1))


@settings(max_examples=50, deadline=None)
@given(queries=st.integers(1, 3000), past=st.integers(0, 400), window=st.integers(1, 600))
def test_a_sliding_layer_leaves_out_what_is_too_far(queries: int, past: int, window: int) -> None:
    """No block holds a key that none of its queries sees, and blocks are of like size."""
    sizes = []
    for block in Causal(past, queries, window, "cpu").blocks:
        assert block.seen.shape[2:] == (block.last - block.first, block.end - block.begin)
        assert block.seen.any(dim=(0, 1, 2)).all()
        sizes.append(block.last - block.first)
    assert max(sizes) < 2 * 256 and max(sizes) - min(sizes[:-1], default=max(sizes)) == 0


@pytest.mark.parametrize("heads", [(4, 2), (4, 1), (2, 2)])
@pytest.mark.parametrize(
    ("past", "queries", "window"),
    [
        (0, 1, None),
        (0, 1, 1),
        (0, 7, 3),
        (0, 256, None),
        (0, 257, 64),
        (0, 700, 64),
        (0, 700, 512),
        (40, 300, 16),
        (300, 100, 64),
        (300, 513, None),
        (500, 385, 1),
    ],
)
@pytest.mark.parametrize("pictures", [False, True])
def test_attend_equals_plain_attention(
    heads: tuple[int, int], past: int, queries: int, window: int | None, pictures: bool
) -> None:
    """Block by block it is what one softmax over all keys gives, images seen both ways."""
    images = some_images(past, queries, 2, 5) if pictures else None
    causal = Causal(past, queries, window, "cpu", images)
    query, key, value = tensors(2, heads, queries, past + queries)
    made, weights = attend(None, query, key, value, causal, scaling=0.3)
    assert weights is None and made.shape == (2, queries, heads[0], 8)
    expected = plain(query, key, value, dense(causal), 0.3)
    torch.testing.assert_close(made.double(), expected, atol=2e-6, rtol=1e-5)


def test_an_image_is_seen_across_a_block_border() -> None:
    """The first token of an image in one block sees its last one in the next."""
    images = torch.full((1, 600), -1)
    images[0, 290:310] = 0  # two blocks of 300
    causal = Causal(0, 600, None, "cpu", images)
    assert [(b.first, b.last) for b in causal.blocks] == [(0, 300), (300, 600)]
    seen = from_blocks(causal, 1)[0]
    assert seen[290, 309] and not seen[289, 290] and not seen[290, 310] and seen[309, 290]


@pytest.mark.parametrize("heads", [(4, 2), (4, 1), (8, 8)])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 50), (5, 33), (39, 128)])
def test_few_queries_equal_plain_attention(heads: tuple[int, int], queries: int, keys: int) -> None:
    """Heads that share a key, packed as queries of one head, with another mask in every line."""
    query, key, value = tensors(3, heads, queries, keys)
    seen = torch.rand(3, queries, keys, generator=torch.Generator().manual_seed(1)) < 0.5
    seen[..., 0] = True
    made, _ = attend(None, query, key, value, Seen(seen[:, None]), scaling=0.3)
    expected = plain(query, key, value, seen, 0.3)
    torch.testing.assert_close(made.double(), expected, atol=2e-6, rtol=1e-5)


def test_any_other_mask_is_left_to_transformers(checkpoint: Path) -> None:
    """A plain call of a model that attends this way gives what it gave before; the eye's stays."""
    model = load_model(
        checkpoint, multimodal=True, precision="fp32", device="cpu", double_quant=False
    )
    ids = torch.arange(200, 300)[None]
    types = torch.zeros_like(ids)
    with torch.inference_mode():
        before = model(input_ids=ids, token_type_ids=types).logits
        attention.use(model)
        after = model(input_ids=ids, token_type_ids=types).logits
    assert model.config.text_config._attn_implementation == attention.NAME
    assert model.config.vision_config._attn_implementation != attention.NAME
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
