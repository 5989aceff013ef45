"""Adapters are refused before anything is loaded: pickles, other kinds, other bases."""

import json
import shutil
from pathlib import Path

import lessons_kit as kit
import pytest

from medgemma_cli import adapters
from medgemma_cli.adapters import BASE, BASE_ID, CONFIG, WEIGHTS
from medgemma_cli.errors import ConfigError, MissingExtraError, ModelUnavailableError
from medgemma_cli.models import Checkpoint

FOLDER = Checkpoint("/models/m", None, Path("/models/m"), "a" * 64)
HUB = Checkpoint("google/medgemma-4b-it", "c0ffee", None, "google/medgemma-4b-it@c0ffee")


def marked(folder: Path, **told: str) -> Path:
    """A foreign adapter with metadata in its weights."""
    from safetensors.torch import load_file, save_file

    made = kit.foreign(folder)
    save_file(load_file(made / WEIGHTS), made / WEIGHTS, {"format": "pt", **told})
    return made


def test_an_adapter_is_named_and_hashed(tmp_path: Path) -> None:
    """The name is the folder's; the hash is that of both files, wherever they lie."""
    first = adapters.resolve(kit.foreign(tmp_path / "first"), FOLDER)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    second = adapters.resolve(tmp_path / "second", FOLDER)
    assert (first.name, second.name) == ("first", "second")
    assert first.hash == second.hash and len(first.hash) == 64


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_the_hash_follows_both_files(tmp_path: Path, name: str) -> None:
    """Another rank or another weight is another adapter, even at the same size."""
    folder = kit.foreign(tmp_path / "a")
    before = adapters.resolve(folder, FOLDER).hash
    data = (folder / name).read_bytes()
    changed = data.replace(b'"r": 2', b'"r": 3') if name == CONFIG else data[:-1] + b"\1"
    (folder / name).write_bytes(changed)
    assert changed != data and adapters.resolve(folder, FOLDER).hash != before


def test_hashes_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that did not change is not hashed again."""
    folder = kit.foreign(tmp_path / "a")
    before = adapters.resolve(folder, FOLDER)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert adapters.resolve(folder, FOLDER) == before


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl"])
@pytest.mark.parametrize("alone", [True, False])
def test_pickles_are_refused(tmp_path: Path, suffix: str, alone: bool) -> None:
    """78, even beside safe weights: nobody can tell which of the two was meant."""
    folder = kit.foreign(tmp_path / "a")
    (folder / f"adapter_model.{suffix}").write_bytes(b"\x80\x04N.")
    if alone:
        (folder / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match="pickled"):
        adapters.resolve(folder, FOLDER)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_folder_without_an_adapter(tmp_path: Path, name: str) -> None:
    """69, naming the file that is not there."""
    folder = kit.foreign(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(ModelUnavailableError, match=name):
        adapters.resolve(folder, FOLDER)


def test_an_unfinished_adapter(tmp_path: Path) -> None:
    """A training that was ended is told to be gone on with."""
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(ModelUnavailableError, match="not finished") as raised:
        adapters.resolve(tmp_path, FOLDER)
    assert "medgemma tune" in raised.value.next_step


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "LOHA"},
        {"megatron_config": {"init_method": "os.system"}},
        {"modules_to_save": ["lm_head"]},
        {"layer_replication": [[0, 2]]},
        {"a_field_of_tomorrow": 1},
        {"bias": "all"},
        {"r": 0},
        {"r": "2"},
        {"lora_alpha": None},
        {"rank_pattern": [1]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_kinds_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    """78 for whatever would be computed otherwise, or would change the model."""
    with pytest.raises(ConfigError):
        adapters.resolve(kit.foreign(tmp_path / "a", **changes), FOLDER)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"peft_type": NaN}', "[" * 100_000])
def test_a_damaged_configuration(tmp_path: Path, text: str) -> None:
    """78, in place of a traceback."""
    folder = kit.foreign(tmp_path / "a")
    (folder / CONFIG).write_text(text)
    with pytest.raises(ConfigError):
        adapters.resolve(folder, FOLDER)


@pytest.mark.parametrize("data", [b"", b"\xff" * 16, b"\2\0\0\0\0\0\0\0[]", b"\1" + bytes(7)])
def test_damaged_weights(tmp_path: Path, data: bytes) -> None:
    """78, without reading what a false length would ask for."""
    folder = kit.foreign(tmp_path / "a")
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        adapters.resolve(folder, FOLDER)


def test_no_field_but_the_known_reaches_peft(tmp_path: Path) -> None:
    """What a stranger's configuration says of modules and dropout is not used."""
    folder = kit.foreign(tmp_path / "a", target_modules="(a+)+$", lora_dropout=0.5, use_dora=False)
    assert adapters.resolve(folder, FOLDER).settings == {"r": 2, "lora_alpha": 4, "use_dora": False}


# -- the base -------------------------------------------------------------------------------------


def test_the_same_base(tmp_path: Path) -> None:
    """The fingerprint is that of the checkpoint: nothing to say."""
    folder = marked(tmp_path / "a", **{BASE: FOLDER.fingerprint})
    assert adapters.resolve(folder, FOLDER).warning is None


@pytest.mark.parametrize(
    ("told", "base"),
    [
        ({BASE: "b" * 64}, FOLDER),
        ({BASE: "google/medgemma-27b-it@c0ffee", BASE_ID: "google/medgemma-27b-it"}, HUB),
        ({BASE: "google/medgemma-4b-it@0ther", BASE_ID: "google/medgemma-4b-it"}, HUB),
    ],
    ids=["weights", "model", "commit"],
)
def test_another_base(tmp_path: Path, told: dict[str, str], base: Checkpoint) -> None:
    """78, with the model's name where it has one."""
    with pytest.raises(ConfigError, match="another base model") as raised:
        adapters.resolve(marked(tmp_path / "a", **told), base)
    assert told.get(BASE_ID, "") in raised.value.message


def test_a_folder_may_be_the_hubs(tmp_path: Path) -> None:
    """A download copied to a folder has another kind of fingerprint: said, not refused."""
    folder = marked(tmp_path / "a", **{BASE: HUB.fingerprint, BASE_ID: HUB.id})
    assert adapters.resolve(folder, FOLDER).warning is not None


def test_a_strangers_adapter(tmp_path: Path) -> None:
    """It names a model of the hub, or none; a name that is not printed is not shown."""
    same = kit.foreign(tmp_path / "same", base_model_name_or_path=HUB.id)
    assert adapters.resolve(same, HUB).warning is not None
    for i, name in enumerate(["google/gemma-3-4b-it", "\x1b[31m", None, 7]):
        other = kit.foreign(tmp_path / str(i), base_model_name_or_path=name)
        with pytest.raises(ConfigError) as raised:
            adapters.resolve(other, HUB)
        assert "\x1b" not in raised.value.message


def test_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """69, with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as raised:
        adapters.resolve(tmp_path, FOLDER)
    assert "medgemma-cli[tune]" in raised.value.next_step


def test_what_tune_writes_is_taken(adapter: "object", checkpoint: Path) -> None:
    """The files of `tune` name their base, and nothing of this machine."""
    from medgemma_cli import models

    folder = adapter.adapter  # type: ignore[attr-defined]
    found = adapters.resolve(folder, models.resolve(str(checkpoint)))
    assert found.warning is None and found.settings["r"] == 8
    settings = json.loads((folder / CONFIG).read_text())
    assert "base_model_name_or_path" not in settings
    assert str(checkpoint) not in (folder / WEIGHTS).read_bytes().decode("latin-1")
