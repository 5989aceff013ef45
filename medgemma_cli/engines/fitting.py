"""How much a device takes at once: from its free memory, and tried out before it is relied on."""

import gc
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines import sizing
from medgemma_cli.engines.decode import Decoder
from medgemma_cli.engines.loading import Loaded, free_memory
from medgemma_cli.engines.schedule import Capacity

if TYPE_CHECKING:
    from medgemma_cli.engines.local import LocalOptions

_MOST_SLOTS = 1 << 24
_LEAST = 512


def fit(
    decoder: Decoder, loaded: Loaded, config: dict[str, Any], options: "LocalOptions"
) -> Capacity:
    """What was asked for, or what fits.

    Args:
        config: the checkpoint's config.json.
    """
    kind = loaded.device.partition(":")[0]
    rows = 1 if options.deterministic else options.batch_size or sizing.LINES[kind]
    tokens = options.batch_tokens or _slots(loaded, config, sizing.SHOWN[kind])
    capacity = Capacity(rows, tokens, sizing.SHOWN[kind])
    if options.batch_tokens or kind == "cpu":
        # A CPU's memory is given when it is touched: trying out would only fill it.
        return capacity
    return _tried(decoder, capacity, sizing.shape(config).window)


def _slots(loaded: Loaded, config: dict[str, Any], shown: int) -> int:
    """Lines times tokens whose keys and values fit beside the weights and one pass."""
    shape = sizing.shape(config)
    width = loaded.model.dtype.itemsize
    # Up to the window every layer holds every token: a longer line costs less a token.
    length = shape.window
    rows = sizing.rows_that_fit(
        shape,
        length,
        free_memory(loaded.device),
        width,
        slice_tokens=shown,
        most=_MOST_SLOTS // length,
    )
    return max(rows * length, _LEAST)


def _tried(decoder: Decoder, capacity: Capacity, length: int) -> Capacity:
    """Halved until a batch at its largest passes."""
    import torch

    tokens, shown = capacity.tokens, capacity.shown
    while tokens > _LEAST:
        columns = min(length, tokens)
        try:
            decoder.rehearse(max(1, min(capacity.rows, tokens // columns)), columns, shown)
            break
        except torch.OutOfMemoryError:
            tokens, shown = tokens // 2, max(shown // 2, _LEAST)
        # Outside the except block, or the traceback would keep the memory alive.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return Capacity(capacity.rows, tokens, shown)
