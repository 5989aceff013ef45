"""Engines on a real, tiny checkpoint, made once a session."""

from pathlib import Path

import pytest
from tiny import MakeEngine

from medgemma_cli import models
from medgemma_cli.engines.local import LocalEngine, LocalOptions


@pytest.fixture
def make_engine(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeEngine:
    """Make a local engine on the tiny checkpoint (or another folder)."""
    monkeypatch.setenv("MEDGEMMA_CACHE", str(tmp_path / "cache"))

    def make(folder: Path = checkpoint, **options: object) -> LocalEngine:
        chosen = {"precision": "fp32", "device": "cpu", "batch_size": 4, **options}
        return LocalEngine(models.resolve(str(folder)), LocalOptions(**chosen))  # type: ignore[arg-type]

    return make
