"""Decoding inside a JSON Schema, with llguidance: masks over the vocabulary, one matcher a row."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

# More skeleton than this is left to a contract that will not fit anyway.
_LONGEST_CLOSE = 400
_MARGIN = 4


class Compiler:
    """Makes matchers for one tokenizer. Making it takes seconds; do it once.

    Args:
        tokenizer: a fast transformers tokenizer.
        vocabulary: the width of the model's logits.
        stop: the ids that end an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, stop: list[int]) -> None:
        import llguidance
        import llguidance.hf
        import numpy as np

        self._lib = llguidance
        self.width = vocabulary
        self.stop = stop
        self._tokenizer = llguidance.hf.from_tokenizer(
            tokenizer, n_vocab=vocabulary, eos_token=stop
        )
        self.executor = llguidance.LLExecutor()
        self._grammars: dict[str, tuple[str, int]] = {}
        texts = [(token, self._tokenizer.decode_str([token])) for token in range(len(tokenizer))]

        def tokens(wanted: Callable[[str], bool]) -> "Array":
            return np.array([token for token, text in texts if text and wanted(text)], np.int64)

        # In the order in which they are preferred: end a list or object, end a string, go on to
        # the next field (a number has no other end).
        self._endings = (
            tokens(lambda text: text[0] in "]}" and set(text) <= set('"]}')),
            tokens(lambda text: text[0] == '"' and set(text) <= set('"]}')),
            tokens(lambda text: text[0] == "," and set(text) <= set(',"')),
        )
        # Tokens that end one list item and begin the next: without them, every end is seen.
        self._crossing = tokens(lambda text: '",' in text or "}," in text)
        self.item_ends = frozenset(t for t, text in texts if '"' in text or "}" in text)
        self._letter = tokens(lambda text: text in ("q", "Q"))
        self._single = tokens(lambda text: len(text) == 1 and text.isascii() and text.isalnum())

    def matcher(self, schema: str) -> tuple[Any, int]:
        """A fresh matcher for a JSON Schema, and the tokens its shortest answer takes.

        Raises:
            ValueError: llguidance cannot compile the schema.
        """
        if schema not in self._grammars:
            grammar = self._lib.LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_flexible": False}
            )
            error, messages = self._lib.LLMatcher.validate_grammar_with_warnings(
                grammar, self._tokenizer
            )
            if error:
                raise ValueError(f"the contract cannot be compiled: {messages[0][:200]}")
            probe = self._lib.LLMatcher(self._tokenizer, grammar)
            self._grammars[schema] = (grammar, self._shortest(probe))
        grammar, reserve = self._grammars[schema]
        return self._lib.LLMatcher(self._tokenizer, grammar), reserve

    def _shortest(self, matcher: Any) -> int:
        """How many tokens closing takes from the very start: the most it can take anywhere."""
        import numpy as np

        for count in range(_LONGEST_CLOSE):
            if matcher.is_stopped():
                return count + _MARGIN
            mask = self.mask(matcher)
            token = self.closing(matcher, mask)
            if len(token) == 0:
                plain = self._single[mask[self._single] == 1]
                token = plain if len(plain) else np.flatnonzero(mask)
            matcher.consume_token(int(token[0]))
        return _LONGEST_CLOSE

    def mask(self, matcher: Any) -> "Array":
        """The allowed tokens of one matcher, as 0 and 1."""
        row: Array = self.bits([(matcher, 0)], 1)[0]
        return row

    def bits(self, matchers: list[tuple[Any, int]], rows: int) -> "Array":
        """Allowed tokens of many matchers, computed in parallel: uint8 of shape (rows, width)."""
        import numpy as np

        words = np.zeros((rows, (self.width + 31) // 32), dtype=np.int32)
        if matchers:
            self.executor.unsafe_compute_mask_ptr(
                matchers, words.ctypes.data, words.shape[1] * 4, rows
            )
        return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, : self.width]

    def text(self, ids: list[int]) -> str:
        """The text of token ids, as the grammar sees it."""
        text: str = self._tokenizer.decode_str(ids)
        return text

    def drop_crossing(self, mask: "Array") -> None:
        """Forbid tokens that run from one item into the next, where another way is left."""
        kept = mask.copy()
        kept[self._crossing] = 0
        if kept.any():
            mask[:] = kept

    def list_ends(self, mask: "Array") -> "Array":
        """Those of the allowed tokens that end a list; empty where none can."""
        ends: Array = self._endings[0]
        found: Array = ends[:0] if self._in_string(mask) else ends[mask[ends] == 1]
        return found

    def _in_string(self, mask: "Array") -> bool:
        """Inside a string everything is content; a letter that may come next tells."""
        return bool(mask[self._letter].any())

    def closing(self, matcher: Any, mask: "Array") -> "Array":
        """Those of the allowed tokens that bring the answer to its end; empty if none does."""
        import numpy as np

        forced = matcher.compute_ff_tokens()
        if forced:
            return np.array(forced[:1], dtype=np.int64)
        for wanted in self._endings[1:2] if self._in_string(mask) else self._endings:
            found: Array = wanted[mask[wanted] == 1]
            if len(found):
                return found
        return self._single[:0]


class Guard:
    """A logits processor: finds bad rows, keeps rows inside their grammar, and counts.

    A row whose logits are not finite is stopped at once (greedy decoding would emit padding, a
    silently empty answer; sampling would raise and take its batch along). When a row's budget
    nears what its JSON needs to close, only closing tokens are allowed and `shortened` is set.

    Args:
        schemas: a row's JSON Schema each, or None for free text.
        prompt: the length of the padded prompts.
        budget: the tokens a row may write.
        stop: the ids that end an answer; the first is used to end a bad row.
        on_step: called before each step with the ids so far and the number of rows still writing.
    """

    def __init__(
        self,
        compiler: Compiler | None,
        schemas: list[str | None],
        prompt: int,
        budget: int,
        stop: list[int],
        on_step: Callable[["torch.Tensor", int], None],
    ) -> None:
        self._compiler = compiler
        self._prompt = prompt
        self._budget = budget
        self._stop = stop
        self._on_step = on_step
        self._matchers: list[Any] = []
        self._reserve: list[int] = []
        for schema in schemas:
            made = compiler.matcher(schema) if compiler and schema else (None, 0)
            self._matchers.append(made[0])
            self._reserve.append(made[1])
        self.bad = [False] * len(schemas)
        self.shortened = [False] * len(schemas)
        self._done = [False] * len(schemas)
        self._written: list[list[int]] = [[] for _ in schemas]
        self._repeating = [False] * len(schemas)

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """The scores with what must not come next at minus infinity. Shapes (rows, vocabulary)."""
        import torch

        written = input_ids.shape[1] - self._prompt
        if written > 0:
            self._consume(input_ids[:, -1].tolist())
        self._on_step(input_ids, sum(not done for done in self._done))
        finite = torch.isfinite(scores.amax(dim=-1)).tolist()
        live = [
            (matcher, row)
            for row, matcher in enumerate(self._matchers)
            if matcher is not None and finite[row] and not self._done[row]
        ]
        if live:
            assert self._compiler is not None
            bits = self._compiler.bits(live, len(self._matchers))
            for matcher, row in live:
                self._compiler.drop_crossing(bits[row])
                if self._budget - written <= self._reserve[row]:
                    self._close(matcher, row, bits)
                elif self._repeating[row]:
                    self._end_list(row, bits)
            rows = [row for _, row in live]
            banned = torch.from_numpy(bits[rows] == 0).to(scores.device)
            scores[rows] = scores[rows].masked_fill(banned, float("-inf"))
        for row, fine in enumerate(finite):
            self.bad[row] |= not fine and not self._done[row]
            if self.bad[row] or self._done[row]:
                scores[row] = float("-inf")
                scores[row, self._stop[0]] = 0.0
        return scores

    def _consume(self, tokens: list[int]) -> None:
        for row, (matcher, token) in enumerate(zip(self._matchers, tokens, strict=True)):
            if self._done[row] or self.bad[row]:
                self._done[row] = True
            elif matcher is None:
                self._done[row] = token in self._stop
            elif not matcher.is_stopped():
                matcher.consume_token(token)
                self._done[row] = matcher.is_stopped()
                self._watch_repeats(row, token)
            else:
                self._done[row] = True

    def _watch_repeats(self, row: int, token: int) -> None:
        """See whether the list being written has just said the same thing again."""
        assert self._compiler is not None
        self._written[row].append(token)
        if token in self._compiler.item_ends:
            self._repeating[row] = repeats(self._compiler.text(self._written[row]))

    def _end_list(self, row: int, bits: "Array") -> None:
        """A small model that repeats itself goes on until the list is full: end the list here."""
        assert self._compiler is not None
        wanted = self._compiler.list_ends(bits[row])
        if len(wanted):
            bits[row] = 0
            bits[row, wanted] = 1
            self._repeating[row] = False

    def _close(self, matcher: Any, row: int, bits: "Array") -> None:
        assert self._compiler is not None
        wanted = self._compiler.closing(matcher, bits[row])
        if len(wanted) and len(wanted) < int(bits[row].sum()):
            self.shortened[row] = True
            bits[row] = 0
            bits[row, wanted] = 1


def repeats(text: str) -> bool:
    """Whether an unfinished JSON object ends in a list whose last item stands in it before."""
    try:
        value = json.loads(text + "]}")
    except ValueError:
        return False
    last = list(value.values())[-1] if isinstance(value, dict) and value else None
    return isinstance(last, list) and last[-1:] != [] and last[-1] in last[:-1]
