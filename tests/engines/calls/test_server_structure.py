"""How the shape of an answer is asked for."""

import json

import pytest
from server_kit import prompt

from medgemma_cli import contracts
from medgemma_cli.engines.calls import structure

CONTRACT = contracts.contract(
    {
        "summary": "text",
        "format": "text",
        "key_findings": ["finding"],
        "risk": "low | high",
        "default": "integer",
    },
    decide={"risk": {"positive": "high", "negative": "low"}},
)
ASKED = prompt("Dry cough since Monday. No fever was seen.", contract=CONTRACT)


def test_levels_go_down() -> None:
    """Each refusal asks for less, down to nothing."""
    assert [structure.lower(level) for level in structure.LEVELS] == [
        "schema",
        "plain",
        "none",
        None,
    ]


def test_free_text_asks_for_nothing() -> None:
    """A text has no shape."""
    for level in structure.LEVELS:
        assert structure.fields(prompt(), level, "vllm") == {}
        assert structure.words(prompt(), level) == ""


def test_schema_has_no_words_of_ours() -> None:
    """What only this project knows is left out; a field may have a keyword's name."""
    made = structure.fields(ASKED, "schema", "")["response_format"]
    assert made["type"] == "json_schema" and made["json_schema"]["strict"] is True
    schema = made["json_schema"]["schema"]
    assert list(schema["properties"]) == list(CONTRACT_FIELDS)
    text = json.dumps(schema)
    assert '"x-decide"' not in text and '"format": "quote"' not in text and '"title"' not in text
    assert schema["properties"]["risk"]["enum"] == ["low", "high"]
    assert schema["required"] == list(CONTRACT_FIELDS)
    assert schema["additionalProperties"] is False


CONTRACT_FIELDS = ("summary", "format", "key_findings", "risk", "default")


def test_plain_has_no_bounds() -> None:
    """Keywords that some servers refuse are gone, the shape is not."""
    made = structure.fields(ASKED, "plain", "")["response_format"]["json_schema"]["schema"]
    text = json.dumps(made)
    for word in ("pattern", "maxLength", "minItems", "maximum"):
        assert f'"{word}"' not in text
    assert list(made["properties"]) == list(CONTRACT_FIELDS)
    assert made["properties"]["risk"]["enum"] == ["low", "high"]


def test_the_contract_is_not_changed() -> None:
    """The cached schema stays whole: others go by it."""
    before = CONTRACT.json_schema
    structure.fields(ASKED, "plain", "")
    again = structure.fields(ASKED, "schema", "")["response_format"]["json_schema"]["schema"]
    assert CONTRACT.json_schema == before
    assert '"maxLength"' in json.dumps(again)


def test_grammar_locks_quotes() -> None:
    """The local engine's grammar; vLLM and SGLang name the field differently."""
    made = structure.fields(ASKED, "grammar", "vllm")["structured_outputs"]["grammar"]
    assert "substring_chunks" in made and made.startswith("start: ")
    assert structure.fields(ASKED, "grammar", "sglang") == {"ebnf": made}


def test_grammar_is_one_that_llguidance_reads() -> None:
    """What vLLM's and SGLang's guidance backends do with it goes well here, too."""
    from llguidance import LLMatcher, grammar_from

    made = structure.fields(ASKED, "grammar", "vllm")["structured_outputs"]["grammar"]
    for form in ("lark", "ebnf"):
        assert not LLMatcher.validate_grammar(grammar_from(form, made))


def test_no_grammar_without_a_quote() -> None:
    """Nothing to quote, no grammar: the caller asks for less."""
    with pytest.raises(ValueError, match="quoted"):
        structure.fields(prompt("", contract=CONTRACT), "grammar", "vllm")


def test_words_where_nothing_else_is_left() -> None:
    """The schema in words."""
    assert "JSON Schema" in structure.words(ASKED, "none")
    assert structure.fields(ASKED, "none", "") == {}
