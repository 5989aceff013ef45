"""Keys and values of the lines of a batch: line i in row i, the token at position p in slot p.

Lines stand on the left, without padding: what is to their right is never seen. A sliding layer
keeps a ring, in which position p stands in slot p modulo its size; the ring is `SPARE` slots
longer than the window, so that up to `SPARE` tokens that are written and then not wanted (the
padding of a pass, a guess that was wrong) never take the place of one that is still seen.
"""

from typing import TYPE_CHECKING, Any

from medgemma_cli.engines.attention import Causal, Seen
from medgemma_cli.engines.sizing import SPARE

if TYPE_CHECKING:
    import torch

FULL, SLIDING = "full_attention", "sliding_attention"
_ROUND = 256


class Store:
    """Buffers of shape (rows, slots, key-value heads, dimensions), two a layer, made when needed.

    Args:
        config: the text model's configuration.

    Attributes:
        limit: rows times slots that it may take ahead of what is asked for.
    """

    limit = 0

    def __init__(self, config: Any) -> None:
        self.kinds: list[str] = list(config.layer_types)
        self.window: int = config.sliding_window
        self.ring = self.window + SPARE
        self.device: Any = None
        self._rows = self._columns = 0
        self._keys: list[torch.Tensor | None] = [None] * len(self.kinds)
        self._values: list[torch.Tensor | None] = [None] * len(self.kinds)

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for so many lines of up to `columns` tokens; lines within it stay.

        Grows ahead, since growing copies, but not beyond `limit` slots because of lines that are
        gone: many short ones, then a few long ones, would take the product of both.

        Raises:
            torch.OutOfMemoryError: there is no such room; the lines are still there.
        """
        columns = -(-columns // _ROUND) * _ROUND
        if rows <= self._rows and columns <= self._columns:
            return
        ahead = min(1 << (rows - 1).bit_length(), max(rows, self.limit // columns))
        if max(ahead, self._rows) * max(columns, self._columns) <= self.limit:
            ahead, columns = max(ahead, self._rows), max(columns, self._columns)
        # Until all are resized, what both sizes have is what can be relied on.
        old = self._rows, self._columns
        self._rows, self._columns = min(ahead, old[0]), min(columns, old[1])
        for buffers in (self._keys, self._values):
            for layer, buffer in enumerate(buffers):
                if buffer is not None:
                    buffers[layer] = self._resized(buffer, ahead, self._slots(layer, columns))
        self._rows, self._columns = ahead, columns

    def _slots(self, layer: int, columns: int) -> int:
        return columns if self.kinds[layer] == FULL else min(columns, self.ring)

    @staticmethod
    def _resized(old: "torch.Tensor", rows: int, slots: int) -> "torch.Tensor":
        if (rows, slots) == tuple(old.shape[:2]):
            return old
        new = old.new_zeros(rows, slots, *old.shape[2:])
        new[: old.shape[0], : old.shape[1]] = old[:rows, :slots]
        return new

    def layer(self, layer: int, like: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
        """Keys and values of a layer; `like` is (lines, heads, tokens, dimensions) of the kind."""
        if self._keys[layer] is None:
            shape = (self._rows, self._slots(layer, self._columns), like.shape[1], like.shape[3])
            self.device = like.device
            # Zeros: what is masked still takes part in a product, and garbage may be NaN.
            self._keys[layer], self._values[layer] = like.new_zeros(shape), like.new_zeros(shape)
        keys, values = self._keys[layer], self._values[layer]
        assert keys is not None and values is not None
        return keys, values

    def move(self, source: int, target: int) -> None:
        """Put a line into another row."""
        for buffer in (*self._keys, *self._values):
            if buffer is not None:
                buffer[target] = buffer[source]

    def wipe(self, row: int) -> None:
        """Forget a line whose numbers were not finite."""
        for buffer in (*self._keys, *self._values):
            if buffer is not None and row < len(buffer):
                buffer[row] = 0

    def free(self) -> None:
        """Give all memory back."""
        self._rows = self._columns = 0
        self._keys = [None] * len(self.kinds)
        self._values = [None] * len(self.kinds)

    def seen(self, lengths: "torch.Tensor", queries: int) -> dict[str, Any]:
        """What the next `queries` tokens of each line may see, for each kind of layer.

        Args:
            lengths: int64 of shape (lines,), the tokens that each line holds before the pass.
        """
        import torch

        ahead = torch.arange(queries, device=lengths.device)
        position = (lengths[:, None] + ahead)[:, None, :, None]
        # A slot holds the last position that was written to it, wanted or not.
        newest = lengths + queries - 1
        return self._masks(newest, position, position)

    def beside(self, lengths: "torch.Tensor", depth: "torch.Tensor") -> dict[str, Any]:
        """What tokens that are not written may see of their line, for each kind of layer.

        Args:
            depth: int64 of shape (lines, queries), how far behind its line each token stands.
        """
        position = (lengths[:, None] + depth)[:, None, :, None]
        newest = lengths - 1
        return self._masks(newest, newest[:, None, None, None], position)

    def _masks(
        self, newest: "torch.Tensor", last: "torch.Tensor", position: "torch.Tensor"
    ) -> dict[str, Any]:
        """Keys up to the position `last` that each query may see from where it stands."""
        import torch

        slots = torch.arange(int(newest.max()) + 1, device=newest.device)
        masks = {FULL: Seen((slots <= last) & (position >= 0))}
        if SLIDING in self.kinds:
            slots, ends = slots[: self.ring], newest[:, None]
            held = (ends - (ends - slots) % self.ring)[:, None, None, :]
            near = (held >= 0) & (held <= last) & (held > position - self.window)
            masks[SLIDING] = Seen(near)
        return masks


class Prefix:
    """Keys and values of a beginning that many prompts share; a cache of transformers' kind."""

    def __init__(self, ids: tuple[int, ...]) -> None:
        self.ids = ids
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, key: "torch.Tensor", value: "torch.Tensor", layer: int, *_: Any
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Keep what one layer made: (1, heads, tokens, dimensions)."""
        self.layers.append((key, value))
        return key, value


class Prefill:
    """The cache of a pass that shows prompts, filled up on the right, after a prefix.

    Args:
        first: the row of the first prompt; the others follow.
        lengths: the tokens of each prompt, those of the prefix among them.
    """

    def __init__(self, store: Store, first: int, lengths: list[int], prefix: Prefix | None) -> None:
        self._store = store
        self._first = first
        self._lengths = lengths
        self._prefix = prefix

    def update(
        self, key: "torch.Tensor", value: "torch.Tensor", layer: int, *_: Any
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Write into the store; give back what the queries may see."""
        import torch

        if self._prefix is not None:
            before = self._prefix.layers[layer]
            key, value = (
                torch.cat([old.expand(new.shape[0], -1, -1, -1), new], dim=2)
                for old, new in zip(before, (key, value), strict=True)
            )
        for buffer, made in zip(self._store.layer(layer, key), (key, value), strict=True):
            self._write(buffer, made.transpose(1, 2))
        return key, value

    def _write(self, buffer: "torch.Tensor", made: "torch.Tensor") -> None:
        import torch

        if made.shape[1] <= buffer.shape[1]:
            buffer[self._first : self._first + made.shape[0], : made.shape[1]] = made
            return
        for line, length in enumerate(self._lengths):
            positions = torch.arange(max(0, length - buffer.shape[1]), length, device=made.device)
            buffer[self._first + line, positions % buffer.shape[1]] = made[line, positions]


