"""One chat request: what is taken of it, and what each bad one comes to."""

import json
from typing import Any

import pytest
from batch_kit import NOTE, body, png, said, shown
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.errors import FAULTS, DocumentError
from medgemma_cli.readers import ReadLimits, asked, request
from medgemma_cli.records import Request

LIMITS = ReadLimits()
USER = {"role": "user", "content": NOTE}
SCHEMA = {
    "type": "object",
    "properties": {"side": {"type": "string", "enum": ["left", "right"]}},
    "required": ["side"],
    "additionalProperties": False,
}


def data(fields: Any) -> bytes:
    """The bytes of a body."""
    return request.canonical(fields).encode("ascii")


def parsed(**more: Any) -> Request:
    """The request of one turn with these options."""
    return request.parse(data(body(**more))).request


def code_of(fields: Any, limits: ReadLimits = LIMITS) -> str:
    """The code that a body ends with."""
    with pytest.raises(DocumentError) as caught:
        request.read(data(fields), limits)
    return caught.value.code


def wanted(schema: Any, kind: str = "json_schema") -> dict[str, Any]:
    """A response_format."""
    return {"type": kind, "json_schema": {"name": "s", "strict": True, "schema": schema}}


# -- turns ---------------------------------------------------------------------------------------


def test_turns_keep_their_order() -> None:
    """System, user, assistant, user; what the user says is data, and all that is checked."""
    turns = [
        {"role": "developer", "content": "Be terse."},
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": "Yes.", "refusal": None, "tool_calls": []},
        {"role": "user", "content": [said("Second."), shown(png(9)), said("a"), said("b")]},
    ]
    found = request.parse(data({"messages": turns})).request
    assert [turn.role for turn in found.messages] == ["system", "user", "assistant", "user"]
    assert [part.kind for part in found.messages[3].parts] == ["document", "image", "document"]
    assert found.messages[3].parts[2].text == "a\nb"
    content = request.read(data({"messages": turns}), ReadLimits())
    assert content.text == "First.\n\nSecond.\n\na\nb"
    assert content.coverage == {
        "characters": (len(content.text),) * 2,
        "images": (1, 1),
        "frames": (1, 1),
    }


