"""Damage to bytes, drawn by hypothesis: changed, cut, doubled, or numbers of note put in."""

from typing import Any

from hypothesis import strategies as st

# Small numbers, which hypothesis likes, are spread over the file (Knuth's multiplicative hash).
_PLACE = st.integers(0, 2**32 - 1).map(lambda n: (n * 2654435761 + 2**31) % 2**32 / 2**32)
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (
    *(number.to_bytes(4, "little") for number in _NUMBERS),
    *(number.to_bytes(4, "big") for number in _NUMBERS),
    b"\0" * 16, b"\xff" * 16, b"999999999", b"-1", b"{", b"[" * 50, b"<" * 20, b"(" * 50,
    b"\xed\xa0\x80", b"\x1b]52;", "\u202e\u2028".encode(), b"1e999", b"%n%s", b"\r\n\r\n",
)  # fmt: skip
_Edit = tuple[str, float, float, Any]


def _edits() -> st.SearchStrategy[_Edit]:
    how = st.sampled_from(["set", "put", "cut", "double", "flip", "end"])
    what = st.sampled_from(_WORDS) | st.binary(min_size=1, max_size=4)
    return st.tuples(how, _PLACE, _PLACE, what)


def damaged(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """One of the seeds with one to six things done to it."""
    edits = st.lists(_edits(), min_size=1, max_size=6)
    return st.builds(_apply, st.sampled_from(seeds), edits)


def _apply(seed: bytes, edits: list[_Edit]) -> bytes:
    data = bytearray(seed)
    for how, place, length, what in edits:
        at = int(place * len(data))
        some = int(length**4 * len(data))  # a few bytes mostly, half the file at times
        if how == "set":
            data[at : at + len(what)] = what
        elif how == "put":
            data[at:at] = what
        elif how == "cut":
            del data[at : at + some + 1]
        elif how == "double":
            data[at:at] = data[at : at + some + 1]
        elif how == "flip" and data:
            data[at] ^= 1 << int(length * 8)
        elif how == "end":
            del data[len(data) - some :]
    return bytes(data)
