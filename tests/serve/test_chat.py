"""Conversations become prompts: what is data stays data, and nothing is passed over in silence."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli import contracts, decoding, templates
from medgemma_cli.records import Document, Limits, Source
from medgemma_cli.serve.bodies import ChatBody
from medgemma_cli.serve.chat import BadConversationError, conversation

NAMES = [path.stem for path in sorted(templates.packaged_folder().glob("[!_]*.md"))]
BEFORE = "Cough with sputum. Takes 2.5 mg of ramipril."
NOTE = "Dry cough since Monday. No fever. Takes 5 mg of ramipril."


def user(content: Any) -> dict[str, Any]:
    """A turn."""
    return {"role": "user", "content": content}


def body(*messages: dict[str, Any], **more: Any) -> ChatBody:
    """A request as it comes."""
    return ChatBody.model_validate({"messages": list(messages), **more})


def document(text: str) -> Document:
    """A note that was read."""
    return Document(
        source=Source(place="a.md", relative="a.md", origin="-"),
        sha256="0" * 64,
        bytes=len(text),
        media_type="text/markdown",
        text=text,
        coverage={"characters": (len(text), len(text))},
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_templates_own_prompt_comes_back(name: str) -> None:
    """What a client of this program sends, as plain messages, is the same prompt again: parts,
    fence and all. Its question is no emergency."""
    template = templates.load(name)
    if "text" not in template.accepts:
        pytest.skip("takes no text")
    note = document(NOTE)
    if template.pairs:
        note = note.model_copy(update={"prior": document(BEFORE)})
    sent = templates.render(template, note, "k" * 64, Limits())
    messages = [
        {"role": message.role, "content": "".join(part.text for part in message.parts)}
        for message in sent.messages
    ]
    asked = {"type": "text"}
    if sent.contract.kind == "json":
        asked = json_schema(json.loads(sent.contract.json_schema))
    back = conversation(body(*messages, response_format=asked))
    assert back.messages == sent.messages
    assert back.text == NOTE
    assert back.prompt("").prior == (BEFORE if template.pairs else "")
    assert back.refused() is None


def json_schema(schema: Any) -> Any:
    """A response format."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize("fences", [0, 1, 3])
def test_quotes_of_a_pair_need_a_pair(fences: int) -> None:
    """Which of one or three documents were the earlier one, nobody could say."""
    fenced = "".join(f"<<<0000000{i}\n{NOTE}\n0000000{i}>>>\n" for i in range(fences))
    schema = json.loads(templates.load("compare").contract.json_schema)
    with pytest.raises(BadConversationError, match="not two documents"):
        conversation(body(user(f"Compare.\n{fenced}"), response_format=json_schema(schema)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quotable", [True, False])
def test_a_templates_own_schema_comes_back(name: str, quotable: bool) -> None:
    """The schema of a contract, sent as a response format, makes the same schema again."""
    template = templates.load(name)
    contract = template.contract if quotable else template.image_contract
    if contract.kind == "text":
        pytest.skip("free text")
    schema = json.loads(contract.json_schema)
    made = contracts.of_schema(schema, quotable=quotable)
    assert _bare(json.loads(made.json_schema), made) == _bare(schema, contract)


def _bare(node: Any, contract: Any) -> Any:
    """A schema without titles, with what it refers to in place."""
    root = decoding.schema(contract.json_schema)
    if isinstance(node, list):
        return [_bare(item, contract) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _bare(decoding.resolve(node, root), contract)
    kept = {k: v for k, v in node.items() if k not in ("title", "$defs") or isinstance(v, bool)}
    return {name: _bare(value, contract) for name, value in kept.items()}


def test_everybody_reads_the_preamble() -> None:
    """Before a client's own system text, and where there is none; not twice."""
    before = templates.preamble()
    for messages, expected in (
        ([user("Hi")], before),
        ([{"role": "system", "content": "Be brief."}, user("Hi")], f"{before}\nBe brief."),
        ([{"role": "developer", "content": "Be brief."}, user("Hi")], f"{before}\nBe brief."),
        ([{"role": "system", "content": f"{before}\nMore."}, user("Hi")], f"{before}\nMore."),
        ([user("Hi"), {"role": "system", "content": "Late."}], f"{before}\nLate."),
    ):
        assert conversation(body(*messages)).messages[0].parts[0].text == expected


def test_the_users_words_are_a_document() -> None:
    """Without a fence, all of them: quotes are taken from them."""
    made = conversation(body(user(NOTE)))
    assert [part.kind for part in made.messages[1].parts] == ["document"]
    assert made.text == NOTE


@pytest.mark.parametrize(
    "text",
    [
        "<<<0123abcd\nnever closed",
        "<<<0123abcd\nclosed by another\n0123abce>>>",
        "<<<0123ABCD\nnot ours\n0123ABCD>>>",
        "<<<0123abcd\n" * 40,
    ],
)
def test_what_is_no_fence_is_data(text: str) -> None:
    """All of it stays, as one document."""
    made = conversation(body(user(text)))
    assert "".join(part.text for part in made.messages[1].parts) == text
    assert {part.kind for part in made.messages[1].parts} == {"document"}


def test_very_many_openings_cost_little() -> None:
    """A megabyte of them is given up soon."""
    text = "".join(f"<<<{i:08x}\n" for i in range(80_000))
    assert conversation(body(user(text))).text == text


def test_turns_of_one_role_are_one() -> None:
    """Two turns of the user's, one after the other, are one; an assistant's stands between."""
    made = conversation(
        body(user("a"), user("b"), {"role": "assistant", "content": "c"}, user("d"))
    )
    assert [message.role for message in made.messages] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Only this."}],
        [{"role": "assistant", "content": "First."}, user("a")],
        [user("a"), {"role": "assistant", "content": "Last."}],
        [user([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])],
        [user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])],
        [user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}])],
    ],
)
def test_what_cannot_be_asked(messages: list[dict[str, Any]]) -> None:
    """Turns out of order, and images that would have to be fetched."""
    with pytest.raises(BadConversationError):
        conversation(body(*messages))


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"stop": ["\n"]},
        {"tools": [{"type": "function"}]},
        {"logprobs": True},
        {"logit_bias": {"1": 1}},
        {"presence_penalty": 0.5},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema"}},
        {"temperature": float("nan")},
        {"max_tokens": 0},
        {"max_tokens": "5"},
        {"messages": []},
    ],
)
def test_what_cannot_be_honoured_is_refused(more: dict[str, Any]) -> None:
    """A setting passed over would be a promise broken."""
    with pytest.raises(ValueError, match=r"."):
        body(user("a"), **more)


