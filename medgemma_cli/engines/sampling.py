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
        from transformers import RepetitionPenaltyLogitsProcessor

        self._penalty = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1.0 else None

    def penalise(self, lines: list[Line], scores: "torch.Tensor") -> "torch.Tensor":
        """Scores of shape (lines, vocabulary), less for what the answers have said; may be new."""
        import torch

        said = [i for i, line in enumerate(lines) if line.answer.ids]
        if self._penalty is None or not said:
            return scores
        # Filled up with what is there anyway: a token is punished once.
        longest = max(len(lines[i].answer.ids) for i in said)
        ids = [lines[i].answer.ids for i in said]
        filled = [row + row[:1] * (longest - len(row)) for row in ids]
        at = torch.tensor(said, device=scores.device)
        scores[at] = self._penalty(torch.tensor(filled, device=scores.device), scores[at])
        return scores

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
