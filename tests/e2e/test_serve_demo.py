"""A warm demo model, asked by twenty at once."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

import httpx2

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("demo_model")
def test_twenty_at_once(command: str, tmp_path: Path) -> None:
    """Twenty notes at the same time, half of them streamed: each is answered, and the record of
    each is of its own text. An image is answered with a probability."""
    process = subprocess.Popen(
        [command, "serve", "--model", "demo", "--port", "0"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(m[0] for line in process.stderr if (m := re.search(r"http://\S+", line)))
        notes = [f"Case {i}: takes {i + 1} mg of ramipril daily. No fever." for i in range(20)]

        def ask(number: int) -> Any:
            note = notes[number]
            if number % 2:
                messages = [{"role": "user", "content": f"{note} Which drug?"}]
                asked = {"messages": messages, "stream": True, "max_tokens": 4}
                return httpx2.post(f"{url}/v1/chat/completions", json=asked, timeout=600)
            body = {"text": note, "mode": "general", "max_new_tokens": 4}
            return httpx2.post(f"{url}/v1/run", json=body, timeout=600)

        with ThreadPoolExecutor(20) as threads:
            made = list(threads.map(ask, range(20)))
        assert [one.status_code for one in made] == [200] * 20
        for number, one in enumerate(made):
            if number % 2:
                assert one.text.endswith("data: [DONE]\n\n")
            else:
                assert one.json()["bytes"] == len(notes[number])
        picture = (ROOT / "raw" / "images" / "he-like-tile.png").read_bytes()
        seen = httpx2.post(f"{url}/predict", files={"image_file": picture}, timeout=600)
        assert seen.status_code == 200 and 0 <= seen.json()["probability"] <= 1
    finally:
        process.terminate()
        assert process.wait(120) == 0
