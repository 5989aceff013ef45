"""`transformers serve` with the demo model, as a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The end of a document, and Gemma's end of a turn: what the local engine stops at.
_STOP = [1, 106]


def plain_model(model: Path, folder: Path) -> Path:
    """The same weights without a repetition penalty, and with both ends.

    `generate`, and so `transformers serve`, counts the prompt in the penalty; the local engine
    counts the answer alone. MedGemma has none.
    """
    folder.mkdir()
    for path in model.iterdir():
        if path.name != "generation_config.json":
            (folder / path.name).symlink_to(path)
    settings = json.loads((model / "generation_config.json").read_text("utf-8"))
    settings.pop("repetition_penalty", None)
    settings["eos_token_id"] = _STOP
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


@contextmanager
def transformers_serve(model: Path, *, patience: float = 900.0) -> Iterator[str]:
    """Its base URL, once it answers; fp32 on the CPU."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(model)]
    options = ["--dtype", "float32", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    # It answers /v1/models with 500 where the hub's cache is not there.
    cache = model.parent / "cache"
    cache.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*command, *options],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, patience)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", patience: float) -> None:
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        assert process.poll() is None, "transformers serve ended by itself"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("transformers serve does not answer")
