"""Showing text from outside: nothing in it acts on a terminal, on Markdown or on HTML."""

import html
import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text

from medgemma_cli.display import markdown_text, ranges, visible

ANY_TEXT = st.text(st.characters())  # lone surrogates, too
ACTING_TAG = re.compile(r"<(?!/?p>)[^>]*>")


def rendered(markdown: str) -> str:
    """Markdown as HTML, with raw HTML allowed: the most that a renderer would do."""
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\x9d0;title\x9c", r"\x9d0;title\x9c"),
        ("a\x00b\x08c\x7f", r"a\x00b\x08c\x7f"),
        ("a\r\nb\tc", r"a\x0d\x0ab\x09c"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2066x\u2069\u061c", r"\u2066x\u2069\u061c"),
        ("a\u200bb\u200db\u2060c\ufeffd", r"a\u200bb\u200db\u2060c\ufeffd"),
        ("so\xadft", r"so\xadft"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\U000e0041\U000e007f", r"\U000e0041\U000e007f"),
        ("\udcff\ud800", r"\udcff\ud800"),
    ],
    ids=ascii,
)
def test_what_acts_or_hides_is_shown_as_an_escape(text: str, shown: str) -> None:
    """Fault 93: control, C1, OSC, bidi, zero-width, tag and surrogate characters are visible."""
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    ["", "BP 120/80", "Señora 5 µg/kg — „ja“", "患者は安定", "שלום", "🩺👍🏽", r"C:\x1b", "a  b"],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Fault 93: letters of any script, symbols and emoji are no danger and are not touched."""
    assert visible(text) == text


@pytest.mark.parametrize("text", ["[/mg]", "[bold]x[/bold]", "[link=http://x]y[/link]", "[red]"])
def test_brackets_of_rich_markup_stay(text: str) -> None:
    """Fault 92: `[/mg]` in a note is text; it is neither escaped here nor lost by rich."""
    assert visible(text) == text
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(Text(visible(text)))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == f"{text}\n"


def test_newline_and_tab_survive_where_lines_are_kept() -> None:
    """Fault 93: with keep_lines only newline and tab pass; a carriage return does not."""
    assert visible("a\n\tb\r\n\x1b\x0b", keep_lines=True) == "a\n\tb\\x0d\n\\x1b\\x0b"


@given(ANY_TEXT)
def test_nothing_visible_is_a_control_character(text: str) -> None:
    """Fault 93: what comes out has no control, surrogate, separator or bidi character."""
    shown = visible(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not re.search("[\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", shown)
    shown.encode()


@given(ANY_TEXT)
def test_only_newline_and_tab_come_through_with_lines_kept(text: str) -> None:
    """Fault 93: keep_lines lets two characters pass and is otherwise as strict."""
    shown = visible(text, keep_lines=True)
    assert {c for c in shown if unicodedata.category(c) in {"Cc", "Cs"}} <= {"\n", "\t"}
    assert visible(shown.replace("\n", "").replace("\t", "")) == shown.replace("\n", "").replace(
        "\t", ""
    )


@given(ANY_TEXT)
def test_showing_twice_changes_nothing_more(text: str) -> None:
    """Fault 93: the second pass finds nothing left to escape."""
    assert visible(visible(text)) == visible(text)


# -- Markdown and HTML -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=http://evil.test/x.png>",
        "![x](http://evil.test/x.png)",
        "![x][ref]",
        "[click](http://evil.test)",
        "[click](javascript:alert(1))",
        "<http://evil.test>",
        "<a@evil.test>",
        "http://evil.test/x",
        "[x]: http://evil.test",
        "&lt;script&gt; &#60;b&#62; &amp;",
        "<!-- medgemma.summary/1 -->",
        "`code` ``more``",
        "*bold* __bold__ ~~gone~~",
        "| a | b |",
        "# heading",
        "\\<b>x</b>",
        "\\\\[x](y)",
        "<div\nonclick=x>",
        "]]> <?php ?> <![CDATA[",
    ],
)
def test_markdown_and_html_are_shown_not_run(text: str) -> None:
    """Fault 94: no tag, image, link or comment comes of it, and its words are all there."""
    out = rendered(f"x {markdown_text(text)}")
    assert not ACTING_TAG.search(out)
    assert html.unescape(re.sub("</?p>", "", out)).strip() == f"x {' '.join(text.split())}"


@pytest.mark.parametrize(
    "text", ["http://evil.test", "see https://evil.test/a?b=c", "ftp://x.test"]
)
def test_addresses_are_not_made_links(text: str) -> None:
    """Fault 94: renderers that link bare addresses find none."""
    assert "://" not in markdown_text(text)


@pytest.mark.parametrize("text", ["www.evil.test", "see WWW.evil.test/x"])
def test_addresses_without_a_scheme_are_not_made_links(text: str) -> None:
    """Fault 94: GitHub's renderer also links what begins with `www.`."""
    assert not re.search(r"\bwww\.\w", markdown_text(text), re.IGNORECASE)


def test_markdown_text_is_one_line() -> None:
    """Fault 94: a text with lines cannot begin a block of its own."""
    assert markdown_text("a\n\n# b\r\n- c\u2028d") == r"a \# b - c d"


def test_markdown_text_shows_control_characters() -> None:
    """Fault 93: ESC and bidi characters are visible in a summary, too."""
    assert html.unescape(rendered(markdown_text("x\x1b[2J\u202ey"))) == "<p>x\\x1b[2J\\u202ey</p>\n"


@given(st.text(alphabet=st.sampled_from("<>&\\`*_[]()!|~#:/\"'{}=-+ \nab1.;@")))
def test_any_mix_of_markup_is_shown_as_it_is(text: str) -> None:
    """Fault 94: rendered as Markdown, any text shows exactly its own characters."""
    out = rendered(f"x {markdown_text(text)}")
    assert not ACTING_TAG.search(out)
    assert html.unescape(re.sub("</?p>", "", out)).split() == ["x", *text.split()]


@given(ANY_TEXT)
def test_any_text_is_shown_whole(text: str) -> None:
    """Fault 94: no tag comes of any text, and nothing of it is lost in rendering."""
    out = rendered(f"x {markdown_text(text)}")
    assert not ACTING_TAG.search(out)
    shown = html.unescape(re.sub("</?p>", "", out)).strip()
    assert shown == f"x {visible(' '.join(text.split()))}".strip()


@pytest.mark.parametrize(
    ("numbers", "told"),
    [((), ""), ((3,), "3"), ((1, 2, 3, 7), "1-3,7"), ((1, 3, 5), "1,3,5"), ((4, 5), "4-5")],
)
def test_ranges(numbers: tuple[int, ...], told: str) -> None:
    """Neighbours are drawn together."""
    assert ranges(numbers) == told


def test_ranges_are_not_told_without_end() -> None:
    """After twenty there is an ellipsis."""
    assert ranges(range(1, 100, 2)).endswith("37,39,…")
