"""Logits → one token a line, with each line's own settings and its own random numbers."""

import hashlib
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines.work import Line

if TYPE_CHECKING:
    import torch


class Sampler:
    """Greedy, or temperature and nucleus sampling, with the checkpoint's repetition penalty.

    The penalty counts the answer alone: counting the prompt, as transformers does by default,
    would punish quoting it.

    Args:
        penalty: above 1, what was said is less likely; the checkpoint's `repetition_penalty`.
    """

    def __init__(self, penalty: float) -> None:
        self._penalty = penalty

    def penalise(self, lines: list[Line], scores: "torch.Tensor") -> None:
        """Make what the answers have said less likely, in place: (lines, vocabulary).

        As transformers' RepetitionPenaltyLogitsProcessor (Keskar et al. 2019), without a copy.
        """
        import torch

        ids = self._said(lines, scores.device)
        if ids is None:
            return
        said = scores.gather(-1, ids.clamp(min=0))
        less = torch.where(said < 0, said * self._penalty, said / self._penalty)
        scores.scatter_(-1, ids.clamp(min=0), torch.where(ids < 0, said, less))

    def before(
        self, lines: list[Line], tokens: "torch.Tensor", scores: "torch.Tensor"
    ) -> "torch.Tensor":
        """What the scores of some tokens, both (lines,), were before they were penalised."""
        import torch

        ids = self._said(lines, scores.device)
        if ids is None:
            return scores
        more = torch.where(scores < 0, scores / self._penalty, scores * self._penalty)
        return torch.where((ids == tokens[:, None]).any(dim=-1), more, scores)

    def _said(self, lines: list[Line], device: Any) -> "torch.Tensor | None":
        """The ids of each answer, filled up with its first, or with -1 where nothing is said."""
        import torch

        longest = max(len(line.answer.ids) for line in lines)
        if self._penalty == 1.0 or longest == 0:
            return None
        rows = [
            line.answer.ids + (line.answer.ids[:1] or [-1]) * (longest - len(line.answer.ids))
            for line in lines
        ]
        return torch.tensor(rows, device=device)

    def pick(self, lines: list[Line], scores: "torch.Tensor") -> "torch.Tensor":
        """One token a line, int64 of shape (lines,)."""
        tokens = scores.argmax(dim=-1)
        for i, line in enumerate(lines):
            if line.work.prompt.limits.temperature > 0:
                tokens[i] = self._sample(line, scores[i : i + 1])
        return tokens

    @staticmethod
    def _sample(line: Line, scores: "torch.Tensor") -> "torch.Tensor":
        import torch
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        limits = line.work.prompt.limits
        if line.random is None:
            line.random = torch.Generator(device=scores.device)
            line.random.manual_seed(_seed(limits.seed, line.work.prompt.id))
        scores = TemperatureLogitsWarper(limits.temperature)(_NO_IDS, scores)
        if limits.top_p < 1:
            scores = TopPLogitsWarper(limits.top_p)(_NO_IDS, scores)
        return torch.multinomial(scores.softmax(dim=-1), 1, generator=line.random)[0, 0]


# The warpers take the ids and look at none of them.
_NO_IDS: Any = None


def _seed(seed: int, name: str) -> int:
    """Each document's own, so that a second run with other neighbours draws the same."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:7])
