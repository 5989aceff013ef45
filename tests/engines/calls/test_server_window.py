"""How many requests go at once: simulated servers, without a clock."""

import heapq
from itertools import count

from medgemma_cli.engines.calls.window import Window


class Simulated:
    """A server with `slots`: what is over that waits in a queue. Each answer takes a second."""

    def __init__(self, slots: int, most: int = 64) -> None:
        self.window = Window(most)
        self.sizes: list[int] = []
        self._slots = slots

    def run(self, answers: int) -> None:
        """So many answers, the window always full."""
        free = [0.0] * self._slots
        ends: list[tuple[float, int]] = []
        number, now = count(), 0.0
        for _ in range(answers):
            while len(ends) < self.window.size:
                begins = max(heapq.heappop(free), now)
                heapq.heappush(free, begins + 1.0)
                heapq.heappush(ends, (begins + 1.0, next(number)))
                self.window.taken(len(ends), now)
            now, _ = heapq.heappop(ends)
            self.window.answered(10, now)
            self.sizes.append(self.window.size)


def test_grows_where_it_pays() -> None:
    """A server that takes many at once soon gets many."""
    server = Simulated(slots=64)
    server.run(400)
    assert max(server.sizes) >= 32


def test_stays_small_where_it_does_not() -> None:
    """One that answers one at a time gets a short queue: what waits there would grow too old."""
    server = Simulated(slots=1)
    server.run(300)
    assert max(server.sizes) <= 8 and server.sizes[-1] <= 6


def test_never_over_the_most() -> None:
    """The user's bound holds, also when it is under the start."""
    server = Simulated(slots=64, most=3)
    server.run(100)
    assert set(server.sizes) == {3}
    assert Window(1).size == 1


def test_a_window_not_filled_does_not_grow() -> None:
    """Answers that come one by one say nothing of more at once."""
    window = Window(64)
    for second in range(100):
        window.taken(1, float(second))
        window.answered(10, second + 0.5)
    assert window.size == 4


def test_halved_when_it_chokes() -> None:
    """Half as many; what was under way at the cut does not cut again; 1 is the least."""
    window = Window(64)
    window.size = 16
    window.choked(began=1.0, now=2.0)
    assert window.size == 8
    for _ in range(5):
        window.choked(began=1.5, now=2.1)
    assert window.size == 8
    for second in range(3, 12):
        window.choked(began=float(second), now=second + 0.5)
    assert window.size == 1


def test_one_by_one_after_a_cut() -> None:
    """After a cut it grows by one at a time."""
    server = Simulated(slots=64)
    server.window.choked(began=0.0, now=0.1)
    server.run(200)
    steps = {b - a for a, b in zip(server.sizes, server.sizes[1:], strict=False)}
    assert max(steps) == 1 and server.sizes[-1] > 4
