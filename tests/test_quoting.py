"""What may be quoted, in any script, is found where it stands; what may not, is not."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from medgemma_cli import contracts, decoding, quoting
from medgemma_cli.engines import lark
from medgemma_cli.quoting import BARRIER, BOUNDS, chunks, is_quotable, locate, samples

CHINESE = "右肺病灶较前变化不大，建议继续随访。"
LONG_CHINESE = (
    "患者因咳嗽咳痰三天伴发热入院查体神志清楚双肺呼吸音粗可闻及散在湿性啰音心律齐"
    "未闻及杂音腹软无压痛双下肢无水肿四肢活动正常神经系统检查未见异常"
)
LONG_THAI = (
    "ผู้ป่วยหญิงอายุหกสิบปีมาโรงพยาบาลด้วยอาการไอแห้งมาสามวันไม่มีไข้ไม่มีเสมหะรับประทาน"
    "อาหารได้ปกติ ความดันโลหิตปกติ ไม่มีอาการเจ็บหน้าอก"
)
LONG_JAPANESE = (
    "胸部単純エックス線写真では右下肺野に淡い浸潤影を認めるものの前回と比較して明らかな増悪はなく"
    "胸水貯留も認められないため経過観察とする"
)

# Each an alphabet of trouble; a letter, a digit and spaces in most, so that words come about.
ALPHABETS = [
    "abA1. ,\n",
    "a1 .,-/+<±%\n(\"'\\",
    "กำ้า๑1 \n.",
    "右肺変カー々〇，、 a1\n」。",
    "أبَّ١٢,. \n،؟",
    "👩\u200d🔬\ufe0f🩺 \u0301a1\n",
    "\x85\u2028\u2029\r\n\x0b\x0c\x1c\x1f\u00a0\u202f a1.",
    "\ud800\udc00 a1\n",
    "\x00\x01\x7f a1.\n",
    "²½Ⅷ①1a., \n",
    "क्षिमत्\u200d५.२ \n",
    "\u200b\xad\ufeffa1 .,\n",
    "ßſKİıǅﬁ A.\n",
    "!?;:。！？； aA1\n",
]
texts = st.one_of(st.text(max_size=60), *(st.text(alphabet, max_size=60) for alphabet in ALPHABETS))


def folded(text: str) -> str:
    """The text with its white space folded."""
    return " ".join(text.split())


def fits(run: str) -> bool:
    """Whether a run of pieces is a quote."""
    return any(re.fullmatch(bound, run) for bound in BOUNDS)


def quotes_of(text: str, pieces: int = 8) -> Iterator[str]:
    """Every quote of a text that has up to so many pieces."""
    found = chunks(text)
    if len(found) == 1:
        yield found[0]
        return
    for start in range(len(found)):
        run = ""
        for piece in found[start : start + pieces]:
            if piece == BARRIER:
                break
            run += piece
            if fits(run):
                yield run


@contextmanager
def cpu_seconds(limit: float) -> Iterator[None]:
    """Raise TimeoutError after so much time of this process's own (others do not count)."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"over {limit} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# -- what may be quoted is found ------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(texts)
@example("a 1,5 mg.\r\n b c\u2028d e f")
@example("BP 160/95 [IV] a+b? $3.50 ^x \\d. \"No\" 'x'")
@example("אחת שתיים שלוש, 1,234.5 ארבע")
def test_every_quote_is_located_and_folds_to_itself(text: str) -> None:
    """Whatever the decoder may write as a quote, the check afterwards finds."""
    for quote in quotes_of(text):
        span = locate(quote, text)
        assert span is not None, quote
        assert folded(text[slice(*span)]) == folded(quote)


@settings(max_examples=250, deadline=None)
@given(texts)
def test_a_quote_leaves_out_nothing_but_punctuation_at_its_ends(text: str) -> None:
    """A quote begins and ends at the edge of a word: no letter, digit or sign is cut off."""
    assume(not re.search(f"[{quoting.UNSPACED}]", text))
    for quote in quotes_of(text):
        span = locate(quote, text)
        assert span is not None
        before = re.split(r"\s", text[: span[0]])[-1]
        after = re.split(r"\s", text[span[1] :])[0]
        assert set(before) <= set("([{\"'“‘«*_#|")
        assert set(after) <= set(".,;:!?)]}\"'”’»*_|")


