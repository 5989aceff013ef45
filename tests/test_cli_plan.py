"""`medgemma plan` as a command: streams, exit codes, both kinds of output, and its memory."""

import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from medgemma_cli import cli as command
from medgemma_cli.commands.plan_report import Told, duration, print_text
from medgemma_cli.forecast import Forecast, Memory, Resources, summarise
from medgemma_cli.speeds import Estimate

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(forked: Cli) -> Cli:
    """Most here does not depend on how Python starts."""
    return forked


ECHO = ("--engine", "echo")
SECRET = "Ramipril"


@pytest.fixture
def local(checkpoint: Path) -> tuple[object, ...]:
    """Options of a run on the tiny checkpoint."""
    return ("--model", checkpoint, "--precision", "fp32", "--device", "cpu")


def as_json(done: "subprocess.CompletedProcess[str]") -> Any:
    """The one object on stdout."""
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_a_plan_writes_nothing(cli: Cli, notes: Path, tmp_path: Path) -> None:
    """A line a document, then sums; no output folder, no document text."""
    (notes / "x.xlsx").write_bytes(b"%PDF")
    (notes / "empty.md").write_bytes(b"")
    (notes / "e.md").write_text(f"{SECRET} 5 mg.")
    done = cli("plan", notes, "-o", "out", *ECHO)
    assert done.returncode == 0, done.stderr
    rows = [re.split(r" {2,}", line) for line in done.stdout.splitlines()]
    assert rows[0] == ["document", "what", "tokens", "images", "note"]
    assert [row[:2] for row in rows[1:7]] == [
        ["a.md", "to do"],
        ["b.txt", "to do"],
        ["c.md", "to do"],
        ["e.md", "to do"],
        ["empty.md", "rejected"],
        ["ward/d.md", "to do"],
    ]
    assert rows[5][-1] == "empty"
    assert "6 documents: 5 to do, 1 would be refused; skipped 1: 1 .xlsx" in done.stdout
    assert "refused: 1 empty" in done.stdout
    assert SECRET not in done.stdout + done.stderr and "a.md" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_plan_takes_the_place_of_run(cli: Cli, notes: Path) -> None:
    """What a run has done is done, under the same options; under others it is not."""
    assert cli("run", notes, "-o", "out", *ECHO).returncode == 0
    done = cli("plan", notes, "-o", "out", *ECHO)
    assert done.stdout == "4 documents: 4 done already\n"
    assert cli("plan", notes, "--batch-size", "none", *ECHO).returncode == 2
    for other in (["--force"], ["--temperature", "0.5"], ["--max-new-tokens", "9"]):
        value = as_json(cli("plan", notes, "-o", "out", "--json", *ECHO, *other))
        assert value["actions"] == {"infer": 4}
    assert as_json(cli("plan", notes, "--limit", "2", "--json", *ECHO))["actions"] == {"infer": 2}


@pytest.mark.parametrize("name", ["ward/../nothing", "empty"])
def test_no_input_is_66(cli: Cli, tmp_path: Path, name: str) -> None:
    """Nothing there, as for `run`."""
    (tmp_path / "empty").mkdir()
    assert cli("plan", tmp_path / name, *ECHO).returncode == 66


def test_no_model_is_69(cli: Cli, notes: Path) -> None:
    """A model that cannot be had is told before a document is read."""
    done = cli("plan", notes, "--model", "no/such-model", "--offline")
    assert (done.returncode, done.stdout) == (69, "")


def test_an_output_folder_above_the_input_is_2(cli: Cli, notes: Path) -> None:
    """As for `run`, which would refuse it."""
    assert cli("plan", notes, "-o", notes, *ECHO).returncode == 2


def test_a_model_that_is_here(cli: Cli, notes: Path, local: tuple[object, ...]) -> None:
    """Tokens, memory, and then time: told by a run of two, and by what that has done."""
    options = (*local, "--max-new-tokens", "300", "-o", "out")
    before = as_json(cli("plan", notes, *options, "--json"))
    needs = before["resources"]
    assert before["schema"] == "medgemma.plan/1" and before["actions"] == {"infer": 4}
    assert before["prompt_tokens"] == sum(d["prompt_tokens"] for d in before["documents"])
    assert (needs["device"], needs["precision"], needs["time"]) == ("cpu", "fp32", None)
    assert (needs["new_tokens"], needs["known"]) == (300, False)
    assert [row["chosen"] for row in needs["memory"] if row["precision"] == "fp32"] == [True]
    assert cli("run", notes, *options, "--limit", "2").returncode in (0, 3)
    after = as_json(cli("plan", notes, *options, "--json"))
    assert after["actions"] == {"cached": 2, "infer": 2}
    assert after["resources"]["known"] and after["resources"]["time"]["runs"] == 1
    assert after["resources"]["time"]["seconds"] > 0


