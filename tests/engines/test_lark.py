"""What the grammar accepts, validates: any document, any contract, every quote found."""

import json
import random
import time
from typing import Any

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medgemma_cli import contracts, decoding, quoting
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.records import Contract

CHINESE = "右肺病灶较前变化不大，建议继续随访。"
NOTE = "BP 120/80 today, seen by the practice nurse. No fever, no chest pain. Return in 2/52."
SHORT = ["text", "text(1)", "text(2)", "text(9)", "integer", "number", "boolean", "date"]
WORDS = [
    "not stated",
    'say "no"',
    "naïve",
    "不明 白",
    "a\\b",
    "null",
    "5",
    "[x]",
    "/",
    "it's",
    "<5",
]
PIECES = [
    *('"', "\\", '\\"', "/", "^a.*$", "(?=x)", "[a-z]{3}", "{", "}", "|", "x|y", "#", "%regex"),
    *("5 mg", "2.5", "125", "<5", "±2", "-3", "1,000.5", "2/52", "BP-lowering", "Hb.", "e.g."),
    *("\x00", "\x07", "\x1b[0m", "\x7f", "\x85", "\u2028", "\ufeff", "\u200b", "\u00a0"),
    *(CHINESE, "肺", "，", "。", "結論：", "カルテ", "โรงพยาบาล", "한국어", "señora", "Größe"),
    *("word", "pain", "No", "fever.", "Seen", "(ct)", "*bold*", '"quoted"', "“so”", "🩺", "x" * 70),
    *("<end_of_turn>", "fever \x7f", "```", "\\n", "\\u0041", "N'", '",', '"}', "],["),
]
SPACES = [" ", " ", " ", "\n", "\r\n", "\t", "  ", "\n\n", "\u2028", ""]


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    """A compiler for the tiny tokenizer."""
    tokenizer = tiny._tokenizer()
    tokenizer.chat_template = tiny.CHAT_TEMPLATE
    encoder = Encoder(tokenizer, None)
    control = encoder.control, encoder.control_text
    return Compiler(encoder.tokenizer, len(encoder.tokenizer), encoder.stop, control)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Hostile texts of a few pieces, any Unicode among them."""
    piece = st.one_of(st.sampled_from(PIECES), st.sampled_from(PIECES), st.text(max_size=6))
    pieces = draw(st.lists(st.tuples(piece, st.sampled_from(SPACES)), min_size=1, max_size=14))
    return "".join(part for pair in pieces for part in pair)


option = st.one_of(
    st.sampled_from(WORDS),
    st.text(st.characters(exclude_characters="|\x7f", exclude_categories=["Cs"]), max_size=8),
).filter(lambda o: o.strip() and not contracts._is_kind(o.strip()))
choice = st.lists(option, min_size=2, max_size=4, unique_by=str.strip).map(" | ".join)
union = st.tuples(st.sampled_from([*SHORT, "quote", "finding", "text"]), option).map(" | ".join)
scalar = st.one_of(st.sampled_from([*SHORT, "text", "quote", "finding"]), choice, union)
bounds = st.tuples(st.integers(0, 2), st.integers(0, 2)).map(lambda b: f"{b[0]}..{sum(b) or 1}")
names = st.sampled_from(["a", "b", "c", "befund_ä", "quote", "質問", "x1"])


def _wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.tuples(inner, bounds).map(list)
    return st.one_of(lists, st.dictionaries(names, inner, min_size=1, max_size=3))


blocks = st.dictionaries(names, st.recursive(scalar, _wider, max_leaves=4), min_size=1, max_size=4)


def walk(compiler: Compiler, contract: Contract, document: str, seed: int, bias: float) -> str:
    """A random text of the grammar, to its end; `bias` is how readily strings and lists end."""
    matcher = compiler.matcher(contract.json_schema, document)
    choose = random.Random(seed)
    written = b""
    for _ in range(4000):
        for token in matcher.compute_ff_tokens():
            matcher.consume_token(token)
            written += compiler.bytes(token)
        assert not matcher.is_error(), matcher.get_error().splitlines()[0]
        if matcher.is_stopped():
            return written.decode("utf-8")
        allowed = compiler.allowed(matcher)
        ends = [token for token in allowed if compiler.bytes(token)[:1] in (b'"', b"]", b"}")]
        token = choose.choice(ends if ends and choose.random() < bias else allowed)
        assert matcher.consume_token(token)
        written += compiler.bytes(token)
    raise AssertionError("the walk does not end")


def check(compiler: Compiler, block: dict[str, Any], document: str, seed: int, bias: float) -> str:
    """Walk, validate, and find every quote; returns the answer."""
    contract = contracts.contract(block, quotable=quoting.is_quotable(document))
    text = walk(compiler, contract, document, seed, bias)
    fields = decoding.parse(contract, text).fields
    for where, quote in decoding.quotes(contract, fields):
        assert quoting.locate(quote, document) is not None, (where, quote)
    return text


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(block=blocks, document=documents(), seed=st.integers(0, 2**16))
def test_what_the_grammar_accepts_validates(
    compiler: Compiler, block: dict[str, Any], document: str, seed: int
) -> None:
    """Any contract, any document: the answer parses and its quotes stand in the document."""
    try:
        contracts.contract(block, quotable=quoting.is_quotable(document))
    except ValueError:
        return  # quotes alone, of a text that cannot be quoted
    check(compiler, block, document, seed, 0.5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(document=documents(), seed=st.integers(0, 2**16), bias=st.sampled_from([0.0, 0.2, 0.9]))
def test_quotes_of_any_document_are_found(
    compiler: Compiler, document: str, seed: int, bias: float
) -> None:
    """Long quotes and short ones, of every place in a hostile text."""
    if quoting.is_quotable(document):
        check(compiler, {"q": ["quote", "2..2"]}, document, seed, bias)


@pytest.mark.parametrize(
    "document",
    [
        *("Stable", "No change", "5", "肺", CHINESE, CHINESE * 3, CHINESE.rstrip("。"), '"', "\\"),
        *("a\r\nb\r\nc d e", "one two\u2028three four five", "a\x00b c d", "x / y / z", "a b c"),
        *(
            NOTE,
            "^$ .* (?=x) [a-z]+ \\d{3} a|b",
            f"{'y' * 30} {'z' * 29}w {'k' * 30} end",
            "(a b c)",
        ),
    ],
)
def test_edges(compiler: Compiler, document: str) -> None:
    """One-word texts, no spaces, no letters, every kind of line end and metacharacter."""
    for seed in range(6):
        check(compiler, {"q": "finding", "t": "text"}, document, seed, 0.3)


@pytest.mark.parametrize("kind", [*SHORT, "text", "text(500)", "text | none", "number | unknown"])
def test_kinds_validate(compiler: Compiler, kind: str) -> None:
    """Every kind alone and in lists, many random values of it."""
    for seed in range(8):
        check(compiler, {"x": kind, "l": [kind, "2..3"], "z": [[kind, "1..2"]]}, "", seed, 0.4)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3, "maximum": 11},
        {"type": "integer", "minimum": -5, "maximum": 1234},
        {"type": "string", "minLength": 3, "maxLength": 5},
        {"type": "string", "maxLength": 2},
        {"type": "string", "format": "date"},
        {"enum": [1, 'a"b', None, True, "é / ü"]},
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "string"}}]},
        {"const": "a / b"},
    ],
)
def test_json_schema_nodes_validate(compiler: Compiler, schema: dict[str, Any]) -> None:
    """The nodes that only a JSON Schema file can have."""
    block = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"x": schema, "y": {"type": "array", "items": schema, "minItems": 2}},
    }
    for seed in range(8):
        check(compiler, block, "", seed, 0.4)


# -- faults that were found ------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        " ".join("".join(random.Random(i).choices("abcdefghij", k=58)) for i in range(30)),
        f"{'y' * 60} {'z' * 59}w {'k' * 60} end",
    ],
    ids=["long words", "three long words"],
)
def test_long_words_do_not_exhaust_the_lexer(compiler: Compiler, document: str) -> None:
    """Masks of a quote can be computed to its end in any document."""
    for seed in range(3):
        walk(compiler, contracts.contract({"q": "quote"}), document, seed, 0.0)


@pytest.mark.parametrize("script", ["latin", "chinese"])
def test_a_long_document_compiles(compiler: Compiler, script: str) -> None:
    """All example notes in one, 58 kB, or 3,000 characters without a space fit the window."""
    notes = sorted(path for path in tiny.NOTES.rglob("*") if path.is_file())
    latin = "\n\n".join(path.read_text("utf-8") for path in notes)
    choose = random.Random(0)
    chinese = "".join(chr(0x4E00 + choose.randrange(2000)) for _ in range(3000))
    document = latin if script == "latin" else chinese
    compiler.matcher(contracts.contract({"q": "quote"}).json_schema, document)


@pytest.mark.parametrize("document", ["½ tab daily", "Take ½ tab", "① ② ③"])
def test_a_quotable_text_has_a_quote(compiler: Compiler, document: str) -> None:
    """What `is_quotable` says, the grammar can write."""
    assert quoting.is_quotable(document)
    check(compiler, {"q": "quote"}, document, 0, 0.3)


def test_escapes_do_not_count_against_a_clause(compiler: Compiler) -> None:
    """A clause of one Chinese character behind many quotation marks."""
    check(compiler, {"q": "quote"}, '"' * 100 + "右", 0, 0.3)


@pytest.mark.parametrize(
    "document",
    ["_No acute disease seen_ today", "Impression: _stable since last year_.", "__a b c__"],
)
def test_emphasis_by_underscores_can_be_quoted(compiler: Compiler, document: str) -> None:
    """Markdown's `_…_` is left out of a quote, and the quote is still found."""
    for seed in range(12):
        check(compiler, {"q": "quote"}, document, seed, 0.3)


@pytest.mark.parametrize(
    "quote",
    [
        " ".join(["a" * 60, "-" * 60, "-" * 60, "-" * 60] * 40),
        " ".join([("肺叶" * 9 + "，") * 60] * 3),
    ],
    ids=["rules between words", "three Chinese runs"],
)
def test_the_longest_quote_validates(quote: str) -> None:
    """Forty words with three rules after each, three clauses without spaces: `BOUNDS` has both."""
    decoding.parse(contracts.contract({"q": "quote"}), json.dumps({"q": quote}))


def test_an_option_with_a_delete_character(compiler: Compiler) -> None:
    """An odd option is refused when the template loads, or can be written."""
    try:
        contracts.contract({"a": "yes | \x7f"})
    except ValueError:
        return
    check(compiler, {"a": "yes | \x7f"}, "", 0, 0.5)


def test_no_document_makes_the_bounds_backtrack() -> None:
    """Two long words and two rules, 244 characters, four times over."""
    run = ("a" * 60 + " " + "-" * 60 + " ") * 2 + "x" * 70 + " "
    started = time.perf_counter()
    quoting.chunks(run * 3)
    assert time.perf_counter() - started < 0.5
