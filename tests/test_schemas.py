"""JSON Schema files: the part that can be decoded is read, the rest refused by its name."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli import decoding
from medgemma_cli.contracts import contract

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def file(properties: Any, **more: Any) -> dict[str, Any]:
    """A schema file with these properties."""
    return {"$schema": DRAFT, "type": "object", "properties": properties, **more}


def accepts(node: dict[str, Any], value: Any, **more: Any) -> bool:
    """Whether a property of that node may have this value."""
    made = contract(file({"a": node}, **more))
    try:
        decoding.parse(made, json.dumps({"a": value}))
    except ValueError:
        return False
    return True


ROW = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("node", "good", "bad"),
    [
        ({"type": "string"}, ["a", "<5", "x" * 500], ["", "x" * 501, "a\nb", None]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ["a", "abcd"]),
        ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "today"]),
        ({"type": "string", "format": "quote"}, ["a b c"], ["", 5]),
        ({"type": "integer"}, [5, -5], [1.5, "five"]),
        ({"type": "integer", "minimum": 0, "maximum": 10}, [0, 10], [-1, 11]),
        ({"type": "integer", "maximum": 0}, [0, -5], [1]),
        ({"type": "number"}, [1.5], ["a", None]),
        ({"type": "boolean"}, [True], [None, "maybe"]),
        ({"type": "null"}, [None], [0, "null"]),
        ({"enum": ["a", "b"]}, ["a", "b"], ["c", None]),
        ({"enum": ["a", None]}, ["a", None], ["b"]),
        ({"type": "string", "enum": ["a"]}, ["a"], ["b"]),
        ({"const": "a"}, ["a"], ["b"]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [5, None], ["a"]),
        ({"anyOf": [{"const": "none"}, {"type": "string", "format": "date"}]}, ["none"], ["no"]),
        ({"type": "array", "items": {"type": "integer"}}, [[], [1] * 5], [[1] * 6, ["a"], 1]),
        (
            {"type": "array", "items": ROW, "minItems": 1, "maxItems": 2},
            [[{"n": 1}], [{"n": 1}, {"n": 2}]],
            [[], [{"n": 1}, {"n": 2}, {"n": 3}], [{}]],
        ),
        ({"type": "array", "items": {"type": "null"}, "minItems": 9}, [[None] * 9], [[None] * 8]),
        (ROW, [{"n": 1}], [{}, {"n": 1, "m": 2}]),
        ({"title": "A", "description": "b", "examples": [1], **ROW}, [{"n": 1}], [{}]),
    ],
)
def test_nodes(node: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    """What can be decoded means what JSON Schema says."""
    assert [value for value in good if not accepts(node, value)] == []
    assert [value for value in bad if accepts(node, value)] == []


def test_references() -> None:
    """To definitions of the same file, twice and inside each other."""
    definitions = {"Row": ROW, "Rows": {"type": "array", "items": {"$ref": "#/$defs/Row"}}}
    made = contract(
        file(
            {"a": {"$ref": "#/$defs/Rows"}, "b": {"$ref": "#/$defs/Row"}}, **{"$defs": definitions}
        )
    )
    value = {"a": [{"n": 1}, {"n": 2}], "b": {"n": 3}}
    assert decoding.parse(made, json.dumps(value)).fields == value


def test_the_root_may_be_a_reference() -> None:
    """As generators of schemas write it."""
    made = contract({"$schema": DRAFT, "$ref": "#/$defs/Row", "$defs": {"Row": ROW}})
    assert decoding.parse(made, '{"n": 1}').fields == {"n": 1}


def test_a_schema_of_pydantic_is_read() -> None:
    """The schema that a contract of the notation has, less its patterns, is such a file."""
    block = {"level": "low | high", "n": "integer", "rows": [{"ok": "boolean"}]}
    schema = json.loads(contract(block).json_schema)
    made = contract({"$schema": DRAFT, **schema})
    value = {"level": "low", "n": 5, "rows": [{"ok": True}]}
    assert decoding.parse(made, json.dumps(value)).fields == value


def test_without_text_there_is_no_quote() -> None:
    """Quotes are left out of objects; the rest stays."""
    row = {"quote": {"type": "string", "format": "quote"}, "n": {"type": "integer"}}
    made = contract(file({"a": {"type": "object", "properties": row}}), quotable=False)
    assert decoding.parse(made, '{"a": {"n": 1}}').fields == {"a": {"n": 1}}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (5, "node is an object"),
        ([], "node is an object"),
        (None, "node is an object"),
        ({}, "type is one of object, array"),
        ({"type": "date"}, "type is one of"),
        ({"type": ["string", "null"]}, "type is one of"),
        ({"type": None}, "type is one of"),
        ({"type": "string", "pattern": "a"}, "'pattern'"),
        ({"type": "string", "format": "email"}, "format is quote or date"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "least length"),
        ({"type": "string", "minLength": 0}, "least length"),
        ({"type": "integer", "multipleOf": 5}, "'multipleOf'"),
        ({"type": "integer", "exclusiveMinimum": 5}, "'exclusiveMinimum'"),
        ({"type": "number", "minimum": 0}, "'minimum'"),
        ({"type": "array"}, "node is an object"),
        ({"type": "array", "items": False}, "node is an object"),
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 101}, "a list has"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}, "a list has"),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, "a list has"),
        ({"type": "object"}, "an object has fields"),
        ({**ROW, "additionalProperties": True}, "additionalProperties"),
        ({**ROW, "additionalProperties": {"type": "string"}}, "additionalProperties"),
        ({**ROW, "required": []}, "all properties are required"),
        ({**ROW, "required": ["n", "m"]}, "all properties are required"),
        ({**ROW, "patternProperties": {}}, "'patternProperties'"),
        ({"type": "object", "properties": {"a-b": {"type": "null"}}}, "not a field name"),
        ({"type": "object", "properties": {"_b": {"type": "null"}}}, "not a field name"),
        ({"oneOf": []}, "'oneOf'"),
        ({"allOf": [], "type": "string"}, "'allOf'"),
        ({"anyOf": [{"type": "null"}], "minLength": 5}, "'minLength'"),
        ({"anyOf": [{"type": "null"}] * 2}, "same node twice"),
        ({"enum": ["a"], "format": "date"}, "'format'"),
        ({"$ref": "#"}, r"\$ref points into"),
        ({"$ref": "other.json#/$defs/A"}, r"\$ref points into"),
        ({"$ref": "#/$defs/None"}, r"\$ref points into"),
        ({"$ref": 5}, r"\$ref points into"),
        ({"$ref": "#/$defs/Loop"}, "what it is in"),
        ({"$ref": "#/$defs/Tick"}, "what it is in"),
    ],
)
def test_what_cannot_be_decoded_is_refused(node: Any, words: str) -> None:
    """When the template loads; the message names the keyword."""
    definitions = {
        "Loop": {"type": "array", "items": {"$ref": "#/$defs/Loop"}},
        "Tick": {"anyOf": [{"$ref": "#/$defs/Tock"}]},
        "Tock": {"anyOf": [{"$ref": "#/$defs/Tick"}]},
    }
    with pytest.raises(ValueError, match=words):
        contract(file({"a": node}, **{"$defs": definitions}))


@pytest.mark.parametrize(
    "root", [{"type": "array", "items": ROW}, {"type": "string"}, {"const": 5}]
)
def test_the_root_is_an_object(root: dict[str, Any]) -> None:
    """A record's output is a mapping."""
    with pytest.raises(ValueError, match="root is an object"):
        contract({"$schema": DRAFT, **root})


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(file([]), id="properties list"),
        pytest.param(file("ab"), id="properties text"),
        pytest.param(file(None), id="properties null"),
        pytest.param(file({"a": {"type": "null"}}, required=5), id="required number"),
        pytest.param(file({"a": {"type": "null"}}, required=[{}]), id="required objects"),
        pytest.param(file({"a": {"$ref": "#/$defs/A"}}, **{"$defs": None}), id="defs null"),
        pytest.param(file({"a": {"enum": 5}}), id="enum number"),
        pytest.param(file({"a": {"enum": None}}), id="enum null"),
        pytest.param(file({"a": {"enum": []}}), id="enum empty"),
        pytest.param(file({"a": {"enum": ["\ud800"]}}), id="enum surrogate"),
        pytest.param(file({"a": {"anyOf": []}}), id="anyOf empty"),
        pytest.param(file({"a": {"anyOf": 5}}), id="anyOf number"),
        pytest.param(file({"a": {"type": "integer", "maximum": {}}}), id="maximum object"),
        pytest.param(file({"a": {"type": "integer", "maximum": 1e999}}), id="maximum infinite"),
        pytest.param(file({"a": {"type": "string", "maxLength": None}}), id="maxLength null"),
        pytest.param(file({"a": {"type": "string", "maxLength": [5]}}), id="maxLength list"),
        pytest.param(file({"a": {"type": "string", "format": []}}), id="format list"),
        pytest.param(
            file({"a": {"type": "array", "items": {"type": "null"}, "minItems": None}}),
            id="minItems null",
        ),
    ],
)
def test_a_keyword_of_another_type_is_a_value_error(block: dict[str, Any]) -> None:
    """A person wrote the file: no traceback for it."""
    with pytest.raises(ValueError, match=r"\w"):
        contract(block)


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(
            {"type": "string", "format": "date", "maxLength": 4},
            id="date with bounds",
        ),
        pytest.param({"$ref": "#/$defs/A", "maxLength": 4}, id="beside a $ref"),
        pytest.param({"enum": ["a"], "const": "b"}, id="enum and const"),
        pytest.param({"type": "integer", "enum": ["a", "b"]}, id="enum of another type"),
        pytest.param({"type": "integer", "minimum": 5, "maximum": 3}, id="nothing between"),
        pytest.param({"type": "integer", "minimum": 1.5}, id="minimum rounded down"),
        pytest.param({"type": "integer", "minimum": "5"}, id="minimum a text"),
        pytest.param({"type": "integer", "maximum": 10**30}, id="maximum too wide"),
        pytest.param({"type": "string", "minLength": True}, id="minLength true"),
        pytest.param({"type": "string", "maxLength": 10**9}, id="maxLength too wide"),
        pytest.param({"enum": [["a"], {"b": 1}]}, id="enum of lists"),
        pytest.param({"const": {"b": 1}}, id="const object"),
    ],
)
def test_a_keyword_is_not_passed_over(node: dict[str, Any]) -> None:
    """That would be a promise broken."""
    with pytest.raises(ValueError, match=r"\w"):
        contract(file({"a": node}, **{"$defs": {"A": {"type": "string"}}}))


