"""The echo engine: an answer in the template's shape, made of the document's own words."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import picture

from medgemma_cli import contracts, decoding, quoting, templates
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.records import (
    Contract,
    Document,
    Generation,
    Image,
    Limits,
    Message,
    Part,
    Prompt,
    Source,
)
from medgemma_cli.safety.grounding.rules import rules
from medgemma_cli.safety.verdict import Verdict, judge

NOTE = "# Note\n\nBP is 160/95 today.\nNo chest pain. Left knee swollen again.\n"
PACKAGED = [
    template
    for path in sorted(templates.packaged_folder().glob("[!_]*.md"))
    if not (template := templates.load(path.stem)).pairs  # see the tests of pairs
]
BULLETS = "- Chest pain for days\n- No fever since Monday\n"


def asked(contract: Contract, text: str = NOTE, images: tuple[Image, ...] = ()) -> Prompt:
    """A prompt with a document and a question."""
    parts = [Part(kind="image") for _ in images]
    parts += [Part(kind="document", text=text)] if text else []
    parts += [Part(kind="text", text="What does it say?")]
    return Prompt(
        id="a",
        messages=(Message(role="user", parts=tuple(parts)),),
        images=images,
        contract=contract,
        limits=Limits(),
    )


def form(verdict: Verdict) -> list[str]:
    """What is flagged of the answer's form: echo's made-up values are rightly flagged as facts."""
    own = set(rules()) - {"quote_not_in_source"}
    return [f.rule for f in verdict.flags if f.severity != "note" and f.rule not in own]


def document(text: str = NOTE, images: int = 0) -> Document:
    """A document with that text and so many grey squares."""
    return Document(
        source=Source(place="a.md", relative="a.md", origin="/a.md"),
        sha256="0" * 64,
        bytes=len(text),
        media_type="text/markdown",
        text=text,
        images=(picture(9),) * images,
        coverage={},
    )


def answer(prompt: Prompt) -> Generation:
    """What the engine says."""
    (generation,) = EchoEngine().generate([prompt])
    return generation


def judged(block: Any, text: str = NOTE, images: int = 0, *, quotable: bool = True) -> Verdict:
    """The verdict on the answer to an output block."""
    contract = contracts.contract(block, quotable=quotable)
    doc = document(text, images)
    return judge(doc, contract, answer(asked(contract, text, doc.images)))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """A regular expression that runs away is ended; `re` looks for signals on its way."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", [t.name for t in PACKAGED if "text" in t.accepts])
@pytest.mark.parametrize("text", [NOTE, "x" * 300, "afebrile", "胸痛三天，无发热。今天好转。"])
def test_packaged_templates(name: str, text: str) -> None:
    """Any text it accepts: an answer of the contract whose quotes stand in the document."""
    template = templates.load(name)
    prompt = templates.render(template, document(text), "k" * 64, Limits())
    verdict = judge(document(text), prompt.contract, answer(prompt))
    # Findings about a text of which nothing can be quoted are flagged.
    bare = text[0] == "x" and '"format": "quote"' in template.contract.json_schema
    assert (bool(form(verdict)), verdict.error) == (bare, None)
    assert bool(verdict.quotes) == ('"format": "quote"' in prompt.contract.json_schema)
    for quote in verdict.quotes:
        assert text[quote.start : quote.end] == quote.text


@pytest.mark.parametrize("name", [t.name for t in PACKAGED if "image" in t.accepts])
def test_packaged_templates_on_images(name: str) -> None:
    """Nothing is quoted of a picture; its size is all that is said."""
    template = templates.load(name)
    prompt = templates.render(template, document("", 1), "k" * 64, Limits())
    verdict = judge(document("", 1), prompt.contract, answer(prompt))
    assert (verdict.status, verdict.quotes) == ("ok", ())
    assert "8 by 8 pixels" in json.dumps(verdict.output)


