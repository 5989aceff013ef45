"""`Prompt` → token ids, so that no text of a document can be a control token.

The chat template is rendered with a sentinel for every part, and its own markup is tokenised as
usual. Every part's text is tokenised as data: strings that name control tokens are cut after
their first character, so they are ordinary tokens of the same text. The ids are then counted:
there must be as many control tokens as the markup has.
"""

import re
from collections import OrderedDict
from typing import Any, NamedTuple

from medgemma_cli.engines import tokenizing
from medgemma_cli.engines.thoughts import CLOSE, OPEN, strip_thoughts
from medgemma_cli.errors import ConfigError, DocumentError
from medgemma_cli.records import Message, Prompt

_SENTINEL = re.compile("\ue000([0-9]+)\ue001")
# In Gemma's vocabulary, but not (or not everywhere) declared special.
_NAMED = (
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
    "[multimodal]",
)
_KEPT = 256


class Encoded(NamedTuple):
    """Token ids of one prompt.

    The first `head` ids are the template's own: the same for every document of a run.
    """

    ids: list[int]
    head: int


class Encoder:
    """Encodes prompts with one checkpoint's tokenizer and, if it has one, processor.

    Raises:
        ConfigError: 78, the checkpoint has no chat template.
    """

    def __init__(self, tokenizer: Any, processor: Any | None) -> None:
        self.tokenizer = tokenizer
        self.processor = processor
        template = getattr(processor, "chat_template", None) or tokenizer.chat_template
        if not template:
            raise ConfigError(
                "The model has no chat template; it is a base model.",
                "Use an instruction-tuned checkpoint (its name ends in -it).",
            )
        self._chat: Any = processor if getattr(processor, "chat_template", None) else tokenizer
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        known = tokenizer.get_vocab()
        names = {name for name in (*_NAMED, *added) if name in known and len(name) > 1}
        names |= {name for name in known if name.startswith("<unused") and name.endswith(">")}
        self.control = frozenset(known[name] for name in names)
        longest_first = sorted(names, key=len, reverse=True)
        self.control_text = re.compile("|".join(map(re.escape, longest_first)))
        self.image_id = known.get("<image_soft_token>", -1)
        self._thought = (known.get(OPEN, -1), known.get(CLOSE, -1))
        turn_end = known.get("<end_of_turn>")
        self.stop = [i for i in (tokenizer.eos_token_id, turn_end) if i is not None]
        self._cache: OrderedDict[tuple[str, tuple[Message, ...]], Encoded] = OrderedDict()

    def encode(self, prompt: Prompt) -> Encoded:
        """The ids of a prompt; the last few are remembered.

        Raises:
            DocumentError: ``control_tokens``, a part's text made one; ``no_vision``.
        """
        # A prompt asked again has the same id and other messages.
        mark = (prompt.id, prompt.messages)
        if mark in self._cache:
            return self._cache[mark]
        encoded = self._encode(prompt)
        self._cache[mark] = encoded
        if len(self._cache) > _KEPT:
            self._cache.popitem(last=False)
        return encoded

    def _encode(self, prompt: Prompt) -> Encoded:
        parts = [part for message in prompt.messages for part in message.parts]
        messages = []
        first = 0
        for message in prompt.messages:
            marks = range(first, first + len(message.parts))
            first = marks.stop
            content = "".join(f"\ue000{i}\ue001" for i in marks)
            messages.append({"role": message.role, "content": content})
        chat = self._chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids: list[int] = []
        head: int | None = None
        own = 0
        # A split on one group alternates markup and part numbers.
        for i, piece in enumerate(_SENTINEL.split(chat)):
            if i % 2 and head is None and parts[int(piece)].kind != "text":
                head = len(ids)
            if i % 2 == 0:
                new = self._plain(piece)
                own += self._controls(new)
            elif parts[int(piece)].kind == "image":
                new = self._image()
                own += self._controls(new)
            else:
                new = self.data(parts[int(piece)].text)
            ids += new
        if self._controls(ids) != own:
            raise DocumentError("control_tokens")
        # Something has to come after the beginning that prompts share.
        return Encoded(ids, len(ids) - 1 if head is None else head)

    def data(self, text: str) -> list[int]:
        """Tokenise text so that no control token can come of it; it decodes to the same text."""
        pieces: list[str] = []
        at = 0
        for match in self.control_text.finditer(text):
            pieces.append(text[at : match.start() + 1])
            at = match.start() + 1
        pieces.append(text[at:])
        return [token for piece in pieces if piece for token in self._split(piece)]

    def text(self, ids: list[int]) -> tuple[str, bool]:
        """Generated ids as text, without thoughts and special tokens; is a thought left open?"""
        kept, thinking = strip_thoughts(ids, *self._thought)
        return tokenizing.join(self.tokenizer, kept), thinking

    def raw(self, ids: list[int]) -> str:
        """Generated ids as text, control tokens and thoughts and all."""
        return tokenizing.join(self.tokenizer, ids, special=True)

    def ends(self, ids: list[int]) -> list[int]:
        """Where each id's text ends in the text of them all, in characters."""
        at, done, ends = 0, 0, []
        for i in range(len(ids)):
            # Decoded from where the last whole character ended: linear, and right for pieces.
            piece = tokenizing.join(self.tokenizer, ids[done : i + 1])
            ends.append(at + len(piece))
            if not piece.endswith("\ufffd"):
                at, done = ends[-1], i + 1
        return ends

    def _split(self, text: str) -> list[int]:
        return tokenizing.split(self.tokenizer, text, special=False)

    def _plain(self, text: str) -> list[int]:
        return tokenizing.split(self.tokenizer, text, special=True) if text else []

    def _image(self) -> list[int]:
        if self.processor is None:
            raise DocumentError("no_vision")
        return self._plain(self.processor.full_image_sequence)

    def _controls(self, ids: list[int]) -> int:
        return sum(token in self.control for token in ids)
