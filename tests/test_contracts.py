"""The notation of `output:` blocks, and the rules of `decide`: read, or refused with a reason."""

import datetime
import json
import re
import warnings
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medgemma_cli import decoding, kinds
from medgemma_cli.contracts import contract

BLOCK: dict[str, Any] = {
    "summary": "text",
    "key_findings": ["finding"],
    "risk_level": "low | high",
    "recommendations": ["text"],
}


def node(kind: Any, *, quotable: bool = True) -> dict[str, Any]:
    """The schema's node of one field of that kind."""
    root = decoding.schema(contract({"a": kind}, quotable=quotable).json_schema)
    return decoding.resolve(root["properties"]["a"], root)


def accepts(kind: Any, value: Any, *, quotable: bool = True) -> bool:
    """Whether a field of that kind may have this value."""
    made = contract({"a": kind}, quotable=quotable)
    try:
        decoding.parse(made, json.dumps({"a": value}))
    except ValueError:
        return False
    return True


def test_schema_keeps_the_order_and_is_closed() -> None:
    """Fields in the template's order, all required, no others."""
    schema = json.loads(contract(BLOCK).json_schema)
    assert list(schema["properties"]) == list(BLOCK) == schema["required"]
    assert schema["additionalProperties"] is False


def test_free_text() -> None:
    """`output: text` has no schema."""
    assert contract("text").kind == "text"
    assert contract("text").json_schema == ""


def test_the_same_block_gives_the_same_contract() -> None:
    """Pure, and the block comes back as it was given."""
    assert contract(BLOCK) == contract(json.loads(json.dumps(BLOCK)))
    assert json.loads(contract(BLOCK).block) == BLOCK


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("text", ["Long enough."], ["short", "", "x" * 501, "line\nbreak in it", "<5 mg a day", 5]),
        (
            "text(4)",
            ["a", "abcd", "<5", "±2", "++", "%", "/HPF", "< 5", "(4)"],
            ["", "abcde", " 5", "a\tb"],
        ),
        ("integer", [0, -5, 999999999], [1.5, 10**9, "five", None]),
        ("number", [0, -5, 1.25], [1e9, -1e9, "five", None]),
        ("boolean", [True, False], ["maybe", None, 5]),
        ("date", ["2024", "2024-02", "2024-02-29"], ["2023-02-29", "24-01-01", "2024-13"]),
        ("statement", ["Long enough."], ["short", "x" * 161, "<5 is low enough"]),
        ("quote", ["any words: at all", "1"], ["", "x" * 20_001, 5]),
        ("finding", [{"quote": "a b c", "statement": "Long enough."}], ["a", {"quote": "a b c"}]),
        ("low | high", ["low", "high"], ["", "Low", "low | high", None]),
        ("text | none", ["none", "Long enough."], ["non", "short", None]),
        ("text(5) | n/a", ["n/a", "abc"], ["abcdef"]),
        ("integer | none", ["none", 5], ["some", None]),
        ("boolean | cannot tell", ["cannot tell", True], ["maybe"]),
        ("date | unknown", ["unknown", "2024"], ["never"]),
        ("quote | none", ["none", "a b c"], [""]),
        ("finding | none", ["none", {"quote": "a b c", "statement": "Long enough."}], ["any"]),
        (["text"], [[], ["abcd"], ["abcd"] * 5], [["abcd"] * 6, ["abc"], "abcd", ["x" * 201]]),
        (["text", "0..8"], [["abcd"] * 8], [["abcd"] * 9]),
        (["text(2)", "2..3"], [["a", "b"], ["a", "b", "c"]], [["a"], ["a"] * 4]),
        (["integer", "1..1"], [[1]], [[], [1, 2]]),
        (["low | high"], [["low", "high"]], [["mid"]]),
        (["text | none"], [["none", "abcd"]], [["abc"]]),
        ([{"n": "integer"}], [[{"n": 1}]], [[{}], [{"n": 1, "m": 2}]]),
        ([["integer"]], [[[1], [2]]], [[1]]),
        ({"b": {"c": "boolean"}}, [{"b": {"c": True}}], [{"b": {}}, {"c": True}]),
        (" low|high ", ["low"], [" low"]),
    ],
)
def test_kinds(kind: Any, good: list[Any], bad: list[Any]) -> None:
    """Each kind takes what it says and nothing else."""
    assert [value for value in good if not accepts(kind, value)] == []
    assert [value for value in bad if accepts(kind, value)] == []


