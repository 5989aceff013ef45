"""Rules `negation_flip` and `unsupported_diagnosis` for findings the rules know by name.

Covers about 300 symptoms and diagnoses with their synonyms and abbreviations. A finding of the
output is compared with every mention of it in the source: it is a flip only where the source has
the opposite and never the same; certainty is raised where the source has it only as possible, as
a condition to look for, or of a relative. Symptoms that mean little alone ("pain", "swelling") are
compared for the same place. Does not cover findings outside the list (see `statements`), grades
of severity, or who of the family has a disease.
"""

from bisect import bisect_left
from collections.abc import Iterator
from functools import cache

from medgemma_cli.safety.grounding import context, lexicon
from medgemma_cli.safety.grounding.agreement import RAISED, Mention, judge
from medgemma_cli.safety.grounding.analysis import Analysis, likeness
from medgemma_cli.safety.grounding.facts import Fact
from medgemma_cli.safety.grounding.heads import bind
from medgemma_cli.safety.grounding.lexicon import Term, regions, split, terms, toml
from medgemma_cli.safety.grounding.words import listed, tokens


def state_of(bits: int) -> str:
    """The assertion that bits stand for."""
    if bits & context.OVER:
        return "gone" if bits & context.NEGATED else "resolved"
    if bits & (context.HYPOTHETICAL | context.ASKED):
        return "asked" if bits & context.ASKED else "hypothetical"
    if bits & context.NEGATED:
        return "unlikely" if bits & context.POSSIBLE else "negated"
    if bits & context.POSSIBLE:
        return "possible"
    return "historical" if bits & context.HISTORICAL else "affirmed"


def mentions(text: Analysis) -> list[Mention]:
    """The findings of a text. Cached on the analysis."""
    known: list[Mention] | None = getattr(text, "_findings", None)
    if known is None:
        places = text.terms_of("anatomy")
        found = [t for t in text.terms_of("finding") if not _is_other(text, t)]
        known = [_mention(text, term, places) for term in found]
        known += [_denying(text, *pair, places) for pair in _denying_words(text)]
        known.sort(key=lambda mention: mention.term.first)
        text._findings = known  # type: ignore[attr-defined]
    return known


@cache
def _deniers() -> dict[str, Term]:
    """Words that deny a finding by themselves: "afebrile", "nontender"."""
    without = toml("words")["without"].items()
    pairs = [(word, terms().find([t.base for t in tokens(base)])) for word, base in without]
    named = [
        (word, next((t for t in hits if t.category == "finding"), None)) for word, hits in pairs
    ]
    return {word: term for word, term in named if term}


def _denying_words(text: Analysis) -> list[tuple[int, Term]]:
    known = _deniers()
    return [(at, known[base]) for at, base in enumerate(text.bases) if base in known]


def _denying(text: Analysis, at: int, base: Term, places: list[Term]) -> Mention:
    """The mention of a word such as "afebrile": denied, and doubly denied is said."""
    mention = _mention(text, base._replace(first=at, last=at + 1), places)
    turned = {"affirmed": "negated", "negated": "affirmed"}
    return mention._replace(state=turned.get(mention.state, mention.state))


def _mention(text: Analysis, term: Term, places: list[Term]) -> Mention:
    concept, site = lexicon.placed().get(term.id, (term.id, ""))
    kind = "local" if site else term.kind
    if kind == "local" and not site:
        site = _site(text, term, places)
    bits = text.bits[term.first]
    for at in range(term.first, term.last):
        bits |= text.bits[at]
    bits |= _labelled(text, term)
    return Mention(concept, site, kind, bool(bits & context.FAMILY), state_of(bits), term)


def _labelled(text: Analysis, term: Term) -> int:
    """A finding as a label, "Tobacco use: never", is what the value says, or asked."""
    if term.last >= len(text.tokens) or text.tokens[term.last].text != ":":
        return 0
    value = text.tokens[term.last + 1].text if term.last + 1 < len(text.tokens) else ""
    if value in ("yes", "positive", "present", "endorses", "reports", "+"):
        return 0
    if value in (
        "no",
        "none",
        "never",
        "denies",
        "negative",
        "non",
        "absent",
        "denied",
        "nonsmoker",
    ):
        return context.NEGATED
    return context.ASKED


_AMBIGUOUS = {
    "mi": frozenset(),
    "pe": listed("tube exam"),
    "hf": frozenset(),
    "ha": frozenset({"1c"}),
    "loc": frozenset(),
    "cap": listed("refill placed on"),
    "rub": listed("the it on"),
    "fit": listed("for and well tested test"),
    "sore": frozenset({"throat"}),
    "fall": listed("risk asleep season of"),
    "tear": frozenset(),
    "red": listed("blood cell flag flags"),
    "depression": listed("st segment"),
    "reflux": frozenset({"hepatojugular"}),
    "discharge": listed("home summary from instructions to plan date planning"),
    "drainage": frozenset({"tube"}),
    "bump": frozenset(),
    "faint": frozenset(),
    "broken": frozenset({"down"}),
    "chill": frozenset(),
    "af": frozenset(),
    "ra": frozenset({"sat"}),
    "si": listed("joint joints"),
    "oa": frozenset(),
    "weak": frozenset(),
    "shaking": frozenset({"hands"}),
    "clot": frozenset(),
    "tender": frozenset(),
    "old": frozenset(),
}


