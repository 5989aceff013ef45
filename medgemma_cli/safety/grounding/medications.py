"""Rule `negation_flip` for what is done with a drug: stopped or taken, raised or lowered.

Covers the action word nearest to the drug in its clause, before it ("stop aspirin") or behind it
("aspirin was stopped"). It is a flip only where every action that the source names for the drug
is the opposite. Does not follow a drug over several visits.
"""

from collections.abc import Iterator

from medgemma_cli.safety.grounding import context, drugs
from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.facts import Fact
from medgemma_cli.safety.grounding.lexicon import Term
from medgemma_cli.safety.grounding.words import listed

_ACTIONS = {
    "off": listed(
        "stop stopped stopping discontinue discontinued discontinuing hold held "
        "holding withhold withheld cease ceased"
    ),
    "on": listed(
        "start started starting continue continued continues continuing resume "
        "resumed take takes taking taken "
        "add added adding prescribe prescribed prescribing on begin began using "
        "uses restart restarted initiate initiated"
    ),
    "up": listed(
        "increase increased increasing raise raised uptitrate uptitrated double doubled escalate"
    ),
    "down": listed(
        "decrease decreased decreasing reduce reduced reducing lower lowered "
        "taper tapered tapering halve halved"
    ),
}
_KIND = {word: kind for kind, words in _ACTIONS.items() for word in words}
_OPPOSITE = {"off": "on", "on": "off", "up": "down", "down": "up"}
_ENDS = listed("; . but then while after because")
_REACH = 7


def _action(text: Analysis, term: Term) -> str:
    """What is done with a drug, or nothing."""
    sentence = text.sentences[text.sentence_of[term.first]]
    for at in range(term.last, min(term.last + 6, sentence.last)):
        word = text.tokens[at].text
        if word in _ENDS or word in (",", "and", "for") or (word in _KIND and word not in ("on",)):
            behind = any(
                text.tokens[i].text in ("was", "were", "is", "been", "be")
                for i in range(term.last, at)
            )
            if word in _KIND and (behind or (at == term.last and word.endswith(("ed", "held")))):
                return _kind(text, at, word)
            break
    for at in range(term.first - 1, max(sentence.first, term.first - _REACH) - 1, -1):
        word = text.tokens[at].text
        if word in _ENDS:
            break
        if word in _KIND:
            return _kind(text, at, word, term)
    return ""


def _kind(text: Analysis, at: int, word: str, term: Term | None = None) -> str:
    """The action of a word, turned round where it is denied; nothing where it is only possible."""
    bits = text.bits[at] | (text.bits[term.first] if term else 0)
    if bits & (context.HYPOTHETICAL | context.ASKED | context.POSSIBLE | context.FAMILY):
        return ""
    kind = _KIND[word]
    if not bits & context.NEGATED:
        return kind
    return _OPPOSITE[kind] if kind in ("on", "off") else ""


def check(source: Analysis, output: Analysis) -> Iterator[Fact]:
    """A fact for each drug of the output whose action the source turns round."""
    there: dict[str, set[str]] = {}
    spans: dict[str, Term] = {}
    for term in drugs.mentions(source):
        if action := _action(source, term):
            for part in drugs.parts(term.id):
                there.setdefault(part, set()).add(action)
                spans.setdefault(part, term)
    for term in drugs.mentions(output):
        action = _action(output, term)
        part = next((p for p in sorted(drugs.parts(term.id)) if p in there), "")
        if not action or not part:
            continue
        span, value = output.span(term.first, term.last), output.value(term.first, term.last)
        evidence = source.span(spans[part].first, spans[part].last)
        if there[part] == {_OPPOSITE[action]}:
            why = "The source says the opposite of what is done with this drug."
            yield Fact("drug", "contradicted", span, value, evidence, why, "negation_flip")
