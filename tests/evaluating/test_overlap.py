"""ROUGE, BLEU, chrF, token F1 and exact match: cases worked out by hand, bounds, symmetry."""

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.errors import MissingExtraError
from medgemma_cli.evaluating import bootstrap, overlap

CAT = "the cat sat on the mat"
WORDS = st.lists(st.sampled_from(["no", "fever", "cough", "5", "mg", "."]), max_size=8)
TEXTS = WORDS.map(" ".join)


def value(name: str, texts: list[str], references: list[str]) -> float:
    """One measure of texts and references."""
    made = {m.name: m for m in overlap.measures(texts, references)}
    found = bootstrap.values([made[name]], len(texts))[0]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "text", "reference", "expected"),
    [
        # 4 words, all among the reference's 6: P 1, R 4/6.
        ("rouge1", "the cat the mat", CAT, 0.8),
        # "the" stands twice in the reference, so the third counts for nothing: P 2/3, R 2/6.
        ("rouge1", "the the the", CAT, 4 / 9),
        # "the cat" and "the mat" of 3 and of 5 pairs: P 2/3, R 2/5.
        ("rouge2", "the cat the mat", CAT, 0.5),
        # The longest common subsequence is all 4 words.
        ("rougeL", "the cat the mat", CAT, 0.8),
        # Backwards, "the cat the" is left in order: 3 of 6.
        ("rougeL", "mat the on sat cat the", CAT, 0.5),
        ("rougeL", CAT, CAT, 1.0),
        ("rouge1", "dog", CAT, 0.0),
        ("rouge1", "", CAT, 0.0),
        ("rouge2", "cat", "cat", 0.0),  # one word has no pair
    ],
)
def test_rouge_by_hand(name: str, text: str, reference: str, expected: float) -> None:
    """F1 of counts that can be counted."""
    assert value(name, [text], [reference]) == pytest.approx(expected, abs=1e-6)


def test_lsum_takes_lines_for_sentences() -> None:
    """Two lines exchanged: L keeps the longer run in order, Lsum finds each line whole."""
    text, reference = "dry cough today\nno fever now", "no fever now\ndry cough today"
    assert value("rougeL", [text], [reference]) == pytest.approx(0.5)
    assert value("rougeLsum", [text], [reference]) == pytest.approx(1.0)


def test_lsum_of_one_line_is_l() -> None:
    """Without a newline there is one sentence, whatever full stops there are."""
    text, reference = "No fever. Dry cough.", "Dry cough. No fever."
    assert value("rougeLsum", [text], [reference]) == value("rougeL", [text], [reference])


def test_lsum_counts_a_union_once() -> None:
    """Lin's own example (2004, section 3.2): w1…w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5.

    The union of the common subsequences has 4 of the 5 words: recall 4/5, precision 4/10.
    """
    text = "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"
    assert value("rougeLsum", [text], ["w1 w2 w3 w4 w5"]) == pytest.approx(
        2 * 0.8 * 0.4 / 1.2, abs=1e-6
    )


def test_no_stemmer() -> None:
    """use_stemmer=False: "coughing" is not "cough"; a stemmer would make them one."""
    assert value("rouge1", ["coughing"], ["cough"]) == 0


def test_case_and_punctuation_are_nothing_to_rouge() -> None:
    """Lower case, runs of letters and digits: and so 2.5 is two words."""
    assert value("rouge1", ["No Fever!"], ["no fever"]) == 1
    assert value("rouge1", ["2.5"], ["2 5"]) == 1
    assert value("rouge1", ["25"], ["2.5"]) == 0


def test_rouge_is_the_mean_over_documents() -> None:
    """One whole match and one miss are a half."""
    assert value("rouge1", ["cough", "fever"], ["cough", "rash"]) == 0.5


def test_bleu_by_hand() -> None:
    """All n-grams match, and the text is a word short: exp(1 - 5/4)."""
    assert value("bleu", ["a b c d"], ["a b c d e"]) == pytest.approx(
        100 * math.exp(-0.25), abs=1e-4
    )


def test_chrf_of_the_same_and_of_nothing() -> None:
    """100 for the same, 0 for nothing in common."""
    assert value("chrf", ["dry cough"], ["dry cough"]) == pytest.approx(100)
    assert value("chrf", ["xyz"], ["dab"]) == 0


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_corpus_figures_are_sacrebleus_own(pairs: list[tuple[str, str]]) -> None:
    """From the sums of the counts comes what the public functions say."""
    import sacrebleu

    texts, references = map(list, zip(*pairs, strict=True))
    bleu = sacrebleu.corpus_bleu(texts, [references]).score
    chrf = sacrebleu.corpus_chrf(texts, [references]).score
    assert value("bleu", texts, references) == pytest.approx(bleu, abs=1e-5)
    assert value("chrf", texts, references) == pytest.approx(chrf, abs=1e-5)