@settings(max_examples=250, deadline=None)
@given(texts)
def test_samples_are_quotes_that_are_located(text: str) -> None:
    """The engine without a model quotes as the others may."""
    for sample in samples(text):
        assert fits(sample) or [sample] == chunks(text)
        assert locate(sample, text) is not None


@settings(max_examples=250, deadline=None)
@given(texts)
def test_pieces_can_be_written(text: str) -> None:
    """Nothing empty, no line end inside a piece, nothing that UTF-8 cannot say."""
    found = chunks(text)
    assert is_quotable(text) is bool(found) is bool(list(samples(text)))
    for piece in found:
        assert piece
        assert piece == BARRIER or "\n" not in piece
        piece.encode()


@settings(max_examples=150, deadline=None)
@given(texts)
def test_pieces_lose_no_word(text: str) -> None:
    """What has no barrier put in its place stands in the pieces, in order."""
    found = chunks(text)
    long_or_odd = any(len(word) > 60 or re.search("[\ud800-\udfff]", word) for word in text.split())
    if len(found) > 1 and not long_or_odd:
        assert "".join("".join(found).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "_Findings were normal today_",
        "the __left lower lobe__ is clear",
        "_BP 160/95 mmHg_ was measured",
    ],
)
def test_emphasis_with_underscores_does_not_hide_a_quote(text: str) -> None:
    """Markdown's `_…_` is punctuation at both places, or at neither."""
    assert [quote for quote in quotes_of(text) if locate(quote, text) is None] == []


@pytest.mark.parametrize(
    "text",
    [
        "神清。腹软。双下肢无水肿，四肢活动正常。",
        "BP 120 良好。无发热，无咳嗽。",
        "BP 120 双肺呼吸音清。无。",
    ],
)
def test_short_chinese_sentences_are_glued_as_they_stand(text: str) -> None:
    """A quote of the glued sentences has no space that the text has not."""
    assert [quote for quote in quotes_of(text) if locate(quote, text) is None] == []


# -- what a quote is ------------------------------------------------------------------------


def test_a_quote_has_three_to_forty_words() -> None:
    """No fewer, no more, wherever it begins."""
    text = " ".join("abcdefghij"[i % 10] for i in range(60)) + "."
    counted = {len(quote.split()) for quote in quotes_of(text, 121)}
    assert counted == set(range(3, 41))


def test_punctuation_that_stands_alone_is_no_word() -> None:
    """A table's bars and dashes count for nothing, and no more than three stand together."""
    table = set(quotes_of("a | b | c | d", 40))
    assert {"a | b | c", "b | c | d", "a | b | c | d"} <= table
    assert not {"a | b", "b | c |"} & table
    assert not any("a - - - - b" in quote for quote in quotes_of("x y a - - - - b c d", 30))


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("No chest pain. Mild dry cough.", ["No chest pain."], ["pain. Mild dry"]),
        ("No chest pain today\nMild dry cough", ["Mild dry cough"], ["today Mild dry"]),
        ("no chest pain and\nno dry cough", ["pain and no"], []),
        ("Plan:\nStart ramipril 5 mg", ["Plan: Start ramipril"], []),
        ("Mild dry cough. Nil.", ["dry cough. Nil."], []),
        ("Mild dry cough: Nil else seen", ["cough: Nil else"], []),
        ("Seen by Dr. Smith on ward", ["by Dr. Smith"], []),
        ("BP 160/95, HR 72.", ["BP 160/95, HR", "160/95, HR 72"], ["95, HR 72", "BP 160/95 HR"]),
        ("(no fever at all)", ["no fever at", "fever at all"], []),
        ("gave <5 mg of it", ["<5 mg of"], ["5 mg of"]),
        ("gave .5 mg of it", [".5 mg of"], ["5 mg of"]),
        ("gave -5 to ±2 % of it", ["-5 to ±2"], ["5 to ±2", "-5 to 2"]),
        ("one two\u2028three Four five", ["one two three"], []),
        ("one two three\u2028Four five six", ["one two three"], ["two three Four"]),
        ("one two three\x85Four five six", ["Four five six"], ["two three Four"]),
        ('say "a \\ b" c', ['say "a \\ b"'], []),
        (CHINESE, [CHINESE, "右肺病灶较前变化不大，", "建议继续随访。"], ["右肺", "变化不大，"]),
        ("BP 5 mg " + "x" * 61 + " one two three", ["one two three"], ["x"]),
        ("one two three \ud800 four five six", ["four five six"], ["three four five"]),
    ],
)
def test_what_is_a_quote(text: str, wanted: list[str], unwanted: list[str]) -> None:
    """Inside one sentence or line, short ones with the next, words and values whole."""
    found = set(quotes_of(text, 40))
    assert set(wanted) <= found
    assert not set(unwanted) & found