def test_a_list_of_findings_has_at_least_one_unless_it_says_otherwise() -> None:
    """`[finding]` must find something; `[finding, 0..5]` need not."""
    assert node(["finding"])["minItems"] == 1
    assert node(["finding", "0..5"])["minItems"] == 0
    assert node(["text"])["minItems"] == 0


def test_the_evidence_comes_before_the_claim() -> None:
    """What is written after the quote is conditioned on it."""
    assert list(node("finding")["properties"]) == ["quote", "statement"]


@pytest.mark.parametrize(
    "block",
    [
        {"a": "finding"},
        {"a": ["finding"]},
        {"a": {"quote": "quote", "b": "text"}},
        {"a": "finding | none"},
        {"a": [{"quote": "quote", "b": "integer"}, "0..3"]},
    ],
)
def test_without_text_there_is_no_quote(block: dict[str, Any]) -> None:
    """Nothing is asked to be quoted where nothing can be."""
    assert '"format": "quote"' in contract(block).json_schema
    assert '"format"' not in contract(block, quotable=False).json_schema


@pytest.mark.parametrize("kind", [["quote"], "quote | none", [["quote"]]])
def test_without_text_there_is_no_list_of_quotes(kind: Any) -> None:
    """A quote in a list or with a word in its place is a quote, too."""
    made = contract({"a": kind, "b": "text"}, quotable=False)
    assert '"format"' not in made.json_schema


def test_a_finding_without_text_is_a_statement() -> None:
    """Of an image."""
    assert accepts("finding", {"statement": "Left basal opacity"}, quotable=False)
    assert not accepts("finding", {"statement": "Left basal opacity"})


def test_names_that_look_alike_stay_apart() -> None:
    """Objects of the same path with `_` in it, and names outside ASCII."""
    block = {
        "a": {"b": {"x": "integer"}},
        "a_b": {"y": "boolean"},
        "é": {"z": "date"},
        "è": {"w": "integer"},
    }
    value = {"a": {"b": {"x": 1}}, "a_b": {"y": True}, "é": {"z": "2024"}, "è": {"w": 2}}
    made = contract(block)
    assert decoding.parse(made, json.dumps(value)).fields == value
    other = {**value, "é": value["è"], "è": value["é"]}
    with pytest.raises(ValueError, match="does not fit"):
        decoding.parse(made, json.dumps(other))


# -- dates ----------------------------------------------------------------------------------


def exists(year: int, month: int, day: int) -> bool:
    """Whether there is such a day."""
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


def test_days_that_do_not_exist_are_refused() -> None:
    """Every day of two centuries, and the 29th to 32nd of every month."""
    pattern = re.compile(kinds.DATE_PATTERN)
    wrong = [
        (year, month, day)
        for year in range(1895, 2105)
        for month in range(14)
        for day in range(33)
        if bool(pattern.match(f"{year}-{month:02}-{day:02}"))
        is not (1900 <= year < 2100 and exists(year, month, day))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("2000-02-29", True),
        ("1900-02-29", False),
        ("2024-02-30", False),
        ("2024-04-31", False),
        ("2024-00", False),
        ("2024-1-1", False),
        ("2024-01-01\n", False),
        (" 2024", False),
        ("2024-01-01T00:00", False),
        ("٢٠٢٤", False),
        ("1899", False),
        ("2100", False),
        ("2024-", False),
    ],
)
def test_dates_as_they_are_validated(value: str, good: bool) -> None:
    """pydantic reads the pattern in Rust: nothing before it or behind."""
    assert accepts("date", value) is good