EVERY_KIND = {
    "a": "text",
    "b": "text(1)",
    "c": "text(5) | none",
    "d": "low | high",
    "e": "integer",
    "f": "number",
    "g": "boolean",
    "h": "date",
    "i": "date | not stated",
    "j": "finding",
    "k": ["finding"],
    "l": ["text", "0..8"],
    "m": ["low | high", "3..3"],
    "n": [{"quote": "quote", "x": "text(40)", "y": "boolean"}, "0..20"],
    "o": {"x": {"y": ["finding", "2..2"]}, "z": "text"},
    "p": "quote",
    "q": ["quote"],
    "r": "statement",
}


def test_every_kind_of_the_notation() -> None:
    """A value for each, within its bounds; every quote is found."""
    verdict = judged(EVERY_KIND)
    assert (form(verdict), verdict.error) == ([], None)
    assert verdict.output is not None and list(verdict.output) == list(EVERY_KIND)
    places = {quote.where for quote in verdict.quotes}
    assert places >= {"j", "k[0]", "n[0]", "o.x.y[0]", "p", "q[0]"}


def test_a_json_schema() -> None:
    """Bounds, references, null and enums of other types than text."""
    schema = {
        "$schema": "x",
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 5, "maximum": 7},
            "b": {"type": "string", "minLength": 300, "maxLength": 300},
            "c": {"enum": [1, 2]},
            "d": {"const": "only"},
            "e": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "f": {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 3},
        },
        "$defs": {"x": {"type": "object", "properties": {"q": {"type": "number"}}}},
    }
    verdict = judged(schema)
    assert (form(verdict), verdict.error) == ([], None)


def test_it_answers_the_same_every_time() -> None:
    """The same prompt, the same words; another document, others."""
    contract = contracts.contract({"s": "text", "k": ["finding"]})
    assert answer(asked(contract)).text == answer(asked(contract)).text
    assert answer(asked(contract)).text != answer(asked(contract, "Slept well at night.")).text


def test_its_words_are_the_documents() -> None:
    """Free text is the first lines, markup taken off; never the template's words."""
    contract = contracts.contract("text")
    assert answer(asked(contract)).text == (
        "Note BP is 160/95 today. No chest pain. Left knee swollen again."
    )
    assert answer(asked(contract, "***\n\x00\n")).text == "nothing readable"


def test_a_stream_is_its_words_then_the_generation() -> None:
    """The pieces joined are the text."""
    *pieces, last = EchoEngine().stream(asked(contracts.contract("text")))
    assert isinstance(last, Generation)
    assert "".join(map(str, pieces)) == last.text


def test_it_measures_no_confidence() -> None:
    """What no model said has no probability."""
    generation = answer(asked(contracts.contract({"a": "low | high"})))
    assert (generation.tokens, generation.choices) == ((), ())
    assert judged({"a": "low | high"}).confidence is None


LINES = st.lists(st.text('ab1 .,-*#|"\\\t\x07é胸<{[', max_size=14), max_size=6).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_any_text_is_answered_within_its_contract(text: str) -> None:
    """Whatever stands in a document, its answer fits and its quotes are found."""
    quotable = quoting.is_quotable(text)
    with within(5):
        verdict = judged({"s": "text", "k": ["finding"], "v": "text(3)"}, text, quotable=quotable)
    assert (bool(form(verdict)), verdict.error) == (bool(text) and not quotable, None)
    assert all(flag.rule != "quote_not_in_source" for flag in verdict.flags)


def test_its_answers_need_no_notes() -> None:
    """Parsed by the contract's own rules, its notes are empty: nothing at a bound or repeated."""
    contract = contracts.contract({"s": "text", "k": ["finding"]})
    assert decoding.parse(contract, answer(asked(contract)).text).notes == ()


SENTENCE = (
    "The patient was reviewed in clinic today and reports increasing breathlessness overnight"
)


@pytest.mark.parametrize("words", [12, 40, 400])
def test_a_plain_sentence_takes_no_time(words: int) -> None:
    """A sentence of a dozen words is sampled at once, and so is a long line without an end."""
    text = " ".join((SENTENCE.split() * 40)[:words])
    with within(1):
        assert len(list(quoting.samples(text))) == 1