class Step:
    """The cache of a decoding pass over the first lines of the store.

    Args:
        lengths: int64 of shape (lines,), the tokens that each line holds already.
    """

    def __init__(self, store: Store, lengths: "torch.Tensor", queries: int) -> None:
        import torch

        self._store = store
        self._positions = lengths[:, None] + torch.arange(queries, device=lengths.device)
        self._rows = torch.arange(len(lengths), device=lengths.device)[:, None]
        self._longest = int(lengths.max()) + queries

    def update(
        self, key: "torch.Tensor", value: "torch.Tensor", layer: int, *_: Any
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Write behind each line; give back all slots that any line uses."""
        buffers = self._store.layer(layer, key)
        slots = self._positions
        if self._store.kinds[layer] == SLIDING:
            slots = slots % self._store.ring
        seen = []
        for buffer, made in zip(buffers, (key, value), strict=True):
            buffer[self._rows, slots] = made.transpose(1, 2)
            seen.append(buffer[: len(self._rows), : self._longest].transpose(1, 2))
        return seen[0], seen[1]


class Aside:
    """The cache of a pass that looks at what could come next in some lines, and writes nothing."""

    def __init__(self, store: Store, rows: "torch.Tensor", longest: int) -> None:
        self._store = store
        self._rows = rows
        self._longest = longest

    def update(
        self, key: "torch.Tensor", value: "torch.Tensor", layer: int, *_: Any
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """What the lines hold, and behind it what is looked at."""
        import torch

        seen = [
            torch.cat([buffer[self._rows, : self._longest].transpose(1, 2), made], dim=2)
            for buffer, made in zip(self._store.layer(layer, key), (key, value), strict=True)
        ]
        return seen[0], seen[1]


def causal(
    store: Store, past: int, queries: int, device: Any, images: Any = None
) -> dict[str, Any]:
    """What prompts may see after a prefix, for each kind of layer."""
    masks = {FULL: Causal(past, queries, None, device, images)}
    if SLIDING in store.kinds:
        masks[SLIDING] = Causal(past, queries, store.window, device, images)
    return masks
