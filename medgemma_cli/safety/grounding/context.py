"""Is what a sentence speaks of there, denied, possible, conditional, past, or somebody else's?

The method is NegEx (Chapman 2001) with ConText's further properties (Harkema 2009): a cue governs
the words from it up to the next word that ends its scope. Covers English cues of `context.toml`,
cues behind what they govern, pseudo-negation, clauses with a verb of their own, and a question
with its answer in a transcript. Does not cover irony, double negation beyond the listed phrases,
or a denial whose object stands in another sentence.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from medgemma_cli.safety.grounding.lexicon import Phrases, Term, split, toml
from medgemma_cli.safety.grounding.words import Sentence, Token, listed

NEGATED, POSSIBLE, HYPOTHETICAL, HISTORICAL, FAMILY, ASKED, OVER = 1, 2, 4, 8, 16, 32, 64
_BITS = {
    "negated": NEGATED,
    "possible": POSSIBLE,
    "unlikely": NEGATED | POSSIBLE,
    "gone": NEGATED | OVER,
    "resolved": OVER,
    "hypothetical": HYPOTHETICAL,
    "historical": HISTORICAL,
    "family": FAMILY,
}
# A comma followed by a clause with one of these before the next comma starts a new statement.
_VERBS = listed(
    "has have had is are was were reports reported shows showed states stated continues takes "
    "remains complains endorses notes admits presents she he they it there patient pt "
    "reveals demonstrates developed denies"
)
_REPORTING = listed(
    "reports reported states stated says said notes noted noticed brought thinks believes feels "
    "concerned worried denies tells told helps gives called accompanied present drives"
)
_MARKS = frozenset(";!?")
_RUN_ON, _WINDOW = 40, 8
_CHANGES = listed(
    "worsening change changes increase improvement progression exacerbation relief difference"
)
_ASKING = listed("do did have are is any how what has does can was were when")
_YES = listed("yes yeah yep yup correct right absolutely definitely sure mm uh-huh uhhuh")
_NO = listed("no nope nah none never negative not")


class Scope(NamedTuple):
    """What a cue governs: its bits over tokens `first` up to `last`."""

    bits: int
    first: int
    last: int


@cache
def _cues() -> Phrases:
    found = Phrases()
    for category, places in toml("context").items():
        for place, phrases in places.items():
            if place == "soft":
                continue
            for phrase in split(phrases):
                found.add(phrase, "cue", category, place, exact=True)
    return found.sort()


@cache
def _both() -> frozenset[str]:
    """Phrases of one meaning that stand before or behind what they govern."""
    data = toml("context")
    both = set()
    for name in ("negated", "possible", "unlikely", "historical", "resolved", "hypothetical"):
        both |= {*split(data[name]["before"])} & {*split(data[name]["after"])}
    return frozenset(both)


def assertions(words: list[Token], found: list[Sentence]) -> list[int]:
    """For each token the bits of the cues that govern it; 0 is a plain statement."""
    bits = [0] * len(words)
    texts = [token.text for token in words]
    for sentence in found:
        for scope in scopes(words, texts, sentence):
            for at in range(scope.first, scope.last):
                bits[at] |= scope.bits
        if "family" in sentence.section:
            _mark(bits, sentence, FAMILY)
    _settle_questions(words, bits, found)
    return bits


def _mark(bits: list[int], sentence: Sentence, bit: int) -> None:
    for at in range(sentence.first, sentence.last):
        bits[at] |= bit


def scopes(words: list[Token], texts: Sequence[str], sentence: Sentence) -> list[Scope]:
    """The scopes of one sentence's cues."""
    cues = list(_cues().find(texts, sentence.first, sentence.last))
    if not any(cue.id in _BITS or cue.id == "pseudo" for cue in cues):
        return _own_words(words, [], sentence)
    pseudo = [(cue.first, cue.last) for cue in cues if cue.id == "pseudo"]
    cues = [
        cue
        for cue in cues
        if not _is_other(words, cue, sentence)
        and (cue.id == "pseudo" or not any(cue.first < b and a < cue.last for a, b in pseudo))
    ]
    breaks = _breaks(words, cues, sentence)
    found = []
    for cue in cues:
        bits = _BITS.get(cue.id)
        if bits is None:
            continue
        if bits == FAMILY and _informs(words, cue, sentence):
            continue
        if words[cue.first].text in ("vs", "versus"):
            found.append(Scope(bits, _back(words, cue.first, sentence, breaks), cue.first))
            found.append(
                Scope(bits, cue.last, min([b for b in breaks if b >= cue.last] + [sentence.last]))
            )
            continue
        if _is_behind(words, cue, sentence, breaks):
            apart = bits == POSSIBLE and words[cue.first - 1].text == ","  # "gout, presumed"
            first = _back(words, cue.first - apart, sentence, breaks)
            found.append(Scope(bits, first, cue.first))
        else:
            end = min([b for b in breaks if b >= cue.last] + [sentence.last])
            end = _changed(words, cue.last, end)
            found.append(Scope(bits, cue.last, _capped(words, cue.last, end, sentence)))
    found += _own_words(words, cues, sentence)
    return found