@pytest.mark.parametrize("text", ["Normal.", "BP 120/80", " \n Nil \r\n new ", "...", "🩺"])
def test_a_text_under_three_words_is_its_own_quote(text: str) -> None:
    """As it stands, folded."""
    assert chunks(text) == [folded(text)] == list(samples(text))
    assert locate(folded(text), text) is not None


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\ud800", "a \ud800", "x" * 121, "x" * 70 + " " * 3 + "y" * 70]
)
def test_nothing_to_quote(text: str) -> None:
    """Empty, half a surrogate pair, one endless word."""
    assert chunks(text) == []
    assert list(samples(text)) == []
    assert not is_quotable(text)


def test_an_endless_word_is_in_no_quote() -> None:
    """Base64 or a URL cannot be quoted, in a short text neither."""
    assert chunks("see " + "x" * 70 + " now") == []


@pytest.mark.parametrize(
    "text",
    [
        "- fever since Monday\n- cough since Tuesday\n",
        "# Discharge summary of today",
        "• No fever, no cough.",
        "> quoted words of another",
    ],
)
def test_a_list_has_samples(text: str) -> None:
    """Where anything can be quoted there is a sample; the echo engine asks for one."""
    assert is_quotable(text)
    assert list(samples(text))


@pytest.mark.parametrize("text", ["抗体滴度为1：320，其余阴性。", "总量为1，000毫克每日口服。"])
def test_a_number_with_a_wide_mark_is_not_cut(text: str) -> None:
    """A titre of 1：320 is one number."""
    assert not any(re.match(r"[^：，]*\d[：，]$|320|000", quote) for quote in quotes_of(text))


def test_a_thai_number_is_not_cut() -> None:
    """A long clause is not cut between two digits."""
    text = "ก" * 39 + "๑๒๕" + "ก" * 45
    assert not any("๑" in quote and "๑๒๕" not in quote for quote in quotes_of(text))


@pytest.mark.parametrize(
    "text", ["肺" * 3000 + " 肺 肺", " ".join(["a " + " ".join(["-" * 60] * 3)] * 40)]
)
def test_no_quote_is_longer_than_its_kind(text: str) -> None:
    """What the grammar lets through, validates."""
    contract = contracts.contract({"q": "quote"})
    longest = "".join(chunks(text)).split(BARRIER)[0]
    assert fits(longest)
    decoding.parse(contract, json.dumps({"q": longest}))