def test_a_file_that_is_too_deep_is_a_value_error() -> None:
    """Lists in lists in lists."""
    node: dict[str, Any] = {"type": "null"}
    for _ in range(400):
        node = {"type": "array", "items": node}
    with pytest.raises(ValueError, match=r"\w"):
        contract(file({"a": node}))


def nodes() -> st.SearchStrategy[Any]:
    """JSON Schema nodes whose keywords have values of their type, if often senseless ones."""
    length = st.integers(-2, 12)
    plain = st.one_of(
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "number"}, {}, {"a": 1}]),
        st.fixed_dictionaries(
            {"type": st.just("string")}, optional={"minLength": length, "maxLength": length}
        ),
        st.fixed_dictionaries(
            {"type": st.just("integer")}, optional={"minimum": length, "maximum": length}
        ),
        st.sampled_from(["quote", "date", "time"]).map(lambda f: {"type": "string", "format": f}),
        st.lists(st.sampled_from(["a", "b", "c d", "é"]), min_size=1).map(lambda e: {"enum": e}),
        st.sampled_from(["#/$defs/A", "#/$defs/B", "#/$defs/C", "A"]).map(lambda r: {"$ref": r}),
    )
    return st.recursive(
        plain,
        lambda below: st.one_of(
            st.fixed_dictionaries(
                {"type": st.just("array"), "items": below},
                optional={"minItems": length, "maxItems": length},
            ),
            st.fixed_dictionaries(
                {
                    "type": st.just("object"),
                    "properties": st.dictionaries(st.sampled_from(["a", "b", "1"]), below),
                },
                optional={"required": st.just(["a"]), "additionalProperties": st.booleans()},
            ),
            st.lists(below, min_size=2, max_size=3, unique_by=json.dumps).map(
                lambda o: {"anyOf": o}
            ),
        ),
        max_leaves=8,
    )


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b"]), nodes()), nodes(), nodes(), st.booleans())
def test_any_file_is_read_or_refused(
    properties: dict[str, Any], first: Any, second: Any, quotable: bool
) -> None:
    """Keywords of the right types: no error but ValueError."""
    with suppress(ValueError):
        contract(file(properties, **{"$defs": {"A": first, "B": second}}), quotable=quotable)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "properties", "items", "enum", "anyOf", "const", "$ref", "a"]),
            below,
            max_size=4,
        ),
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_any_json_is_read_or_refused(properties: Any) -> None:
    """Whatever stands in the file: no error but ValueError."""
    with suppress(ValueError):
        contract(file(properties))