@pytest.mark.parametrize("text", [BULLETS, "• Chest pain for days", "_ a b c", "— a b c\n– d e f"])
def test_a_list_of_bullets_has_samples(text: str) -> None:
    """`next` of no sample is a StopIteration in a generator: it ends the whole run."""
    assert quoting.is_quotable(text)
    assert judged({"k": ["finding"]}, text).status == "ok"


def test_a_list_of_quotes_and_an_image() -> None:
    """There is nothing to quote, and that is no reason to end the run."""
    assert judged({"s": "text", "q": ["quote"]}, "", 1, quotable=False).status == "ok"


A_ROW = {"type": "object", "properties": {"x": {"type": "string"}}}
OTHER = {"type": "object", "properties": {"y": {"type": "string"}}}


def test_either_of_two_objects() -> None:
    """A JSON Schema's anyOf of two objects: the second is as good as the first."""
    schema = {"type": "object", "properties": {"a": {"anyOf": [A_ROW, OTHER]}}}
    assert judged({"$schema": "x", **schema}).status == "ok"


def test_a_quote_or_a_word_is_checked() -> None:
    """A quote that does not stand in the document is flagged, whatever might stand in its place."""
    contract = contracts.contract({"a": "quote | not stated"})
    generation = Generation(id="a", text='{"a":"Fever of 39 degrees"}')
    assert form(judge(document(), contract, generation)) == ["quote_not_in_source"]


def test_a_note_names_the_place_in_the_output() -> None:
    """An item that moved up because a repeat was dropped is noted where it is now."""
    contract = contracts.contract({"a": ["text"]})
    text = json.dumps({"a": ["same item here", "same item here", "x" * 200]})
    assert "at_bound:a[1]" in decoding.parse(contract, text).notes


def pair(before: str, now: str) -> Document:
    """Two documents as one."""
    return document(now).model_copy(update={"prior": document(before)})


def compared(before: str, now: str) -> Verdict:
    """The verdict on a comparison."""
    shown = pair(before, now)
    prompt = templates.render(templates.load("compare"), shown, "k" * 64, Limits())
    return judge(shown, prompt.contract, answer(prompt))


def test_a_pair_is_sorted_by_its_own_words() -> None:
    """What stands in both is unchanged, what stands in one is new or resolved."""
    verdict = compared("Dry cough since Monday. No fever since then.", "Dry cough since Monday.")
    assert verdict.output is not None and form(verdict) == []
    assert verdict.output["new"] == []
    assert [item["quote"] for item in verdict.output["resolved"]] == ["No fever since then."]
    assert [item["quote"] for item in verdict.output["unchanged"]] == ["Dry cough since Monday."]


def test_identical_documents_have_nothing_new() -> None:
    """Nor anything resolved."""
    verdict = compared(NOTE, NOTE)
    assert verdict.output is not None and verdict.output["unchanged"] and form(verdict) == []
    assert verdict.output["new"] == verdict.output["resolved"] == []


def test_a_pair_of_which_nothing_is_new_is_answered_in_any_case() -> None:
    """A template that must have a new finding gets one; the check says what is wrong with it."""
    contract = contracts.contract({"a": "new_quote", "b": ["resolved_finding", "1..2"]})
    shown = pair(NOTE, NOTE)
    parts = (Part(kind="prior", text=NOTE), Part(kind="document", text=NOTE))
    prompt = asked(contract).model_copy(update={"messages": (Message(role="user", parts=parts),)})
    assert form(judge(shown, contract, answer(prompt))) == ["quote_in_both"] * 2


@settings(max_examples=40, deadline=None)
@given(LINES, LINES)
def test_any_two_texts_are_compared_within_their_contract(before: str, now: str) -> None:
    """Whatever they hold; quotes stand in the right one."""
    if bool(before) is not bool(now):
        return
    with within(5):
        shown = pair(before, now)
        template = templates.load("compare")
        if not before:
            return
        prompt = templates.render(template, shown, "k" * 64, Limits())
        verdict = judge(shown, prompt.contract, answer(prompt))
    assert verdict.error is None
    assert {"quote_in_both", "quote_in_other_document"}.isdisjoint(form(verdict))
    for quote in verdict.quotes:
        text = before if quote.document == "prior" else now
        assert text[quote.start : quote.end] == quote.text
