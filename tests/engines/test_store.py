"""Slots and masks together: what a query sees are the keys of the right positions, no others."""

from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.engines.sizing import SPARE
from medgemma_cli.engines.store import (
    FULL,
    SLIDING,
    Aside,
    Prefill,
    Prefix,
    Step,
    Store,
    causal,
)

torch = pytest.importorskip("torch")
WINDOW = 9
RING = WINDOW + SPARE


def new_store(limit: int = 0) -> Store:
    """One sliding layer and one full one."""
    store = Store(SimpleNamespace(layer_types=[SLIDING, FULL], sliding_window=WINDOW))
    store.limit = limit
    return store


def keys(rows: list[list[float]]) -> "torch.Tensor":
    """(lines, 1 head, tokens, 1 dimension)."""
    return torch.tensor(rows, dtype=torch.float64)[:, None, :, None]


def update(cache: Any, rows: list[list[float]]) -> dict[str, "torch.Tensor"]:
    """Show the same keys to both layers; values are the keys' negatives. What comes back."""
    made = {}
    for layer, kind in enumerate((SLIDING, FULL)):
        key, value = cache.update(keys(rows), -keys(rows), layer)
        assert torch.equal(key, -value)
        made[kind] = key[:, 0, :, 0]
    return made


@dataclass
class Ledger:
    """A store, and what each of its lines holds by a plain list."""

    store: Store
    random: Random
    held: list[list[float]] = field(default_factory=list)
    written: int = 0

    def fresh(self, count: int) -> list[float]:
        """Keys that were never written before: each tells which token it is of."""
        start = self.written + 1
        self.written += count
        return [float(number) for number in range(start, start + count)]

    @property
    def longest(self) -> int:
        """Tokens of the longest line."""
        return max(map(len, self.held), default=0)

    def lengths(self) -> "torch.Tensor":
        """As the store wants them."""
        return torch.tensor([len(line) for line in self.held])

    def reserve(self, more: int, tokens: int) -> None:
        """Room for more lines and tokens, as the decoder asks for it."""
        self.store.reserve(len(self.held) + more, max(self.longest, tokens) + 2 * SPARE)

    def admit(self, lengths: list[int], prefix: int = 0) -> None:
        """New lines, filled up on the right with keys that must never be seen."""
        self.reserve(len(lengths), max(lengths) + prefix)
        before: list[float] = []
        shared = None
        if prefix:
            before, shared = self.fresh(prefix), Prefix(tuple(range(prefix)))
            update(shared, [before])
        new = [self.fresh(length) for length in lengths]
        filled = [line + self.fresh(max(lengths) - len(line)) for line in new]
        totals = [prefix + length for length in lengths]
        cache = Prefill(self.store, len(self.held), totals, shared)
        made = update(cache, filled)
        for kind in (SLIDING, FULL):
            assert made[kind].tolist() == [before + row for row in filled]
        self.held += [before + line for line in new]

    def step(self, width: int) -> None:
        """Show some tokens to every line, of which each keeps only so many."""
        self.reserve(0, 0)
        lengths = self.lengths()
        rows = [self.fresh(width) for _ in self.held]
        masks = self.store.seen(lengths, width)
        got = update(Step(self.store, lengths, width), rows)
        for i, row in enumerate(rows):
            whole = self.held[i] + row
            for query in range(width):
                last = len(self.held[i]) + query
                self.check(masks, got, i, query, whole[: last + 1], last)
        for i, row in enumerate(rows):
            self.held[i] = self.held[i] + row[: self.random.randint(0, width)]

    def aside(self, queries: int) -> None:
        """Look from behind some of the lines, in any order, without writing."""
        rows = self.random.sample(range(len(self.held)), self.random.randint(1, len(self.held)))
        lengths = torch.tensor([len(self.held[row]) for row in rows])
        depth = torch.tensor([[self.random.randint(0, 20) for _ in range(queries)] for _ in rows])
        masks = self.store.beside(lengths, depth)
        own = [self.fresh(queries) for _ in rows]
        got = update(Aside(self.store, torch.tensor(rows), int(lengths.max())), own)
        for i, row in enumerate(rows):
            for kind in (SLIDING, FULL):
                assert got[kind][i, -queries:].tolist() == own[i]
            seen = {kind: made[:, :-queries] for kind, made in got.items()}
            for query in range(queries):
                last = len(self.held[row]) + int(depth[i, query])
                self.check(masks, seen, i, query, self.held[row], last)

    def check(
        self,
        masks: dict[str, Any],
        got: dict[str, "torch.Tensor"],
        line: int,
        query: int,
        tokens: list[float],
        position: int,
    ) -> None:
        """A query at the position sees these tokens; a sliding layer those in its window."""
        near = [token for at, token in enumerate(tokens) if at > position - WINDOW]
        for kind, expected in ((FULL, tokens), (SLIDING, near)):
            assert masks[kind].mask.shape[3] == got[kind].shape[1]
            selected = got[kind][line][masks[kind].mask[line, 0, query]]
            assert sorted(selected.tolist()) == expected

    def leave(self, row: int) -> None:
        """As the decoder does it: the last line takes the place."""
        last = self.held.pop()
        if row < len(self.held):
            self.store.move(len(self.held), row)
            self.held[row] = last


