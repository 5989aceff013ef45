"""The decoding loop: one forward pass writes what every answer of a batch is sure of.

Left-padded prompts go in once; then each step gives every answer its next token. Tokens that a
grammar forces are not sampled: they are shown to the model together, as many at once as all
answers of the batch have (at a batch of one all of them; the JSON's head goes in with the prompt,
its tail not at all). A choice is scored where it comes up, from the model's own logits over the
whole of every option, with a copy of its line of the cache. Answers that are done leave the batch.
"""

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medgemma_cli import choices
from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.engines.writing import Answer, JsonAnswer
from medgemma_cli.records import Limits

if TYPE_CHECKING:
    import torch

# Options scored at once: each takes a copy of its line of the cache.
_BRANCHES = 16


class Decoding:
    """A batch on its way.

    Args:
        model: a transformers causal language model.
        inputs: `input_ids` and `attention_mask` of shape (lines, length), padded on the left, and
            what else the first pass takes.
        answers: a line each; what they hold already is the end of their prompt.
        compiler: needed where an answer is a `JsonAnswer`.
        limits: how to sample.
        stop: the ids that end a free text.
    """

    def __init__(
        self,
        model: Any,
        inputs: dict[str, Any],
        answers: list[Answer],
        compiler: Compiler | None,
        limits: Limits,
        stop: list[int],
        *,
        at_least: int = 0,
    ) -> None:
        from transformers import DynamicCache

        self._model = model
        self._first = inputs
        self._answers = answers
        self._compiler = compiler
        self._stop = stop
        self._at_least = at_least
        self._ids = inputs["input_ids"]
        self._mask = inputs["attention_mask"]
        self._position = self._mask.sum(dim=-1, keepdim=True)
        self._cache = DynamicCache(config=model.config)
        self._sampler = _Sampler(model, limits, self._ids.shape[1])

    def run(self, on_step: Callable[[int], None]) -> None:
        """Write all answers to their end; `on_step` is told the new tokens before each pass."""
        logits = self._prefill()
        while True:
            self._choose_all(logits)
            self._drop_done()
            if not self._answers:
                return
            count = min(answer.pending for answer in self._answers)
            on_step(count * len(self._answers))
            logits = self._pass(count)

    # -- passes -----------------------------------------------------------------------------

    def _prefill(self) -> "torch.Tensor":
        positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        logits = self._logits(self._first, position_ids=positions, logits_to_keep=1)[:, -1]
        self._first = {}  # images are large and not needed again
        return logits

    def _pass(self, count: int) -> "torch.Tensor":
        """Show the next `count` tokens of every answer; logits of shape (lines, vocabulary)."""
        import torch

        rows = [answer.ids[answer.fed : answer.fed + count] for answer in self._answers]
        for answer in self._answers:
            answer.fed += count
        new = torch.tensor(rows, device=self._ids.device)
        positions = self._position + torch.arange(count, device=new.device)
        self._ids = torch.cat([self._ids, new], dim=-1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(new.shape)], dim=-1)
        self._position = self._position + count
        inputs = {"input_ids": new, "attention_mask": self._mask}
        return self._logits(inputs, position_ids=positions, logits_to_keep=1)[:, -1]

    def _logits(self, inputs: dict[str, Any], cache: Any = None, **more: Any) -> "torch.Tensor":
        """Shape (lines, length, vocabulary), fp32."""
        passed = self._cache if cache is None else cache
        made = self._model(**inputs, past_key_values=passed, use_cache=True, **more)
        logits: torch.Tensor = made.logits.float()
        return logits

    def _drop_done(self) -> None:
        import torch

        kept = [i for i, answer in enumerate(self._answers) if not answer.done]
        if len(kept) == len(self._answers):
            return
        self._answers = [self._answers[i] for i in kept]
        if kept:
            index = torch.tensor(kept, device=self._ids.device)
            self._cache.batch_select_indices(index)
            self._ids, self._mask = self._ids[index], self._mask[index]
            self._position = self._position[index]

    # -- the next tokens --------------------------------------------------------------------

    def _choose_all(self, logits: "torch.Tensor") -> None:
        import torch

        # One reduction says whether a line is finite: NaN and infinity survive the sum.
        log_total = torch.logsumexp(logits, dim=-1)
        finite = torch.isfinite(log_total).tolist()
        waiting = [i for i, answer in enumerate(self._answers) if answer.pending == 0]
        for i in waiting:
            if not finite[i]:
                self._answers[i].fail()
            else:
                self._without_sampling(i, logits[i])
        open_lines = [i for i in waiting if not self._answers[i].done]
        sampled = [i for i in open_lines if self._answers[i].pending == 0]
        if not sampled:
            return
        scores = self._sampler.scores(self._ids[sampled], logits[sampled])
        self._constrain(sampled, scores)
        tokens = self._sampler.pick(scores)
        logs = logits[sampled].gather(-1, tokens[:, None])[:, 0] - log_total[sampled]
        for i, token, log in zip(sampled, tokens.tolist(), logs.tolist(), strict=True):
            self._answers[i].take(token, log)

    def _without_sampling(self, line: int, logits: "torch.Tensor") -> None:
        """Write what closes the answer, and score a choice that comes up."""
        answer = self._answers[line]
        if not isinstance(answer, JsonAnswer):
            return
        if not answer.close() and (options := answer.options()):
            assert self._compiler is not None
            tokens = [self._compiler.tokens(option) for option in options]
            logs = self._score(line, logits, tokens)
            if all(map(math.isfinite, logs)):
                answer.choose(tokens, choices.normalised(logs))
            else:
                answer.fail()

    def _constrain(self, lines: list[int], scores: "torch.Tensor") -> None:
        """Put what the grammars forbid, or a free text may not end with yet, at minus infinity."""
        import torch

        live = [
            (answer.matcher, row)
            for row, i in enumerate(lines)
            if isinstance(answer := self._answers[i], JsonAnswer)
        ]
        for row, i in enumerate(lines):
            answer = self._answers[i]
            if not isinstance(answer, JsonAnswer) and len(answer.ids) < self._at_least:
                scores[row, self._stop] = float("-inf")
        if not live:
            return
        assert self._compiler is not None
        bits = self._compiler.bits(live, len(lines))
        rows = [row for _, row in live]
        for row in rows:
            answer = self._answers[lines[row]]
            assert isinstance(answer, JsonAnswer)
            answer.restrict(bits[row])
        forbidden = torch.from_numpy(bits[rows] == 0).to(scores.device)
        scores[rows] = scores[rows].masked_fill(forbidden, float("-inf"))

    def _score(self, line: int, logits: "torch.Tensor", options: list[list[int]]) -> list[float]:
        """The log-probability of each option, as a whole, after what the line holds."""
        import torch

        first = torch.tensor([option[0] for option in options], device=logits.device)
        totals: list[float] = (logits[first] - logits.logsumexp(dim=-1)).tolist()
        if max(map(len, options)) == 1:
            return totals
        for start in range(0, len(options), _BRANCHES):
            part = options[start : start + _BRANCHES]
            for i, log in enumerate(self._branch_logs(line, part), start):
                totals[i] += log
        return totals

    def _branch_logs(self, line: int, options: list[list[int]]) -> list[float]:
        """The log-probability of what follows each option's first token."""
        import torch

        longest = max(map(len, options))
        # Shorter options are filled up on the right, where nothing before can see it.
        ids = torch.tensor(
            [option + [0] * (longest - len(option)) for option in options], device=self._ids.device
        )
        lengths = torch.tensor([[len(option)] for option in options], device=ids.device)
        held = torch.arange(longest, device=ids.device) < lengths
        mask = self._mask[line].expand(len(options), -1)
        inputs = {
            "input_ids": ids[:, :-1],
            "attention_mask": torch.cat([mask, mask.new_ones(len(options), longest - 1)], dim=-1),
        }
        positions = self._position[line] + torch.arange(longest - 1, device=ids.device)
        branch = _branch(self._cache, line, len(options))
        after = self._logits(inputs, branch, position_ids=positions.expand(len(options), -1))
        chosen = after.gather(-1, ids[:, 1:, None])[..., 0] - after.logsumexp(dim=-1)
        logs: list[float] = chosen.where(held[:, 1:], 0.0).sum(dim=-1).tolist()
        return logs


