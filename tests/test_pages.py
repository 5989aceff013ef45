"""Pages: a record as Markdown. Whatever a document or a model says stays text."""

import html
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from medgemma_cli.display import visible
from medgemma_cli.pages import page
from medgemma_cli.records import ErrorInfo, Flag, ModelInfo, Quote, Record, TemplateInfo

CREATED = "2026-01-02T03:04:05.000006+00:00"
ERROR = ErrorInfo(code="no_text", stage="read", hint="Export it again.")
FLAG = Flag(rule="truncated", severity="review", where="output", why="The answer stops early.")
HOSTILE = (
    "<script>x</script> ![i](http://evil.test) [l](http://evil.test) <http://evil.test> `c` **b** "
    "_e_ ~~s~~ <!-- c --> # h | p || \\| \\ &lt;b&gt; [r]: http://evil.test www.evil.test"
)
STARTS = ["- x", "+ y", "* z", "1. a", "2) b", "# h", "> q", "===", "---", "***", "```", "~~~"]
STARTS += ["| a |", "    c", "\tc", "<div>", "[r]: http://evil.test", "- [ ] todo", "Setext", "0."]
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ACTIVE = {"html_block", "html_inline", "link_open", "image", "fence", "code_block", "em_open"}
ACTIVE |= {"s_open", "hr", "blockquote_open"}


def record(**changes: Any) -> Record:
    """A record, ok unless changed."""
    finding = {"quote": "afebrile on arrival", "statement": "No fever"}
    plain: dict[str, Any] = {
        "key": "ab" * 32,
        "source": "ward/a.txt",
        "origin": "/in/ward/a.txt",
        "summary": "ward/a.txt.md",
        "sha256": "cd" * 32,
        "template": TemplateInfo(name="summarize", hash="ef" * 32),
        "model": ModelInfo(id="google/medgemma", revision="1a2b", precision="bf16", engine="local"),
        "status": "ok",
        "output": {"summary": "Stable.", "key_findings": [finding], "recommendations": []},
        "coverage": {"characters": (9, 10)},
        "created": CREATED,
        "notice": "Check against the source.",
    }
    return Record(**(plain | changes))


def quote(where: str, text: str, line: int | None = 1) -> Quote:
    """A quote that was found."""
    return Quote(text=text, start=0, end=len(text), where=where, line=line)


def body(output: dict[str, Any], *quotes: Quote, **changes: Any) -> str:
    """A page between its notice and its provenance."""
    text = page(record(output=output, quotes=quotes, **changes))
    return text.split("> Check against the source.\n\n", 1)[1].rpartition("\n---\n\n| prov")[0]


def tokens(text: str) -> list[Token]:
    """Every token of a Markdown text, inline ones too."""
    found: list[Token] = []
    for token in MARKDOWN.parse(text):
        found += [token, *(token.children or ())]
    return found


def shape(text: str) -> list[str]:
    """The kinds of a text's tokens, words aside."""
    return [token.type for token in tokens(text) if token.type not in ("text", "inline")]


def shown(text: str, inside: str) -> list[str]:
    """What a reader sees in every element of a kind, such as ``td``."""
    parsed = MARKDOWN.parse(text)
    texts = []
    for before, token in pairwise(parsed):
        if before.type == f"{inside}_open" and token.type == "inline":
            texts.append("".join(child.content for child in token.children or ()))
    return texts


def flat(text: str) -> str:
    """A text as it must be seen: on one line, nothing invisible."""
    return visible(" ".join(text.split()))


# -- the whole page ------------------------------------------------------------------------------


def test_an_ok_record_is_rendered_whole() -> None:
    """Notice, fields, evidence, empty lists and provenance are all in the page."""
    text = page(record(quotes=(quote("key_findings[0]", "afebrile on arrival", 3),)))
    for part in (
        "# ward/a.txt\n\n> Check against the source.\n\n",
        "## Summary\n\nStable.\n\n",
        "## Key findings\n\n- No fever \\[1\\]\n\n",
        "## Recommendations\n\nNone listed.\n\n",
        "## Evidence\n\n1. line 3: “afebrile on arrival”\n\n---\n",
        "google/medgemma at 1a2b, engine local",
        "9 characters of 10",
        "ok, attempt 1",
        CREATED,
    ):
        assert part in text, part
    assert "## Flags" not in text