# -- malformed blocks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (None, "output is"),
        ({}, "output is"),
        ([], "output is"),
        ("poem", "output is"),
        (5, "output is"),
        ({"a": "poem"}, "no kind called 'poem'; there are text, finding"),
        ({"a": "Text"}, "no kind called 'Text'"),
        ({"a": "text(0)"}, "no kind called"),
        ({"a": "text(10000)"}, "no kind called"),
        ({"a": "text()"}, "no kind called"),
        ({"a": "integer(5)"}, "no kind called"),
        ({"a": ""}, "option"),
        ({"a": "low |"}, "option"),
        ({"a": "low | | high"}, "option"),
        ({"a": "x | x"}, "repeated option"),
        ({"a": "\ud800 | low"}, "control character"),
        ({"a": "a\nb | low"}, "control character"),
        ({"a": "none | text"}, "kind comes before"),
        ({"a": "text | date"}, "kind comes before"),
        ({"a": "text | text(5)"}, "kind comes before"),
        ({"a": None}, "a kind is a word"),
        ({"a": 5}, "a kind is a word"),
        ({"a": True}, "a kind is a word"),
        ({"a": []}, "a list names"),
        ({"a": ["text", "text"]}, "a list names"),
        ({"a": ["text", 5]}, "a list names"),
        ({"a": ["text", "5"]}, "a list names"),
        ({"a": ["text", "-1..5"]}, "a list names"),
        ({"a": ["text", "0..5", "0..5"]}, "a list names"),
        ({"a": ["text", "5..3"]}, "a list has"),
        ({"a": ["text", "0..0"]}, "a list has"),
        ({"a": ["text", "0..101"]}, "a list has"),
        ({"a": [[]]}, "a list names"),
        ({"a": {}}, "an object has fields"),
        ({"a": [{}]}, "an object has fields"),
        ({"_a": "text"}, "not a field name: '_a'"),
        ({"a b": "text"}, "not a field name: 'a b'"),
        ({"my-field": "text"}, "not a field name"),
        ({"": "text"}, "not a field name: ''"),
        ({"a": {"1b": "text"}}, "not a field name: '1b'"),
        ({1: "text"}, "not a field name"),
    ],
)
def test_malformed_blocks(block: Any, words: str) -> None:
    """Said when the template loads, in words that help."""
    with pytest.raises(ValueError, match=re.escape(words)):
        contract(block)


def test_an_object_of_quotes_alone_needs_text() -> None:
    """Nothing would be left of it for an image."""
    assert contract({"a": [{"quote": "quote"}]})
    with pytest.raises(ValueError, match="not quotes alone"):
        contract({"a": [{"quote": "quote"}]}, quotable=False)


def deep(levels: int) -> dict[str, Any]:
    """Objects inside objects."""
    block: dict[str, Any] = {"a": "text"}
    for _ in range(levels):
        block = {"a": block}
    return block


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param({"a": datetime.date(2024, 1, 1)}, id="date"),
        pytest.param({"a": b"x"}, id="binary"),
        pytest.param({"a": {"x", "y"}}, id="set"),
        pytest.param({("a", "b"): "text"}, id="tuple"),
        pytest.param(deep(150), id="deep"),
        pytest.param(deep(3000), id="deeper"),
        pytest.param({None: "text"}, id="null"),
        pytest.param({True: "text"}, id="true"),
        pytest.param({"a": {False: "text"}}, id="false"),
    ],
)
def test_what_yaml_can_say_is_a_value_error(block: Any) -> None:
    """Dates, sets, `yes:` as a name, nesting: refused like the rest."""
    with pytest.raises(ValueError, match=r"field name|kind|output"):
        contract(block)


def test_a_block_that_holds_itself_is_a_value_error() -> None:
    """YAML's anchors can do that."""
    with pytest.raises(ValueError, match="nested"):
        contract({"a": CIRCLE})


