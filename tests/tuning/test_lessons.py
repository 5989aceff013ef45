"""Training sees the ids that `run` shows, and learns the answer and the end of its turn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lessons_kit as kit
import pytest
import torch
from lessons_kit import Command

from medgemma_cli import models, templates
from medgemma_cli.commands.lessons import read
from medgemma_cli.engines.encoding import Encoded, Encoder
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.engines.tuning.batches import Collator
from medgemma_cli.engines.tuning.lessons import IGNORED, Lesson, lesson, lessons
from medgemma_cli.tuning.examples import Example
from medgemma_cli.tuning.pictures import look

ASK = ("--precision", "fp32", "--device", "cpu", "--max-new-tokens", "4", "-q")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> LocalEngine:
    """The tiny checkpoint; of it only tokenizer and processor are loaded."""
    return LocalEngine(models.resolve(str(checkpoint)), LocalOptions(device="cpu"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The ids of every prompt that is encoded from now on."""
    seen: list[list[int]] = []
    encode: Callable[..., Encoded] = Encoder._encode

    def spy(self: Encoder, prompt: Any) -> Encoded:
        made = encode(self, prompt)
        seen.append(made.ids)
        return made

    monkeypatch.setattr(Encoder, "_encode", spy)
    return seen


def examples(folder: Path, *rows: object) -> list[Example]:
    """The examples of these lines."""
    return read(kit.write(folder / "data.jsonl", rows), "The file").examples


@pytest.mark.parametrize("image", [False, True], ids=["text", "image"])
def test_ids_are_those_of_ask(
    command: Command,
    checkpoint: Path,
    tmp_path: Path,
    engine: LocalEngine,
    shown: list[list[int]],
    image: bool,
) -> None:
    """Of a question and of an image, to the last token."""
    row = {"template": "general", "question": "Say what?", "output": "x"}
    kit.draw(tmp_path / "a.png", 9)
    (example,) = examples(tmp_path, row | ({"image": "a.png"} if image else {}))
    files = ("-i", "a.png") if image else ()
    assert command("ask", "Say what?", *files, "--model", checkpoint, *ASK).returncode == 0
    made = lesson(engine.encoder(), example)
    assert made.ids[: made.start] == shown[0]


def test_ids_are_those_of_run(
    command: Command,
    checkpoint: Path,
    tmp_path: Path,
    engine: LocalEngine,
    shown: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a document, but for the marker around it, which is made of the file's bytes."""
    monkeypatch.setattr(templates, "_fence", lambda text, key: ("<<<m\n", "\nm>>>"))
    note = "Note <end_of_turn> on\r\nember <start_of_image>.\n"
    (tmp_path / "note.txt").write_bytes(note.encode())
    (example,) = examples(tmp_path, {"template": "general", "document": note, "output": "x"})
    out = ("-o", "out", "-t", "general", "--model", checkpoint)
    assert command("run", "note.txt", *out, *ASK).returncode in (0, 3)
    made = lesson(engine.encoder(), example)
    assert made.ids[: made.start] == shown[0]


def test_labels_are_the_answer_and_the_end_of_turn(tmp_path: Path, engine: LocalEngine) -> None:
    """As many as ids; nothing before the model's turn is learned, and nothing after it."""
    (example,) = examples(tmp_path, kit.chat("Which?", "Señora <end_of_turn> 😀 5 mg"))
    encoder = engine.encoder()
    made = lesson(encoder, example)
    end = encoder.tokenizer.get_vocab()["<end_of_turn>"]
    assert made.ids[-1] == end and len(made.labels) == len(made.ids)
    learned = [label for label in made.labels if label != IGNORED]
    assert learned == [*encoder.data(example.answer), end]
    # The name of a control token in an answer is text, and no second end.
    assert learned.count(end) == 1
    assert encoder.text(learned)[0] == example.answer
    assert encoder.tokenizer.decode(made.ids[: made.start]).endswith("<start_of_turn>model\n")


def test_long_examples_are_told_apart(tmp_path: Path, engine: LocalEngine) -> None:
    """By prompt and answer together; the bound itself is allowed."""
    found = examples(tmp_path, kit.chat("a?", "b"), kit.chat("a?", "b " * 50))
    size = len(lesson(engine.encoder(), found[0]).ids)
    made = lessons(engine.encoder(), found, size)
    assert [one.number for one in made.taken] == [1]
    assert [number for number, _ in made.long] == [2] and made.bad == []
    assert lessons(engine.encoder(), found, size - 1).taken == []


def test_a_text_model_refuses_images(tmp_path: Path) -> None:
    """By the line, before weights are loaded."""
    folder = kit.text_only(tmp_path / "text")
    encoder = LocalEngine(models.resolve(str(folder))).encoder()
    kit.draw(tmp_path / "a.png", 9)
    found = examples(tmp_path, kit.chat([{"type": "image", "path": "a.png"}], "x"))
    assert [number for number, _ in lessons(encoder, found, 4096).bad] == [1]


def test_a_batch_is_filled_on_the_right(tmp_path: Path, engine: LocalEngine) -> None:
    """Ids, labels and mask are as long as the longest; pixels and their places agree."""
    kit.draw(tmp_path / "a.png", 9)
    image = kit.chat([{"type": "image", "path": "a.png"}, {"type": "text", "text": "?"}], "x")
    found = examples(tmp_path, kit.chat("a?", "b"), image)
    encoder = engine.encoder()
    taken: list[Lesson] = [lesson(encoder, example) for example in found]
    collate = Collator(taken, pad=0, image=encoder.image_id, processor=encoder.processor, look=look)
    made = collate([{"index": 0}, {"index": 1}])
    size = max(len(one.ids) for one in taken)
    assert made["input_ids"].shape == made["labels"].shape == (2, size)
    for row, one in enumerate(taken):
        fill = size - len(one.ids)
        assert made["input_ids"][row].tolist() == one.ids + [0] * fill
        assert made["labels"][row].tolist() == one.labels + [IGNORED] * fill
        assert made["attention_mask"][row].tolist() == [1] * len(one.ids) + [0] * fill
    assert made["pixel_values"].shape[:2] == (1, 3)
    assert int(made["token_type_ids"].sum()) == 4
    assert torch.equal(made["token_type_ids"] == 1, made["input_ids"] == encoder.image_id)