def test_a_flagged_record_shows_its_flags() -> None:
    """The flag's severity, rule, reason and place are there beside the output."""
    text = page(record(status="flagged", flags=(FLAG,)))
    assert "- **review** `truncated` The answer stops early. (output)" in text
    assert "Stable." in text


def test_a_flag_names_what_is_flagged() -> None:
    """A few words stand with the reason; a whole sentence stands in the output anyway."""
    short = Flag(
        rule="number_mismatch", severity="review", where="summary", value="20 *mg*", why="No."
    )
    long = Flag(
        rule="unsupported", severity="note", where="summary", value="x" * 41, why="Not said."
    )
    text = page(record(status="flagged", flags=(short, long)))
    assert "- **review** `number_mismatch` 20 \\*mg\\*: No. (summary)" in text
    assert "- **note** `unsupported` Not said. (summary)" in text


def test_what_is_not_in_the_summary_is_listed() -> None:
    """Each omission a line, as text; no heading without any."""
    text = page(record(omissions=("medication: aspirin", "1. critical result: potassium <b>7</b>")))
    part = text.split("## Not in this summary\n\n", 1)[1]
    assert part.startswith("- medication: aspirin\n- ")
    assert "<b>" not in part.split("\n\n")[0]
    assert "Not in this summary" not in page(record())


@pytest.mark.parametrize(
    ("facts", "row"),
    [
        (None, "not checked"),
        (
            {"supported": 3, "contradicted": 0, "not_checked": 2},
            "3 supported, 0 contradicted, 2 not checked",
        ),
    ],
)
def test_a_page_says_how_much_was_checked(facts: dict[str, int] | None, row: str) -> None:
    """Counts in the provenance, so that no flags is not mistaken for checked."""
    assert f"| facts | {row} |" in page(record(facts=facts))


@pytest.mark.parametrize("status", ["failed", "rejected"])
def test_a_record_without_output_says_why(status: str) -> None:
    """Code, stage and next step stand where the summary would."""
    failed: dict[str, Any] = {"output": None, "sha256": None, "coverage": {}}
    text = page(record(status=status, error=ERROR, **failed))
    assert "## No summary was made" in text
    assert f"{status}: `no_text` (read). Export it again." in text
    assert "not read" in text
    assert "Key findings" not in text


def test_degraded_readings_are_named() -> None:
    """What was degraded is in the provenance, and nothing is called nothing."""
    text = page(record(degraded=("composited:white", "frame:1/3")))
    assert "composited:white, frame:1/3" in text
    assert "| degraded | nothing |" in page(record())


def test_the_same_record_is_the_same_page() -> None:
    """A page is a projection: the same text again, another for another record."""
    assert page(record()) == page(Record.model_validate_json(record().model_dump_json()))
    assert page(record()) != page(record(created="2027-01-02T03:04:05.000006+00:00"))


def test_a_name_with_a_newline_or_esc_is_shown_escaped() -> None:
    """Fault 34: the heading shows what the name holds, not a space or nothing."""
    title = MarkdownIt("commonmark").render(page(record(source="a\nb c\x1b[2J.txt")))
    assert r"<h1>a\x0ab c\x1b[2J.txt</h1>" in title


def test_control_characters_of_an_answer_are_visible() -> None:
    """Fault 93: ESC and bidi characters of the output stand in the page as escapes."""
    bad = "x\x1b]52;c;y\x07\u202ez"
    text = page(record(output={"summary": bad, "rows": [{"a": bad, "b": bad, "quote": bad}]}))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert text.count(r"\\x1b\]52;c;y\\x07\\u202ez") == 4


