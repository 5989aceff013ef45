"""Answers stay inside their schema, close in time, and stop when they repeat themselves."""

import json
from pathlib import Path

import pytest
from tiny import MakeEngine, prompt

from medgemma_cli import decoding, templates
from medgemma_cli.engines.grammar import Compiler, repeats
from medgemma_cli.engines.loading import load_tokenizer

SUMMARIZE = templates.load("summarize")
SCREEN = templates.load("screen")


@pytest.fixture(scope="module")
def compiler(checkpoint: Path) -> Compiler:
    """A compiler for the tiny checkpoint's tokenizer."""
    tokenizer, _ = load_tokenizer(checkpoint, multimodal=True)
    return Compiler(tokenizer, len(tokenizer), [tokenizer.eos_token_id])


def test_random_weights_write_valid_answers(make_engine: MakeEngine) -> None:
    """Even a model that knows nothing answers in the contract's shape."""
    schema = SUMMARIZE.contract.json_schema
    prompts = [
        prompt(str(i), f"Note {i}. BP 12{i}/80", schema=schema, tokens=400) for i in range(4)
    ]
    answers = list(make_engine().generate(prompts))
    assert [a.error for a in answers] == [None] * 4
    for answer in answers:
        assert decoding.parse(SUMMARIZE.output, answer.text).fields["risk_level"]


def test_a_tight_budget_closes_the_answer(make_engine: MakeEngine, compiler: Compiler) -> None:
    """The tokens to close with are kept back; the record says `shortened`."""
    schema = SUMMARIZE.contract.json_schema
    reserve = compiler.matcher(schema)[1]
    tight = prompt("tight", "BP 120/80", schema=schema, tokens=reserve + 20)
    (answer,) = make_engine().generate([tight])
    assert answer.finish_reason == "stop"
    assert "shortened" in answer.degraded
    assert decoding.parse(SUMMARIZE.output, answer.text)


def test_the_reserve_is_small(compiler: Compiler) -> None:
    """Closing `screen` takes a few dozen tokens, not hundreds."""
    assert compiler.matcher(SCREEN.contract.json_schema)[1] < 80


def test_a_number_field_ends(make_engine: MakeEngine) -> None:
    """A number has no closing mark of its own; it must not run on to the limit."""
    contract = decoding.contract({"count": "integer", "why": "text"})
    (answer,) = make_engine().generate(
        [prompt("n", "BP 120/80", schema=contract.json_schema, tokens=90)]
    )
    assert isinstance(json.loads(answer.text)["count"], int)


def test_a_schema_that_cannot_be_compiled_is_said(compiler: Compiler) -> None:
    """llguidance's refusal becomes a ValueError, not a silent free text."""
    with pytest.raises(ValueError, match="compiled"):
        compiler.matcher('{"type": "string", "pattern": "(?=x)"}')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":["x","x"', True),
        ('{"a":["x","y"', False),
        ('{"a":["x","x"],"b":["z"', False),
        ('{"a":[{"s":"1"},{"s":"1"}', True),
        ('{"a":[{"s":"1"},{"s":"1"', False),
        ('{"a":"x"', False),
        ('{"a":[', False),
        ("", False),
    ],
)
def test_repeats(text: str, expected: bool) -> None:
    """Only a finished item that stands before in the list being written counts."""
    assert repeats(text) is expected
