"""The command in this process, and one adapter that a whole session may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import lessons_kit as kit
import pytest
from lessons_kit import Command, Result, Taught, run


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings of the user's, a cache of this session, and no network."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("MEDGEMMA_", "HF_")):
                patch.delenv(name)
        patch.setenv("MEDGEMMA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run `medgemma` in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def call(*args: object) -> Result:
        capsys.readouterr()
        code = run(*args)
        return Result(code, capsys.readouterr().err)

    return call


@pytest.fixture(scope="session")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """An adapter that has eight examples by heart, texts and images."""
    import time

    folder = tmp_path_factory.mktemp("taught")
    rows = kit.mixed(folder)
    data = kit.write(folder / "train.jsonl", rows)
    started = time.monotonic()
    way = ("--model", checkpoint, "--epochs", "40", "--validation-share", "0", "-q")
    assert run("tune", data, "-o", folder / "adapter", *way, *kit.FAST) == 0
    return Taught(folder / "adapter", folder, rows, time.monotonic() - started)