def _own_words(words: list[Token], cues: list[Term], sentence: Sentence) -> list[Scope]:
    """What a cue denies inside itself: "no improvement in", "no focal"; the word behind "non"."""
    found = []
    for cue in cues:
        if cue.id in ("pseudo", "negated") and words[cue.first].text in ("no", "not", "without"):
            found.append(Scope(NEGATED, cue.first + 1, cue.last))
    for at in range(sentence.first, sentence.last - 1):
        if words[at].text == "non":
            found.append(Scope(NEGATED, at + 1, at + 2))
    return found


def _changed(words: list[Token], first: int, end: int) -> int:
    """A scope's end where only a change is denied: "no nocturnal worsening of pain"."""
    for at in range(first, min(first + 3, end)):
        if words[at].text in _CHANGES and at + 1 < end and words[at + 1].text in ("of", "in"):
            return at + 1
    return end


def _capped(words: list[Token], first: int, end: int, sentence: Sentence) -> int:
    """A scope's end in speech without punctuation: a few words, or as far as a list goes on."""
    size = sentence.last - sentence.first
    commas = sum(words[at].text == "," for at in range(sentence.first, sentence.last))
    if size <= _RUN_ON or (commas * 15 > size and not sentence.speaker):
        return end
    limit = first + _WINDOW
    for at in range(first, end):
        if words[at].text in (",", "or", "and", "any"):
            limit = max(limit, at + 5)
        if at >= limit or (at >= first + 4 and _opens(words, at)):
            return at
    return end


@cache
def _soft() -> frozenset[str]:
    return frozenset(split(toml("context")["ends"]["soft"]))


def _opens(words: list[Token], at: int) -> bool:
    """Whether a new statement opens in speech: "i do", "you have", "so"."""
    one = words[at].text
    two = f"{one} {words[at + 1].text}" if at + 1 < len(words) else one
    return one in _soft() or two in _soft()


def _is_other(words: list[Token], cue: Term, sentence: Sentence) -> bool:
    """Words that look like a cue: "May 5", "no. 3", "son" in a name, "old" in "years old"."""
    text = words[cue.first].text
    before = words[cue.first - 1].text if cue.first > sentence.first else ""
    if text == "old":
        return before in {"year", "month", "week", "day", "yr", "years", "months"}
    if text == "no" and cue.last == cue.first + 1 and cue.last < sentence.last:
        return words[cue.last].text in {",", "."} and not words[cue.last].spaced
    if text == "?":
        return cue.last >= sentence.last or (words[cue.last].spaced and cue.first > sentence.first)
    if text == "negative" and before in {"gram", "rh", "false", "hiv-"}:
        return True
    return text == "positive" and before in {"gram", "rh", "false"}


def _informs(words: list[Token], cue: Term, sentence: Sentence) -> bool:
    """Whether the relative tells of the patient: "mother reports that he has a fever"."""
    end = min(cue.last + 4, sentence.last)
    return any(words[at].text in _REPORTING for at in range(cue.last, end))