# -- nothing acts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ok", "flagged", "failed", "rejected"])
def test_nothing_from_outside_acts(status: str) -> None:
    """Fault 94: hostile names, answers, quotes and reasons make no tag, image or link."""
    failed = status in {"failed", "rejected"}
    lines = "\n".join([HOSTILE, *(f"{start} {HOSTILE}" for start in STARTS)])
    finding = {"statement": f"- {HOSTILE}", "quote": f"1) {HOSTILE}"}
    output = {
        "summary": lines,
        "key_findings": [finding, {"statement": "x", "quote": lines}],
        "rows": [{"a": lines, "b": [HOSTILE, {"c": HOSTILE}], "quote": HOSTILE}] * 2,
        "recommendations": [HOSTILE, *STARTS],
        "nested": {"a": HOSTILE, "b": [HOSTILE]},
        "n": 3,
    }
    made = record(
        output=None if failed else output,
        status=status,
        source=HOSTILE,
        error=ERROR if failed else None,
        quotes=(quote("key_findings[0]", HOSTILE),),
        flags=(FLAG.model_copy(update={"why": HOSTILE, "where": HOSTILE}),),
        degraded=(HOSTILE,),
    )
    found = tokens(page(made))
    kinds = [token.type for token in found]
    assert not ACTIVE - {"hr", "blockquote_open"} & set(kinds)
    assert (kinds.count("hr"), kinds.count("blockquote_open")) == (1, 1)
    tags = [token.tag for token in found if token.type == "heading_open"]
    assert tags == ["h1"] + ["h2"] * (2 if failed else len(output) + 2)
    assert kinds.count("table_open") == (1 if failed else 2)
    assert "<script>x</script>" in html.unescape(MARKDOWN.render(page(made)))


TEXTS = st.one_of(
    st.sampled_from([*STARTS, HOSTILE, "a\n\nb", "|", "\\", "x\n| - |\n| - |", "&amp;", "a\x85b"]),
    st.text(max_size=30),
    st.text("-+*#>|`~_=<>![]()&\\:;.) \n\tax1", max_size=20),
).filter(lambda text: bool(flat(text)))
VALUES = st.one_of(TEXTS, st.booleans(), st.none(), st.integers(), st.floats())
CELLS = st.one_of(VALUES, st.lists(VALUES, max_size=2))


def a_row(cells: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Rows of two cells and a quote, in the order of their columns."""
    return st.tuples(cells, cells, TEXTS).map(
        lambda row: dict(zip("ab", row, strict=False)) | {"quote": row[2]}
    )


ROWS = st.lists(a_row(CELLS), max_size=3)
FINDINGS = st.lists(st.fixed_dictionaries({"quote": TEXTS, "statement": TEXTS}), max_size=3)
OUTPUTS = st.fixed_dictionaries(
    {"text": TEXTS.map(flat), "list": st.lists(VALUES, max_size=3), "found": FINDINGS, "rows": ROWS}
)


def plain(value: Any) -> Any:
    """The same value with an x for every text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return "x" if isinstance(value, str) else value


@settings(deadline=None)
@given(OUTPUTS)
def test_no_text_changes_the_shape_of_a_page(output: dict[str, Any]) -> None:
    """Any words make the same headings, lists, tables and cells as the word x."""
    assert shape(body(output)) == shape(body(plain(output)))


@settings(deadline=None)
@given(st.lists(a_row(TEXTS), min_size=1, max_size=4))
def test_a_cell_shows_exactly_its_text(rows: list[dict[str, str]]) -> None:
    """Every cell reads as it was written, pipes and backslashes too; every quote, too."""
    text = body({"rows": rows})
    cells = [cell for i, row in enumerate(rows, 1) for cell in (row["a"], row["b"], f"[{i}]")]
    assert shown(text, "td") == [flat(cell) for cell in cells]
    evidence = [f"not in the source: “{flat(row['quote'])}”" for row in rows]
    assert shown(text, "paragraph") == evidence


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_list_item_shows_exactly_its_text(items: list[str]) -> None:
    """An item that begins like a list, a heading or a rule is an item of words."""
    assert shown(body({"items": items}), "paragraph") == [flat(item) for item in items]


@pytest.mark.parametrize("start", STARTS)
def test_statements_that_begin_like_markup(start: str) -> None:
    """A statement, a quote and a value that begin with markup are words in their place."""
    finding = {"quote": f"{start} q", "statement": f"{start} s"}
    text = body({"found": [finding], "one": finding, "value": f"{start} v"})
    seen = shown(text, "paragraph")
    assert seen[:3] == [f"{flat(start)} s [1]", f"{flat(start)} s [2]", f"{flat(start)} v"]
    assert seen[3:] == [f"not in the source: “{flat(start)} q”"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        "Title\n===\n---\n***",
        "x\n# h\n- a\n1. b\n> c\n```\nd\n```\n    e\n\tf\n<div>\n</div>",
        "| a | b |\n| - | - |\n| c | d |",
        "a\u2028# b\x0b- c\x0c1. d\x85> e",
        "a | b\n:--\nc",
        ": a\n:-: | :-:",
    ],
)
def test_lines_of_a_free_answer_are_paragraphs(answer: str) -> None:
    """An answer over many lines keeps them and none of them acts."""
    kinds = set(shape(body({"answer": answer})))
    paragraph = {"paragraph_open", "paragraph_close", "softbreak"}
    assert kinds <= {"heading_open", "heading_close"} | paragraph