# -- what is not a quote is not found -------------------------------------------------------


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("5 mg daily", "warfarin 125 mg daily"),
        ("5 mg daily", "warfarin 2.5 mg daily"),
        ("5 mg daily", "warfarin 2,5 mg daily"),
        ("dose of 2", "a dose of 2.5 mg"),
        ("dose of 1", "a dose of 1,000 mg"),
        ("take 1", "take 10 tablets"),
        ("fracture of hip", "nonfracture of hip"),
        ("no fractur", "no fracture"),
        ("sée it", "sé e it"),
        ("5mg每日口服", "给予125mg每日口服"),
        ("A b c", "a b c"),
        ("a  c", "a b c"),
        (".*", "a b c"),
        ("", "a b c"),
        (" \n ", "a b c"),
        ("a", ""),
    ],
)
def test_a_part_of_a_word_or_number_is_not_found(quote: str, text: str) -> None:
    """Another number, another word, another case, a pattern."""
    assert locate(quote, text) is None


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        (".5 mg daily", "warfarin 2.5 mg daily"),
        ("the dose was 2.", "the dose was 2.5 mg"),
        ("smoker since 2010", "a non-smoker since 2010"),
        ("95 mmHg today", "BP 160/95 mmHg today"),
        ("-5 mg daily", "take 3-5 mg daily"),
        ("5 ng/mL was found", "<5 ng/mL was found"),
        ("๕ มก ต่อวัน", "๑๒๕ มก ต่อวัน"),
        ("a la cafe", "a la cafe\u0301"),
        ("मत ठीक है", "मत ठीक हैं"),
    ],
)
def test_a_word_or_number_is_not_cut_at_a_sign(quote: str, text: str) -> None:
    """What `chunks` never cuts, an engine without a grammar may not cut either."""
    assert locate(quote, text) is None


@pytest.mark.parametrize(
    ("quote", "text", "span"),
    [
        ("5 mg", "125 mg, 2.5 mg, 5 mg", (16, 20)),
        ("no fall", "no fall, no fall", (0, 7)),
        ("变化不大，", "右肺病灶较前。变化不大，", (7, 12)),
        ("a b", "a\u00a0\u2028\x85b", (0, 5)),
        ("a\u3000b", "a b", (0, 3)),
        ("stable now", "🩺é e\u0301 stable now", (6, 16)),
        ("(a) [b] {c}", "x (a)\r\n[b] {c}", (2, 14)),
    ],
)
def test_the_first_whole_place_counts(quote: str, text: str, span: tuple[int, int]) -> None:
    """In code points of the text as read; places inside other words are passed over."""
    assert locate(quote, text) == span


@settings(max_examples=250, deadline=None)
@given(texts, st.one_of(texts, st.sampled_from([".*", "\\", "(", "[a", "a{9}", "\x00", "\ud800"])))
def test_what_is_located_is_the_quote(text: str, quote: str) -> None:
    """Nothing else is ever found, and no quote is an error."""
    span = locate(quote, text)
    if span is not None:
        assert text[slice(*span)].split() == quote.split() != []


# -- time -----------------------------------------------------------------------------------

SLOW = {
    "thai": "กำ" * 50_000,
    "chinese": "肺" * 100_000,
    "chinese commas": "肺，" * 50_000,
    "chinese stops": "肺。" * 50_000,
    "doctors": "Dr. " * 25_000,
    "dots": "." * 100_000,
    "dots apart": ". " * 50_000,
    "long words and dashes": ("a" * 60 + " " + "b" * 60 + " - - - - ") * 750,
}
QUICK = {
    "prose": "The patient was seen in clinic with mild cough. BP 120/80.\n" * 3300,
    "one sentence": "word " * 20_000,
    "brackets": "(" * 100_000,
    "words with dots": "a.a." * 25_000,
    "spaces": " " * 100_000,
    "gap": "a." + " " * 100_000 + "b",
    "line ends": "\r\n" * 50_000,
    "a letter a line": "a\n" * 50_000,
    "quotation marks": '"' * 100_000,
    "dashes": "- " * 50_000,
    "one word": "x" * 100_000,
    "long words": ("a" * 60 + " ") * 1600,
    "marks": "肺" + "\u0301" * 100_000,
    "numbers": "1,1," * 25_000,
    "table": "| a | - | b |\n" * 7000,
}


@pytest.mark.parametrize("text", QUICK.values(), ids=QUICK)
def test_a_long_text_is_cut_in_a_moment(text: str) -> None:
    """100 to 200 kB in a second or so."""
    with cpu_seconds(2):
        chunks(text)


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_an_odd_long_text_is_cut_in_a_moment(text: str) -> None:
    """No regular expression goes over the same characters again and again."""
    with cpu_seconds(2):
        chunks(text)