def test_a_run_keeps_its_time(
    cli: Cli, notes: Path, local: tuple[object, ...], tmp_path: Path
) -> None:
    """A line a run; no name and no word of a document in it. Other engines' settings too."""
    other = ("--no-grammar", "--deterministic")
    options = (*local, *other, "--max-new-tokens", "30", "-o", "out")
    cache = {"MEDGEMMA_CACHE": str(tmp_path / "kept")}
    assert cli("run", notes, *options, env=cache).returncode in (0, 3)
    (line,) = (tmp_path / "kept" / "speeds.jsonl").read_text().splitlines()
    kept = json.loads(line)
    records = [json.loads(r) for r in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert (kept["documents"], kept["precision"]) == (len(records), "fp32 deterministic")
    assert kept["prompt_tokens"] == sum(r["usage"]["prompt_tokens"] for r in records)
    assert kept["prefill"] + kept["decode"] > 0
    told = {value for value in kept.values() if isinstance(value, str)}
    assert not any(name in value for value in told for name in ("notes", "a.md", "ramipril", "out"))
    assert cli("plan", notes, *options, env=cache).stdout == "4 documents: 4 done already\n"


def test_a_model_that_does_not_fit_is_69(
    cli: Cli, notes: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """All is told, and a script that asks before it runs is stopped. Weights are never read."""
    huge = tmp_path / "huge"
    shutil.copytree(checkpoint, huge)
    header = json.dumps({"w": {"dtype": "BF16", "shape": [10**6, 10**6], "data_offsets": [0, 0]}})
    data = struct.pack("<Q", len(header)) + header.encode()
    (huge / "model.safetensors").write_bytes(data)
    done = cli("plan", notes, "--model", huge, "--device", "cpu", "--precision", "nf4")
    assert done.returncode == 69
    assert re.search(r"^nf4 +[\d,.]+ GiB +does not fit \(chosen\)$", done.stdout, re.MULTILINE)


def test_a_table_on_a_terminal(cli: Cli, tmp_path: Path) -> None:
    """Drawn with rich; brackets in a name are no markup, control characters are shown."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "[red]a\x1b[31m.md").write_text("Sleeps well.")
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "medgemma_cli", "plan", str(folder), *ECHO],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while data := os.read(leader, 4096):
                shown += data
        except OSError:
            pass  # Linux: the other side is closed
    os.close(leader)
    assert process.returncode == 0
    assert b"[red]a\\x1b[31m.md" in shown
    assert b"\x1b[31m" not in shown


def test_every_option_has_its_variable_and_is_one_of_run() -> None:
    """The same line with `plan` in place of `run` means the same, from the environment too."""
    commands = typer.main.get_command(command.app).commands  # type: ignore[attr-defined]
    options = {
        name: {
            p.name: p
            for p in commands[name].params
            if p.param_type_name == "option" and p.name != "help"
        }
        for name in ("plan", "run")
    }
    for option in options["plan"].values():
        long = next(o for o in option.opts if o.startswith("--"))
        assert option.envvar == "MEDGEMMA_" + long[2:].replace("-", "_").upper()
    flags = {n: {o for p in ps.values() for o in p.opts} for n, ps in options.items()}
    assert flags["plan"] <= flags["run"]
    for name, option in options["plan"].items():
        if name in options["run"]:
            assert option.default == options["run"][name].default, name


@pytest.mark.parametrize(
    ("known", "time", "told"),
    [
        (
            False,
            None,
            r"time: not known; 100 new tokens a document, the most allowed\. .*--limit 4",
        ),
        (True, None, r"time: not known; 100 new tokens a document, the mean of past runs\. "),
        (
            True,
            Estimate(150, 1),
            r"time: about 2 min at bf16, .*the mean of past runs.* 1 past run\)",
        ),
        (
            False,
            Estimate(9, 3),
            r"time: at most about 9 s at bf16, .*most allowed; .* 3 past runs\)",
        ),
    ],
)
def test_the_words_for_time(
    capsys: pytest.CaptureFixture[str], known: bool, time: Estimate | None, told: str
) -> None:
    """Whether it is known, from how many runs, and whether it is a bound."""
    row = Memory("bf16", 10 * 2**30, 6, 2**30, True, True)
    needs = Resources("cpu", "bf16", 12 * 2**30, [row], 100, known, time)
    print_text(said(needs))
    shown = capsys.readouterr().out
    assert re.search(told, shown)
    assert re.search(r"^bf16 +10\.0 GiB +6 +1\.0 GiB  fits \(chosen\)$", shown, re.MULTILINE)
    assert "12.0 GiB are free on cpu" in shown


def said(needs: Resources) -> Told:
    """One document to do, read in part, and one that another stands for."""
    every = [
        Forecast("a.tif", "infer", "new", "k", 1500, 1, (("frames", 1, 3),)),
        Forecast("b.tif", "duplicate", "of a.tif", "l"),
    ]
    return Told(every, summarise(every), needs, "some/model", 4096, Counter())


def test_the_words_for_what_is_not_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """What is left out is in the document's line and in the sums; sizes may be unknown."""
    print_text(said(Resources("cpu", "bf16", 2**30, [], 100, False, None)))
    shown = capsys.readouterr().out
    assert re.search(r"^a\.tif +to do +1,500 +1 +1 of 3 frames$", shown, re.MULTILINE)
    assert re.search(r"^b\.tif +duplicate +of a\.tif$", shown, re.MULTILINE)
    assert "2 documents: 1 to do, 1 duplicates" in shown and "read in part: 1" in shown
    assert "the size of this model is not known" in shown


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "1 s"),
        (40.4, "40 s"),
        (89.4, "89 s"),
        (120, "2 min"),
        (3600, "60 min"),
        (7200, "2 h"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations(seconds: float, told: str) -> None:
    """In the unit that a person would use."""
    assert duration(seconds) == told
