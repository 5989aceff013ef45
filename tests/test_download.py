"""A checkpoint that is not here is fetched from a hub: one that runs on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medgemma_cli import models
from medgemma_cli.errors import ModelUnavailableError

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
FILES = {
    "config.json": b'{"model_type": "gemma3_text", "max_position_embeddings": 77}',
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "pytorch_model.bin": b"a pickle that must not be fetched",
    "README.md": b"not needed",
}


def git_oid(data: bytes) -> str:
    """The name that git gives to a file's content; the hub's ETag."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as fetching a snapshot takes."""

    gated = False
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        """Metadata of a repository, or a file."""
        self.answer(body=True)

    def do_HEAD(self) -> None:
        """The headers of a file."""
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        """Send what stands at the path."""
        self.asked.append(self.path)
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        if self.gated:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            data = b"gated"
        elif self.path.startswith("/api/"):
            listed = [
                {"type": "file", "path": n, "size": len(d), "oid": git_oid(d)}
                for n, d in FILES.items()
            ]
            files = [{"rfilename": name} for name in FILES]
            whole = {"id": "some/model", "sha": COMMIT, "siblings": files}
            data = json.dumps(listed if "/tree/" in self.path else whole).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
        elif name in FILES:
            data = FILES[name]
            self.send_response(200)
            self.send_header("ETag", f'"{git_oid(data)}"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            data = b""
            self.send_response(404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on loopback, and an empty cache."""
    from huggingface_hub import constants

    class Fresh(Hub):
        asked: list[str] = []  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield Fresh
    server.shutdown()


def quiet(text: str, done: int, total: int) -> None:
    """No progress."""


def test_a_missing_model_is_downloaded_and_then_needs_no_network(hub: type[Hub]) -> None:
    """The commit is pinned first; only safetensors and settings come; later nothing is asked."""
    found = models.resolve("some/model")
    assert (found.path, found.revision) == (None, COMMIT)
    fetched = models.fetch(found, quiet)
    assert fetched.path is not None
    assert {p.name for p in fetched.path.iterdir()} == {"config.json", "model.safetensors"}
    assert models.window(models.config(fetched.path)) == 77
    hub.asked.clear()
    again = models.resolve("some/model")
    assert (again.path, again.fingerprint) == (fetched.path, found.fingerprint)
    assert hub.asked == []


def test_a_gated_model_names_the_licence(hub: type[Hub]) -> None:
    """69, and how to go on."""
    hub.gated = True
    with pytest.raises(ModelUnavailableError) as caught:
        models.resolve("some/model")
    assert "accept the licence" in caught.value.next_step


def test_a_plan_fetches_no_weights(hub: type[Hub]) -> None:
    """Configuration alone comes; a run afterwards is not misled by it, and fetches the rest."""
    found = models.resolve("some/model")
    small = models.fetch(found, quiet, weights=False)
    assert small.path is not None
    assert {p.name for p in small.path.iterdir()} == {"config.json"}
    assert models.parameters(small) is None
    again = models.resolve("some/model")
    assert (again.path, again.fingerprint) == (None, found.fingerprint)
    whole = models.fetch(again, quiet)
    assert whole.path is not None and (whole.path / "model.safetensors").exists()


def test_published_sizes_are_known_without_weights(tmp_path: Path) -> None:
    """Of a published model, whose configuration alone is here, the size is still known."""
    published = models.Checkpoint("google/medgemma-27b-it", "c", tmp_path, "f")
    assert models.parameters(published) == models.parameters(published._replace(path=None))
