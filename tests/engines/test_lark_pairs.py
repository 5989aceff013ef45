"""The grammar of two documents: a quote can only be of the one that its place names."""

import random

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medgemma_cli import contracts, decoding, quoting
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.grammar import Compiler

BEFORE = "Cough since Monday. Right pleural effusion, 3 cm deep. Potassium 4.1 mmol/L today."
NOW = "Cough since Monday. No effusion any more. Potassium 5.9 mmol/L this evening."
BLOCK = {
    "new": ["new_finding", "0..3"],
    "resolved": ["resolved_finding", "0..3"],
    "unchanged": ["unchanged_finding", "1..3"],
    "words": "prior_quote | not stated",
}


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    """A compiler for the tiny tokenizer."""
    tokenizer = tiny._tokenizer()
    tokenizer.chat_template = tiny.CHAT_TEMPLATE
    encoder = Encoder(tokenizer, None)
    control = encoder.control, encoder.control_text
    return Compiler(encoder.tokenizer, len(encoder.tokenizer), encoder.stop, control)


def takes(compiler: Compiler, text: str, before: str = BEFORE, now: str = NOW) -> bool:
    """Whether the grammar lets a text be written."""
    schema = contracts.contract(BLOCK).json_schema
    matcher = compiler.matcher(schema, now, before)
    return all(matcher.consume_token(token) for token in compiler.tokens(text))


def finding(name: str, quote: str) -> str:
    """The beginning of an answer with one finding."""
    lists = {"new": '{"new":[{"quote":"', "resolved": '{"new":[],"resolved":[{"quote":"'}
    return f'{lists[name]}{quote}","statement":"It is there'


def test_each_place_takes_its_own_document(compiler: Compiler) -> None:
    """What is new is quoted of the current one, what is resolved of the prior."""
    own, other = "No effusion any more.", "Right pleural effusion, 3 cm deep."
    assert takes(compiler, finding("new", own)) and not takes(compiler, finding("new", other))
    assert takes(compiler, finding("resolved", other))
    assert not takes(compiler, finding("resolved", own))


def test_unchanged_takes_a_quote_of_each(compiler: Compiler) -> None:
    """In the order of time."""
    head = '{"new":[],"resolved":[],"unchanged":[{"prior_quote":"'
    was, is_now = "Potassium 4.1 mmol/L today.", "Potassium 5.9 mmol/L this evening."
    assert takes(compiler, f'{head}{was}","quote":"{is_now}","statement":"Measured')
    assert not takes(compiler, f'{head}{is_now}","quote":"{was}","statement":"Measured')


def test_nothing_runs_from_one_into_the_other(compiler: Compiler) -> None:
    """They are two texts, not one."""
    assert not takes(compiler, finding("new", "4.1 mmol/L today. Cough since Monday."))


def test_a_document_of_two_words(compiler: Compiler) -> None:
    """It is its own quote, in its own place alone."""
    assert takes(compiler, finding("resolved", "afebrile"), before="afebrile")
    assert not takes(compiler, finding("new", "afebrile"), before="afebrile")


LINES = st.lists(st.text('abé胸 .,"\\5', min_size=1, max_size=14), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(LINES.map("\n".join), LINES.map("\n".join), st.integers(0, 99))
def test_whatever_is_written_is_quoted_of_the_right_one(
    compiler: Compiler, before: str, now: str, seed: int
) -> None:
    """A random walk through the grammar validates, and each quote stands where it must."""
    if not (quoting.is_quotable(before) and quoting.is_quotable(now)):
        return
    contract = contracts.contract(BLOCK)
    matcher = compiler.matcher(contract.json_schema, now, before)
    choose, written = random.Random(seed), b""
    while not matcher.is_stopped():
        tokens = matcher.compute_ff_tokens()
        if not tokens and not matcher.is_stopped():
            allowed = compiler.allowed(matcher)
            ends = [t for t in allowed if compiler.bytes(t)[:1] in (b'"', b"]", b"}")]
            tokens = [choose.choice(ends or allowed)]
        for token in tokens:
            assert matcher.consume_token(token)
            written += compiler.bytes(token)
    fields = decoding.parse(contract, written.decode()).fields
    texts = {"prior": before, "current": now}
    for quote in decoding.quoted(contract, fields):
        assert quoting.locate(quote.text, texts[quote.which]) is not None
