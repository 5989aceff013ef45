"""What an engine wrote: validated, its places known, its quotes listed, its choices settled."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medgemma_cli.contracts import contract
from medgemma_cli.decoding import Output, parse, quotes, settle
from medgemma_cli.jsonplaces import leaves
from medgemma_cli.records import ChoiceScore, Contract, Generation

BLOCK: dict[str, Any] = {
    "summary": "text",
    "key_findings": ["finding"],
    "risk_level": "low | high",
    "recommendations": ["text"],
}
CONTRACT = contract(BLOCK)
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def answer(**changes: Any) -> str:
    """A valid answer, with changes."""
    value = {
        "summary": "Stable angina.",
        "key_findings": [{"quote": "BP 160/95 mmHg", "statement": "BP was raised"}],
        "risk_level": "low",
        "recommendations": ["Repeat in 2/52"],
    }
    return json.dumps({**value, **changes})


def finding(quote: str, statement: str = "BP was raised") -> dict[str, str]:
    """A finding."""
    return {"quote": quote, "statement": statement}


# -- parse ----------------------------------------------------------------------------------


def test_parse() -> None:
    """A valid answer comes back as written."""
    output = parse(CONTRACT, answer())
    assert output.fields == json.loads(answer())
    assert list(output.fields) == list(BLOCK)
    assert output.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure! Here is the JSON",
        answer()[:-1],
        answer() + answer(),
        "[" + answer() + "]",
        "null",
        "{}",
        answer(risk_level="severe"),
        answer(extra=1),
        answer(summary=""),
        answer(summary=None),
        answer(key_findings=[]),
        answer(key_findings=[{"statement": "no quote here"}]),
        answer(key_findings=[{"quote": "no statement here"}]),
        answer(key_findings=[{**finding("a b c"), "certainty": 1}]),
        answer(key_findings=[finding("")]),
        answer(summary="x" * 5000),
        answer(summary="line\nbreak in a text"),
        '{"summary": "\\ud800 lone surrogate"}',
        answer(summary="\ud800 lone surrogate").replace("\\ud800", "\ud800"),
        "[" * 100_000,
        answer(key_findings=1).replace("1", "9" * 10_000),
    ],
    ids=range(22),
)
def test_what_does_not_fit_is_an_error_without_text(text: str) -> None:
    """A ValueError that quotes nothing of the answer."""
    with pytest.raises(ValueError, match="does not fit") as caught:
        parse(CONTRACT, text)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("kind", "written"),
    [("number", "NaN"), ("number", "Infinity"), ("number", "1e999"), ("integer", "1.5")],
)
def test_what_is_no_number_is_refused(kind: str, written: str) -> None:
    """JSON has no NaN, and a record is JSON."""
    with pytest.raises(ValueError, match="does not fit"):
        parse(contract({"a": kind}), f'{{"a":{written}}}')


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("boolean", '"no"'),
        ("boolean", "0"),
        ("integer", '" 5 "'),
        ("integer", "true"),
        ("number", '"5"'),
        ("number", "false"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, written: str) -> None:
    """Kept or refused, never changed on the way through."""
    with pytest.raises(ValueError, match="does not fit"):
        parse(contract({"a": kind}), f'{{"a":{written}}}')


def test_repeats_are_dropped_and_noted() -> None:
    """The same item twice is one item: the first."""
    output = parse(CONTRACT, answer(recommendations=["one of them", "the other", "one of them"]))
    assert output.fields["recommendations"] == ["one of them", "the other"]
    assert output.notes == ("repeats_dropped:recommendations:1",)


def test_a_finding_that_repeats_a_quote_is_dropped() -> None:
    """Said twice of the same words: the first statement is kept."""
    findings = [
        finding("a b c", "First statement"),
        finding("d e f", "Another of them"),
        finding("a b c", "Second statement"),
        finding("d e f", "Another of them"),
    ]
    output = parse(CONTRACT, answer(key_findings=findings))
    assert output.fields["key_findings"] == findings[:2]
    assert output.notes == ("repeats_dropped:key_findings:2",)


def test_the_same_statement_of_other_words_is_kept() -> None:
    """Two places that say the same are two findings."""
    findings = [finding("a b c"), finding("d e f")]
    output = parse(CONTRACT, answer(key_findings=findings))
    assert (output.fields["key_findings"], output.notes) == (findings, ())


def test_a_finding_without_its_quote_counts_by_its_statement() -> None:
    """Of an image."""
    made = contract(BLOCK, quotable=False)
    items = [{"statement": "Left basal opacity"}, {"statement": "No effusion"}]
    output = parse(made, answer(key_findings=[*items, items[0]]))
    assert output.fields["key_findings"] == items


def test_repeats_below_an_object_are_dropped() -> None:
    """By the path of the list."""
    made = contract({"a": {"b": ["text(9)"]}})
    output = parse(made, '{"a": {"b": ["x", "x", "y"]}}')
    assert output[:2] == ({"a": {"b": ["x", "y"]}}, ("repeats_dropped:a.b:1",))


@pytest.mark.parametrize("block", [{"a": [["text(9)"]]}, {"a": [{"b": ["text(9)"]}]}])
def test_repeats_inside_items_are_dropped(block: dict[str, Any]) -> None:
    """Lists in lists are lists."""
    inner: Any = ["x", "x"] if isinstance(block["a"][0], list) else {"b": ["x", "x"]}
    assert parse(contract(block), json.dumps({"a": [inner]})).notes


def test_two_results_of_one_line_are_two_results() -> None:
    """`labs`: a line of a report holds several results, and each quotes it."""
    made = contract({"results": [{"quote": "quote", "analyte": "text(60)", "value": "text(20)"}]})
    rows = [
        {"quote": "Na 140 K 6.9", "analyte": "Na", "value": "140"},
        {"quote": "Na 140 K 6.9", "analyte": "K", "value": "6.9"},
    ]
    assert parse(made, json.dumps({"results": rows})).fields["results"] == rows


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_each_item_stays_once_in_its_order(items: list[str]) -> None:
    """What is kept are the first of equal items; the note counts the others."""
    made = contract({"a": ["text(1)", "0..8"]})
    output = parse(made, json.dumps({"a": items}))
    assert output.fields["a"] == list(dict.fromkeys(items))
    dropped = len(items) - len(set(items))
    noted = [note for note in output.notes if note.startswith("repeats_dropped:")]
    assert noted == ([f"repeats_dropped:a:{dropped}"] if dropped else [])


@pytest.mark.parametrize(
    ("kind", "value", "noted"),
    [
        ("text", "x" * 500, ["a"]),
        ("text", "x" * 499, []),
        ("text(5)", "héllo", ["a"]),
        ("text(5)", 'a"\\"', []),
        ("text(5) | word", "12345", ["a"]),
        ("low | high", "high", []),
        ("integer", 5, []),
        (["text(3)"], ["ab", "abc", "x"], ["a[1]"]),
        ({"b": [{"c": "text(3)"}]}, {"b": [{"c": "a"}, {"c": "abc"}]}, ["a.b[1].c"]),
        ("quote", "x" * 2500, []),
        ("statement", "x" * 160, ["a"]),
    ],
)
def test_a_text_at_its_bound_is_noted(kind: Any, value: Any, noted: list[str]) -> None:
    """Cut by the grammar is not silent; characters count, not escapes."""
    output = parse(contract({"a": kind}), json.dumps({"a": value}))
    assert output.notes == tuple(f"at_bound:{path}" for path in noted)


def test_a_word_in_a_texts_place_is_not_cut() -> None:
    """Longer than the text may be, but whole."""
    assert parse(contract({"a": "text(5) | not stated"}), '{"a": "not stated"}').notes == ()


def test_a_note_names_the_item_as_it_stands_in_the_output() -> None:
    """After a repeat was dropped, too."""
    output = parse(contract({"a": ["text(3)"]}), '{"a": ["x", "x", "abc"]}')
    assert output[:2] == ({"a": ["x", "abc"]}, ("repeats_dropped:a:1", "at_bound:a[1]"))


def test_without_text_there_is_no_quote() -> None:
    """Findings about an image are statements alone."""
    made = contract(BLOCK, quotable=False)
    value = answer(key_findings=[{"statement": "Left basal opacity"}])
    assert parse(made, value).fields["key_findings"]
    with pytest.raises(ValueError, match="does not fit"):
        parse(made, answer())


def test_free_text() -> None:
    """`output: text` is the answer, trimmed, whatever it looks like."""
    assert parse(contract("text"), " yes \n") == Output({"answer": "yes"})
    assert parse(contract("text"), '{"a": 1}').fields == {"answer": '{"a": 1}'}


@given(summary=st.text(min_size=1, max_size=500))
@example("a\u2028b\u0085c d e")
@example("ab cd ef \ud800")
def test_any_text_is_kept_or_refused(summary: str) -> None:
    """Never changed on the way through."""
    try:
        output = parse(CONTRACT, answer(summary=summary))
    except ValueError:
        return
    assert output.fields["summary"] == summary


# -- leaves ---------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(names, below, max_size=4)),
    max_leaves=20,
)
styles = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 2, "\t"]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t:\n ")]),
        "ensure_ascii": st.booleans(),
    }
)


def flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The values of a JSON value that are no object or list, with their paths."""
    if isinstance(value, dict):
        steps = [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
    elif isinstance(value, list):
        steps = [(f"{path}[{i}]", item) for i, item in enumerate(value)]
    else:
        return [(path, value)]
    return [pair for below, item in steps for pair in flat(item, below)]


@settings(max_examples=200, deadline=None)
@given(values, styles, st.sampled_from(["", " ", "\r\n\t"]))
@example({"a": [[], {}, [{}], ']},:"\\']}, {}, "")
@example({"a": {"b": '{"c": [1, 2]}'}, "d": "\ud800"}, {"ensure_ascii": True}, "")
def test_leaves_are_the_values_with_their_places(
    value: Any, style: dict[str, Any], space: str
) -> None:
    """As `json` reads them; what stands at a leaf's place is the leaf."""
    text = space + json.dumps(value, **style) + space
    found = list(leaves(text))
    assert [(leaf.path, leaf.value) for leaf in found] == flat(value)
    for leaf in found:
        assert json.loads(text[leaf.start : leaf.end]) == leaf.value
        assert text[leaf.start : leaf.end].strip() == text[leaf.start : leaf.end]
    places = [place for leaf in found for place in (leaf.start, leaf.end)]
    assert places == sorted(places)


@pytest.mark.parametrize("text", ["", "  ", "x", '"a', '{"a"', '{"a" 1}', "[,]", "[1,,2]", "{1"])
def test_what_is_no_json_is_an_error(text: str) -> None:
    """A ValueError."""
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Extra"):
        list(leaves(text))


@pytest.mark.parametrize(
    "text", ["[1", '["a"', "[1 2]", "[1,]", '{"a":1,}', "[}", "[1]]", "1 x", "{1:2}", '{"a"x1}']
)
def test_what_is_nearly_json_is_an_error(text: str) -> None:
    """Said by the function's own words: "the text is no JSON"."""
    with pytest.raises(ValueError, match=r"\w"):
        list(leaves(text))


def test_deep_json_is_an_error() -> None:
    """No contract has lists that deep."""
    with pytest.raises(ValueError, match=r"\w"):
        list(leaves("[" * 5000 + "]" * 5000))


# -- quotes ---------------------------------------------------------------------------------


def quoted(block: dict[str, Any], fields: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    """The quotes of an output."""
    made = contract(block, **more)
    return list(quotes(made, parse(made, json.dumps(fields)).fields))


@pytest.mark.parametrize(
    ("block", "fields", "found"),
    [
        ({"a": "quote"}, {"a": "x y z"}, [("a", "x y z")]),
        ({"a": "finding"}, {"a": finding("x y z")}, [("a", "x y z")]),
        (
            {"a": ["finding"]},
            {"a": [finding("x y z"), finding("u v w")]},
            [("a[0]", "x y z"), ("a[1]", "u v w")],
        ),
        ({"a": ["quote"]}, {"a": ["x y z", "u v w"]}, [("a[0]", "x y z"), ("a[1]", "u v w")]),
        ({"a": [["quote"]]}, {"a": [["x y z"]]}, [("a[0][0]", "x y z")]),
        ({"a": {"b": ["finding"]}}, {"a": {"b": [finding("x y z")]}}, [("a.b[0]", "x y z")]),
        ({"a": "finding | none"}, {"a": "none"}, []),
        ({"a": "finding | none"}, {"a": finding("x y z")}, [("a", "x y z")]),
        ({"a": ["finding | none"]}, {"a": ["none", finding("x y z")]}, [("a[1]", "x y z")]),
        ({"a": "text", "quote": "text"}, {"a": "x" * 9, "quote": "y" * 9}, []),
        (
            {"a": [{"from": "quote", "n": "integer"}]},
            {"a": [{"from": "x", "n": 1}]},
            [("a[0]", "x")],
        ),
        (
            {"a": {"q": "quote", "r": "quote"}},
            {"a": {"q": "x", "r": "y"}},
            [("a", "x"), ("a", "y")],
        ),
        ({"a": ["text"]}, {"a": []}, []),
        pytest.param(
            {"a": {"b": ["quote"]}},
            {"a": {"b": ["x y z"]}},
            [("a.b[0]", "x y z")],
        ),
    ],
)
def test_quotes(block: Any, fields: dict[str, Any], found: list[tuple[str, str]]) -> None:
    """Each by its kind, not by its name, with the path of what it belongs to."""
    assert quoted(block, fields) == found


@pytest.mark.parametrize(
    ("kind", "value", "where"),
    [
        ("quote | none", "x y z", "a"),
        pytest.param(
            ["quote | none"],
            ["none", "x y z"],
            "a[1]",
        ),
    ],
)
def test_a_quote_with_a_word_in_its_place_is_a_quote(kind: Any, value: Any, where: str) -> None:
    """Unless the word stands there."""
    assert quoted({"a": kind}, {"a": value}) == [(where, "x y z")]


def alternatives() -> Contract:
    """One of two objects."""
    plain = {"type": "object", "properties": {"n": {"type": "boolean"}}}
    other = {"type": "object", "properties": {"quote": {"type": "string", "format": "quote"}}}
    node = {"anyOf": [plain, other]}
    return contract({"$schema": DRAFT, "type": "object", "properties": {"a": node}})


def test_a_quote_in_the_second_of_two_objects() -> None:
    """A JSON Schema may have either."""
    made = alternatives()
    fields = parse(made, '{"a": {"quote": "x y z"}}').fields
    assert list(quotes(made, fields)) == [("a", "x y z")]


@pytest.mark.parametrize("value", [[1, 2], {"b": 1}])
def test_a_constant_list_has_no_quotes(value: Any) -> None:
    """If such a contract is read at all."""
    try:
        made = contract({"$schema": DRAFT, "type": "object", "properties": {"a": {"const": value}}})
    except ValueError:
        return
    assert list(quotes(made, parse(made, json.dumps({"a": value})).fields)) == []


def test_free_text_has_no_quotes() -> None:
    """Nothing says what would be one."""
    assert list(quotes(contract("text"), {"answer": '"a b c"'})) == []


# -- settle ---------------------------------------------------------------------------------

SCREEN = {"urgent": "yes | no | cannot tell", "why": "text", "when": "date"}
RULE = {"positive": "yes", "negative": "no", "threshold": 0.5, "uncertain": [0.3, 0.7]}
WRITTEN = '{"urgent":"yes","why":"Chest pain.","when":"2024"}'


def told(
    text: str = WRITTEN,
    tokens: tuple[tuple[int, float], ...] = (),
    **options: float,
) -> Generation:
    """A generation whose choice `urgent`, if any options are given, was scored."""
    at = text.index(":") + 1
    scores = (ChoiceScore(at=at, options=options),) if options else ()
    return Generation(id="k", text=text, tokens=tokens, choices=scores)


def settled(
    made: Contract, generation: Generation
) -> tuple[dict[str, Any], dict[str, Any] | None, list[str]]:
    """Fields, confidence, and the rules of the flags."""
    output, confidence, flags = settle(made, generation, parse(made, generation.text))
    return output.fields, confidence, [flag.rule for flag in flags]


def test_an_engine_that_tells_nothing_settles_nothing() -> None:
    """The output is what was parsed."""
    output = parse(CONTRACT, answer())
    assert settle(CONTRACT, Generation(id="k", text=answer()), output) == (output, None, [])


@pytest.mark.parametrize(
    ("yes", "written", "value", "flagged"),
    [
        (0.9, "yes", "yes", []),
        (0.6, "yes", "uncertain", ["uncertain"]),
        (0.4, "no", "uncertain", ["uncertain"]),
        (0.1, "no", "no", []),
    ],
)
def test_a_choice_is_decided_by_its_share(
    yes: float, written: str, value: str, flagged: list[str]
) -> None:
    """In the band of doubt it is `uncertain`; the confidence is that of what was written."""
    made = contract(SCREEN, decide={"urgent": RULE})
    text = WRITTEN.replace("yes", written, 1)
    fields, confidence, flags = settled(made, told(text, yes=yes, no=1 - yes))
    assert (fields["urgent"], flags) == (value, flagged)
    assert confidence is not None
    assert confidence["value"] == pytest.approx(max(yes, 1 - yes))
    assert confidence["fields"]["urgent"]["options"] == {"yes": yes, "no": 1 - yes}
    assert fields["why"] == "Chest pain."


def test_an_abstention_stays() -> None:
    """`cannot tell`, the likeliest, is no doubt of ours."""
    made = contract(SCREEN, decide={"urgent": RULE})
    options = {"yes": 0.2, "no": 0.2, "cannot tell": 0.6}
    text = WRITTEN.replace("yes", "cannot tell", 1)
    score = ChoiceScore(at=text.index(":") + 1, options=options)
    fields, confidence, flags = settled(made, Generation(id="k", text=text, choices=(score,)))
    assert (fields["urgent"], flags) == ("cannot tell", [])
    assert confidence is not None and confidence["value"] == 0.6


def test_without_a_rule_a_choice_is_measured_and_stays() -> None:
    """Even at even chances."""
    fields, confidence, flags = settled(contract(SCREEN), told(yes=0.5, no=0.5))
    assert (fields["urgent"], flags) == ("yes", [])
    assert confidence is not None and confidence["method"] == "choice_probability"


def test_a_score_of_another_place_is_no_score() -> None:
    """By the character at which the value begins."""
    made = contract(SCREEN, decide={"urgent": RULE})
    generation = Generation(
        id="k", text=WRITTEN, choices=(ChoiceScore(at=3, options={"yes": 0.5, "no": 0.5}),)
    )
    fields, confidence, flags = settled(made, generation)
    assert (fields["urgent"], confidence, flags) == ("yes", None, [])


def test_texts_are_measured_by_their_tokens() -> None:
    """Only tokens inside a text, and only texts of the model's own."""
    start, end = WRITTEN.index('"Chest'), WRITTEN.index(',"when')
    tokens = ((start + 3, math.log(0.5)), (end, 0.0), (end + 2, math.log(0.1)), (len(WRITTEN), 0.0))
    _, confidence, _ = settled(contract(SCREEN), told(tokens=tokens))
    assert confidence is not None
    assert list(confidence["fields"]) == ["why"]
    assert confidence["fields"]["why"]["minimum"] == 0.5
    assert (confidence["value"], confidence["method"]) == (0.75, "token_probability")


def test_a_quote_has_no_confidence() -> None:
    """The grammar wrote it from the document."""
    made = contract({"a": "finding"})
    text = json.dumps({"a": finding("a b c")})
    generation = Generation(id="k", text=text, tokens=tuple((i, -0.1) for i in range(1, len(text))))
    _, confidence, _ = settled(made, generation)
    assert confidence is not None and list(confidence["fields"]) == ["a.statement"]


def test_a_text_with_a_word_in_its_place_is_measured() -> None:
    """`text | not stated` is a text."""
    text = '{"a":"Chest pain."}'
    _, confidence, _ = settled(
        contract({"a": "text | not stated"}), Generation(id="k", text=text, tokens=((12, -0.1),))
    )
    assert confidence is not None


def test_confidence_names_the_item_as_it_stands_in_the_output() -> None:
    """After a repeat was dropped, too."""
    text = '{"a":["x","x","y"]}'
    tokens = ((8, 0.0), (12, 0.0), (16, 0.0))
    fields, confidence, _ = settled(
        contract({"a": ["text(3)"]}), Generation(id="k", text=text, tokens=tokens)
    )
    assert fields == {"a": ["x", "y"]}
    assert confidence is not None and list(confidence["fields"]) == ["a[0]", "a[1]"]


def test_confidence_names_the_item_after_repeats_inside_and_outside() -> None:
    """Lists in lists."""
    text = '{"a":[["x"],["x"],["y","y","z"]]}'
    tokens = ((text.index("z") + 2, 0.0),)
    fields, confidence, _ = settled(
        contract({"a": [["text(3)"]]}), Generation(id="k", text=text, tokens=tokens)
    )
    assert fields == {"a": [["x"], ["y", "z"]]}
    assert confidence is not None and list(confidence["fields"]) == ["a[1][1]"]


def test_a_name_that_stands_twice_is_refused() -> None:
    """pydantic and `json` would take the last; an engine without a grammar may write both."""
    text = '{"a":"none","a":{"quote":"a b c","statement":"Long enough."}}'
    with pytest.raises(ValueError, match="does not fit"):
        parse(contract({"a": "finding | none"}), text)


def test_free_text_is_measured_as_a_whole() -> None:
    """All its tokens."""
    generation = Generation(id="k", text="No fever.", tokens=((3, math.log(0.5)), (9, 0.0)))
    fields, confidence, flags = settled(contract("text"), generation)
    assert (fields, flags) == ({"answer": "No fever."}, [])
    assert confidence is not None and confidence["value"] == 0.75
    assert list(confidence["fields"]) == ["answer"]


def test_settling_changes_nothing_of_what_it_is_given() -> None:
    """A new output; the notes stay."""
    made = contract(SCREEN, decide={"urgent": RULE})
    generation = told(yes=0.5, no=0.5)
    output = Output(parse(made, WRITTEN).fields, ("a note",))
    new, _, _ = settle(made, generation, output)
    assert (output.fields["urgent"], new.fields["urgent"]) == ("yes", "uncertain")
    assert new.notes == ("a note",)
