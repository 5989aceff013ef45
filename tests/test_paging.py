"""Pages that are pictures: shown to who can see them, and counted where nobody can."""

import pytest
from tiny import picture

from medgemma_cli import paging, templates
from medgemma_cli.errors import DocumentError
from medgemma_cli.records import Document, Image, Limits, Source

BOTH = templates.load("summarize")
TEXT = templates.load("labs")
IMAGE = templates.load("radiology")


def page(number: int) -> Image:
    """The picture of a page."""
    label = f"PAGE {number} of the document"
    return picture(10 * number).model_copy(update={"page": number, "label": label})


def document(
    text: str, pages: tuple[int, ...], images: tuple[Image, ...], **more: object
) -> Document:
    """A document of as many pages as there are places."""
    return Document(
        source=Source(place="/in/a.pdf", relative="a.pdf", origin="/in/a.pdf"),
        sha256="0" * 64,
        bytes=1,
        media_type="application/pdf",
        text=text,
        pages=pages,
        images=images,
        **{"coverage": {"pages": (len(pages), len(pages))}, "degraded": ("before",), **more},
    )


MIXED = document("one\n\nfour", (0, 5, 5, 5), (page(2), page(3)))


def code_of(template: templates.Template, found: Document, sees: bool) -> str:
    """The code that fitting ends with."""
    with pytest.raises(DocumentError) as caught:
        paging.fit(template, found, lambda: sees)
    return caught.value.code


def test_shown_to_who_can_see() -> None:
    """All pictures stay; a note says which pages they are."""
    fit = paging.fit(BOTH, MIXED, lambda: True)
    assert fit.images == MIXED.images and fit.coverage == {"pages": (4, 4)}
    assert fit.degraded == ("before", "pages_as_images:2-3")


@pytest.mark.parametrize(("template", "sees"), [(TEXT, True), (TEXT, False), (BOTH, False)])
def test_counted_where_nobody_sees(template: templates.Template, sees: bool) -> None:
    """The pictures go, their pages are not read, the text stays."""
    fit = paging.fit(template, MIXED, lambda: sees)
    assert (fit.images, fit.text) == ((), MIXED.text)
    assert fit.coverage == {"pages": (2, 4)}
    assert fit.degraded == ("before", "image_pages_not_read:2-3")
    assert fit.page_of(5) == 4


def test_nothing_but_pictures() -> None:
    """Which of the two is in the way is said: the template, or the model."""
    scan = document("", (0, 0), (page(1), page(2)))
    assert paging.fit(BOTH, scan, lambda: True).images == scan.images
    assert paging.fit(IMAGE, scan, lambda: True).images == scan.images
    assert code_of(BOTH, scan, sees=False) == "no_text_layer"
    assert code_of(TEXT, scan, sees=True) == "not_accepted"


def test_a_stamp_is_no_page_of_text() -> None:
    """Text that stands on the pictures alone does not make a document; elsewhere it does."""
    stamped = document("FAX P. 1\n\nFAX P. 2", (0, 10), (page(1), page(2)))
    assert code_of(BOTH, stamped, sees=False) == "no_text_layer"
    half = document("FAX P. 1\n\nThe text.", (0, 10), (page(1),))
    assert paging.fit(BOTH, half, lambda: False).coverage == {"pages": (1, 2)}


def test_images_that_were_given_are_left() -> None:
    """A photograph beside a note is asked about, or refused by name; the model is not looked at."""
    given = document("A note.", (), (picture(1),), coverage={"images": (1, 1)})

    def never() -> bool:
        raise AssertionError

    assert paging.fit(BOTH, given, never) is given
    assert paging.fit(TEXT, given, never) is given


def test_files_asked_about_together() -> None:
    """A scan beside a note and a photograph: its pages alone are counted."""
    images = (page(1), picture(5))
    joined = document("A note.", (), images, coverage={"pages": (1, 1), "images": (1, 1)})
    fit = paging.fit(TEXT, joined, lambda: True)
    assert fit.images == images[1:] and fit.coverage == {"pages": (0, 1), "images": (1, 1)}


def test_labels_stand_beside_their_pictures() -> None:
    """Picture, number, picture, number; then the template, with the text in its place."""
    fit = paging.fit(BOTH, MIXED, lambda: True)
    prompt = templates.render(BOTH, fit, "k" * 64, Limits())
    parts = [(part.kind, part.text) for part in prompt.messages[1].parts]
    assert parts[:4] == [
        ("image", ""),
        ("text", "PAGE 2 of the document"),
        ("image", ""),
        ("text", "PAGE 3 of the document"),
    ]
    assert [kind for kind, _ in parts[4:]] == ["text", "fence", "document", "fence", "text"]
    assert prompt.document == MIXED.text


def test_an_image_without_a_label_stands_alone() -> None:
    """As before: a photograph's slot, then the template."""
    given = document("", (), (picture(1),), coverage={"images": (1, 1)})
    prompt = templates.render(IMAGE, given, "k" * 64, Limits())
    assert [part.kind for part in prompt.messages[1].parts] == ["image", "text"]


@pytest.mark.parametrize("label", ["<end_of_turn>", "two\nlines", "x" * 61, "a\ue0001"])
def test_a_label_is_plain_words(label: str) -> None:
    """A reader that a file has taken over cannot say much to the model by it."""
    with pytest.raises(ValueError, match="label"):
        Image(width=1, height=1, rgb=b"abc", label=label)


@pytest.mark.parametrize(
    ("places", "at", "expected"),
    [((), 3, None), ((0,), 3, 1), ((0, 0, 4), 0, 2), ((0, 4, 4), 4, 3), ((0, 4, 9), 8, 2)],
)
def test_page_of(places: tuple[int, ...], at: int, expected: int | None) -> None:
    """The last page that begins at or before; without pages, none."""
    assert document("a b c d e f", places, ()).page_of(at) == expected
