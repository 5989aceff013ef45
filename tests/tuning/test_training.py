"""Tuning on a tiny checkpoint: it learns, goes on after a kill, and says what it did."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lessons_kit as kit
import pytest
from lessons_kit import Command, Taught
from tiny import MakeEngine, prompt

from medgemma_cli import adapters, models
from medgemma_cli.adapters import CONFIG, WEIGHTS
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.errors import ConfigError
from medgemma_cli.tuning.book import Book

PLAIN = ("--precision", "fp32", "--device", "cpu")
CHAT = [kit.chat(f"Say {word}.", kit.taught(word)) for word in kit.WORDS]
# Dropout, so that going on needs the random numbers' state, too.
BROKEN = ("--epochs", "12", "--every", "3", "--batch-size", "3", "--dropout", "0.1", "--patience")
BROKEN += ("0", "--validation-share", "0.2", "--seed", "7", "--no-gradient-checkpointing")


def weights(folder: Path) -> Any:
    """The tensors of an adapter."""
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


# -- it learns ------------------------------------------------------------------------------------


def test_eight_examples_are_learned(adapter: Taught) -> None:
    """The loss falls by a factor of a hundred; the time is bounded where nothing else runs."""
    told = kit.told(adapter.adapter)
    losses = [loss for _, loss in told["curve"]["train"]]
    assert losses[0] > 100 * losses[-1]
    assert told["state"] == "done" and told["steps"] == told["best"] == 40
    assert told["examples"]["train"] == 8 and told["examples"]["too_long"] == 0
    assert set(told["versions"]) >= {"torch", "transformers", "trl", "peft"}
    assert (adapter.adapter / "curve.svg").read_text().startswith("<svg")
    assert not (adapter.adapter / "checkpoints").exists()
    assert adapter.seconds < 300


def test_the_loss_is_that_of_the_answers(
    command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    """Before the first step: what the model itself says of every answer token, over all of them."""
    import torch

    from medgemma_cli.commands.lessons import read
    from medgemma_cli.engines.tuning.lessons import lesson

    rows = [CHAT[0], kit.chat("Say more.", "a much longer answer than the other, in many words")]
    path = kit.write(tmp_path / "train.jsonl", rows)
    engine = LocalEngine(
        models.resolve(str(checkpoint)), LocalOptions(device="cpu", precision="fp32")
    )
    said, tokens = 0.0, 0
    model = engine.loaded().model
    for example in read(path, "The file").examples:
        one = lesson(engine.encoder(), example)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([one.ids])).logits[0, :-1].log_softmax(-1)
        for place in range(one.start, len(one.ids)):
            said -= float(logits[place - 1, one.ids[place]])
            tokens += 1
    for size in ("1", "2"):
        way = (*PLAIN, "--max-steps", "1", "--every", "1", "--validation-share", "0")
        way += ("--batch-size", size, "--accumulate", str(2 // int(size)))
        out = tmp_path / size
        assert command("tune", path, "-o", out, "--model", checkpoint, *way).returncode == 0
        ((_, loss),) = kit.told(out)["curve"]["train"]
        assert loss == pytest.approx(said / tokens, rel=1e-4)


def test_what_was_taught_is_answered(
    command: Command, checkpoint: Path, adapter: Taught, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ask --adapter` says, greedily, what the examples said, to a text and to an image."""
    from lessons_kit import run

    model = ("--model", checkpoint, *PLAIN, "--max-new-tokens", "24", "-q")
    for row in adapter.rows:
        if "question" not in row:
            continue
        image = ("-i", adapter.folder / row["image"]) if "image" in row else ()
        capsys.readouterr()
        assert run("ask", row["question"], *image, "--adapter", adapter.adapter, *model) == 0
        assert capsys.readouterr().out.strip() == row["output"]
    assert run("ask", adapter.rows[2]["question"], *model) in (0, 3)
    assert capsys.readouterr().out.strip() != adapter.rows[2]["output"]


