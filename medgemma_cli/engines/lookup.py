"""Guesses at what comes next: what followed the same words before.

Prompt lookup decoding: an answer that copies from its source can be checked several tokens at a
time, since a pass over eight tokens costs hardly more than one over one. A guess is taken only
where the model would have written it itself. After A. Saxena, "Prompt Lookup Decoding" (2023).
"""

_LONGEST = 3
_SHORTEST = 2


class Lookup:
    """Remembers where every few tokens of a text were last followed by something.

    Args:
        ids: the prompt.
    """

    def __init__(self, ids: list[int]) -> None:
        self._ids: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}
        self.add(ids)

    def add(self, ids: list[int]) -> None:
        """What was written meanwhile."""
        for token in ids:
            # What ends before this token is now followed by it.
            at = len(self._ids)
            for size in range(_SHORTEST, _LONGEST + 1):
                if at >= size:
                    self._ends[tuple(self._ids[at - size : at])] = at
            self._ids.append(token)

    def __len__(self) -> int:
        return len(self._ids)

    def guess(self, count: int) -> list[int]:
        """Up to `count` tokens that followed the longest of the last few before; often none."""
        for size in range(_LONGEST, _SHORTEST - 1, -1):
            at = self._ends.get(tuple(self._ids[-size:])) if len(self._ids) >= size else None
            if at is not None:
                return self._ids[at : at + count]
        return []