def test_option_names_are_words() -> None:
    """A template's options may hold anything; beside their probabilities they do nothing."""
    options = {HOSTILE: 0.75, "- no|": 0.25}
    sure = {"method": "choice_probability", "value": 0.75, "options": options}
    output = {"answer": HOSTILE}
    text = body(output, confidence={**sure, "fields": {"answer": sure}})
    assert not ACTIVE & set(shape(text))
    (seen,) = shown(text, "paragraph")
    told = f"(the model's probabilities: {flat(HOSTILE)} 0.75, - no| 0.25)"
    assert seen == f"{flat(HOSTILE)} {told}"


def test_www_after_an_underscore_is_no_link() -> None:
    r"""GFM links `www.` after `*`, `_`, `~` and `(`; `\b` does not see the underscore."""
    for before in "*_~(":
        assert "www." not in body({"summary": f"{before}www.evil.test"})


# -- evidence --------------------------------------------------------------------------------------


def test_every_finding_has_its_number_over_all_fields() -> None:
    """Numbers run on from field to field; below, each has the quote and the line of the source."""
    output = {
        "first": [{"quote": "a b c", "statement": "A"}, {"quote": "d e f", "statement": "B"}],
        "reason": {"quote": "g h i", "statement": "C"},
        "other": "not stated",
        "rows": [{"quote": "j k l", "x": "D", "y": "1"}, {"quote": "m n o", "x": "E", "y": "2"}],
        "last": [{"quote": "p q r", "statement": "F"}],
    }
    places = ["first[0]", "first[1]", "reason", "rows[0]", "rows[1]", "last[0]"]
    texts = ["a b c", "d e f", "g h i", "j k l", "m n o", "p q r"]
    found = [quote(w, t, n) for n, (w, t) in enumerate(zip(places, texts, strict=True), 7)]
    text = body(output, *reversed(found))
    assert re.findall(r"\\\[(\d+)\\\]", text) == ["1", "2", "3", "4", "5", "6"]
    for number, (line, words) in enumerate(zip(range(7, 13), texts, strict=True), 1):
        assert f"\n{number}. line {line}: “{words}”\n" in text
    assert shown(text, "paragraph")[:4] == ["A [1]", "B [2]", "C [3]", "not stated"]
    assert shown(text, "td") == ["D", "1", "[4]", "E", "2", "[5]"]


def test_a_quote_that_was_not_found_says_so() -> None:
    """Its number stays; its evidence says that it is not in the source, and no line."""
    two = [{"quote": "a b c", "statement": "A"}, {"quote": "not there", "statement": "B"}]
    text = body({"found": two}, quote("found[0]", "a b c", 4))
    assert "1. line 4: “a b c”\n2. **not in the source**: “not there”" in text
    assert text.count("line ") == 1


def test_evidence_shows_the_words_of_the_source() -> None:
    """Found with white space folded, a quote over two lines is shown on one."""
    one = {"quote": "a b c", "statement": "A"}
    text = body({"found": [one]}, quote("found[0]", "a\n  b\tc", 2))
    assert "1. line 2: “a / b c”" in text


def test_the_same_words_twice_are_two_numbers() -> None:
    """Each finding has evidence of its own."""
    row = {"quote": "a b c", "statement": "A"}
    text = body({"x": [row], "y": row}, quote("x[0]", "a b c", 1), quote("y", "a b c", 9))
    assert "1. line 1: “a b c”\n2. line 9: “a b c”" in text


