"""`medgemma export`: what comes out is run; what is killed, full, wrong or not asked for is not."""

import http.server
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lessons_kit as kit
import pytest
from lessons_kit import Command, Taught, run

from medgemma_cli import models
from medgemma_cli.errors import ConfigError, OutputError, RunAgainError
from medgemma_cli.exporting import folder as place
from medgemma_cli.exporting.notice import GEMMA, HAI_DEF

PLAIN = ("--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="session")
def merged(checkpoint: Path, adapter: Taught, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that a whole session may look at."""
    out = tmp_path_factory.mktemp("export") / "merged"
    model = ("--model", checkpoint, "--device", "cpu", "-q")
    assert run("export", adapter.adapter, "--merge", "-o", out, *model) == 0
    return out


@pytest.fixture
def copy(merged: Path, tmp_path: Path) -> Path:
    """An export to spoil."""
    shutil.copytree(merged, tmp_path / "copy")
    return tmp_path / "copy"


def told(folder: Path) -> dict[str, Any]:
    """The export.json of a folder."""
    value: dict[str, Any] = json.loads((folder / "export.json").read_text("utf-8"))
    return value


def hidden(folder: Path) -> list[str]:
    """What was left beside an export."""
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


# -- what comes out -------------------------------------------------------------------------------


def test_the_folder(merged: Path, checkpoint: Path, adapter: Taught) -> None:
    """A checkpoint with all that goes with it, its owner's alone, and figures without a path."""
    names = {entry.name for entry in merged.iterdir()}
    assert names == {entry.name for entry in checkpoint.iterdir()} | {"NOTICE", "export.json"}
    assert stat.S_IMODE(merged.stat().st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in merged.iterdir()} == {0o600}
    for name in ("tokenizer.json", "chat_template.jinja", "processor_config.json"):
        assert (merged / name).read_bytes() == (checkpoint / name).read_bytes()
    figures = told(merged)
    assert figures["compared"]["merged"]["greatest"] < 0.5 < figures["compared"]["adapter"]["mean"]
    assert figures["base"] == {
        "id": None, "revision": None, "fingerprint": models.resolve(str(checkpoint)).fingerprint
    }  # fmt: skip
    assert figures["weights"] == models.file_hashes([merged / "model.safetensors"])
    assert str(checkpoint.parent) not in (merged / "export.json").read_text()
    assert hidden(merged.parent) == []


def test_the_notice(merged: Path) -> None:
    """Both terms, and which files were changed."""
    text = (merged / "NOTICE").read_text()
    assert GEMMA in text and HAI_DEF in text
    assert "Files changed: config.json, model.safetensors." in text


def test_it_runs(command: Command, merged: Path, adapter: Taught, capsys: Any) -> None:
    """`ask --model` says what was taught, without an adapter, to a text and to an image."""
    for row in (adapter.rows[2], adapter.rows[5]):
        image = ("-i", adapter.folder / row["image"]) if "image" in row else ()
        more = (*PLAIN, "--max-new-tokens", "24", "-q")
        capsys.readouterr()
        assert run("ask", row["question"], *image, "--model", merged, *more) == 0
        assert capsys.readouterr().out.strip() == row["output"]


def test_its_key_is_another(
    command: Command, merged: Path, checkpoint: Path, adapter: Taught, tmp_path: Path
) -> None:
    """Other weights are another key than base and adapter; what `export.json` says is none."""
    (tmp_path / "note.txt").write_text("Dry cough.")
    way = ("run", "note.txt", "-o", "out", "-t", "general", *PLAIN, "--max-new-tokens", "4")
    keys = []
    for model in (("--model", merged), ("--model", checkpoint, "--adapter", adapter.adapter)):
        assert command(*way, *model).returncode in (0, 3)
        record = json.loads((tmp_path / "out" / "records.jsonl").read_text().splitlines()[-1])
        keys.append((record["key"], record["model"]["adapter"] is None))
    assert keys[0][0] != keys[1][0] and [alone for _, alone in keys] == [True, False]


def test_figures_are_no_part_of_the_model(copy: Path) -> None:
    """The same weights, exported with another version of a library, have the same key."""
    before = models.resolve(str(copy)).fingerprint
    (copy / "export.json").write_text("{}")
    assert models.resolve(str(copy)).fingerprint == before
    (copy / "generation_config.json").write_text("{}")
    assert models.resolve(str(copy)).fingerprint != before


def test_a_text_model_in_fp16(command: Command, tmp_path: Path) -> None:
    """A base without a vision tower; fp16 is warned about; a stranger's adapter, too."""
    model = kit.text_only(tmp_path / "text")
    kit.foreign(tmp_path / "a")
    way = ("export", "a", "--merge", "-o", "out", "--dtype", "fp16", "--device", "cpu")
    done = command(*way, "--model", model, "--tolerance", "20")
    assert done.returncode == 0, done.stderr
    assert "overflows" in done.stderr and "nothing says whether" in done.stderr
    assert "greedy tokens are the same" in done.stderr
    assert models.config(tmp_path / "out")["dtype"] == "float16"
    again = command(*way, "--model", model, "--tolerance", "20")
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert "loading" not in again.stderr


def test_too_great_a_difference(command: Command, checkpoint: Path, adapter: Taught) -> None:
    """78 with the figures, and nothing left: neither in place nor beside it."""
    way = ("export", adapter.adapter, "--merge", "-o", "out", "--model", checkpoint)
    done = command(*way, "--tolerance", "0", "--device", "cpu")
    assert done.returncode == 78 and "log-probabilities differ" in done.stderr
    assert list(Path.cwd().iterdir()) == []


# -- what is refused ------------------------------------------------------------------------------


def test_without_merge(command: Command, adapter: Taught) -> None:
    """2, and what there is."""
    done = command("export", adapter.adapter, "-o", "out")
    assert done.returncode == 2 and "--merge" in done.stderr and "docs/export.md" in done.stderr


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("other base", 78, "another base model"),
        ("no adapter", 69, "has no adapter_config.json"),
        ("pickle", 78, "pickled"),
        ("quantised", 78, "is quantised"),
        ("something else", 78, "something else"),
        ("a file", 73, "cannot be written"),
        ("the base", 78, "something else"),
    ],
)
def test_refusals(
    command: Command, checkpoint: Path, tmp_path: Path, fault: str, code: int, words: str
) -> None:
    """Before any weight is loaded; what is there stays as it was."""
    kit.foreign(tmp_path / "a")
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    out = tmp_path / "out"
    if fault == "other base":
        from safetensors.torch import load_file, save_file

        file = tmp_path / "a" / "adapter_model.safetensors"
        save_file(load_file(file), file, {"format": "pt", "medgemma.base": "b" * 64})
    elif fault == "no adapter":
        (tmp_path / "a" / "adapter_config.json").unlink()
    elif fault == "pickle":
        (tmp_path / "a" / "adapter_model.bin").write_bytes(b"")
    elif fault == "quantised":
        config = models.config(model) | {"quantization_config": {"quant_method": "bitsandbytes"}}
        (model / "config.json").write_text(json.dumps(config))
    elif fault == "something else":
        out.mkdir()
        (out / "thesis.txt").write_text("x")
    elif fault == "a file":
        out.write_text("x")
    elif fault == "the base":
        out = model
    before = sorted(tmp_path.rglob("*"))
    done = command("export", "a", "--merge", "-o", out, "--model", model, "--device", "cpu")
    assert done.returncode == code and words in done.stderr, done.stderr
    assert "loading" not in done.stderr and sorted(tmp_path.rglob("*")) == before


