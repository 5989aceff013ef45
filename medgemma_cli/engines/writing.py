"""One answer as it is written: inside its grammar, within its budget, its choices marked.

An answer is never cut inside its JSON. Once the budget comes near what the shortest end can take,
each token is tried first: if the end would no longer fit behind it, it is not taken, the answer
is closed from where it stands, and `shortened` is set. Closing ends lists and texts at once, goes
on in a quote to the next end that the grammar allows, and leaves numbers, dates and choices to
the model: nothing but the model may say what they are. A text that must be there and was not begun
says ``truncated``.
"""

import json
from typing import Any

from medgemma_cli import choices, decoding
from medgemma_cli.engines.grammar import Compiler, Matcher
from medgemma_cli.engines.jsonstate import JsonState
from medgemma_cli.records import ChoiceScore, Limits

_NUMBER_TOKENS = 18  # the longest number or date, a token a character, and its end
_MARGIN = 4
_FOREVER = 4000
_CUT = "truncated"


class Answer:
    """What is written of one free text.

    Attributes:
        ids: the tokens so far, forced ones too.
        done: whether nothing more comes.
        bad: whether the model's logits were not finite.
    """

    shortened = False
    scores: tuple[ChoiceScore, ...] = ()

    def __init__(self, limits: Limits, stop: list[int]) -> None:
        self.ids: list[int] = []
        self.logs: list[float | None] = []
        self.done = False
        self.bad = False
        self.fed = 0
        self._budget = limits.max_new_tokens
        self._stop = stop

    @property
    def complete(self) -> bool:
        """Whether the answer came to an end of its own."""
        return bool(self.ids) and self.ids[-1] in self._stop

    @property
    def pending(self) -> int:
        """Tokens known but not yet shown to the model."""
        return len(self.ids) - self.fed

    def fail(self) -> None:
        """End here: the logits were not finite."""
        self.bad = self.done = True

    def take(self, token: int, log: float | None) -> None:
        """Write a token that the model chose, with its log-probability."""
        self._add(token, log)
        self.done = token in self._stop or len(self.ids) >= self._budget

    def _add(self, token: int, log: float | None) -> None:
        self.ids.append(token)
        self.logs.append(log)