def test_what_clients_send_by_default_is_taken() -> None:
    """Nulls, neutral values, and fields that change no answer."""
    made = body(
        user("a"),
        n=1,
        stop=None,
        tools=None,
        tool_choice="none",
        logprobs=False,
        top_logprobs=None,
        presence_penalty=0.0,
        frequency_penalty=0,
        temperature=None,
        top_p=None,
        seed=None,
        stream=None,
        user="x",
        metadata={"a": "b"},
    )
    assert conversation(made).limits == Limits()


def test_images_keep_their_order() -> None:
    """Slots stand where the parts stood, bytes in their order."""
    urls = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (b"A", b"B")]
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "First"},
        {"type": "image_url", "image_url": {"url": urls[0]}},
        {"type": "text", "text": "then"},
        {"type": "image_url", "image_url": {"url": urls[1]}},
    ]
    made = conversation(body(user(parts)))
    assert made.images == (b"A", b"B")
    assert [p.kind for p in made.messages[1].parts] == ["document", "image", "document", "image"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x$"}}},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"a": {"allOf": []}}},
        {"type": "object", "properties": {"a": 5}},
        {"type": "object", "properties": {"a": {"enum": ["x", "y"], "x-decide": 3}}},
    ],
)
def test_schemas_that_cannot_be_decoded(schema: dict[str, Any]) -> None:
    """They are refused, with the keyword named."""
    asked = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with pytest.raises(BadConversationError, match="cannot be decoded"):
        conversation(body(user(NOTE), response_format=asked))


def test_a_deep_schema_is_refused() -> None:
    """Nested beyond what anybody reads."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    asked = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(BadConversationError):
        conversation(body(user(NOTE), response_format=asked))


def test_quotes_are_left_out_where_nothing_can_be_quoted() -> None:
    """An answer about an image alone has no quote in it."""
    schema = json.loads(templates.load("summarize").contract.json_schema)
    asked = {"type": "json_schema", "json_schema": {"schema": schema}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    made = conversation(body(user([image]), response_format=asked))
    assert made.text == ""
    assert '"quote"' not in made.contract.json_schema


def test_an_emergency_is_seen_around_the_fence_only() -> None:
    """What a person types is triaged; a document's history is not a question."""
    assert conversation(body(user("I took a whole pack of paracetamol just now"))).refused()
    fenced = "Summarise.\n<<<0123abcd\nI took a whole pack of paracetamol just now\n0123abcd>>>"
    assert conversation(body(user(fenced))).refused() is None


def test_keys_name_the_question() -> None:
    """The same request, the same key; another text, seed, schema or engine, another."""
    same = conversation(body(user(NOTE)))
    keys = {
        same.key({"engine": "a"}),
        same.key({"engine": "b"}),
        conversation(body(user(NOTE + " "))).key({"engine": "a"}),
        conversation(body(user(NOTE), seed=1)).key({"engine": "a"}),
    }
    assert len(keys) == 4
    assert conversation(body(user(NOTE))).key({"engine": "a"}) in keys


def test_the_module_reads_no_file_but_the_preamble(tmp_path: Path) -> None:
    """A data URL of a path is bytes, never a path."""
    url = "data:text/plain;base64," + base64.b64encode(b"/etc/passwd").decode()
    made = conversation(body(user([{"type": "image_url", "image_url": {"url": url}}])))
    assert made.images == (b"/etc/passwd",)
