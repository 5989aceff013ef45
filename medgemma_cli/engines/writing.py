"""One answer as it is written: inside its grammar, within its budget, its choices marked.

An answer is never cut inside its JSON. Once the budget comes near what the shortest end can take,
each token is tried first: if the end would no longer fit behind it, it is not taken, the answer
is closed from where it stands, and `shortened` is set. Closing ends lists and texts at once, goes
on in a quote to the next end that the grammar allows, and leaves numbers, dates, choices, short
values and the beginning of a quote to the model: nothing but the model may say what they are. A
text that must be there and was not begun says ``truncated``. A budget in which nothing fits is
refused before anything is written.
"""

import json
from typing import Any

from medgemma_cli import choices
from medgemma_cli.engines.grammar import Compiler, Matcher
from medgemma_cli.engines.jsonstate import JsonState
from medgemma_cli.engines.lark import escaped
from medgemma_cli.engines.plan import Plan
from medgemma_cli.records import ChoiceScore, Limits

_FOREVER = 4000
_CUT = "truncated"
_LONG_WORDS = 100  # what three words of a quote may take more than those that were tried
_REPEATS = 2
_FIGURES = tuple(b"%c" % byte for byte in b"-.0123456789")


class Answer:
    """What is written of one free text.

    Attributes:
        ids: the tokens so far, forced ones too.
        done: whether nothing more comes.
        bad: whether the model's logits were not finite.
        refused: whether the budget is too small for any answer.
        shortened: whether it was closed because of the budget.
        repeated: the places of lists that were ended because they repeated themselves.
    """

    shortened = False
    refused = False
    repeated: tuple[str, ...] = ()
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
    def broken(self) -> bool:
        """Whether a grammar gave up on it."""
        return False

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
        dearest = self._cost(matcher.deep_copy(), JsonState(), full=True)
        self._zone = 2 * dearest + plan.slack + _LONG_WORDS
        least = self._cost(matcher.deep_copy(), JsonState())
        self._forced()
        if least > self._budget:
            self.refused = self.done = True

    @property
    def broken(self) -> bool:
        """Whether the grammar gave up: nothing can be said of the text then."""
        failed: bool = self.matcher.is_error()
        return failed

    @property
    def complete(self) -> bool:
        """Whether the JSON is closed; llguidance stops, too, when it gives up."""
        return bool(self.matcher.is_stopped() and not self.matcher.is_error())

    def restrict(self, mask: Any) -> None:
        """Take from the allowed tokens, uint8 of shape (vocabulary,), what must not come."""
        inside = self._state.in_string
        self._compiler.drop_crossing(mask, inside=inside, closing=self._closing)
        if inside:
            return
        if self._plan.options(self._state.path):
            # A choice is scored from its first letter: none may come with the quotation mark.
            self._compiler.drop_openings(mask)
        if not (self._repeating or self._closing):
            return
        ends = [t for piece, t in self._compiler.closers if piece[0] in "]}" and mask[t]]
        if ends and self._repeating:
            mask[:] = 0
            mask[ends] = 1
            self._repeating = False
            self.repeated = (*self.repeated, self._state.path.removesuffix("[]"))
        elif ends:
            # A number may go on; a list of them may not.
            mask[[t for piece, t in self._compiler.closers if piece[0] == ","]] = 0

    def options(self) -> list[str] | None:
        """What may be written here, each to its closing quotation mark, where a choice begins."""
        state = self._state
        options = self._plan.options(state.path)
        begun = state.in_string and state.string == b""
        if options is None or not (begun or (not state.in_string and state.last in (b":", b"["))):
            return None
        made = [f'{escaped(o)}"' if begun else f'"{escaped(o)}"' for o in options]
        return made if all(map(self._fits_here, made)) else None

    def _fits_here(self, option: str) -> bool:
        tokens = self._compiler.tokens(option)
        whole: bool = self.matcher.validate_tokens(tokens) == len(tokens)
        return whole

    def choose(self, tokens: list[list[int]], logs: list[float]) -> None:
        """Write one of the `options`, given as tokens, now that their log-likelihoods are known."""
        path = self._state.path
        names = self._plan.choices[path]
        scored = dict(zip(names, choices.normalised(logs), strict=True))
        chosen = choices.pick(scored, self._plan.rules.get(path))
        at = self._state.size - self._state.in_string
        whole = dict(zip(names, logs, strict=True))
        self.scores = (*self.scores, ChoiceScore(at=at, options=scored, logs=whole))
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
        if left <= self._zone and not self._fits(token, left - 1):
            self._closing = self.shortened = True
            if self.close():
                return
            if not self._figure(token) and not self._fits(token, left - 1):
                # The cost was reckoned with this; but a number is the model's or nobody's.
                token, log = self._dearest(self.matcher, self._state)[0], None
        head = self._compiler.heads.get(token)
        if head is not None and self._repeats(self._compiler.bytes(head)):
            token = head  # or the next item would have begun before the list could be ended
        self._write([token], log)
        self._watch_repeats()

    def _figure(self, token: int) -> bool:
        """Whether the token writes a number or a date of its own, not one quoted."""
        quoted = self._state.path in self._plan.quotes
        return not quoted and self._compiler.bytes(token)[:1] in _FIGURES

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
        path, plan = state.path, self._plan
        own = state.in_string and (path in plan.texts or path in plan.quotes)
        if own or (not state.in_string and state.last not in b":-.0123456789"):
            starts = '"' if state.in_string else "]},"
            for piece, token in self._compiler.closers:
                if piece[0] in starts and matcher.validate_tokens([token]) == 1:
                    return [token]
        if state.in_string and path in plan.quotes:
            return [self._longest(matcher)] if state.string else []
        if state.in_string and path in plan.texts:
            cut = self._compiler.tokens(f" {_CUT}" if state.string else _CUT)
            return cut if matcher.validate_tokens(cut) == len(cut) else [self._longest(matcher)]
        return []

    def _longest(self, matcher: Matcher) -> int:
        """The allowed token that gets furthest."""
        return max(self._compiler.allowed(matcher), key=lambda t: len(self._compiler.bytes(t)))

    def _cost(self, matcher: Matcher, state: JsonState, *, full: bool = False) -> int:
        """The most tokens that closing can take; with `full`, every list gets an item first."""
        count = 0
        while count < _FOREVER and not matcher.is_error():
            tokens = matcher.compute_ff_tokens()
            if not tokens and matcher.is_stopped():
                return count
            opening = full and state.last == b"[" and not state.in_string
            if not tokens and not opening:
                tokens = self._end(matcher, state)
            if not tokens:
                tokens = self._dearest(matcher, state)
            for token in tokens:
                matcher.consume_token(token)
                state.feed(self._compiler.bytes(token))
            count += len(tokens)
        return count

    def _dearest(self, matcher: Matcher, state: JsonState) -> list[int]:
        """What the model may write, where only it may say, at its longest."""
        options = self._plan.options(state.path)
        if options and state.in_string and state.string == b"":
            dear = max((self._compiler.tokens(f'{escaped(o)}"') for o in options), key=len)
            if matcher.validate_tokens(dear) == len(dear):
                return dear
        # A number that begins with 0 is soon over; a union's object takes more than its word.
        order = "-1234567890.ae" if state.in_string else '{["-123456789.0'
        for character in order:
            token = self._compiler.single.get(character, -1)
            if token >= 0 and matcher.validate_tokens([token]) == 1:
                return [token]
        bracket = self._compiler.single.get("]", -1)
        if bracket >= 0 and matcher.validate_tokens([bracket]) == 1:
            return [bracket]  # closing ends a list of numbers, too
        ends = (b"]", b"}", b",", b'"' if state.in_string else b"]")
        allowed = [
            (self._compiler.bytes(token), token) for token in self._compiler.allowed(matcher)
        ]
        return [min(allowed, key=lambda pair: (pair[0][:1] in ends, len(pair[0])))[1]]

    def _watch_repeats(self) -> None:
        """See whether the list being written has just said the same thing again."""
        if not self._state.in_string and self._state.last in (b'"', b"}"):
            self._repeating = self._repeats()

    def _repeats(self, more: bytes = b"") -> bool:
        return repeats(b"".join(map(self._compiler.bytes, self.ids)) + more)


def repeats(data: bytes) -> bool:
    """Whether an unfinished JSON object ends in a list that says the same a third time."""
    try:
        value = json.loads(data + b"]}")
    except ValueError:
        return False
    last = list(value.values())[-1] if isinstance(value, dict) and value else None
    return isinstance(last, list) and last[-1:] != [] and last[:-1].count(last[-1]) >= _REPEATS
