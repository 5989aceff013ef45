"""Rule `medication_not_in_source`: every drug of the output must be in the source.

Covers about 1,100 generic names with brands, synonyms and abbreviations (WHO INN and ATC names,
FDA and EMA brand names are public facts), combinations by their parts, classes by their members
("a statin" for atorvastatin), and unknown words with an INN stem (WHO stem book: -pril, -sartan,
-mab …). Does not cover illegal drugs, foods, herbs, or electrolytes named without a salt. A name
that is all but spelled alike in the source, and is no other drug, is not checked.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache

from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.facts import Fact
from medgemma_cli.safety.grounding.lexicon import Term, split, terms, toml, words
from medgemma_cli.safety.grounding.words import listed

_RULE = "medication_not_in_source"
_STEMS = re.compile(
    r"[a-z]{2,}(?:april|[^a]pril|sartan|olol|statin|mab|cillin|conazole|prazole|"
    r"gliptin|gliflozin|floxacin|mycin|micin|cycline|dipine|azosin|setron|triptan|tidine|"
    r"xaban|gatran|"
    r"parin|zepam|zolam|oxetine|ipramine|triptyline|thiazide|semide|nidazole|bendazole|"
    r"vudine|tegravir|"
    r"navir|buvir|asvir|ciclovir|cyclovir|tinib|rafenib|ciclib|parib|zomib|limus|platin|"
    r"rubicin|taxel|"
    r"glutide|glitazone|fibrate|dronate|lukast|terol|tropium|methasone|nisolone|nisone|"
    r"profen|coxib|"
    r"racetam|gabalin|piprazole|peridone|tiapine|stigmine|curonium|caine|barbital|codone|"
    r"morphone|"
    r"fentanil|orphan|gepant|kinra|cept|tocin|relix|relin|vaptan|entan|ciguat|lisib|sidenib|"
    r"degib|"
    r"quine|oxazole|trexate|trexed|mustine|poetin|grastim|plase|kacin|penem|bactam|fungin)\b"
)
_NOT_DRUGS = listed(
    "april accept concept except percept precept intercept oxytocin creatinine spril platin "
    "cocaine "
    "parental entan excipient orphan incept thorax terol quine preaccept apparin"
)
_WEAK = frozenset({"caffeine", "cocaine", "insulin", "lactobacillus", "melatonin"})


@cache
def classes() -> dict[str, frozenset[str]]:
    """The members of each class of drugs."""
    return {name: frozenset(split(value)) for name, value in toml("words")["classes"].items()}


@lru_cache(maxsize=4096)
def parts(name: str) -> frozenset[str]:
    """The ingredients of a drug's name; the salt's parts of insulin count as insulin, too."""
    found = frozenset(name.split("+"))
    return found | {"insulin"} if any(part.startswith("insulin") for part in found) else found


@lru_cache(maxsize=4096)
def same(one: str, other: str) -> bool:
    """Whether two names share an ingredient; "insulin" alone may be any insulin."""
    if one == other or {one, other} & {"insulin"}:
        return bool(parts(one) & parts(other))
    return bool((parts(one) & parts(other)) - {"insulin"})


def mentions(text: Analysis) -> list[Term]:
    """The drugs of a text: by the lexicon, and by their stems. Cached on the analysis."""
    known: list[Term] | None = getattr(text, "_drugs", None)
    if known is None:
        listed = [t for t in text.terms_of("drug") if not _is_other(text, t)]
        taken = {at for term in text.terms for at in range(term.first, term.last)}
        stemmed = [
            Term("drug", token.base, "stem", at, at + 1)
            for at, token in enumerate(text.tokens)
            if len(token.base) > 5 and at not in taken and _has_stem(token.base)
        ]
        known = sorted([*listed, *stemmed], key=lambda term: term.first)
        text._drugs = known  # type: ignore[attr-defined]
    return known


@lru_cache(maxsize=20_000)
def _has_stem(word: str) -> bool:
    return word not in _NOT_DRUGS and bool(_STEMS.fullmatch(word))


_LEVELS = listed("level levels resistance antibody antibodies sensitivity assay")
_SHORT = listed(
    "asa nac dig inh aza atra depo taf ella nix soma nitro sonata azo mmf tpa hcq mtx alli "
    "yaz aspart dhe"
)


def _is_other(text: Analysis, term: Term) -> bool:
    """A drug's name that means something else here: an insulin level, ASA class, "soma" …"""
    following = text.bases[term.last] if term.last < len(text.bases) else ""
    if following in _LEVELS and term.id in ("insulin", "digoxin", "lithium carbonate", "vitamin k"):
        return term.id == "insulin"
    if text.tokens[term.first].text == "asa" and following in (
        "class",
        "physical",
        "i",
        "ii",
        "iii",
        "iv",
        "1",
        "2",
        "3",
    ):
        return True
    word = text.text[text.tokens[term.first].start : text.tokens[term.last - 1].end]
    return word in ("nix", "ella", "alli", "depo", "yaz", "aza", "dig", "soma", "sonata")


