"""The decoding loop: lines join as others end, and every pass writes what all are sure of.

Prompts are shown once, filled up on the right, behind the beginning that they share. Then each
pass gives every line its next token. Tokens that a grammar forces are not sampled: they are shown
together, as many at once as it costs nothing (the JSON's head goes in with the prompt, its tail
not at all). A choice waits until a few lines have one, and is then scored from the model's own
logits over the whole of every option, beside what the line holds. A line that is alone guesses
what it may copy from its prompt, and keeps of that what it would have written itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.engines.lookup import Lookup
from medgemma_cli.engines.sampling import Sampler
from medgemma_cli.engines.scoring import closed, score
from medgemma_cli.engines.sizing import SPARE
from medgemma_cli.engines.store import Prefill, Prefix, Step, Store, causal
from medgemma_cli.engines.timing import Timing
from medgemma_cli.engines.vision import AT_ONCE, Eye
from medgemma_cli.engines.work import Choice, Line, Work
from medgemma_cli.engines.writing import JsonAnswer

if TYPE_CHECKING:
    import torch

# A shorter beginning is not worth a pass of its own.
_SHARED = 32
_PREFIXES = 4
# A choice waits until one line in so many has one, so that few passes score many.
_WAITING = 8
_GUESSED = 7


def _quiet(count: int) -> None:
    return


class Decoder:
    """Lines in one loaded model.

    Args:
        model: a transformers Gemma 3 that `attention.use` was called on.
        image_id: the token that pictures stand for.
        stop: the ids that end a free text.
        precision: of the weights.
        alone: whether lines are alone at all times, and nothing may depend on others.
        on_tokens: told, before each pass, how many tokens it shows.

    Attributes:
        lines: those that are being written.
        compiler: needed where an answer is a `JsonAnswer`.
    """

    def __init__(
        self,
        model: Any,
        image_id: int,
        stop: list[int],
        timing: Timing,
        *,
        precision: str = "auto",
        alone: bool = False,
        on_tokens: Callable[[int], None] = _quiet,
    ) -> None:
        self.lines: list[Line] = []
        self.compiler: Compiler | None = None
        self.precision = precision
        self.timing = timing
        self._text = model.get_decoder()
        self._output = model.get_output_embeddings()
        self._config = model.config.get_text_config()
        self._device = model.device
        self._image_id = image_id
        self._stop = stop
        self._on_tokens = on_tokens
        self._eye = Eye(model, timing, at_once=1 if alone else AT_ONCE)
        self._sampler = Sampler(model.generation_config.repetition_penalty or 1.0)
        self._store = Store(self._config)
        self._prefixes: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def limit(self, tokens: int) -> None:
        """How many slots, lines times tokens, the cache may take ahead of need."""
        self._store.limit = tokens

    def rehearse(self, rows: int, columns: int, shown: int) -> None:
        """One pass over prompts and one of decoding, at their largest; then all is let go.

        Args:
            rows, columns: lines, and the tokens of each.
            shown: tokens of prompts in one pass.

        Raises:
            torch.OutOfMemoryError: this does not fit.
        """
        import torch

        with torch.inference_mode():
            try:
                self._store.reserve(rows, columns + SPARE)
                length = min(columns, shown)
                ids = torch.zeros(max(1, shown // length), length, dtype=torch.long)
                cache = Prefill(self._store, 0, [length] * len(ids), None)
                count = min(rows, len(ids))
                self._run(ids[:count].to(self._device), 0, cache, [])
                held = torch.full((rows,), columns, device=self._device)
                self._logits(self._feed([[0]] * rows, held)[:, -1])
            finally:
                self._store.free()

    # -- lines come and go --------------------------------------------------------------------

    def admit(self, works: list[Work]) -> list[Line]:
        """Show prompts to the model; those that are done at once come back.

        All of them join or, when this raises, none.

        Args:
            works: with the same beginning (`Encoded.head`), all with pictures or none.

        Raises:
            torch.OutOfMemoryError, RuntimeError, ValueError: whatever the model raises.
        """
        import torch

        with torch.inference_mode():
            before = self.timing.vision
            started = time.perf_counter()
            joined = [Line(work) for work in works]
            try:
                logits = self._show(works)
                for line in joined:
                    line.answer.fed = len(line.answer.ids)
                self._choose(joined, logits)
            except Exception:
                for row in range(len(self.lines), len(self.lines) + len(works)):
                    self._store.wipe(row)
                raise
            self.lines += joined
        taken = time.perf_counter() - started - (self.timing.vision - before)
        self.timing.prefill += taken
        for line in joined:
            line.seconds += taken / len(joined)
        return self._take_done()

    def step(self) -> list[Line]:
        """One pass: every line gets on; those that are done leave and come back.

        Raises:
            torch.OutOfMemoryError, RuntimeError, ValueError: as the model; the lines stand as
                they did before.
        """
        import torch

        started = time.perf_counter()
        lines = list(self.lines)
        with torch.inference_mode():
            self._score_waiting()
            if any(line.pending for line in self.lines):
                self._pass()
        taken = time.perf_counter() - started
        self.timing.decode += taken
        for line in lines:
            line.seconds += taken / len(lines)
        return self._take_done()

    def evict(self, count: int) -> list[Work]:
        """The last lines leave unfinished; they can be started again."""
        kept = len(self.lines) - count
        self.lines, gone = self.lines[:kept], self.lines[kept:]
        if not self.lines:
            self._store.free()
            self._prefixes.clear()
        return [line.work for line in gone]

    def drop(self, unwanted: Callable[[Work], bool]) -> list[Line]:
        """Lines whose work is unwanted leave unfinished, and come back."""
        for line in self.lines:
            line.answer.done = line.answer.done or unwanted(line.work)
        return self._take_done()

    def _take_done(self) -> list[Line]:
        """Rows stay without gaps: the last line moves into the place of one that left."""
        import torch

        done = [line for line in self.lines if line.answer.done]
        with torch.inference_mode():
            for line in done:
                row = self.lines.index(line)
                if line.answer.bad:
                    self._store.wipe(row)
                last = self.lines.pop()
                if last is not line:
                    self._store.move(len(self.lines), row)
                    self.lines[row] = last
        return done

    # -- prompts ------------------------------------------------------------------------------

    def _show(self, works: list[Work]) -> "torch.Tensor":
        """Write the prompts behind the lines; logits behind each, (works, vocabulary)."""
        import torch

        prefix = self._prefix(works[0].encoded.ids[: works[0].encoded.head])
        past = len(prefix.ids) if prefix else 0
        rows = [(work.encoded.ids + work.answer.ids)[past:] for work in works]
        longest = max(map(len, rows))
        all_works = [*works, *(line.work for line in self.lines)]
        columns = max(past + longest, *(work.room for work in all_works)) + SPARE
        self._store.reserve(len(self.lines) + len(works), columns)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self._device)
        lengths = [past + len(row) for row in rows]
        cache = Prefill(self._store, len(self.lines), lengths, prefix)
        hidden = self._run(ids, past, cache, [p for work in works for p in work.pictures])
        last = torch.tensor([len(row) - 1 for row in rows], device=self._device)
        self.timing.prompt_tokens += sum(map(len, rows))
        return self._logits(hidden[torch.arange(len(rows), device=self._device), last])

    def _prefix(self, ids: list[int]) -> Prefix | None:
        """The beginning that all documents of a run share, seen once."""
        import torch

        if len(ids) < _SHARED:
            return None
        name = tuple(ids)
        if name not in self._prefixes:
            prefix = Prefix(name)
            self._run(torch.tensor([ids], device=self._device), 0, prefix, [])
            self._prefixes[name] = prefix
            self.timing.prompt_tokens += len(ids)
            if len(self._prefixes) > _PREFIXES:
                self._prefixes.popitem(last=False)
        return self._prefixes[name]

    def _run(
        self, ids: "torch.Tensor", past: int, cache: Any, pictures: list[tuple[bytes, Any]]
    ) -> "torch.Tensor":
        """Hidden states of prompts behind a prefix, (lines, length, hidden)."""
        import torch

        inputs: dict[str, Any] = {"input_ids": ids}
        images = None
        if pictures:
            inputs, images = self._with_pictures(ids, past, pictures)
        made = self._text(
            **inputs,
            attention_mask=causal(self._store, past, ids.shape[1], self._device, images),
            position_ids=torch.arange(past, past + ids.shape[1], device=self._device)[None],
            past_key_values=cache,
            use_cache=False,
        )
        hidden: torch.Tensor = made.last_hidden_state
        return hidden

    def _with_pictures(
        self, ids: "torch.Tensor", past: int, pictures: list[tuple[bytes, Any]]
    ) -> tuple[dict[str, Any], "torch.Tensor"]:
        """Embeddings with the pictures in place, and which image each token is of (or -1)."""
        from torch.nn.functional import pad

        features = self._eye.features(pictures)
        slots = ids == self._image_id
        # In some checkpoints the token that stands for a picture is beyond the vocabulary.
        embedded = self._text.get_input_embeddings()(ids.masked_fill(slots, 0))
        embedded[slots] = features.to(embedded.dtype)
        begun = slots & ~pad(slots, (1, 0))[:, :-1]
        of = (begun.long().cumsum(dim=1) - 1).masked_fill(~slots, -1)
        return {"inputs_embeds": embedded}, pad(of, (past, 0), value=-1)

    # -- one pass -----------------------------------------------------------------------------

    def _pass(self) -> None:
        """Show every line its next tokens; then each line that has seen all gets one more."""
        import torch

        known = self._known()
        guessed = self._guesses(known)
        width = max(len(row) for row in known) + len(guessed)
        lengths = [line.length for line in self.lines]
        held = torch.tensor(lengths, device=self._device)
        rows = [row + guessed + [0] * (width - len(row) - len(guessed)) for row in known]
        shown = sum(map(len, known))
        self._on_tokens(shown)
        hidden = self._feed(rows, held)
        self.timing.passes += 1
        self.timing.new_tokens += shown
        for line, row in zip(self.lines, known, strict=True):
            line.answer.fed += len(row)
        try:
            self._read(hidden, known, guessed)
        except Exception:
            # A line that was not given its next token has to show its last ones again.
            for line, row in zip(self.lines, known, strict=True):
                if not line.pending and line.choice is None:
                    line.answer.fed -= len(row)
            raise

    def _feed(self, rows: list[list[int]], held: "torch.Tensor") -> "torch.Tensor":
        """Hidden states of as many tokens behind every line, (lines, tokens, hidden)."""
        import torch

        width = len(rows[0])
        made = self._text(
            input_ids=torch.tensor(rows, device=self._device),
            attention_mask=self._store.seen(held, width),
            position_ids=held[:, None] + torch.arange(width, device=self._device),
            past_key_values=Step(self._store, held, width),
            use_cache=False,
        )
        hidden: torch.Tensor = made.last_hidden_state
        return hidden

    def _known(self) -> list[list[int]]:
        """What each line shows next: nothing, where it waits for a choice."""
        pending = [line.pending for line in self.lines]
        wide = self._device.type != "cpu" or len(self.lines) == 1
        # On a CPU a wider pass costs more; elsewhere forced tokens go along for nothing.
        most = max(pending) if wide else min(n for n in pending if n)
        most = min(most, SPARE // 2)
        return [
            line.answer.ids[line.answer.fed : line.answer.fed + min(most, n)]
            for line, n in zip(self.lines, pending, strict=True)
        ]

    def _guesses(self, known: list[list[int]]) -> list[int]:
        """What a line that is alone might write next."""
        line = self.lines[0]
        greedy = line.work.prompt.limits.temperature == 0
        if not greedy or len(self.lines) > 1 or line.pending > len(known[0]):
            return []
        if line.lookup is None:
            line.lookup = Lookup(line.work.encoded.ids)
        line.lookup.add((line.work.encoded.ids + line.answer.ids)[len(line.lookup) :])
        return line.lookup.guess(_GUESSED)

    def _read(self, hidden: "torch.Tensor", known: list[list[int]], guessed: list[int]) -> None:
        """The next token of every line that has shown all it had; a guess saves passes."""
        import torch

        ready = [i for i, line in enumerate(self.lines) if known[i] and line.pending == 0]
        if not ready:
            return
        if guessed:
            self._check(self._logits(hidden[0, len(known[0]) - 1 :]), guessed)
            return
        rows = torch.tensor(ready, device=self._device)
        last = torch.tensor([len(known[i]) - 1 for i in ready], device=self._device)
        self._choose([self.lines[i] for i in ready], self._logits(hidden[rows, last]))

    def _check(self, logits: "torch.Tensor", guessed: list[int]) -> None:
        """Take guesses as long as they are what the line would have written."""
        line, used = self.lines[0], 0
        while True:
            self._choose([line], logits[used : used + 1])
            new = line.answer.ids[line.answer.fed :]
            if line.answer.done or not new:
                return
            right = 0
            while (
                right < min(len(new), len(guessed) - used) and new[right] == guessed[used + right]
            ):
                right += 1
            line.answer.fed += right
            used += right
            self.timing.new_tokens += right
            if line.answer.pending or used > len(guessed):
                return

    # -- the next tokens ----------------------------------------------------------------------

    def _logits(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """(lines, hidden) → (lines, vocabulary), fp32."""
        logits: torch.Tensor = self._output(hidden).float()
        cap = getattr(self._config, "final_logit_softcapping", None)
        return logits if cap is None else (logits / cap).tanh() * cap

    def _choose(self, lines: list[Line], logits: "torch.Tensor") -> None:
        """Give each line its next token, or what a grammar says is next, or let it wait."""
        # One reduction says whether a line is finite: NaN and infinity survive the sum.
        total = logits.logsumexp(dim=-1)
        finite = total.isfinite().tolist()
        sampled = []
        for i, line in enumerate(lines):
            if line.answer.done:
                continue
            if not finite[i]:
                line.answer.fail()
            elif not self._told(line, logits[i]):
                sampled.append(i)
        if not sampled:
            return
        rows = [lines[i] for i in sampled]
        # Nobody needs the logits any more: a copy of the whole vocabulary takes a while.
        scores = logits if len(sampled) == len(lines) else logits[sampled]
        self._sampler.penalise(rows, scores)
        self._constrain(rows, scores)
        tokens = self._sampler.pick(rows, scores)
        chosen = scores.gather(-1, tokens[:, None])[:, 0]
        logs = self._sampler.before(rows, tokens, chosen) - total[sampled]
        for line, token, log in zip(rows, tokens.tolist(), logs.tolist(), strict=True):
            line.answer.take(token, log)

    def _told(self, line: Line, logits: "torch.Tensor") -> bool:
        """Whether no token is sampled: the answer is being closed, or a choice comes up."""
        import torch

        answer = line.answer
        if not isinstance(answer, JsonAnswer):
            return False
        if answer.close():
            return True
        options = answer.options()
        if not options:
            return False
        assert self.compiler is not None
        cut = [self.compiler.ways(option) for option in options]
        ways = [(which, way) for which, found in enumerate(cut) for way in found]
        first = torch.tensor([way[0] for _, way in ways], device=logits.device)
        seen = logits[first]
        for at, (_, way) in enumerate(ways):
            if len(way) == 1:
                seen[at] = closed(logits, self.compiler.endings(way[0]))
        logs: list[float] = (seen - logits.logsumexp(dim=-1)).tolist()
        line.choice = Choice([found[0] for found in cut], ways, logs)
        if max(len(way) for _, way in ways) == 1:
            line.settle()
        return True

    def _constrain(self, lines: list[Line], scores: "torch.Tensor") -> None:
        """Put what the grammars forbid, or a free text may not end with yet, at minus infinity."""
        import torch

        live = []
        for row, line in enumerate(lines):
            if isinstance(line.answer, JsonAnswer):
                live.append((line.answer.matcher, row))
            elif len(line.answer.ids) < line.work.at_least:
                scores[row, self._stop] = float("-inf")
        if not live:
            return
        assert self.compiler is not None
        bits = self.compiler.bits(live, len(lines))
        rows = [row for _, row in live]
        for row in rows:
            answer = lines[row].answer
            assert isinstance(answer, JsonAnswer)
            answer.restrict(bits[row])
        forbidden = torch.from_numpy(bits == 0).to(scores.device)
        if len(rows) < len(lines):
            # Free texts among them: all is allowed.
            free = [row for row in range(len(lines)) if row not in set(rows)]
            forbidden[free] = False
        scores.masked_fill_(forbidden, float("-inf"))

    def _score_waiting(self) -> None:
        """Settle the choices that wait, once there are enough of them."""
        waiting = [i for i, line in enumerate(self.lines) if line.choice is not None]
        if waiting and len(waiting) * _WAITING >= len(self.lines):
            assert self.compiler is not None
            endings = self.compiler.endings
            score(self._text, self._logits, self._store, self.lines, waiting, endings)