def _is_other(text: Analysis, term: Term) -> bool:
    """A word that has another meaning here: "discharge home", "SI joint", "stroke volume"."""
    following = text.tokens[term.last].text if term.last < len(text.tokens) else ""
    before = text.tokens[term.first - 1].text if term.first else ""
    word = text.tokens[term.first].text
    if term.last == term.first + 1 and following in _AMBIGUOUS.get(word, ()):
        return True
    if term.id == "stroke" and following == "volume":
        return True
    if word in ("fall", "falls") and before in ("the", "last", "this"):
        return True
    if word == "discharge" and before in ("hospital", "on", "at", "upon", "after"):
        return True
    if term.id == "covid 19" and following in ("pandemic", "restrictions", "era"):
        return True
    return term.id in ("depression",) and before in ("st", "segment", "respiratory")


def _site(text: Analysis, term: Term, places: list[Term]) -> str:
    """The nearest region of the body in the same sentence."""
    sentence = text.sentences[text.sentence_of[term.first]]
    best, found = 7, ""
    begin = bisect_left(places, sentence.first, key=lambda place: place.first)
    for at in range(begin, len(places)):
        place = places[at]
        if place.first >= sentence.last:
            break
        if place.first == term.first:
            continue
        distance = (
            place.first - term.last + 1 if place.first >= term.last else term.first - place.last + 1
        )
        if distance < best:
            best, found = distance, place.id
    return found


def _related(one: str, other: str) -> bool:
    """Whether two regions are the same, or one lies in the other."""
    wider = regions()
    return one == other or wider.get(one) == other or wider.get(other) == one


def check(source: Analysis, output: Analysis) -> Iterator[Fact]:
    """A fact for each finding of the output."""
    there: dict[str, list[Mention]] = {}
    for mention in mentions(source):
        there.setdefault(mention.concept, []).append(mention)
    for mention in mentions(output):
        if mention.state not in ("hypothetical", "asked"):
            found = there.get(mention.concept) or _narrower(mention.concept, there)
            yield _fact(source, output, mention, found)


@cache
def _wider() -> dict[str, frozenset[str]]:
    return {name: frozenset(split(value)) for name, value in toml("words")["wider"].items()}


def _narrower(concept: str, there: dict[str, list[Mention]]) -> list[Mention]:
    """Mentions of what a wider word takes in: "cancer" for "breast cancer"."""
    members = _wider().get(concept, frozenset())
    fitting = [c for c in there if c.endswith(f" {concept}") or c in members]
    found = [mention for c in fitting for mention in there[c]]
    if concept == "pleural effusion":  # not the effusion of a joint
        return [m for m in found if m.site in ("", "lung", "chest")]
    return found


def _fact(source: Analysis, output: Analysis, mention: Mention, found: list[Mention]) -> Fact:
    term = mention.term
    span, value = output.span(term.first, term.last), output.value(term.first, term.last)
    found = _comparable(source, output, mention, found)
    verdict, rule, reason, evidence = judge(output, mention, found)
    if rule == RAISED and evidence is None and (place := _meant(source, mention.concept)):
        why = "A value in the source may mean this; the source does not name it."
        return Fact("finding", "not checked", span, value, place, why)
    where = source.span(evidence.term.first, evidence.term.last) if evidence else None
    return Fact("finding", verdict, span, value, where, reason, rule)  # type: ignore[arg-type]


def _meant(source: Analysis, concept: str) -> tuple[int, int] | None:
    """The place of a value that a diagnosis says in a word: sodium 128 and hyponatremia."""
    analyte, sign, limit = toml("analytes")["means"].get(concept, ("", "", 0))
    for bound in bind(source) if analyte else ():
        value = bound.quantity.readings[0].values[0]
        if bound.head == analyte and (value < limit if sign == "<" else value > limit):
            return source.span(bound.quantity.first, bound.quantity.last)
    return None


def _comparable(
    source: Analysis, output: Analysis, mention: Mention, found: list[Mention]
) -> list[Mention]:
    """The source's mentions that speak of the same thing in the same place, of the same person."""
    own = [m for m in found if m.family == mention.family]
    if mention.kind != "local":
        return own or ([] if mention.family else found)
    placed = [m for m in own if m.site and mention.site and _related(m.site, mention.site)]
    if placed:
        same = [m for m in placed if m.site == mention.site]
        return same or placed
    near = output.around(mention.term.first, mention.term.last)
    return [
        m
        for m in own
        if (not m.site and not mention.site)
        or likeness(near, source.around(m.term.first, m.term.last)) >= 0.6
    ]
