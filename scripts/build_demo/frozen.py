"""The frozen language model: what every prompt begins with is read once.

Only an image's tokens and what follows them go through the model, forward and back; keys and
values of the beginning are kept. The same numbers as of one whole pass, for a quarter of it.
"""

from pathlib import Path
from typing import Any

from medgemma_cli.engines.encoding import Encoder


class Reader:
    """A text model that is not trained, and its tokenizer."""

    def __init__(self, model: Any, encoder: Encoder) -> None:
        # Of what a CPU can do, the plain form has the quickest backward pass.
        model.set_attn_implementation("eager")
        model.requires_grad_(False)
        self.encoder = encoder
        self._text = model.get_decoder()
        self._output = model.get_output_embeddings()
        self._window = self._text.config.sliding_window
        self._heads: dict[tuple[int, ...], list[tuple[Any, Any]]] = {}

    @property
    def dtype(self) -> Any:
        """What it computes in."""
        return self._output.weight.dtype

    @property
    def width(self) -> int:
        """The size of an embedding."""
        return int(self._text.config.hidden_size)

    def embed(self, ids: Any) -> Any:
        """Embeddings; those of an image's tokens are to be replaced."""
        return self._text.get_input_embeddings()(ids.masked_fill(self.slots(ids), 0))

    def slots(self, ids: Any) -> Any:
        """Where an image's tokens stand."""
        return ids == self.encoder.image_id

    def hidden(self, head: tuple[int, ...], ids: Any, features: Any) -> Any:
        """The last hidden states of `ids` behind a beginning: (rows, tokens, hidden).

        Args:
            ids: (rows, tokens), filled up on the right, one image each.
            features: (rows, tokens of an image, hidden), what stands for the images.
        """
        import torch
        from transformers import DynamicCache

        rows, tokens = ids.shape
        slots = self.slots(ids)
        embedded = self.embed(ids)
        embedded = embedded.masked_scatter(slots[..., None], features.to(embedded.dtype))
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._beginning(head)):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        made = self._text(
            inputs_embeds=embedded,
            attention_mask=self._masks(len(head), slots),
            position_ids=torch.arange(len(head), len(head) + tokens)[None].expand(rows, -1),
            past_key_values=cache,
        )
        return made.last_hidden_state

    def logits(self, hidden: Any) -> Any:
        """fp32 logits of (n, hidden); of more dimensions it would copy its whole matrix."""
        return self._output(hidden.contiguous()).float()

    def _beginning(self, head: tuple[int, ...]) -> list[tuple[Any, Any]]:
        import torch
        from transformers import DynamicCache

        if head not in self._heads:
            cache = DynamicCache()  # without a config no layer forgets what its window leaves
            none = torch.zeros(1, len(head), dtype=torch.bool)
            with torch.no_grad():
                self._text(
                    inputs_embeds=self.embed(torch.tensor([head])),
                    attention_mask=self._masks(0, none),
                    past_key_values=cache,
                )
            self._heads[head] = [(layer.keys, layer.values) for layer in cache.layers]
        return self._heads[head]

    def _masks(self, past: int, slots: Any) -> dict[str, Any]:
        """What is added to scores: (rows, 1, tokens, past + tokens). An image sees itself whole."""
        import torch

        tokens = slots.shape[1]
        query = torch.arange(past, past + tokens)[:, None]
        key = torch.arange(past + tokens)[None]
        behind = torch.zeros(len(slots), past, dtype=torch.bool)
        image = torch.cat([behind, slots], dim=1)[:, None, :] & slots[:, :, None]
        seen = (key <= query)[None] | image
        least = torch.finfo(self.dtype).min
        kinds = {"full_attention": seen, "sliding_attention": seen & (key > query - self._window)}
        return {
            name: torch.zeros(mask.shape, dtype=self.dtype).masked_fill(~mask, least)[:, None]
            for name, mask in kinds.items()
        }


def load(base: Path, adapter: Path | None) -> Reader:
    """The text model of a folder in bf16, with an adapter merged in, if there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    from medgemma_cli.demo import joining, sight

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, local_files_only=True)
    if adapter is not None:
        joining.merge(model, adapter)
    tokenizer = sight.tokenizer(base)
    return Reader(model, Encoder(tokenizer, sight.processor(tokenizer)))