def check(source: Analysis, output: Analysis) -> Iterator[Fact]:
    """A fact for each drug of the output, and for each class of drugs."""
    known = mentions(source)
    there: dict[str, Term] = {}
    for term in known:
        for part in parts(term.id):
            there.setdefault(part, term)
    named = {term.id for term in source.terms_of("class")}
    for term in mentions(output):
        yield _fact(source, output, term, there)
    for term in output.terms_of("class"):
        yield _class_fact(source, output, term, there, named)


def _fact(source: Analysis, output: Analysis, term: Term, there: dict[str, Term]) -> Fact:
    span, value = output.span(term.first, term.last), output.value(term.first, term.last)
    wanted = frozenset(term.id.split("+"))
    found = [there[part] for part in wanted if part in there]
    if term.id == "insulin" and "insulin" in there:
        found = [there["insulin"]]
    if (
        found
        and len(found) == len(wanted)
        and not (term.id.startswith("insulin ") and found[0].id == "insulin")
    ):
        return Fact("drug", "supported", span, value, source.span(found[0].first, found[0].last))
    if _stands_there(source, output, term):
        return Fact("drug", "supported", span, value, None, "The word stands in the source.")
    if close := _misspelt(source, value.lower()):
        return Fact(
            "drug",
            "not checked",
            span,
            value,
            close,
            "The source has a name spelled almost like this.",
        )
    why = "This medication does not stand in the source under any name known."
    return Fact("drug", "contradicted", span, value, None, why, _RULE)


def _stands_there(source: Analysis, output: Analysis, term: Term) -> bool:
    wanted = output.bases[term.first : term.last]
    size = len(wanted)
    return any(source.bases[at : at + size] == wanted for at in _places(source).get(wanted[0], ()))


def _places(text: Analysis) -> dict[str, list[int]]:
    known: dict[str, list[int]] | None = getattr(text, "_places", None)
    if known is None:
        known = {}
        for at, base in enumerate(text.bases):
            known.setdefault(base, []).append(at)
        text._places = known  # type: ignore[attr-defined]
    return known


def _class_fact(
    source: Analysis, output: Analysis, term: Term, there: dict[str, Term], named: set[str]
) -> Fact:
    span, value = output.span(term.first, term.last), output.value(term.first, term.last)
    members = [there[part] for part in classes()[term.id] if part in there]
    if members:
        return Fact(
            "drug", "supported", span, value, source.span(members[0].first, members[0].last)
        )
    if term.id in named:
        return Fact("drug", "supported", span, value, None, "The source names the same class.")
    return Fact(
        "drug",
        "not checked",
        span,
        value,
        None,
        "A class of drugs; none of its known members is in the source.",
    )


def _misspelt(source: Analysis, value: str) -> tuple[int, int] | None:
    """A word of the source that is nearly this name and is no word the rules know."""
    if " " in value or len(value) < 5:
        return None
    allowed = 2 if len(value) >= 8 else 1
    stop = words("stop")
    for token in source.tokens:
        word = token.text
        if (
            word[:1] == value[:1]
            and abs(len(word) - len(value)) <= allowed
            and word not in stop
            and word != value
            and _distance(word, value, allowed) <= allowed
            and not _is_known(token.base)
        ):
            return token.start, token.end
    return None


@lru_cache(maxsize=20_000)
def _is_known(base: str) -> bool:
    return any(True for term in terms().find([base]) if term.category == "drug")


def _distance(one: str, other: str, limit: int) -> int:
    """Letters to change between two words, as far as the limit matters."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
        if min(row) > limit:
            return limit + 1
    return row[-1]
