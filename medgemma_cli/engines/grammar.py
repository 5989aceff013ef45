"""llguidance on one tokenizer: grammars compiled, masks over the vocabulary, forced tokens."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from medgemma_cli import decoding
from medgemma_cli.engines import lark, tokenizing

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Ten times llguidance's own: a document may be as long as the model's window.
_LIMITS = {"initial_lexer_fuel": 10_000_000, "step_lexer_fuel": 2_000_000}

Matcher = Any
"""llguidance's `LLMatcher`: where one answer stands in its grammar."""


class Compiler:
    """Makes matchers for one tokenizer. Making it takes seconds; do it once.

    Args:
        tokenizer: a fast transformers tokenizer.
        vocabulary: the width of the model's logits.
        stop: the ids that end an answer.
        control: ids that must not be written, and what finds their names in a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        vocabulary: int,
        stop: list[int],
        control: tuple[frozenset[int], re.Pattern[str]] | None = None,
    ) -> None:
        import llguidance
        import llguidance.hf
        import numpy as np

        self._lib = llguidance
        self.width = vocabulary
        self._tokenizer = llguidance.hf.from_tokenizer(
            tokenizer, n_vocab=vocabulary, eos_token=stop
        )
        self._encode = tokenizer
        ids: frozenset[int] = control[0] if control else frozenset()
        self._barred = control[1] if control else None
        # llguidance keeps for itself those that the tokenizer calls special; Gemma's are more.
        self._control = np.array(sorted(ids - set(stop)), np.int64)
        self._executor = llguidance.LLExecutor()
        pieces = tokenizer.get_vocab()
        ends = [piece for piece in pieces if set(piece) <= set('"]},') and '"' not in piece[1:]]
        # In the order in which they are preferred: what goes on to another field comes last.
        ends.sort(key=lambda piece: ("," in piece, -len(piece)))
        self.closers = [(piece, pieces[piece]) for piece in ends if piece]
        self.single = {piece: token for piece, token in pieces.items() if len(piece) == 1}
        self._openings = np.array(
            [token for piece, token in pieces.items() if piece[:1] == '"' and piece != '"'],
            np.int64,
        )
        self._opening = pieces.get('"', -1)
        self._ending = {self._opening: sorted([self._opening, *self._openings.tolist()])}
        crossing = _crossing(pieces)
        self.heads = {pieces[piece]: pieces[head] for piece, head in crossing.items()}
        """Tokens that end one item and begin the next → what of each ends the item."""
        others = {t for p, t in pieces.items() if '",' in p or "}," in p} - set(self.heads)
        self._unsplit = np.array(sorted(others), np.int64)
        self._split = np.array(sorted(self.heads), np.int64)
        quoted = sorted(pieces[piece] for piece in crossing if piece[0] == '"')
        self._quoted = np.array(quoted, np.int64)

    def matcher(self, schema: str, document: str, prior: str = "") -> Matcher:
        """A fresh matcher for a JSON Schema whose quotes stand in the document, or in its prior.

        Raises:
            ValueError: the schema cannot be decoded, or nothing of the document can be quoted.
        """
        limits = self._lib.LLParserLimits(**_LIMITS)
        grammar = self._grammar(schema, document, self._barred, prior)
        matcher = self._lib.LLMatcher(self._tokenizer, grammar, limits=limits, log_level=0)
        if matcher.is_error():
            raise ValueError("the contract cannot be compiled")
        return matcher

    @staticmethod
    @lru_cache(maxsize=8)
    def _grammar(schema: str, document: str, barred: re.Pattern[str] | None, prior: str) -> str:
        import llguidance

        text = lark.grammar(decoding.schema(schema), document, barred, prior)
        made: str = llguidance.LLMatcher.grammar_from_lark(text)
        return made

    def bits(self, matchers: list[tuple[Matcher, int]], rows: int) -> "Array":
        """Allowed tokens of many matchers, computed in parallel: uint8 of shape (rows, width)."""
        import numpy as np

        words = np.zeros((rows, (self.width + 31) // 32), dtype=np.int32)
        if matchers:
            self._executor.unsafe_compute_mask_ptr(
                matchers, words.ctypes.data, words.shape[1] * 4, rows
            )
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, : self.width]
        bits[:, self._control] = 0
        return bits

    def allowed(self, matcher: Matcher) -> list[int]:
        """The allowed tokens of one matcher."""
        import numpy as np

        found: list[int] = np.flatnonzero(self.bits([(matcher, 0)], 1)[0]).tolist()
        return found

    def drop_crossing(self, mask: "Array", *, inside: bool, closing: bool) -> None:
        """Forbid tokens that run from one item into the next, where another way is left.

        Those that have a head are forbidden only while `closing`, and if they would begin a text
        and end it: a model that was taught JSON wants them, and would go on talking if it could
        not end its text as it was taught.

        Args:
            inside: whether a string is being written.
        """
        dropped = [self._unsplit]
        if closing:
            dropped.append(self._split)
        elif not inside:
            dropped.append(self._quoted)
        for tokens in dropped:
            allowed = tokens[mask[tokens] == 1]
            if len(allowed):
                mask[allowed] = 0
                if not mask.any():
                    mask[allowed] = 1

    def drop_openings(self, mask: "Array") -> None:
        """Forbid tokens that begin a string and have some of it, where the mark alone may come."""
        if self._opening >= 0 and mask[self._opening]:
            mask[self._openings] = 0

    def ways(self, text: str) -> list[list[int]]:
        """How a text that ends in a quotation mark may be cut, as far as its end goes.

        As the tokenizer cuts it, which comes first. Where that joins the mark with what stands
        before it, with the mark by itself, too: `b)"` ends in a token `)"`, but `b)","` in `","`.
        """
        tokens = self.tokens(text)
        if self._opening in (-1, tokens[-1]):
            return [tokens]
        return [tokens, [*self.tokens(text[:-1]), self._opening]]

    def endings(self, token: int) -> list[int]:
        """The tokens whose text begins with that of one which closes a string, itself among them.

        A model that was taught compact JSON closes with `","` and hardly ever with `"` alone: what
        it gives the mark is spread over all of these.
        """
        if token not in self._ending:
            closing = self._encode.convert_ids_to_tokens(token)
            pieces = self._encode.get_vocab()
            self._ending[token] = sorted(
                other for piece, other in pieces.items() if piece.startswith(closing)
            )
        return self._ending[token]

    def bytes(self, token: int) -> bytes:
        """A token's text, in UTF-8; it may be a part of a character."""
        data: bytes = self._tokenizer.decode_bytes([token])
        return data

    def tokens(self, text: str) -> list[int]:
        """The text as the model's tokenizer cuts it."""
        return tokenizing.split(self._encode, text, special=False)


def _crossing(pieces: dict[str, int]) -> dict[str, str]:
    """Pieces such as `","` → their head `"`, where the head is a token, too."""
    found = {}
    for piece in pieces:
        head, comma, tail = piece.partition(",")
        if comma and tail in ("", '"', "{", '{"') and head[-1:] in ('"', "}") and head in pieces:
            found[piece] = head
    return {piece: head for piece, head in found.items() if "\\" not in head}
