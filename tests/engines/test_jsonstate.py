"""Where a JSON text stands, after every byte of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_cli.engines.jsonstate import JsonState

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def after(text: str) -> JsonState:
    """The state behind a text."""
    state = JsonState()
    state.feed(text.encode())
    return state


def _inside(text: str) -> bool:
    """Whether a prefix of a JSON text ends inside a string, by the book."""
    inside = escaped = False
    for character in text:
        if inside and not escaped and character == '"':
            inside = False
        elif not inside:
            inside = character == '"'
        escaped = inside and character == "\\" and not escaped
    return inside


@given(value=values)
def test_in_string_at_every_character(value: Any) -> None:
    """Quotation marks and backslashes inside strings included."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for end in range(len(text) + 1):
        state = after(text[:end])
        assert state.in_string == _inside(text[:end])
        assert state.size == end


@given(text=st.text(max_size=30), cut=st.integers(0, 40))
def test_pieces_make_no_difference(text: str, cut: int) -> None:
    """A token may end inside a character; size counts a character at its first byte."""
    data = json.dumps({"k": text}, ensure_ascii=False).encode()
    state = JsonState()
    state.feed(data[:cut])
    state.feed(data[cut:])
    whole = after(data.decode())
    assert vars(state) == vars(whole)
    assert state.size == len(data.decode())


@pytest.mark.parametrize(
    ("text", "path", "in_string", "string", "last"),
    [
        ("", "", False, b"", b""),
        ("{", "", False, b"", b"{"),
        ('{"a":', "a", False, b"a", b":"),
        ('{"a":"', "a", True, b"", b'"'),
        ('{"a":"b:c', "a", True, b"b:c", b'"'),
        ('{"a":"x","b', "a", True, b"b", b'"'),
        ('{"a":"x","b":[1', "b[]", False, b"b", b"1"),
        ('{"befund_ä":-', "befund_ä", False, "befund_ä".encode(), b"-"),
        ('{"a":"say \\"hi', "a", True, b'say \\"hi', b'"'),
        ('{"a":"back\\\\"', "a", False, b"back\\\\", b'"'),
        ('{"a":{"b":true}', "a", False, b"b", b"}"),
        ('{"a":{"b":[{"c":"', "a.b[].c", True, b"", b'"'),
        ('{"a":[[1,2],[', "a[][]", False, b"a", b"["),
        ('{"a":[{"b":1},', "a[]", False, b"b", b","),
    ],
)
def test_states(text: str, path: str, in_string: bool, string: bytes, last: bytes) -> None:
    """Places, values, numbers, escapes."""
    state = after(text)
    found = (state.path, state.in_string, state.string, state.last)
    assert found == (path, in_string, string, last)


def test_a_copy_goes_on_by_itself() -> None:
    """Reading on in the copy leaves the original."""
    state = after('{"a":"x')
    other = state.copy()
    other.feed(b'y","b":')
    assert (state.path, state.string, state.size) == ("a", b"x", 7)
    assert (other.path, other.in_string) == ("b", False)
    other.feed(b"{")
    assert state.path == "a"