def _breaks(words: list[Token], cues: list[Term], sentence: Sentence) -> list[int]:
    """Where scopes end: at marks, at ending words, before a clause with its own verb."""
    found = [cue.first for cue in cues if cue.id == "ends"]
    inside = {at for cue in cues if cue.id != "ends" for at in range(cue.first, cue.last)}
    for at in range(sentence.first, sentence.last):
        text = words[at].text
        if (
            (text in _MARKS and at not in inside)
            or (text == "," and _own_clause(words, at + 1, sentence, cues))
            or (text in ("and", "or") and _is_present(words, at + 1, sentence))
        ):
            found.append(at)
    return sorted(found)


def _own_clause(words: list[Token], first: int, sentence: Sentence, cues: list[Term]) -> bool:
    """Whether what follows a comma up to the next has a verb, or "with", that opens a statement."""
    if first < sentence.last and words[first].text in ("with", "then", "so"):
        return True
    for at in range(first, min(first + 12, sentence.last)):
        text = words[at].text
        if text in (",", ";", "or"):
            return False
        if text in _VERBS:
            # "fever, chills were denied": the verb belongs to a cue behind
            return not any(
                cue.kind == "after" and cue.first <= at + 1 and at < cue.last + 1 for cue in cues
            )
    return False


def _is_present(words: list[Token], first: int, sentence: Sentence) -> bool:
    """Whether "and X is present", or "and she …" with a verb of its own, follows."""
    if first < sentence.last and words[first].text in ("she", "he", "they", "it", "patient"):
        return True
    for at in range(first, min(first + 6, sentence.last)):
        if words[at].text in (",", ";", "or", "and", "not"):
            return False
        if words[at].text == "present":
            return words[at - 1].text in ("is", "are", "was", "were")
    return False


def _is_behind(words: list[Token], cue: Term, sentence: Sentence, breaks: list[int]) -> bool:
    """Whether the cue governs what stands before it."""
    phrase = " ".join(words[at].text for at in range(cue.first, cue.last))
    if cue.kind == "after" and phrase not in _both():
        return True
    if phrase not in _both():
        return False
    closed = cue.last >= sentence.last or cue.last in breaks
    follows = closed or words[cue.last].text in (
        ",",
        ")",
        ".",
        "at",
        "on",
        "today",
        "by",
        "in",
        "and",
    )
    return follows and cue.first > sentence.first


def _back(words: list[Token], at: int, sentence: Sentence, breaks: list[int]) -> int:
    """Where the scope of a cue behind its object begins."""
    first = max([b + 1 for b in breaks if b < at] + [sentence.first])
    listed = False
    for place in range(at - 1, first - 1, -1):
        text = words[place].text
        listed = listed or text in ("and", "or")
        if text == "," and not listed:
            return place + 1
    return first


def _settle_questions(words: list[Token], bits: list[int], found: list[Sentence]) -> None:
    """A question's words are asked; a plain yes or no of the other speaker settles them."""
    for i, sentence in enumerate(found):
        first = _question(words, sentence)
        if first is None:
            continue
        asked = sentence._replace(first=first)
        answer = next((s for s in found[i + 1 : i + 3] if not s.asks), None)
        if answer is None or answer.speaker == sentence.speaker:
            if sentence.asks:
                _mark(bits, asked, ASKED)
            continue
        head = [words[at].text for at in range(answer.first, min(answer.first + 9, answer.last))]
        said = [word for word in head if word.isalpha() or word == "n't"]
        said = said[1:] if said[:1] in (["patient"], ["doctor"]) else said
        if any(word in _NO for word in said[:4]) or "n't" in said[:5]:
            _mark(bits, asked, NEGATED)
        elif not any(word in _YES for word in said[:3]):
            _mark(bits, asked, ASKED)


def _question(words: list[Token], sentence: Sentence) -> int | None:
    """Where the question of a sentence begins; in tagged speech a question mark may be missing."""
    if not sentence.speaker and not sentence.asks:
        return None
    for at in range(sentence.last - 2, sentence.first - 1, -1):
        pair = words[at].text, words[at + 1].text
        if pair[0] in _ASKING and pair[1] in (
            "you",
            "your",
            "about",
            "there",
            "any",
            "other",
            "anyone",
        ):
            return at
        if pair == ("any", "other"):
            return at
    return sentence.first if sentence.asks else None