@pytest.mark.parametrize(
    "turns",
    [
        None,
        "text",
        [],
        ["text"],
        [{"role": "system", "content": "x"}],
        [USER, USER],
        [USER, {"role": "assistant", "content": "x"}],
        [{"role": "assistant", "content": "x"}, USER],
        [USER, {"role": "system", "content": "x"}, USER],
        [{"role": "tool", "content": "x"}],
        [{"role": ["user"], "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": " \n"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        [{"role": "user", "content": [{"type": "text", "text": 7}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": 7}]}],
        [{"role": "user", "content": "x", "name": "Ann"}],
        [{"role": "system", "content": [shown(b"x")]}, USER],
    ],
)
def test_turns_that_are_none(turns: Any) -> None:
    """Each is refused as a whole; nothing is guessed or put right."""
    assert code_of({"messages": turns}) == "request_messages"


@pytest.mark.parametrize("fields", [None, [], "x", 7])
def test_a_body_that_is_none(fields: Any) -> None:
    """Only an object is one."""
    assert code_of(fields) == "request_body"


def test_half_a_character() -> None:
    """What no text is, is refused before a tokenizer sees it."""
    assert code_of(body("a\ud800b")) == "encoding"


# -- images --------------------------------------------------------------------------------------


def test_images_come_in_order() -> None:
    """Each is decoded; a URL alone stands for an object with one."""
    alone = {"type": "image_url", "image_url": shown(png(30))["image_url"]["url"]}
    content = request.read(data(body([shown(png(200)), said("and"), alone])), ReadLimits())
    assert [image.rgb[0] for image in content.images] == [200, 30]
    assert content.coverage["images"] == (2, 2)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.org/a.png", "image_link"),
        ("http://10.0.0.1/a.png", "image_link"),
        ("file:///etc/passwd", "image_link"),
        ("/etc/passwd", "image_link"),
        ("", "image_link"),
        ("data:", "image_data"),
        ("data:image/png,abc", "image_data"),
        ("data:text/html;base64,PGI+", "image_data"),
        ("data:image/svg+xml;base64,PGI+", "image_data"),
        ("data:image/png;base64,", "image_data"),
        ("data:image/png;base64,not base64", "image_data"),
        ("data:image/png;base64,aGVsbG8=", "format"),
        ("DATA:image/PNG;charset=x;base64,aGVsbG8=", "format"),
    ],
)
def test_images_that_are_none(url: str, code: str) -> None:
    """Fault 124: an address is never fetched; other data are no image."""
    assert code_of(body([{"type": "image_url", "image_url": {"url": url}}])) == code


def test_pixels_of_all_images() -> None:
    """The limit holds for all images of a request together."""
    fields = body([shown(png(9)), shown(png(10))])
    assert len(request.read(data(fields), ReadLimits(max_pixels=32)).images) == 2
    assert code_of(fields, ReadLimits(max_pixels=31)) == "too_many_pixels"


# -- options -------------------------------------------------------------------------------------


def test_options_that_are_honoured() -> None:
    """They become the request's own limits; the newer name of two wins."""
    found = parsed(
        max_tokens=5, max_completion_tokens=7, temperature=0.5, top_p=1, seed=-3, min_tokens=2
    )
    assert (found.max_new_tokens, found.min_new_tokens, found.seed) == (7, 2, -3)
    assert (found.temperature, found.top_p) == (0.5, 1)
    assert parsed(temperature=None).temperature is None


@pytest.mark.parametrize(
    "option",
    [
        {"max_tokens": 0},
        {"max_tokens": "5"},
        {"max_tokens": 5.0},
        {"max_tokens": True},
        {"max_completion_tokens": 10**9},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": 6},
        {"temperature": "0"},
        {"top_p": 0},
        {"top_p": 1.5},
        {"seed": 1.5},
        {"seed": 1 << 64},
        {"min_tokens": -1},
        {"response_format": "json"},
    ],
    ids=str,
)
def test_options_out_of_bounds(option: dict[str, Any]) -> None:
    """A wrong type or a number out of bounds is no option."""
    assert code_of(body(**option)) == "request_body"


@pytest.mark.parametrize("name", sorted(asked._NEUTRAL))
def test_options_that_cannot_be_had(name: str) -> None:
    """Fault 125: what leaves the answer as it is passes; anything else is refused."""
    for value in (None, *asked._NEUTRAL[name]):
        assert parsed(**{name: value}) == parsed()
    assert code_of(body(**{name: [7]})) == "request_option"
    assert code_of(body(**{name: "yes"})) == "request_option"


def test_options_nobody_knows() -> None:
    """Refused, even if it were harmless; bookkeeping passes."""
    assert code_of(body(temprature=0)) == "request_option"
    assert code_of(body(n=True)) == "request_option"
    assert parsed(user="x", metadata={"a": 1}, store=True, model="m") == parsed()


# -- the shape of the answer ---------------------------------------------------------------------


def test_a_schema_is_a_contract() -> None:
    """`json_schema` becomes a contract that is decoded; `text` is free text."""
    found = parsed(response_format=wanted(SCHEMA))
    contract = asked.contract(found.schema_block, NOTE)
    assert contract.kind == "json" and "left" in contract.json_schema
    assert (
        asked.contract(parsed(response_format={"type": "text"}).schema_block, NOTE).kind == "text"
    )


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"type": "json_object"},
        {"type": "json_schema"},
        wanted(SCHEMA, "grammar"),
        wanted("object"),
        wanted({"type": "string"}),
        wanted({**SCHEMA, "additionalProperties": True}),
        wanted({**SCHEMA, "required": []}),
        wanted({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}),
        wanted({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}),
        wanted({"type": "object", "properties": {"a": {"type": "array"}}, "items": 7}),
        wanted({"properties": 7, "type": "object"}),
    ],
    ids=str,
)
def test_formats_that_cannot_be_had(form: Any) -> None:
    """Any JSON, and schemas that cannot be decoded, are refused with the request."""
    assert code_of(body(response_format=form)) == "request_format"


def test_a_schema_nested_without_end() -> None:
    """Too deep for a parser, or for a contract: refused."""
    deep: Any = {"type": "string"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}}
    assert code_of(body(response_format=wanted(deep))) == "request_format"
    with pytest.raises(DocumentError):
        request.parse(b'{"messages":' + b"[" * 100_000)


def test_a_schema_that_unfolds() -> None:
    """A small one whose references double forty times is refused, before there is a grammar."""
    level: dict[str, Any] = {"a0": {"type": "boolean"}}
    for n in range(40):
        both = {"x": {"$ref": f"#/$defs/a{n}"}, "y": {"$ref": f"#/$defs/a{n}"}}
        level[f"a{n + 1}"] = {"type": "object", "properties": both}
    root = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a40"}}, "$defs": level}
    assert len(str(root)) < 5_000
    assert code_of(body(response_format=wanted(root))) == "request_format"


# -- anything ------------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["messages", "response_format", "max_tokens", "n", "stop", "seed", "model", "tools", "x"]
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(_NAMES, _VALUES, max_size=4), _VALUES)
def test_whatever_a_body_says(fields: dict[str, Any], content: Any) -> None:
    """It is a request, or ends with a known code; never with anything else."""
    for one in (fields, {**body(content), **fields}):
        try:
            request.read(data(one), ReadLimits(max_pixels=10_000))
            code = "empty"
        except DocumentError as error:
            code = error.code
        assert code in FAULTS


def test_the_same_body_has_the_same_bytes() -> None:
    """Order and white space of a line change nothing."""
    first = json.loads('{"a": 1, "b": {"d": 2, "c": "\\u00f1"}}')
    second = json.loads('{ "b":{"c":"ñ","d":2},"a":1 }')
    assert request.canonical(first) == request.canonical(second)
