"""`medgemma batch` through the command: exit codes, words, and the promise to be run again."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batch_kit import read, request, write
from outcomes import ECHO, lines, wait_until


def test_a_file_of_run_batch(cli: Callable[..., Any], tmp_path: Path) -> None:
    """3 for a bad line, results all the same; again, nothing to do; `verify` reads every line."""
    lines = [request("a", "Dry cough.", model="google/x"), request("b", model="y"), request("c")]
    write(tmp_path / "b.jsonl", lines)
    command = ("batch", "b.jsonl", "-o", "out", *ECHO, "--model", "google/x")
    done = cli(*command)
    assert done.returncode == 3 and "results: out/results.jsonl" in done.stderr
    assert done.stdout == "" and "Dry cough" not in done.stderr
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    assert [line["custom_id"] for line in read(tmp_path / "out" / "results.jsonl")] == list("abc")
    again = cli(*command, "--served-model-name", "y", "--results", "r.jsonl")
    assert again.returncode == 0 and "1 generated, 2 unchanged" in again.stderr
    assert [line["error"] for line in read(tmp_path / "r.jsonl")] == [None] * 3
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before
    verified = cli("verify", "out")
    assert verified.returncode == 0 and "3 sources; nothing differs" in verified.stderr


def test_usage(cli: Callable[..., Any], tmp_path: Path) -> None:
    """2 and 66 before anything is made; the document's own words are in none of them."""
    write(tmp_path / "t.jsonl", [{"text": "Quillfeather"}])
    write(tmp_path / "b.jsonl", [request("a")])
    for args, code in (
        (("t.jsonl", "-o", "out"), 2),
        (("none.jsonl", "-o", "out"), 66),
        (("b.jsonl", "-o", "."), 2),
        (("b.jsonl", "-o", "out", "--results", "t.jsonl"), 2),
    ):
        done = cli("batch", *args, *ECHO)
        assert done.returncode == code and "Quillfeather" not in done.stderr, args
    assert not (tmp_path / "out").exists()
    planned = cli("batch", "b.jsonl", "-o", "out", *ECHO, "--dry-run")
    assert planned.returncode == 0 and "1 infer" in planned.stderr
    assert not (tmp_path / "out" / "records.jsonl").exists()
    assert json.loads((tmp_path / "b.jsonl").read_text())["custom_id"] == "a"


def test_killed_halfway(cli: Callable[..., Any], clean_env: dict[str, str], tmp_path: Path) -> None:
    """A second run meanwhile leaves with 75; after the kill no half file, then each line once."""
    names = [f"n{number}" for number in range(12)]
    write(tmp_path / "b.jsonl", [request(name, f"Note {name}.") for name in names])
    out, command = tmp_path / "out", ("batch", "b.jsonl", "-o", "out", *ECHO)
    slow = [sys.executable, "-m", "medgemma_cli", *command, "--echo-delay", "2"]
    with subprocess.Popen(slow, cwd=tmp_path, env=clean_env, stderr=subprocess.DEVNULL) as running:
        wait_until(lambda: len(lines(out)) >= 2, 60)
        assert cli(*command).returncode == 75
        running.kill()
    done = len(lines(out))
    assert 2 <= done < 12 and not (out / "results.jsonl").exists()
    again = cli(*command)
    assert again.returncode == 0, again.stderr
    results = read(out / "results.jsonl")
    assert [line["custom_id"] for line in results] == names
    assert len({line["key"] for line in lines(out)}) == len(lines(out)) == 12
