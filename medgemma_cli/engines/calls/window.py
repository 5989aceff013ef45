"""How many requests one server gets at once: more while that pays, half as many when it chokes.

Additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the increase and decrease
algorithms for congestion avoidance in computer networks", 1989), doubling at first as in TCP's
slow start (RFC 5681). A queue behind a server chokes late, so growing stops earlier: where a
round at a larger window does not write clearly more tokens a second, the smaller one is kept for
a while, after Vegas (Brakmo and Peterson, 1995), which also goes by what is gained.
"""

_START = 4
_GAIN = 1.05
_HELD = 8  # rounds


class Window:
    """The window of one server. Times are of a clock that only goes forward, in seconds.

    Args:
        most: never more at once.

    Attributes:
        size: requests at once, from 1.
    """

    def __init__(self, most: int) -> None:
        self.size = min(_START, most)
        self._most = most
        self._doubling = True
        self._cut_at = 0.0
        self._held = 0
        self._smaller: tuple[int, float] | None = None
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        self._round_at, self._answers, self._tokens, self._full = now, 0, 0, False

    def taken(self, under_way: int, now: float) -> None:
        """A request begins, with which `under_way` are."""
        if under_way == 1 and not self._answers:
            self._round_at = now
        self._full = self._full or under_way >= self.size

    def answered(self, tokens: int, now: float) -> None:
        """An answer came, of so many tokens."""
        self._answers += 1
        self._tokens += max(tokens, 1)
        if self._answers < self.size:
            return
        rate = self._tokens / max(now - self._round_at, 1e-6)
        full = self._full
        self._begin(now)
        if full:  # a window that was not filled says nothing of a larger one (RFC 7661)
            self._step(rate)

    def _step(self, rate: float) -> None:
        if self._smaller is not None:
            size, before = self._smaller
            self._smaller = None
            if rate < before * _GAIN:
                self.size, self._held, self._doubling = size, _HELD, False
        if self._held:
            self._held -= 1
        elif self.size < self._most:
            self._smaller = (self.size, rate)
            self.size = min(self.size * 2 if self._doubling else self.size + 1, self._most)

    def choked(self, began: float, now: float) -> None:
        """A request that began at `began` was turned away, failed, or took too long."""
        if began < self._cut_at:
            return  # it was under way when the window was cut, and tells nothing new
        self.size = max(1, self.size // 2)
        self._cut_at, self._doubling, self._smaller, self._held = now, False, None, 0
        self._begin(now)