@settings(max_examples=15, deadline=None)
@given(st.integers(min_value=1, max_value=60))
def test_numbers_are_consecutive(count: int) -> None:
    """As many as a list may have, the numbers of findings and of evidence are the same."""
    output = {"found": [{"quote": f"q {i}", "statement": f"s {i}"} for i in range(count)]}
    text = body(output)
    wanted = [str(i) for i in range(1, count + 1)]
    assert re.findall(r"\\\[(\d+)\\\]", text) == wanted
    assert re.findall(r"^(\d+)\. \*\*not", text, re.MULTILINE) == wanted
    assert shape(text).count("ordered_list_open") == 1


@pytest.mark.parametrize("found", [True, False])
def test_a_statement_in_the_words_of_its_quote(found: bool) -> None:
    """Models repeat a quote as the statement; it is still one finding with one number."""
    one = {"quote": "a b c", "statement": "a b c"}
    rule = "quote_not_in_source"
    flag = Flag(rule=rule, severity="review", where="found[0]", value="a b c", why="Not there.")
    text = (
        body({"found": [one]}, quote("found[0]", "a b c", 2))
        if found
        else body({"found": [one]}, flags=(flag,))
    )
    assert re.findall(r"\\\[(\d+)\\\]", text.partition("## Flags")[0]) == ["1"]


def test_no_quotes_no_evidence() -> None:
    """Findings about an image are statements, and there is no empty section."""
    text = body({"found": [{"statement": "Left basal opacity"}], "one": {"statement": "X"}})
    assert "- Left basal opacity\n" in text
    assert "Evidence" not in text and "[" not in text


NESTED: list[tuple[dict[str, Any], str]] = [
    ({"a": {"b": {"quote": "q r s", "statement": "t"}}}, "a.b"),
    ({"a": {"b": [{"quote": "q r s", "statement": "t"}]}}, "a.b[0]"),
    ({"a": [[{"quote": "q r s", "statement": "t"}]]}, "a[0][0]"),
    ({"a": [{"x": 1, "y": [{"quote": "q r s", "statement": "t"}]}]}, "a[0].y[0]"),
    ({"a": "q r s"}, "a"),
    ({"a": ["q r s"]}, "a[0]"),
    ({"a": [{"proof": "q r s", "statement": "t"}]}, "a[0]"),
]


@pytest.mark.parametrize(("output", "where"), NESTED)
def test_a_quote_anywhere_has_its_evidence(output: dict[str, Any], where: str) -> None:
    """Deeper in objects and lists, bare, or under another name: a number and a line, too."""
    assert "1. line 5: “q r s”" in body(output, quote(where, "q r s", 5))


@pytest.mark.parametrize("line", [None, 7])
def test_a_record_of_an_earlier_version(line: int | None) -> None:
    """Quotes had no line and no `where`: neither "line None" nor "not in the source" is true."""
    one = {"quote": "a b c", "statement": "A"}
    where = "" if line else "found[0]"
    text = body({"found": [one]}, quote(where, "a b c", line))
    assert "None" not in text and "not in the source" not in text


# -- tables ----------------------------------------------------------------------------------------


def test_rows_are_a_table_with_a_cell_a_column() -> None:
    """Booleans, null, numbers, lists and objects have a cell each that says what they are."""
    rows = [
        {"analyte_name": "Na", "value": True, "unit": None, "all": ["a", 1, False], "n": 0},
        {"analyte_name": "K", "value": False, "unit": "", "all": [], "n": 1.5},
    ]
    text = body({"results": rows})
    assert shown(text, "th") == ["Analyte name", "Value", "Unit", "All", "N", "Evidence"]
    cells = ["Na", "yes", "not stated", "a; 1; no", "0", "", "K", "no", "", "none stated", "1.5"]
    assert shown(text, "td") == [*cells, ""]
    assert shape(text).count("tr_open") == 3


def test_an_object_in_a_cell() -> None:
    """Its values stand in one cell, pipes and newlines as words."""
    text = body({"r": [{"a": {"x": "1|2", "y": ["3\n| 4"]}, "b": "z"}]})
    assert shown(text, "td") == ["X: 1|2; Y: 3 | 4", "z", ""]


def test_no_rows_are_said() -> None:
    """Empty lists, empty texts and null are not left to guess."""
    text = body({"results": [], "comment": None, "flag": False})
    assert text.startswith("## Results\n\nNone listed.\n\n## Comment\n\nnot stated\n")
    assert "## Flag\n\nno\n" in text


def test_a_finding_is_no_row() -> None:
    """A quote and one more value are an item of a list, not a table."""
    text = body({"found": [{"quote": "a b c", "statement": "A"}]})
    assert "table_open" not in shape(text)