class Plan:
    """What of a JSON Schema the writing of it needs to know, by property name.

    Attributes:
        choices: the options of those names that stand for one choice, to be scored.
        rules: how a choice is decided by its probabilities.
        quotes: the names of quotes.
        texts: the names of texts of the model's own.
        slack: the tokens that all numbers, dates and choices may take over the shortest.
    """

    def __init__(self, schema: str, compiler: Compiler) -> None:
        self.choices: dict[str, list[str]] = {}
        self.rules: dict[str, Any] = {}
        self.quotes: set[str] = set()
        self.texts: set[str] = set()
        self.slack = _MARGIN
        seen: dict[str, int] = {}
        self._root = decoding.schema(schema)
        for name, node in self._properties(self._root):
            seen[name] = seen.get(name, 0) + 1
            node = decoding.resolve(node, self._root)
            node = decoding.resolve(node.get("items", node), self._root)
            kinds = node.get("anyOf", [node])
            if all(isinstance(option, str) for option in node.get("enum", [0])):
                self.choices[name] = node["enum"]
                self.slack += max(len(compiler.tokens(option)) for option in node["enum"])
            elif any(kind.get("format") == "quote" for kind in kinds):
                self.quotes.add(name)
            elif any("maxLength" in kind for kind in kinds):
                self.texts.add(name)
            elif "properties" not in node:
                self.slack += _NUMBER_TOKENS
            if rule := node.get("x-decide"):
                self.rules[name] = rule
        for name in [name for name, times in seen.items() if times > 1]:
            # Which of them is meant cannot be told by the name alone.
            self.choices.pop(name, None)

    def _properties(self, node: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        node = decoding.resolve(node, self._root)
        own = list(node.get("properties", {}).items())
        below = [n for _, n in own] + [node[key] for key in ("items",) if key in node]
        below += node.get("anyOf", [])
        return own + [pair for n in below for pair in self._properties(n)]


class JsonAnswer(Answer):
    """An answer inside a grammar. Forced tokens are written as soon as they are known."""

    def __init__(
        self,
        limits: Limits,
        stop: list[int],
        compiler: Compiler,
        matcher: Matcher,
        plan: Plan,
    ) -> None:
        super().__init__(limits, stop)
        self._compiler = compiler
        self.matcher = matcher
        self._plan = plan
        self._state = JsonState()
        self._closing = False
        self._repeating = False
        # What closing can take from anywhere: from the start with every list begun, and again.
        self._zone = 2 * self._cost(matcher.deep_copy(), JsonState(), full=True)
        self._forced()

    @property
    def complete(self) -> bool:
        """Whether the JSON is closed."""
        stopped: bool = self.matcher.is_stopped()
        return stopped

    def restrict(self, mask: Any) -> None:
        """Take from the allowed tokens, uint8 of shape (vocabulary,), what must not come."""
        self._compiler.drop_crossing(mask)
        if self._state.in_string or not (self._repeating or self._closing):
            return
        ends = [t for piece, t in self._compiler.closers if piece[0] in "]}" and mask[t]]
        if ends and self._repeating:
            mask[:] = 0
            mask[ends] = 1
            self._repeating = False
        elif ends:
            # A number may go on; a list of them may not.
            mask[[t for piece, t in self._compiler.closers if piece[0] == ","]] = 0

    def options(self) -> list[str] | None:
        """What may be written here, each to its closing quotation mark, where a choice begins."""
        state = self._state
        options = self._plan.choices.get(state.key)
        if options is None:
            return None
        if state.in_string and state.string == b"" and state.last == b'"':
            return [f'{_escaped(option)}"' for option in options]
        return [f'"{_escaped(o)}"' for o in options] if state.last == b":" else None

    def choose(
        self, options: list[str], tokens: list[list[int]], probabilities: list[float]
    ) -> None:
        """Write an option of `options`, now that their probabilities are known."""
        names = self._plan.choices[self._state.key]
        scored = dict(zip(names, probabilities, strict=True))
        chosen = choices.pick(scored, self._plan.rules.get(self._state.key))
        at = self._state.size - self._state.in_string
        self.scores = (*self.scores, ChoiceScore(at=at, options=scored))
        self._write(tokens[names.index(chosen)])

    def close(self) -> bool:
        """While the answer is being closed: write what ends it next; False if the model must."""
        if not self._closing:
            return False
        tokens = self._end(self.matcher, self._state)
        if tokens:
            self._write(tokens)
        return bool(tokens)

    def take(self, token: int, log: float | None) -> None:
        """Write a token that the grammar allows, unless the end would not fit behind it."""
        left = self._budget - len(self.ids)
        if not self._closing and left <= self._zone and not self._fits(token, left - 1):
            self._closing = self.shortened = True
            if self.close():
                return
        self._write([token], log)
        self._watch_repeats()

    def _fits(self, token: int, left: int) -> bool:
        matcher, state = self.matcher.deep_copy(), self._state.copy()
        matcher.consume_token(token)
        state.feed(self._compiler.bytes(token))
        return self._cost(matcher, state) + self._plan.slack <= left

    def _write(self, tokens: list[int], log: float | None = None) -> None:
        for token in tokens:
            self._add(token, log)
            self.matcher.consume_token(token)
            self._state.feed(self._compiler.bytes(token))
        self._forced()

    def _forced(self) -> None:
        """Write what the grammar leaves no choice about."""
        for token in self.matcher.compute_ff_tokens():
            self._add(token, None)
            self.matcher.consume_token(token)
            self._state.feed(self._compiler.bytes(token))
        self.done = self.matcher.is_stopped() or len(self.ids) >= self._budget

    def _end(self, matcher: Matcher, state: JsonState) -> list[int]:
        """Tokens that bring the end nearer; none where only the model may say what comes."""
        text = state.in_string and state.key in self._plan.texts | self._plan.quotes
        if text or (not state.in_string and state.last not in b":-.0123456789"):
            starts = '"' if state.in_string else "]},"
            for piece, token in self._compiler.closers:
                if piece[0] in starts and matcher.validate_tokens([token]) == 1:
                    return [token]
        if state.in_string and state.key in self._plan.quotes:
            return [self._longest(matcher)]
        if state.in_string and state.key in self._plan.texts:
            cut = self._compiler.tokens(f" {_CUT}" if state.string else _CUT)
            return cut if matcher.validate_tokens(cut) == len(cut) else [self._longest(matcher)]
        return []

    def _longest(self, matcher: Matcher) -> int:
        """The allowed token that gets furthest."""
        return max(self._compiler.allowed(matcher), key=lambda t: len(self._compiler.bytes(t)))

    def _cost(self, matcher: Matcher, state: JsonState, *, full: bool = False) -> int:
        """How many tokens closing takes; with `full`, every list gets an item first."""
        count = 0
        while count < _FOREVER:
            tokens = matcher.compute_ff_tokens()
            if not tokens and matcher.is_stopped():
                return count
            opening = full and state.last == b"[" and not state.in_string
            if not tokens and not opening:
                tokens = self._end(matcher, state)
            if not tokens:
                allowed = self._compiler.allowed(matcher)
                kept = [t for t in allowed if self._compiler.bytes(t)[:1] != b"]"]
                tokens = (kept if opening else allowed)[:1]
            for token in tokens:
                matcher.consume_token(token)
                state.feed(self._compiler.bytes(token))
            count += len(tokens)
        return count

    def _watch_repeats(self) -> None:
        """See whether the list being written has just said the same thing again."""
        if not self._state.in_string and self._state.last in (b'"', b"}"):
            self._repeating = repeats(b"".join(map(self._compiler.bytes, self.ids)))


def repeats(data: bytes) -> bool:
    """Whether an unfinished JSON object ends in a list whose last item stands in it before."""
    try:
        value = json.loads(data + b"]}")
    except ValueError:
        return False
    last = list(value.values())[-1] if isinstance(value, dict) and value else None
    return isinstance(last, list) and last[-1:] != [] and last[-1] in last[:-1]


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