@settings(max_examples=120, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([0, 600, 4000]))
def test_masks_select_the_keys_of_the_right_positions(random: Random, limit: int) -> None:
    """Lines come, get on, keep part of what was written, move, look aside and leave, at random."""
    ledger = Ledger(new_store(limit), random)
    for _ in range(random.randint(3, 14)):
        action = random.choice(("admit", "step", "step", "step", "aside", "leave"))
        if not ledger.held or (action == "admit" and len(ledger.held) < 5):
            most = random.choice((5, WINDOW + 1, RING + 3, 3 * RING))
            lengths = [random.randint(1, most) for _ in range(random.randint(1, 3))]
            ledger.admit(lengths, random.choice((0, 0, 4, RING + 5)))
        elif action == "aside":
            ledger.aside(random.randint(1, 4))
        elif action == "leave":
            ledger.leave(random.randrange(len(ledger.held)))
        else:
            ledger.step(random.choice((1, 1, 2, 7, SPARE)))


@pytest.mark.parametrize("width", [1, 8, SPARE])
def test_nothing_kept_is_nothing_changed(width: int) -> None:
    """Written and not wanted, again and again, around the whole ring: the line stays as it was."""
    random = Random(1)
    random.randint = lambda low, high: low  # type: ignore[method-assign]
    for length in (1, WINDOW, RING - 1, RING, RING + 1, 2 * RING + 3):
        ledger = Ledger(new_store(), random)
        ledger.admit([length, 1])
        for _ in range(3):
            ledger.step(width)
        assert [len(line) for line in ledger.held] == [length, 1]


@pytest.mark.parametrize("lengths", [[RING + 1, 2], [1, 3 * RING, RING], [RING, RING - 1]])
@pytest.mark.parametrize("prefix", [0, 40, RING + 7])
def test_a_prompt_longer_than_the_ring(lengths: list[int], prefix: int) -> None:
    """Each line keeps the last that fits of its own tokens, not of what filled it up."""
    ledger = Ledger(new_store(), Random(2))
    ledger.admit(lengths, prefix)
    for _ in range(3):
        ledger.step(1)


def test_growing_keeps_the_lines() -> None:
    """More lines and longer ones: what is there stays, in the ring and beyond it."""
    ledger = Ledger(new_store(), Random(3))
    ledger.admit([30, 80, 5])
    before = ledger.store._rows, ledger.store._columns
    ledger.admit([700, 2, 9, 1, 1, 1])
    ledger.step(3)
    assert ledger.store._rows > before[0] and ledger.store._columns > before[1]


def test_a_wiped_line_is_finite_again() -> None:
    """NaN of one document in a slot that is masked would still make the next one's products NaN."""
    store = new_store()
    store.reserve(2, 20)
    nan = float("nan")
    for layer in (0, 1):
        made = keys([[nan] * 10, [1.0] * 10])
        Prefill(store, 0, [10, 10], None).update(made, made, layer)
    store.wipe(0)
    for layer in (0, 1):
        key, value = store.layer(layer, keys([[0.0]]))
        assert key.isfinite().all() and value.isfinite().all()
        assert key[1].sum() == 10


def test_free_gives_all_back() -> None:
    """Nothing is held, and the store can be used again."""
    ledger = Ledger(new_store(), Random(4))
    ledger.admit([30, 80])
    ledger.store.free()
    assert ledger.store._keys == ledger.store._values == [None, None]
    ledger.held = []
    ledger.admit([12])
    ledger.step(2)


def test_a_sliding_layer_holds_no_more_than_its_ring() -> None:
    """Memory of a long line: the window and the spare slots."""
    store = new_store()
    store.reserve(3, 5000)
    assert store.layer(0, keys([[0.0]]))[0].shape[1] == RING
    assert store.layer(1, keys([[0.0]]))[0].shape[1] >= 5000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3000)), min_size=1, max_size=6),
    st.sampled_from([0, 1024, 4096, 20000]),
)
def test_reserve_stays_within_its_limit(asked: list[tuple[int, int]], limit: int) -> None:
    """No more slots than the limit, or than was asked for just now, whatever came before."""
    store, earlier = new_store(limit), (0, 0)
    for rows, columns in asked:
        store.reserve(rows, columns)
        assert store._rows >= rows and store._columns >= columns
        needed = rows * -(-columns // 256) * 256
        grown = store._rows, store._columns
        assert grown[0] * grown[1] <= max(limit, needed) or grown == earlier
        earlier = grown


@pytest.mark.parametrize("fails_at", [2, 3, 4])
def test_reserve_that_fails_keeps_the_lines(monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    """Out of memory in the middle of growing: every buffer has what is said to be there."""
    store = new_store()
    store.reserve(8, 256)
    for layer in (0, 1):
        store.layer(layer, keys([[0.0]]))
    resized, calls = Store._resized, 0

    def failing(old: "torch.Tensor", rows: int, slots: int) -> "torch.Tensor":
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise torch.OutOfMemoryError
        return resized(old, rows, slots)

    monkeypatch.setattr(Store, "_resized", staticmethod(failing))
    with pytest.raises(torch.OutOfMemoryError):
        store.reserve(2, 1024)
    assert store._rows >= 2 and store._columns == 256
    for layer, (k, v) in enumerate(zip(store._keys, store._values, strict=True)):
        assert k is not None and v is not None
        assert min(len(k), len(v)) >= store._rows
        assert min(k.shape[1], v.shape[1]) >= store._slots(layer, store._columns)
    store.reserve(8, 256)
    assert all(len(buffer) >= 8 for buffer in (*store._keys, *store._values))


def test_causal_masks_for_each_kind() -> None:
    """A model without sliding layers gets one mask, others two with the window in one."""
    masks = causal(new_store(), 3, 5, "cpu")
    assert masks[FULL].window is None and masks[SLIDING].window == WINDOW
    only = Store(SimpleNamespace(layer_types=[FULL], sliding_window=WINDOW))
    assert set(causal(only, 0, 5, "cpu")) == {FULL}
    assert set(only.seen(torch.tensor([3]), 1)) == {FULL}