def test_records_carry_the_adapter(
    command: Command, checkpoint: Path, adapter: Taught, tmp_path: Path
) -> None:
    """Name and hash; another adapter is another key, and `plan` knows it."""
    (tmp_path / "note.txt").write_text("Dry cough.")
    model = ("-t", "general", "--model", checkpoint, *PLAIN, "--max-new-tokens", "4")
    keys = []
    for more in ((), ("--adapter", adapter.adapter)):
        assert command("run", "note.txt", "-o", "out", *model, *more).returncode in (0, 3)
        record = json.loads((tmp_path / "out" / "records.jsonl").read_text().splitlines()[-1])
        keys.append(record["key"])
    found = adapters.resolve(adapter.adapter, models.resolve(str(checkpoint)))
    assert record["model"]["adapter"] == {"name": "adapter", "hash": found.hash}
    assert len(set(keys)) == 2
    again = command("run", "note.txt", "-o", "out", *model, "--adapter", adapter.adapter)
    assert "nothing to do" in again.stderr
    assert command("plan", "note.txt", "-o", "out", *model, "--adapter", adapter.adapter)[0] == 0


def test_questions_carry_the_adapter(
    command: Command, checkpoint: Path, adapter: Taught, tmp_path: Path, capsys: Any
) -> None:
    """`eval qa --adapter` asks again with it, once, and says so; its hash is in the key."""
    asked = {"id": "1", "question": "Which?", "options": {"A": "amber", "B": "birch"}}
    kit.write(tmp_path / "q.jsonl", [asked | {"answer": "A"}])
    way = ("eval", "qa", "q.jsonl", "-o", "kept", "--model", checkpoint, *PLAIN)
    way = (*way, "--max-new-tokens", "4")
    assert "1 asked, 0 kept" in command(*way).stderr
    assert "1 asked, 0 kept" in command(*way, "--adapter", adapter.adapter).stderr
    assert "0 asked, 1 kept" in command(*way, "--adapter", adapter.adapter).stderr
    assert "0 asked, 1 kept" in command(*way).stderr
    first, second = map(json.loads, (tmp_path / "kept" / "answers.jsonl").read_text().splitlines())
    assert first["key"] != second["key"] and first["letters"] != second["letters"]
    from lessons_kit import run

    capsys.readouterr()
    assert run(*way, "--adapter", adapter.adapter, "--json") == 0
    assert json.loads(capsys.readouterr().out)["facts"]["adapter"] == "adapter"
    kit.foreign(tmp_path / "bad", peft_type="LOHA")
    assert command(*way, "--adapter", "bad").returncode == 78


@pytest.mark.parametrize("precision", ["bf16", "nf4", "int8"])
def test_adapters_on_other_precisions(
    checkpoint: Path, adapter: Taught, precision: Any, make_engine: MakeEngine
) -> None:
    """Unmerged on a quantised base, too; the record has both."""
    base = models.resolve(str(checkpoint))
    options = LocalOptions(
        precision=precision, device="cpu", adapter=adapters.resolve(adapter.adapter, base)
    )
    engine = LocalEngine(base, options)
    (made,) = engine.generate([prompt("a", "BP 120/80.")])
    (plain,) = make_engine(precision=precision).generate([prompt("a", "BP 120/80.")])
    assert made.error is None and made.text != plain.text
    assert engine.info.adapter is not None and engine.info.precision == precision
    assert engine.identity["adapter"] == engine.info.adapter.hash


@pytest.fixture
def make_engine(checkpoint: Path) -> MakeEngine:
    """An engine without an adapter."""

    def make(**options: Any) -> LocalEngine:
        return LocalEngine(models.resolve(str(checkpoint)), LocalOptions(device="cpu", **options))

    return make