class _Sampler:
    """Greedy, or temperature and nucleus sampling, with the checkpoint's repetition penalty.

    The penalty counts the answer alone: counting the prompt, as transformers does by default,
    would punish quoting it.
    """

    def __init__(self, model: Any, limits: Limits, prompt: int) -> None:
        from transformers import (
            LogitsProcessorList,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopPLogitsWarper,
        )

        self._sampling = limits.temperature > 0
        self._penalty = LogitsProcessorList()
        self._warp = LogitsProcessorList()
        penalty = model.generation_config.repetition_penalty or 1.0
        if penalty != 1.0:
            self._penalty.append(
                RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=prompt)
            )
        if self._sampling:
            self._warp.append(TemperatureLogitsWarper(limits.temperature))
        if self._sampling and limits.top_p < 1:
            self._warp.append(TopPLogitsWarper(limits.top_p))

    def scores(self, ids: "torch.Tensor", logits: "torch.Tensor") -> "torch.Tensor":
        """A copy of the logits, penalised."""
        scores: torch.Tensor = self._penalty(ids, logits.clone())
        return scores

    def pick(self, scores: "torch.Tensor") -> "torch.Tensor":
        """One token a line."""
        import torch

        if not self._sampling:
            return scores.argmax(dim=-1)
        warped = self._warp(None, scores)
        return torch.multinomial(warped.softmax(dim=-1), num_samples=1)[:, 0]


def _branch(cache: Any, line: int, copies: int) -> Any:
    """One line of a `DynamicCache`, several times; the original is not touched by what follows."""
    branch = copy.copy(cache)
    branch.layers = []
    for layer in cache.layers:
        own = copy.copy(layer)
        own.keys = layer.keys[line : line + 1].expand(copies, -1, -1, -1)
        own.values = layer.values[line : line + 1].expand(copies, -1, -1, -1)
        branch.layers.append(own)
    return branch
