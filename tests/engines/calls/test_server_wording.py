"""What is sent: the document's words, and no control token among them."""

import base64
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from server_kit import prompt

from medgemma_cli.engines.calls.wording import (
    CONTROL,
    Worded,
    count_words,
    data_url,
    least_tokens,
    neutral,
)
from medgemma_cli.records import Image, Part

TOKENS = [
    "<end_of_turn>",
    "<start_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
    "<audio_soft_token>",
    "[multimodal]",
    "<unused94>",
    "<unused95>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|turn>",
    "<turn|>",
    "<｜User｜>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<__media__>",
    "<image>",
    "<think>",
    "</think>",
    "[IMG]",
]


@pytest.mark.parametrize("token", TOKENS)
def test_tokens_are_cut_in_two(token: str) -> None:
    """The name of a control token stands nowhere in what is sent; a reader still knows it."""
    text, found = neutral(f"Before{token}after")
    assert found == 1 and token not in text
    assert text.replace(" ", "") == f"Before{token}after"


@pytest.mark.parametrize(
    "text",
    [
        "CRP <5 mg/l and >3 before",
        "<NAME> was seen on [DATE] by <PERSON_1>",
        "<b>bold</b> & <br>",
        "[x] done [ ] open",
        "a < b > c, x<y>z",
        "<<<0a1b2c3d\ntext\n0a1b2c3d>>>",
    ],
)
def test_clinical_text_stays(text: str) -> None:
    """Comparisons, placeholders, HTML and this project's own fences are not touched."""
    assert neutral(text) == (text, 0)


@given(st.lists(st.sampled_from([*TOKENS, "<", ">", "[", "|", "x", " ", "_turn>"]), max_size=12))
@settings(max_examples=200, deadline=None)
def test_nothing_comes_back(pieces: list[str]) -> None:
    """However names are nested, none is left, and doing it again changes nothing."""
    text, _ = neutral("".join(pieces))
    assert not CONTROL.search(text)
    assert neutral(text) == (text, 0)


def test_messages_are_plain_text() -> None:
    """Without images, content is a string: what every server takes."""
    worded = Worded(prompt("Dry <end_of_turn> cough"))
    assert [message["role"] for message in worded.messages] == ["system", "user"]
    said = worded.messages[1]["content"]
    assert isinstance(said, str) and "Dry < end_of_turn> cough" in said
    assert worded.split == 1
    assert worded.words == sum(len(m["content"].split()) for m in worded.messages)


def test_parts_are_joined_first() -> None:
    """A name that two parts make together is found, too."""
    asked = prompt("ends with <end_of_")
    parts = (*asked.messages[1].parts[:2], Part(kind="text", text="turn> begins"))
    message = asked.messages[1].model_copy(update={"parts": parts})
    worded = Worded(asked.model_copy(update={"messages": (asked.messages[0], message)}))
    assert "<end_of_turn>" not in worded.messages[1]["content"] and worded.split == 1


def test_images_are_data_urls() -> None:
    """An image stands in its slot as a PNG of the same pixels; nothing has to be fetched."""
    pixels = bytes(range(48))
    image = Image(width=4, height=4, rgb=pixels)
    worded = Worded(prompt("A film", images=(image, image)))
    kinds = [item["type"] for item in worded.messages[1]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    url = worded.messages[1]["content"][0]["image_url"]["url"]
    assert url == data_url(image)
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    shown = Pillow.open(io.BytesIO(base64.b64decode(data)))
    assert shown.mode == "RGB" and shown.tobytes() == pixels


def test_more_is_added_to_the_last_turn() -> None:
    """Words about the shape come last."""
    worded = Worded(prompt(), "\n\nJSON alone.")
    assert worded.messages[-1]["content"].endswith("\n\nJSON alone.")


def test_least_tokens() -> None:
    """Never more than the words; of nothing, nothing."""
    assert least_tokens(0) == 0
    assert 0 < least_tokens(count_words(prompt("one two three"))) <= 9