@pytest.mark.parametrize("other", ["not stated", "a quote of it", None, 3, ["x"]])
def test_rows_among_other_values(other: Any) -> None:
    """A JSON Schema's `anyOf` may put a word or null among objects; the page shows both."""
    text = body({"rows": [{"a": "left", "b": "right"}, other]})
    assert "left" in text and "right" in text


def test_rows_of_other_columns() -> None:
    """No value of an output is left out of its page, whatever the first row has."""
    text = body({"rows": [{"a": "left", "b": "right"}, {"a": "up", "z": "down"}]})
    assert "down" in text


# -- values ----------------------------------------------------------------------------------------


def test_an_object_says_what_its_values_are() -> None:
    """120; 80 alone could be anything."""
    text = body({"pressure": {"systolic": 120, "diastolic": 80}}).lower()
    assert "systolic" in text and "diastolic" in text


@pytest.mark.parametrize(("name", "title"), [("INR", "INR"), ("HbA1c_now", "HbA1c now")])
def test_a_title_keeps_the_letters_of_its_field(name: str, title: str) -> None:
    """Capitals inside a clinical name mean something."""
    assert f"## {title}\n" in body({name: "x"})


LEAVES = st.recursive(
    st.text("abc", min_size=1, max_size=5) | st.integers(0, 9),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from("xyz"), below, min_size=1, max_size=1)
    ),
    max_leaves=6,
)


def words(value: Any) -> list[str]:
    """Every value in a value, in order."""
    if isinstance(value, dict):
        return [word for item in value.values() for word in words(item)]
    if isinstance(value, list):
        return [word for item in value for word in words(item)]
    return [str(value)]


@given(LEAVES)
def test_nested_values_are_all_shown_in_order(value: Any) -> None:
    """Objects of lists of objects: every value stands in the page, in its order."""
    text = body({"field": value})
    at = 0
    for word in words(value):
        at = text.index(word, at) + len(word)


# -- confidence ------------------------------------------------------------------------------------


def chosen(value: str, **options: float) -> dict[str, Any]:
    """A record's confidence in one choice."""
    field = {"method": "choice_probability", "value": options.get(value, 0.0), "options": options}
    return {"method": field["method"], "value": field["value"], "fields": {"answer": field}}


def test_a_choice_shows_the_models_probabilities() -> None:
    """Each option's, and whose they are."""
    text = body({"answer": "yes"}, confidence=chosen("yes", yes=0.912, no=0.08, other=0.008))
    assert "yes (the model's probabilities: yes 0.91, no 0.08, other 0.01)" in text


def test_a_choice_in_doubt_is_uncertain_beside_its_probabilities() -> None:
    """What was decided and what it was decided from stand in one line."""
    text = body({"answer": "uncertain"}, confidence=chosen("yes", yes=0.55, no=0.45))
    assert "uncertain (the model's probabilities: yes 0.55, no 0.45)" in text


@pytest.mark.parametrize("method", ["choice_probability", "token_probability"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_confidence_never_reads_as_certainty(method: str, value: float) -> None:
    """The number is named by its method and says what it is not."""
    fields = {"summary": {"method": "token_probability", "value": value, "mean": value}}
    text = page(record(confidence={"value": value, "method": method, "fields": fields}))
    (line,) = [line for line in text.splitlines() if "confidence" in line]
    number, _, rest = line.removeprefix("| confidence | ").partition(", ")
    assert number == f"{value:.2f}"
    assert rest.startswith(method.replace("_", r"\_"))
    assert "how likely the model was to write it, not how likely it is to be true" in rest
    assert not re.search(r"certain|sure\b|correct|accura|\d ?%", text, re.IGNORECASE)


def test_no_confidence_is_said() -> None:
    """An engine that cannot tell has none, and the page says so."""
    assert "| confidence | not measured |" in page(record())


def test_token_probabilities_stay_in_the_record() -> None:
    """A text's field has no number beside it that could read as its truth."""
    fields = {"summary": {"method": "token_probability", "value": 0.99, "mean": 0.99}}
    sure = {"value": 0.99, "method": "token_probability", "fields": fields}
    assert "0.99" not in body({"summary": "Stable."}, confidence=sure)