@pytest.mark.parametrize("text", (QUICK | SLOW).values(), ids=QUICK | SLOW)
def test_a_long_text_is_searched_in_a_moment(text: str) -> None:
    """Itself, what nearly matches everywhere, and what is not there."""
    for quote in (text[:2500], text[:2500] + " zz", text[-200:] + " z", "a b c"):
        with cpu_seconds(2):
            locate(quote, text)


@pytest.mark.parametrize(
    "text", ["fever " * 41 + "today.", "one long sentence of many words " * 60], ids=["41", "360"]
)
def test_samples_of_a_long_sentence_come_in_a_moment(text: str) -> None:
    """A sentence of over forty words is nothing rare."""
    with cpu_seconds(2):
        assert list(samples(text))


def test_a_long_quote_of_one_letter_is_searched_in_a_moment() -> None:
    """A model that loops on a text that does."""
    with cpu_seconds(2):
        assert locate("a" * 20_000, "a" * 100_000) is None


# -- as the decoder reads the same bounds ---------------------------------------------------


def decodable(text: str, quote: str) -> bool:
    """Whether a quote of a text can be written, byte by byte, inside the grammar."""
    llguidance: Any = pytest.importorskip("llguidance")
    numpy: Any = pytest.importorskip("numpy")
    masks: Any = pytest.importorskip("llguidance.numpy")
    schema = decoding.schema(contracts.contract({"q": "quote"}).json_schema)
    tokenizer = llguidance.LLTokenizer("byte")
    grammar = llguidance.LLMatcher.grammar_from_lark(lark.grammar(schema, text))
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    mask = masks.allocate_token_bitmask(1, tokenizer.vocab_size)
    written = json.dumps({"q": quote}, ensure_ascii=False, separators=(",", ":"))
    for byte in written.encode():
        # As decoding does: a mask for every token, which can fail where the token alone would not.
        masks.fill_next_token_bitmask(matcher, mask)
        if not numpy.unpackbits(mask.view(numpy.uint8), bitorder="little")[byte]:
            return False
        matcher.consume_token(byte)
    return bool(matcher.is_accepting())


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("BP 160/95 mmHg today.", "160/95 mmHg today"),
        ("Normal.", "Normal."),
        ('say "a \\ b" c', '"a \\ b" c'),
        ("no fever \x00 at all", "no fever \x00 at"),
        (CHINESE, CHINESE),
        (CHINESE, "建议继续随访。"),
        ("مريض يشكو من سعال جاف", "يشكو من سعال"),
        ("रोगी को बुखार है", "रोगी को बुखार"),
        ("pain ❤️ noted here 👩‍🔬", "pain ❤️ noted here"),
    ],
)
def test_the_grammar_writes_the_quote(text: str, quote: str) -> None:
    """llguidance takes what Python takes."""
    assert quote in set(quotes_of(text, 20))
    assert decodable(text, quote)


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("BP 160/95 mmHg today.", "BP 160/95"),
        ("BP 160/95 mmHg today.", "BP 160/9"),
        ("No chest pain. Mild dry cough.", "chest pain. Mild"),
        (CHINESE, "右肺"),
    ],
)
def test_the_grammar_does_not_write_what_is_no_quote(text: str, quote: str) -> None:
    """Nor more than Python takes."""
    assert not decodable(text, quote)


@pytest.mark.parametrize("text", [LONG_CHINESE, LONG_THAI, LONG_JAPANESE], ids=["zh", "th", "ja"])
def test_the_grammar_writes_long_clauses_without_spaces(text: str) -> None:
    """A document in Chinese, Japanese or Thai has findings, too."""
    assert decodable(text, text.split()[0])


@pytest.mark.parametrize("text", ["½ tablet daily", "² ³ ①"])
def test_the_grammar_writes_fractions(text: str) -> None:
    """What `chunks` calls quotable has a quote in the grammar; otherwise it is a dead end."""
    assert decodable(text, text)


@settings(max_examples=25, deadline=None)
@given(st.text('ab 1.,-("\\\n', min_size=8, max_size=40))
def test_the_grammar_writes_every_quote(text: str) -> None:
    """Each of the first few, in any text."""
    for quote in list(quotes_of(text))[:3]:
        assert decodable(text, quote)
