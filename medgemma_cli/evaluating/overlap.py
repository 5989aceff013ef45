"""Words in common with a reference: ROUGE, BLEU, chrF, token F1, exact match.

ROUGE is Google's `rouge_score`: F1, no stemmer, lower case, runs of a-z and 0-9 as words (so
other scripts count as nothing). Lsum takes each line of a text for a sentence. BLEU and chrF are
sacrebleu's, over all documents at once, with their signatures.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medgemma_cli.errors import MissingExtraError
from medgemma_cli.evaluating.measures import Measure, ratio

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
CORPUS = {"bleu": "BLEU", "chrf": "chrF"}
WORDS = {"token_f1": "token F1", "exact_match": "exact match"}
NAMES = (*ROUGE, *CORPUS, *WORDS)

# A number keeps what stands inside it: SQuAD's rule, which drops all punctuation, would make 25
# of 2.5.
_WORD = re.compile(r"\d+(?:[.,/:]\d+)*|[^\W\d_]+|\w+")


def require() -> None:
    """See that the packages of the extra are there.

    Raises:
        MissingExtraError: 69.
    """
    from importlib import import_module

    try:
        for name in ("rouge_score.rouge_scorer", "sacrebleu"):
            import_module(name)
    except ImportError:
        raise MissingExtraError(
            "Comparing with references needs rouge-score and sacrebleu.",
            "Install them: pip install 'medgemma-cli[eval]'",
        ) from None


def measures(texts: Sequence[str], references: Sequence[str]) -> list[Measure]:
    """All of them, for texts and their references in the same order; none where there are none.

    Raises:
        MissingExtraError: 69.
    """
    require()
    if not texts:
        return []
    pairs = list(zip(texts, references, strict=True))
    scores = rouge(pairs)
    made = [ratio(name, label, "higher", scores[name]) for name, label in ROUGE.items()]
    made += [_corpus(name, texts, references) for name in CORPUS]
    f1 = [token_f1(*pair) for pair in pairs]
    exact = [float(words(text) == words(reference)) for text, reference in pairs]
    made.append(ratio("token_f1", WORDS["token_f1"], "higher", f1))
    return [*made, ratio("exact_match", WORDS["exact_match"], "higher", exact)]


def rouge(pairs: Sequence[tuple[str, str]]) -> dict[str, list[float]]:
    """ROUGE's F1 of each text with its reference, by name."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGE), use_stemmer=False)
    scored = [scorer.score(target=reference, prediction=text) for text, reference in pairs]
    return {name: [float(score[name].fmeasure) for score in scored] for name in ROUGE}


def words(text: str) -> list[str]:
    """Lower-case words and numbers, in order; a number with the point, slash or colon inside."""
    return _WORD.findall(text.lower())


def token_f1(text: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words as bags; of two empty texts 1.

    As SQuAD has it (Rajpurkar 2016), but articles and the punctuation of numbers are kept.
    """
    ours, theirs = Counter(words(text)), Counter(words(reference))
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def signatures() -> dict[str, str]:
    """How sacrebleu was set, in its own words, which papers quote."""
    return {name: str(_metric(name, one=True).get_signature()) for name in CORPUS}


def _metric(name: str, *, one: bool = False) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    metric: Any = BLEU() if name == "bleu" else CHRF()
    if one:
        metric.corpus_score(["a"], [["a"]])  # a signature counts the references it has seen
    return metric


def _corpus(name: str, texts: Sequence[str], references: Sequence[str]) -> Measure:
    """A figure of all documents together, from the counts that each adds to it."""
    import numpy as np

    metric = _metric(name)
    # Its subclasses' interface: the public one would count every n-gram again for each resample.
    stats = np.asarray(metric._extract_corpus_statistics(texts, [references]), float)

    def scores(sums: "NDArray[float64]") -> list[float]:
        rows = np.rint(sums).astype(int).tolist()
        return [float(metric._compute_score_from_stats(row).score) for row in rows]

    def of(counts: "NDArray[float64]") -> "NDArray[float64]":
        return np.array(scores(counts @ stats))

    return Measure(name, CORPUS[name], "higher", of, len(texts), tuple(scores(stats)))