def test_no_room(
    command: Command, checkpoint: Path, adapter: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    """73 and how much it takes, before anything is loaded."""
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    done = command("export", adapter.adapter, "--merge", "-o", "out", "--model", checkpoint)
    assert done.returncode == 73 and "0.1 GB" in done.stderr and "loading" not in done.stderr
    assert list(Path.cwd().iterdir()) == []


def test_a_full_disk(checkpoint: Path, adapter: Taught, tmp_path: Path) -> None:
    """74 when the weights do not fit after all; nothing is left."""
    way = [sys.executable, "-m", "medgemma_cli", "export", str(adapter.adapter), "--merge"]
    way += ["-o", "out", "--model", str(checkpoint), "--device", "cpu"]
    done = subprocess.run(
        ["/bin/bash", "-c", 'ulimit -f 300; exec "$@"', "-", *way],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 74 and "cannot be written" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_killed_while_it_writes(checkpoint: Path, adapter: Taught, tmp_path: Path) -> None:
    """Nothing half is in place; the same command again clears away and does it."""
    way = [sys.executable, "-m", "medgemma_cli", "export", str(adapter.adapter), "--merge"]
    way += ["-o", str(tmp_path / "out"), "--model", str(checkpoint), "--device", "cpu"]
    process = subprocess.Popen(way, env={**os.environ, "OMP_NUM_THREADS": "1"})
    work = tmp_path / ".out.medgemma-export"
    ends = time.monotonic() + 300
    while not (work / "model.safetensors").exists():
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists() and work.is_dir()
    assert run(*way[3:], "-q") == 0
    assert hidden(tmp_path) == [] and (tmp_path / "out" / "export.json").is_file()


# -- the folder -----------------------------------------------------------------------------------


def made(out: Path, text: str) -> None:
    """Put an export of one file in place."""
    with place.Folder(out) as folder:
        (folder.work / "model.safetensors").write_text(text)
        folder.finish({"identity": text})
        folder.place()


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    """By one that is whole; the same one is known."""
    out = tmp_path / "out"
    made(out, "first")
    made(out, "second")
    assert (out / "model.safetensors").read_text() == "second" and hidden(tmp_path) == []
    with place.Folder(out) as folder:
        assert folder.whole("second") and not folder.whole("first")
        (out / "model.safetensors").write_text("damage")
        assert not folder.whole("second")


def test_files_of_others_are_not_taken_away(tmp_path: Path) -> None:
    """78: somebody made something of the export, and keeps it there."""
    made(tmp_path / "out", "first")
    (tmp_path / "out" / "model.gguf").write_text("x")
    with pytest.raises(ConfigError, match="not the export's"):
        made(tmp_path / "out", "second")
    assert (tmp_path / "out" / "model.gguf").exists() and hidden(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "medgemma.export/1"}', "[" * 99999])
def test_a_damaged_export_json(tmp_path: Path, text: str) -> None:
    """What cannot be told to be an export is not replaced."""
    made(tmp_path / "out", "first")
    (tmp_path / "out" / "export.json").write_text(text)
    with pytest.raises(ConfigError, match="something else"):
        made(tmp_path / "out", "second")


@pytest.mark.parametrize("rename", [0, 1])
def test_killed_between_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int
) -> None:
    """The earlier export is there again, or the new one stands; nothing is left beside it."""
    out, real, count = tmp_path / "out", os.rename, []
    made(out, "first")

    def killed(*pair: Any) -> None:
        if len(count) == rename + 1:
            os._exit(9)
        count.append(real(*pair))

    child = os.fork()
    if not child:
        monkeypatch.setattr(os, "rename", killed)
        monkeypatch.setattr(shutil, "rmtree", lambda *args, **more: os._exit(9))
        made(out, "second")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with place.Folder(out) as folder:
        assert folder.known["identity"] == ("first", "second")[rename]
    assert hidden(tmp_path) == []


def test_two_at_once(tmp_path: Path) -> None:
    """75 for the second; the first is not disturbed."""
    with place.Folder(tmp_path / "out") as folder:
        (folder.work / "model.safetensors").write_text("first")
        with pytest.raises(RunAgainError):
            made(tmp_path / "out", "second")
        folder.finish({"identity": "first"})
        folder.place()
    assert (tmp_path / "out" / "model.safetensors").read_text() == "first"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """73, a name that is too long and a file in the way of a folder among them."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", tmp_path / ("x" * 250)):
        with pytest.raises(OutputError), place.Folder(out):
            pass


# -- the hub --------------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """Notes what it is asked, and does nothing of it."""

    asked: list[tuple[str, str, bytes]]
    public = False

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.asked.append((self.command, self.path, self.rfile.read(length)))
        url = f"http://{self.headers['host']}/me/model"
        known: dict[str, Any] = {"/api/repos/create": {"url": url, "name": "me/model"}}
        if self.public:
            known["/api/models/me/model"] = {"id": "me/model", "private": False}
        body = json.dumps(known.get(self.path.partition("?")[0], {})).encode()
        self.send_response(200 if self.path.partition("?")[0] in known else 403)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = _answer

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[tuple[type[Hub], str]]:
    """A server on this machine in place of the hub."""
    kind = type("Own", (Hub,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kind, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def sent(
    export: Path, checkpoint: Path, adapter: Taught, *more: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """`export --push-to-hub` of what is there already."""
    way = [sys.executable, "-m", "medgemma_cli", "export", str(adapter.adapter), "--merge"]
    way += ["-o", str(export), "--model", str(checkpoint), "--push-to-hub", "me/model", *more]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        way,
        env={**kept, "HF_HOME": str(export.parent / "hf"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("more", "environment", "words"),
    [
        ((), {"HF_HUB_OFFLINE": "1", "HF_TOKEN": "t"}, "offline is on"),
        (("--offline",), {"HF_TOKEN": "t"}, "offline is on"),
        ((), {}, "HF_TOKEN"),
    ],
)
def test_nothing_is_sent(
    copy: Path,
    checkpoint: Path,
    adapter: Taught,
    hub: tuple[type[Hub], str],
    more: tuple[str, ...],
    environment: dict[str, str],
    words: str,
) -> None:
    """69 and what to do, where offline is on or a token is missing; the hub hears nothing."""
    done = sent(copy, checkpoint, adapter, *more, HF_ENDPOINT=hub[1], **environment)
    assert done.returncode == 69 and words in done.stderr
    assert hub[0].asked == []


def test_where_there_is_no_network(copy: Path, checkpoint: Path, adapter: Taught) -> None:
    """69 with a next step; the export is there."""
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "t"}
    done = sent(copy, checkpoint, adapter, **closed)
    assert done.returncode == 69 and "only sends" in done.stderr and "127.0.0.1" not in done.stderr
    assert (copy / "model.safetensors").is_file()


def test_private_unless_asked(
    copy: Path, checkpoint: Path, adapter: Taught, hub: tuple[type[Hub], str]
) -> None:
    """The repository is made private; into a public one nothing is sent unless --public is said."""
    kind, address = hub
    kind.public = True
    done = sent(copy, checkpoint, adapter, HF_ENDPOINT=address, HF_TOKEN="t")
    assert done.returncode == 78 and "--public" in done.stderr, done.stderr
    created = json.loads(next(body for _, path, body in kind.asked if path.endswith("create")))
    assert created["visibility"] == "private" and created["name"] == "model"
    assert not [path for _, path, _ in kind.asked if "preupload" in path or "commit" in path]
    kind.asked.clear()
    done = sent(copy, checkpoint, adapter, "--public", HF_ENDPOINT=address, HF_TOKEN="t")
    assert done.returncode == 69  # this hub takes no files
    created = json.loads(next(body for _, path, body in kind.asked if path.endswith("create")))
    assert created["visibility"] == "public"
    (offered,) = [body for _, path, body in kind.asked if "preupload" in path]
    names = {file["path"] for file in json.loads(offered)["files"]}
    assert names == {*told(copy)["files"], "export.json"}


@pytest.mark.parametrize("repo", ["model", "me/", "../x", "a/b/c", "https://hub/me/model", ""])
def test_names_of_repositories(command: Command, adapter: Taught, repo: str) -> None:
    """2 for what is none."""
    done = command("export", adapter.adapter, "--merge", "-o", "out", "--push-to-hub", repo)
    assert done.returncode == 2 and "OWNER/NAME" in done.stderr


def test_nothing_else_sends() -> None:
    """One module of the package uploads, and one command asks for it."""
    import medgemma_cli

    root = Path(medgemma_cli.__file__).parent
    verbs = ("upload_f", "push_to_hub(", "create_repo", "create_commit", "upload_large")
    texts = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*.py")}
    assert {name for name, text in texts.items() if any(verb in text for verb in verbs)} == {
        "exporting/pushing.py"
    }
    using = {name for name, text in texts.items() if "pushing" in text}
    assert using == {"commands/merging.py"}
