"""Answers stay inside their schema, close in time, and stop when they repeat themselves."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import MakeEngine, prompt

from medgemma_cli import contracts, decoding, templates
from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.engines.loading import load_tokenizer
from medgemma_cli.records import Contract

SUMMARIZE = templates.load("summarize").contract
NOTE = "BP 12{} / 80 today, seen by the practice nurse. No fever, no chest pain. Return in 2/52."


@pytest.fixture(scope="module")
def compiler(checkpoint: Path) -> Compiler:
    """A compiler for the tiny checkpoint's tokenizer."""
    tokenizer, _ = load_tokenizer(checkpoint, multimodal=True)
    return Compiler(tokenizer, len(tokenizer), [tokenizer.eos_token_id])


def parsed(contract: Contract, text: str) -> dict[str, Any]:
    """The answer's fields; raises if it does not fit."""
    return decoding.parse(contract, text).fields


def test_random_weights_write_valid_answers(make_engine: MakeEngine) -> None:
    """Even a model that knows nothing answers in the contract's shape, quotes and all."""
    prompts = [
        prompt(str(i), NOTE.format(i), schema=SUMMARIZE.json_schema, tokens=600) for i in range(4)
    ]
    answers = list(make_engine().generate(prompts))
    assert [a.error for a in answers] == [None] * 4
    for answer in answers:
        for finding in parsed(SUMMARIZE, answer.text)["key_findings"]:
            assert finding["quote"] in NOTE.format(answer.id)


@pytest.mark.parametrize("budget", [140, 170, 230, 300])
def test_a_tight_budget_closes_the_answer(make_engine: MakeEngine, budget: int) -> None:
    """The tokens to close with are kept back; the record says `shortened`."""
    tight = prompt("tight", NOTE.format(1), schema=SUMMARIZE.json_schema, tokens=budget)
    (answer,) = make_engine().generate([tight])
    assert answer.finish_reason == "stop"
    assert answer.usage.completion_tokens <= budget
    assert "shortened" in answer.degraded
    assert parsed(SUMMARIZE, answer.text)


def test_a_number_field_ends(make_engine: MakeEngine) -> None:
    """A number has no closing mark of its own; it must not run on to the limit."""
    contract = contracts.contract({"count": "integer", "why": "text"})
    (answer,) = make_engine().generate(
        [prompt("n", "BP 120/80", schema=contract.json_schema, tokens=90)]
    )
    assert isinstance(json.loads(answer.text)["count"], int)


def test_a_schema_that_cannot_be_compiled_is_said(compiler: Compiler) -> None:
    """A refusal becomes a ValueError, not a silent free text."""
    with pytest.raises(ValueError, match="compiled"):
        compiler.matcher('{"type": "string", "pattern": "(?=x)"}', "")