def test_a_resample_is_the_corpus_with_repeats() -> None:
    """A document that counts twice is as good as one that stands there twice."""
    import numpy as np
    import sacrebleu

    texts, references = ["no fever at all", "dry cough"], ["no fever at night", "dry cough now"]
    bleu = next(m for m in overlap.measures(texts, references) if m.name == "bleu")
    twice = sacrebleu.corpus_bleu([*texts, texts[0]], [[*references, references[0]]]).score
    assert bleu.of(np.array([[2.0, 1.0]]))[0] == pytest.approx(twice)


def test_signatures_name_the_setting() -> None:
    """What papers quote: one reference, case, tokenizer, smoothing, version."""
    found = overlap.signatures()
    assert found["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("dry cough", "dry cough", 1.0),
        ("cough dry", "dry cough", 1.0),  # bags have no order
        ("dry cough", "cough", 2 / 3),
        ("BP 120/80 mmHg", "BP 120/80", 0.8),
        ("cough cough", "cough", 2 / 3),  # the second has no partner
        ("2.5 mg", "25 mg", 0.5),  # a dose ten times as high is another word
        ("", "", 1.0),
        ("", "cough", 0.0),
        ("cough", "", 0.0),
        ("Señora", "señora", 1.0),
    ],
)
def test_token_f1_by_hand(text: str, reference: str, expected: float) -> None:
    """Words in common, as bags."""
    assert overlap.token_f1(text, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BP 120/80, 5mg at 08:30.", ["bp", "120/80", "5", "mg", "at", "08:30"]),
        ("1,200 mL; 2.5 %", ["1,200", "ml", "2.5"]),
        ("non-smoker", ["non", "smoker"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    """Numbers keep what stands inside them, words lose what stands around them."""
    assert overlap.words(text) == expected


def test_exact_match_is_by_words() -> None:
    """Case and full stops aside; order and numbers count."""
    texts = ["Dry cough.", "cough dry", "2.5 mg"]
    assert value("exact_match", texts, ["dry cough", "dry cough", "25 mg"]) == pytest.approx(
        1 / 3, abs=1e-6
    )


@given(TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_bounds_and_symmetry(text: str, reference: str) -> None:
    """Every figure is within its scale; F1 does not tell text from reference."""
    made = overlap.measures([text], [reference])
    for measure, found in zip(made, bootstrap.values(made, 1), strict=True):
        most = 100 if measure.name in overlap.CORPUS else 1
        assert found is not None and 0 <= found <= most + 1e-6, measure.name
    assert overlap.token_f1(text, reference) == overlap.token_f1(reference, text)
    for name in ("rouge1", "rouge2", "rougeL"):
        there, back = value(name, [text], [reference]), value(name, [reference], [text])
        assert there == pytest.approx(back, abs=1e-6)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=2, max_size=6), st.randoms())
@settings(max_examples=20, deadline=None)
def test_order_does_not_matter(pairs: list[tuple[str, str]], random: object) -> None:
    """Permuted documents have the same figures, those over the whole corpus too."""
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = overlap.measures(*map(list, zip(*pairs, strict=True)))
    other = overlap.measures(*map(list, zip(*shuffled, strict=True)))
    found = bootstrap.values(one, len(pairs))
    assert bootstrap.values(other, len(pairs)) == pytest.approx(found, abs=2e-6)


def test_every_measure_has_each_document() -> None:
    """What a document comes to alone, for comparing two runs by document."""
    for measure in overlap.measures(["dry cough", "x"], ["dry cough", "y"]):
        assert len(measure.each) == 2
        assert measure.each[0] is not None and measure.each[1] is not None
        assert measure.each[0] >= measure.each[1]


def test_names_are_those_of_the_measures() -> None:
    """What --fail-if-worse lists is what there is."""
    assert tuple(m.name for m in overlap.measures(["a"], ["a"])) == overlap.NAMES


def test_nothing_to_compare() -> None:
    """No pairs, no measures."""
    assert overlap.measures([], []) == []


@pytest.mark.parametrize("name", ["rouge_score.rouge_scorer", "sacrebleu"])
def test_a_missing_package_is_69(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Either package: the exit code and the command that installs both."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        overlap.require()
    assert caught.value.exit_code == 69 and "pip install" in caught.value.next_step