@pytest.mark.parametrize(
    "name",
    ["copy", "schema", "json", "model_dump", "model_fields", "model_config", "class", "self"],
)
def test_a_field_may_have_any_plain_name(name: str) -> None:
    """Names that pydantic's models have, too: no warning, and the value comes back."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = contract({name: "integer", "of_test": "boolean"})
    assert decoding.parse(made, f'{{"{name}":5,"of_test":true}}').fields[name] == 5


WORDS = (
    "text,text(5),text(0),integer,date,quote,finding,low | high,text | none,a | a,,|,x | text,"
    "0..8,8..0,0..200,١..٣,string"
)
words = st.sampled_from(WORDS.split(","))
names = st.sampled_from(
    ["a", "b", "quote", "statement", "_x", "1a", "", "a b", "class", "é", "self"]
)
scalars = st.one_of(words, st.text(max_size=8).filter(str.isascii), st.integers(), st.floats())
values = st.recursive(
    st.one_of(scalars, st.none(), st.booleans()),
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.one_of(names, scalars), below, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(values, st.booleans())
@example({"a": "٣ | text(٣)"}, True)
@example({"$schema": "x"}, True)
def test_any_block_is_read_or_refused(block: Any, quotable: bool) -> None:
    """No error but ValueError, and what is read has a schema that is closed throughout."""
    try:
        made = contract(block, quotable=quotable)
    except ValueError:
        return
    if made.kind == "json":
        root = json.loads(made.json_schema)
        objects = [root, *root.get("$defs", {}).values()]
        assert all(below["additionalProperties"] is False for below in objects)
        assert all(list(below["properties"]) == below["required"] for below in objects)


# -- decide ---------------------------------------------------------------------------------

CHOICE = {"a": "x | y | cannot tell", "b": "text"}
PLAIN = {"positive": "x", "negative": "y"}


@pytest.mark.parametrize(
    "rule",
    [
        PLAIN,
        PLAIN | {"threshold": 0.3},
        PLAIN | {"threshold": 0},
        PLAIN | {"threshold": 1, "uncertain": [0, 1]},
        PLAIN | {"uncertain": [0.4, 0.6]},
        PLAIN | {"threshold": 0.4, "uncertain": [0.4, 0.4]},
    ],
)
def test_a_rule_is_kept_in_the_schema(rule: dict[str, Any]) -> None:
    """Where the engine and the verdict read it, with what it leaves open."""
    made = contract(CHOICE, decide={"a": rule})
    threshold = rule.get("threshold", 0.5)
    whole = {"threshold": threshold, "uncertain": [threshold, threshold]} | rule
    assert decoding.schema(made.json_schema)["properties"]["a"]["x-decide"] == whole
    assert "x-decide" not in contract(CHOICE).json_schema


@pytest.mark.parametrize(
    ("decide", "words"),
    [
        ({"a": None}, "decide names"),
        ({"a": {}}, "decide names"),
        ({"a": {"positive": "x"}}, "decide names"),
        ({"a": PLAIN | {"colour": 1}}, "decide names"),
        ({"a": PLAIN | {5: 1}}, "decide names"),
        ({"a": {"positive": "x", "negative": "z"}}, "negative is no option of 'a'"),
        ({"a": {"positive": True, "negative": "y"}}, "positive is no option of 'a'"),
        ({"a": {"positive": ["x"], "negative": "y"}}, "no option"),
        ({"b": PLAIN}, "no option of 'b'"),
        ({"other": PLAIN}, "no option of 'other'"),
        ({"a.b": PLAIN}, "no option"),
        ({"a": PLAIN | {"threshold": 1.5}}, "threshold"),
        ({"a": PLAIN | {"threshold": -0.1}}, "threshold"),
        ({"a": PLAIN | {"threshold": float("nan")}}, "threshold"),
        ({"a": PLAIN | {"uncertain": [0.6, 0.4]}}, "threshold"),
        ({"a": PLAIN | {"uncertain": [0.6, 0.8]}}, "threshold"),
        ({"a": PLAIN | {"threshold": 0.2, "uncertain": [0.4, 0.6]}}, "threshold"),
    ],
)
def test_malformed_rules(decide: Any, words: str) -> None:
    """Said when the template loads."""
    with pytest.raises(ValueError, match=re.escape(words)):
        contract(CHOICE, decide=decide)


@pytest.mark.parametrize(
    "decide",
    [
        "x",
        5,
        [PLAIN],
        {"a": PLAIN | {"threshold": "high"}},
        {"a": PLAIN | {"threshold": None}},
        {"a": PLAIN | {"threshold": [0.5]}},
        {"a": PLAIN | {"uncertain": 5}},
        {"a": PLAIN | {"uncertain": None}},
        {"a": PLAIN | {"uncertain": [0.4]}},
        {"a": PLAIN | {"uncertain": [0.2, 0.5, 0.8]}},
        {"a": PLAIN | {"uncertain": ["a", "b"]}},
        {"a": {"positive": "x", "negative": "x"}},
    ],
)
def test_rules_of_another_shape_are_a_value_error_that_says_decide(decide: Any) -> None:
    """`templates` tells by that word which line is wrong."""
    with pytest.raises(ValueError, match="decide"):
        contract(CHOICE, decide=decide)


def test_a_rule_for_free_text_is_refused() -> None:
    """It has no choices."""
    assert contract("text", decide=None).json_schema == ""
    with pytest.raises(ValueError, match="decide"):
        contract("text", decide={"answer": PLAIN})