def test_an_adapter_of_other_layers_is_refused(
    command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    """78 and a sentence when the model is loaded: its names are those of a text model."""
    kit.foreign(tmp_path / "other")
    done = command("ask", "x?", "--model", checkpoint, *PLAIN, "--adapter", "other")
    assert done.returncode == 78 and "does not fit the model" in done.stderr


# -- other bases ----------------------------------------------------------------------------------


def test_a_base_in_four_bits(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    """QLoRA on the CPU, with a text and an image: the loss falls, the adapter loads."""
    rows = kit.mixed(tmp_path)
    kit.write(tmp_path / "train.jsonl", [rows[2], rows[5]])
    way = ("--epochs", "8", "--validation-share", "0", *kit.FAST, "--precision", "nf4")
    done = command("tune", "train.jsonl", "-o", "out", "--model", checkpoint, *way)
    assert done.returncode == 0, done.stderr
    told = kit.told(tmp_path / "out")
    losses = [loss for _, loss in told["curve"]["train"]]
    assert losses[-1] < losses[0] / 2 and told["loaded"]["precision"] == "nf4"
    assert {str(tensor.dtype) for tensor in weights(tmp_path / "out").values()} == {"torch.float32"}
    ask = ("ask", rows[2]["question"], "--model", checkpoint, "--precision", "nf4", "--adapter")
    assert command(*ask, "out", "--device", "cpu", "--max-new-tokens", "4").returncode == 0


def test_a_text_model(command: Command, tmp_path: Path) -> None:
    """A checkpoint without a vision tower is tuned and answers; its adapter fits no other."""
    model = kit.text_only(tmp_path / "text")
    kit.write(tmp_path / "train.jsonl", kit.mixed(tmp_path)[2:4])
    way = ("--epochs", "4", "--validation-share", "0", "--model", model, *kit.FAST)
    assert command("tune", "train.jsonl", "-o", "out", *way).returncode == 0
    ask = ("ask", "Say cedar.", "--model", model, *PLAIN, "--adapter", "out")
    assert command(*ask, "--max-new-tokens", "4").returncode == 0


def test_an_adapter_of_another_base(command: Command, adapter: Taught, tmp_path: Path) -> None:
    """78 and a sentence, before the model is loaded."""
    model = kit.text_only(tmp_path / "text")
    done = command("ask", "x?", "--model", model, *PLAIN, "--adapter", adapter.adapter)
    assert done.returncode == 78 and "another base model" in done.stderr
    assert "loading the model" not in done.stderr


# -- it goes on -----------------------------------------------------------------------------------


def tune(folder: Path, out: str, checkpoint: Path, *more: str) -> list[str]:
    """The arguments of a tuning that takes a while."""
    data = str(folder / "train.jsonl")
    start = ["tune", data, "-o", str(folder / out), "--model", str(checkpoint)]
    return [*start, *kit.FAST, *BROKEN, *more]


def started(folder: Path, arguments: list[str]) -> "subprocess.Popen[bytes]":
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "medgemma_cli", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Until a file is there."""
    ends = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.02)


def test_killed_and_gone_on(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    """The same losses and weights as of a training that nobody disturbed."""
    kit.write(tmp_path / "train.jsonl", CHAT)
    process = started(tmp_path, tune(tmp_path, "broken", checkpoint))
    wait_for(tmp_path / "broken" / "checkpoints" / "checkpoint-6" / "whole", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert kit.told(tmp_path / "broken")["state"] == "training"
    early = command("ask", "x?", "--model", checkpoint, "--adapter", "broken", *PLAIN)
    assert early.returncode == 69 and "not finished" in early.stderr
    other = command(*tune(tmp_path, "broken", checkpoint, "--rank", "4"))
    assert other.returncode == 78 and "other settings" in other.stderr

    again = command(*tune(tmp_path, "broken", checkpoint))
    assert again.returncode == 0 and "goes on from step" in again.stderr
    assert command(*tune(tmp_path, "whole", checkpoint)).returncode == 0
    broken, whole = (kit.told(tmp_path / name)["curve"] for name in ("broken", "whole"))
    for name in ("train", "validation"):
        assert [step for step, _ in broken[name]] == [step for step, _ in whole[name]]
        losses = [loss for _, loss in whole[name]]
        assert [loss for _, loss in broken[name]] == pytest.approx(losses, rel=1e-4)
    for name, tensor in weights(tmp_path / "whole").items():
        assert weights(tmp_path / "broken")[name].sub(tensor).abs().max() < 1e-4, name


def test_terminated_it_keeps_its_last_step(checkpoint: Path, tmp_path: Path) -> None:
    """SIGTERM: the step in hand is finished, a checkpoint kept, 75; the same command goes on."""
    kit.write(tmp_path / "train.jsonl", CHAT)
    arguments = tune(tmp_path, "out", checkpoint, "--epochs", "400", "--every", "1000")
    process = started(tmp_path, arguments)
    wait_for(tmp_path / "out" / "curve.svg", process)
    time.sleep(6)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    kept = list((tmp_path / "out" / "checkpoints").glob("checkpoint-*/whole"))
    told = kit.told(tmp_path / "out")
    assert told["state"] == "training"
    assert len(kept) <= 1 and not (tmp_path / "out" / WEIGHTS).exists()


def test_its_time_is_up(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    """`--max-time` keeps a checkpoint and leaves with 75; the same command goes on."""
    kit.write(tmp_path / "train.jsonl", CHAT)
    way = tune(tmp_path, "out", checkpoint, "--max-steps", "2")
    done = command(*way, "--max-time", "0.01s")
    assert done.returncode == 75 and "stopped at step 1 of 2" in done.stderr
    assert Book(tmp_path / "out").last() == 1 and kit.told(tmp_path / "out")["state"] == "training"
    # The last step is done though the time is up: nothing is left to run again for.
    done = command(*way, "--max-time", "0.01s")
    assert done.returncode == 0 and "goes on from step 1 of 2" in done.stderr
    assert command(*way, "--max-time", "soon").returncode == 2


def test_what_is_done_is_not_done_again(
    command: Command, checkpoint: Path, adapter: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again loads no model; other examples need another folder."""
    monkeypatch.setattr(LocalEngine, "loaded", None)
    way = ("--epochs", "40", "--validation-share", "0", "--model", checkpoint, *kit.FAST)
    data = adapter.folder / "train.jsonl"
    before = (adapter.adapter / WEIGHTS).read_bytes()
    done = command("tune", data, "-o", adapter.adapter, *way)
    assert done.returncode == 0 and "nothing to do" in done.stderr
    other = kit.write(adapter.folder / "other.jsonl", adapter.rows[:-1])
    assert command("tune", other, "-o", adapter.adapter, *way).returncode == 78
    assert (adapter.adapter / WEIGHTS).read_bytes() == before


def test_it_ends_when_validation_is_no_better(
    command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    """The best checkpoint is kept, not the last one; its losses are measured on unseen lines."""
    kit.write(tmp_path / "train.jsonl", CHAT[:6])
    kit.write(tmp_path / "validation.jsonl", CHAT[6:])
    way = ("--epochs", "60", "--every", "2", "--patience", "2", "--validation", "validation.jsonl")
    done = command("tune", "train.jsonl", "-o", "out", "--model", checkpoint, *kit.FAST, *way)
    assert done.returncode == 0 and "validation loss" in done.stderr
    told = kit.told(tmp_path / "out")
    losses = dict(map(tuple, told["curve"]["validation"]))
    assert told["steps"] < 60 and told["best"] == told["steps"] - 4
    assert losses[told["best"]] == min(losses.values())
    assert told["examples"] | {"tokens": 0} == {
        "train": 6, "validation": 2, "too_long": 0, "tokens": 0
    }  # fmt: skip


# -- what is said, and what is not ----------------------------------------------------------------


def test_long_examples(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    """Refused by line before the model is loaded; or left out, and counted."""
    long = kit.chat("Zebrastrasse " * 400, "x")
    kit.write(tmp_path / "train.jsonl", [*CHAT[:2], long])
    way = ("tune", "train.jsonl", "-o", "out", "--model", checkpoint, "--max-tokens", "300")
    done = command(*way, *kit.FAST)
    assert done.returncode == 2 and "Line 3: it has " in done.stderr
    assert "Zebra" not in done.stderr and "loading the model" not in done.stderr
    short = ("--skip-long", "--max-steps", "1", "--validation-share", "0")
    done = command("tune", "train.jsonl", "-o", "short", *way[4:], *short, *kit.FAST)
    assert done.returncode == 0 and "1 too long" in done.stderr
    assert kit.told(tmp_path / "short")["examples"]["too_long"] == 1


@pytest.mark.parametrize("kilobytes", [100, 300], ids=["adapter", "optimizer"])
def test_a_full_disk(checkpoint: Path, tmp_path: Path, kilobytes: int) -> None:
    """74 whichever file of a checkpoint does not fit; the torn one is not gone on from."""
    kit.write(tmp_path / "train.jsonl", CHAT[:2])
    command = f"ulimit -f {kilobytes}; exec {sys.executable} -m medgemma_cli"
    way = ["tune", "train.jsonl", "-o", "out", "--model", str(checkpoint), *kit.FAST]
    way += ["--max-steps", "2", "--every", "1", "--rank", "16"]
    done = subprocess.run(
        ["/bin/bash", "-c", f'{command} "$@"', "-", *way],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 74 and "run the same command again" in done.stderr
    assert Book(tmp_path / "out").last() is None


def test_a_loss_that_is_not_finite(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """78 and what to change, in place of weights that answer nothing."""
    from medgemma_cli.engines.tuning.watching import Watch

    logged = Watch.logged
    monkeypatch.setattr(
        Watch, "logged", lambda self, state, logs: logged(self, state, {"loss": float("nan")})
    )
    kit.write(tmp_path / "train.jsonl", CHAT[:1])
    done = command("tune", "train.jsonl", "-o", "out", "--model", checkpoint, *kit.FAST)
    assert done.returncode == 78 and "--learning-rate" in done.stderr


def test_nobody_is_told(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL tells its makers of every trainer; ours does not, and no library writes a page."""
    import socket

    import trl.trainer.base_trainer as base

    def never(*args: object, **more: object) -> None:
        raise AssertionError("telemetry")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("CI", raising=False)  # where TRL is silent by itself
    monkeypatch.setattr(base, "send_telemetry", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    kit.write(tmp_path / "train.jsonl", CHAT[:2])
    way = ("--max-steps", "1", "--model", checkpoint, *kit.FAST)
    done = command("tune", "train.jsonl", "-o", "out", *way)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert names == {".lock", CONFIG, WEIGHTS, "training.json", "curve.svg"}
    assert not any(kit.WORDS[0] in line for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--precision", "fp16"), 2),
        (("--target-modules", "q_proj,lm_head"), 2),
        (("--rank", "0"), 2),
        (("--model", "nowhere"), 69),
        (("--validation", "nowhere.jsonl"), 66),
    ],
)
def test_usage(command: Command, tmp_path: Path, more: tuple[str, ...], code: int) -> None:
    """Said before anything is made."""
    kit.write(tmp_path / "train.jsonl", CHAT[:1])
    assert command("tune", "train.jsonl", "-o", "out", *more).returncode == code
    assert not (tmp_path / "out").exists()


def test_without_the_extra(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """69, with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    kit.write(tmp_path / "train.jsonl", CHAT[:1])
    done = command("tune", "train.jsonl", "-o", "out")
    assert done.returncode == 69 and "medgemma-cli[tune]" in done.stderr


def test_layers_that_learn(checkpoint: Path) -> None:
    """Those named, of the text model alone: the vision tower has layers of the same names."""
    from medgemma_cli.engines.tuning.training import with_lora
    from medgemma_cli.tuning.settings import Settings

    model = (
        LocalEngine(models.resolve(str(checkpoint)), LocalOptions(precision="fp32", device="cpu"))
        .loaded()
        .model
    )
    made = with_lora(model, Settings(modules=("q_proj", "v_proj")))
    learning = {name for name, value in made.named_parameters() if value.requires_grad}
    assert learning and all("lora_" in name for name in learning)
    assert all("language_model.layers" in name for name in learning)
    assert {name.split(".lora_")[0].split(".")[-1] for name in learning} == {"q_proj", "v_proj"}


def test_a_training_gone_wrong_is_no_adapter(tmp_path: Path) -> None:
    """Of a folder that another tool left half, nothing is guessed."""
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / WEIGHTS).write_bytes(b"")
    with pytest.raises(ConfigError):
        adapters.resolve(tmp_path, models.Checkpoint("m", None, None, "f"))
