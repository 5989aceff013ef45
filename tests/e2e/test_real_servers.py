"""Real model servers: `transformers serve` with the demo model; others where one is named."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from outcomes import lines

SERVER = os.environ.get("MEDGEMMA_TEST_SERVER", "")


@pytest.mark.slow
def test_transformers_serve_writes_the_same(demo_model: Path, tmp_path: Path) -> None:
    """fp32, greedy: the text of the local engine for each prompt, under an identity of its own."""
    if find_spec("fastapi") is None or find_spec("openai") is None:
        pytest.skip("transformers[serving] is not installed")
    import served

    found = served.compare(4, 12, tmp_path)
    assert found["documents"] == found["same_text"] == found["same_prompt_tokens"] == 4
    assert found["same_identity"] is False


@pytest.mark.skipif(not SERVER, reason="MEDGEMMA_TEST_SERVER names no server")
@pytest.mark.parametrize("template", ["general", "summarize"])
def test_named_server(cli: Callable[..., Any], notes: Path, tmp_path: Path, template: str) -> None:
    """MEDGEMMA_TEST_SERVER=URL (llama-server, vLLM, …): each document ends, none by its fault.

    MEDGEMMA_TEST_SERVED names the model, where it serves several.
    """
    options = ["--engine", "server", "--base-url", SERVER]
    if name := os.environ.get("MEDGEMMA_TEST_SERVED"):
        options += ["--served-model", name]
    done = cli("run", notes, "-o", "out", "-t", template, "--max-new-tokens", "300", *options)
    assert done.returncode in (0, 3), done.stderr
    found = lines(tmp_path / "out")
    assert len(found) == 4
    codes = {(line["error"] or {}).get("code") for line in found}
    assert not codes & {"server_failed", "server_refused"}, json.dumps(sorted(map(str, codes)))
    assert {line["model"]["engine"] for line in found} == {"server"}
