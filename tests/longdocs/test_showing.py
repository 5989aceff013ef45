"""A part's prompt is the document's with a part of the text in its place."""

from long_kit import prompt_of

from medgemma_cli.longdocs.showing import document_of, notice, shown
from medgemma_cli.records import Image, Part

_TEXT = "Slept well tonight. " * 20
_IMAGE = Image(width=1, height=1, rgb=b"abc", introduction="CT", label="SLICE 1")


def _parts(kind: str, parts: tuple[Part, ...]) -> list[str]:
    return [part.text for part in parts if part.kind == kind]


def test_the_piece_stands_in_the_same_fence() -> None:
    """Between the same markers; what is said of it is before them."""
    prompt = prompt_of(_TEXT)
    made = shown(prompt, "Slept well.", first=True, said=notice(2, 3))
    before, after = _parts("fence", prompt.messages[1].parts)
    opened, closed = _parts("fence", made.messages[1].parts)
    assert made.document == "Slept well." and closed == after
    assert opened == f"Part 2 of 3 of one long document; answer about this part alone.\n{before}"


def test_images_are_in_the_first_part() -> None:
    """With the words beside them."""
    prompt = prompt_of(_TEXT, images=(_IMAGE, _IMAGE))
    first = shown(prompt, "a", first=True, said="")
    other = shown(prompt, "b", first=False, said="")
    assert len(first.images) == 2 == len(_parts("image", first.messages[1].parts))
    assert other.images == () and not _parts("image", other.messages[1].parts)
    assert not _parts("label", other.messages[1].parts)


def test_the_text_is_found_once() -> None:
    """Whatever stands around it; of a prompt without one there is none."""
    assert document_of(prompt_of(_TEXT)) == _TEXT
    assert document_of(prompt_of("", images=(_IMAGE,))) == ""
