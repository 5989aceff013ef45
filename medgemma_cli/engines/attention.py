"""Attention for the text model: what each pass may see, and no key more than it needs.

transformers hands a mask to its attention function without looking at it, so a mask here may be
a `Causal`, too: prompts filled up on the right, seen in blocks of queries, so that a sliding
layer never touches keys outside its window and no layer those to come. Anything else is left to
transformers' own function.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

NAME = "medgemma"
_BLOCK = 256


class Block(NamedTuple):
    """Queries `first` to `last`, keys `begin` to `end`, and what of these is seen (bool)."""

    first: int
    last: int
    begin: int
    end: int
    seen: "torch.Tensor"


@dataclass(frozen=True)
class Causal:
    """What prompts may see: what comes before, in a sliding layer no further back than `window`.

    Attributes:
        past: tokens before the first query.
        queries: tokens of the pass.
        window: tokens a sliding layer sees, the query's own among them; None: all.
        images: int64 of shape (lines, past + queries): which image of its line a token is of,
            -1 for text. The tokens of an image see each other, both ways.
        device: where the mask is needed.
    """

    past: int
    queries: int
    window: int | None
    device: Any
    images: "torch.Tensor | None" = field(default=None, repr=False)

    @cached_property
    def blocks(self) -> list[Block]:
        """Made once, for all layers of a kind."""
        # Equal blocks, none much larger than the rest.
        size = -(-self.queries // max(1, round(self.queries / _BLOCK)))
        return [
            self._block(first, min(first + size, self.queries))
            for first in range(0, self.queries, size)
        ]

    def _block(self, first: int, last: int) -> Block:
        import torch

        begin = 0 if self.window is None else max(0, self.past + first - self.window + 1)
        # An image's first token sees its last one.
        end = self.past + (self.queries if self.images is not None else last)
        query = torch.arange(self.past + first, self.past + last, device=self.device)[:, None]
        key = torch.arange(begin, end, device=self.device)[None]
        seen = (key <= query)[None]
        if self.images is not None:
            of = self.images[:, self.past + first : self.past + last, None]
            seen = seen | ((of == self.images[:, None, begin:end]) & (of >= 0))
        if self.window is not None:
            seen = seen & (key > query - self.window)
        return Block(first, last, begin, end, seen[:, None])


@dataclass(frozen=True)
class Seen:
    """What a few queries of many lines may see: bool of shape (lines, 1, queries, keys)."""

    mask: "torch.Tensor"


def attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: Any,
    scaling: float | None = None,
    **more: Any,
) -> tuple["torch.Tensor", None]:
    """An attention function of transformers: (lines, queries, heads, dimensions), and no weights.

    Args:
        query: (lines, heads, queries, dimensions).
        key, value: (lines, key-value heads, keys, dimensions).
    """
    import torch

    if isinstance(attention_mask, Causal):
        parts = [
            _heads(
                query[:, :, block.first : block.last],
                key[:, :, block.begin : block.end],
                value[:, :, block.begin : block.end],
                block.seen,
                scaling,
            )
            for block in attention_mask.blocks
        ]
        return torch.cat(parts, dim=2).transpose(1, 2), None
    if isinstance(attention_mask, Seen):
        return _packed(query, key, value, attention_mask.mask, scaling).transpose(1, 2), None
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    made: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **more
    )
    return made


def _heads(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    seen: "torch.Tensor",
    scaling: float | None,
) -> "torch.Tensor":
    """Many queries: several heads share a key."""
    from torch.nn.functional import scaled_dot_product_attention

    groups = query.shape[1] // key.shape[1]
    if groups > 1 and query.device.type != "cpu":
        # Off the CPU no fused kernel takes a mask and shared keys at once.
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=scaling, enable_gqa=key.shape[1] != query.shape[1]
    )


def _packed(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    seen: "torch.Tensor",
    scaling: float | None,
) -> "torch.Tensor":
    """Few queries: heads that share a key stand as queries of one head, so no key is copied."""
    from torch.nn.functional import scaled_dot_product_attention

    lines, heads, queries, size = query.shape
    shared = key.shape[1]
    packed = query.reshape(lines, shared, heads // shared * queries, size)
    mask = seen.repeat(1, 1, heads // shared, 1)
    made = scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    return made.reshape(lines, heads, queries, size)


def use(model: Any) -> None:
    """Let the text model of a Gemma 3 checkpoint attend this way."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    nested = "text_config" in getattr(model.config, "sub_configs", {})
    model.set_attn_implementation({"text_config": NAME} if nested else NAME)
