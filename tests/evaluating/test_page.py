"""The HTML page: everything escaped, nothing fetched, what is drawn is what was measured."""

import re
from html.parser import HTMLParser

import pytest

from medgemma_cli.evaluating.bootstrap import Figure
from medgemma_cli.evaluating.calibration import Bin
from medgemma_cli.evaluating.page import MARK, Report, render

EVIL = "<script>alert('1')</script>&\"'\x1b[31m"
FIGURES = [
    Figure("rougeL", "ROUGE-L", 20, 0.25, 0.2, 0.3),
    Figure("bleu", "BLEU", 20, 31.5, 28.0, 35.25),
    Figure("quotes", "quotes", 0, None),
    Figure("auroc", "AUROC", 20, None, 0.5, 0.75),
]


class Tags(HTMLParser):
    """Collects the tags, the attributes and whether what was opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag begins."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "line", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that is its own end."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        """A tag ends."""
        if tag not in ("circle",) or (self.open and self.open[-1] == tag):
            assert self.open.pop() == tag


def page(**changes: object) -> tuple[str, Tags]:
    """A page and its tags."""
    bins = changes.pop("bins", ())
    made = Report("summaries", {"documents": 20}, FIGURES, ("Not correctness.",))
    text = render(made._replace(**changes), bins)  # type: ignore[arg-type]
    tags = Tags()
    tags.feed(text)
    return text, tags


def test_a_page_is_whole() -> None:
    """What is opened is closed; it is known again as such a page by its first bytes."""
    text, tags = page()
    assert tags.open == [] and text.startswith("<!doctype html>")
    assert MARK in text.encode()[:400]


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """No script, no link, no image, no style from elsewhere; a policy that forbids it."""
    text, tags = page(bins=[Bin(5, 0.2, 0.4)])
    forbidden = {"script", "link", "img", "iframe", "object", "embed", "a", "use", "image"}
    assert forbidden.isdisjoint(tags.tags)
    names = {name for name, _ in tags.attributes}
    assert names.isdisjoint({"src", "href", "xlink:href", "action"})
    assert not any(name.startswith("on") for name in names)
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "") and "url(" not in text


@pytest.mark.parametrize("place", ["facts", "name", "label", "notes", "kind"])
def test_everything_is_escaped(place: str) -> None:
    """Whatever comes from outside is shown and does nothing."""
    changes: dict[str, object] = {
        "facts": {"facts": {"models": EVIL}},
        "name": {"facts": {EVIL: 1}},
        "label": {"figures": [Figure("x", EVIL, 5, 0.5, 0.4, 0.6)]},
        "notes": {"notes": (EVIL,)},
        "kind": {"kind": EVIL},
    }[place]  # type: ignore[assignment]
    text, tags = page(**changes)
    assert "script" not in tags.tags and "&lt;script&gt;" in text and tags.open == []


def test_control_characters_are_made_visible() -> None:
    """A terminal's escape or a change of direction in a name is shown as such."""
    text, _ = page(facts={"models": "a\x1b[31m\u202eb"})
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b" in text


def test_the_table_has_every_figure() -> None:
    """With three digits; a dash where nothing is known."""
    text, _ = page()
    rows = re.findall(r"<tr><td>(.*?)</td>(.*?)</tr>", text)
    cells = {name: re.findall(r">([^<]*)</td>", rest) for name, rest in rows}
    assert cells["ROUGE-L"] == ["0.250", "0.200", "0.300", "20"]
    assert cells["BLEU"] == ["31.500", "28.000", "35.250", "20"]
    assert cells["quotes"] == ["–", "–", "–", "0"]
    assert cells["AUROC"] == ["–", "0.500", "0.750", "20"]


def test_what_lies_from_0_to_1_is_drawn() -> None:
    """An interval a line, a value a circle; BLEU's scale is another."""
    text, tags = page()
    assert tags.tags.count("svg") == 1 and tags.tags.count("circle") == 1
    # 260 + 360 · 0.2 … 0.3, and the value at 0.25.
    assert 'x1="332.0" x2="368.0"' in text and 'cx="350.0"' in text
    assert ">BLEU</text>" not in text and ">AUROC</text>" in text


def test_nothing_to_draw() -> None:
    """No interval, no plot; the words stay."""
    text, tags = page(figures=[Figure("q", "quotes", 0, None)])
    assert "svg" not in tags.tags and "Not correctness." in text


def test_reliability_is_drawn() -> None:
    """A circle a bin at its mean score and share, its area by its items, and a table of them."""
    text, tags = page(figures=[], bins=[Bin(25, 0.1, 0.2), Bin(100, 0.9, 0.8)])
    assert tags.tags.count("circle") == 2 and tags.open == []
    assert 'cx="84.0" cy="282.0" r="7.5"' in text
    assert 'cx="356.0" cy="78.0" r="12.0"' in text
    assert "<title>25 items</title>" in text


def test_plots_have_words() -> None:
    """What a picture shows is said for those who cannot see it, and stands in a table."""
    _, tags = page(bins=[Bin(5, 0.2, 0.4)])
    labels = [value for name, value in tags.attributes if name == "aria-label"]
    assert len(labels) == 2 and all(labels)
