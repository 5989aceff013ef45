"""How long until the first token: `medgemma ask` cold, and of a model that `medgemma serve` holds.

    python benchmarks/warm.py [--model demo | --engine echo] [--repeats 5] [--json]

Cold is wall-clock time from the start of the process to the first byte on its standard output, the
model's load within it. Warm is the same question to a running server: `request`, from sending it to
the first piece of the answer, as a program sees it; `ask`, a whole `medgemma ask --engine server`
process. Medians; the first of each is left out, since it fills caches.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUESTION = "Which drugs does the note name?"
NOTE = "Dry cough since Monday. No fever. Takes 5 mg of ramipril and 40 mg of simvastatin daily."
MEDGEMMA = (sys.executable, "-m", "medgemma_cli")
_START = 900.0


def first_byte(*arguments: str) -> float:
    """Seconds from starting a command to the first byte that it prints.

    Raises:
        SystemExit: it printed nothing.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [*MEDGEMMA, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(NOTE.encode())
    process.stdin.close()
    byte = os.read(process.stdout.fileno(), 1)
    seconds = time.perf_counter() - started
    process.stdout.read()
    if process.wait() != 0 or not byte:
        raise SystemExit(f"exit {process.returncode}: medgemma {arguments[0]}")
    return seconds


def first_piece(url: str) -> float:
    """Seconds from sending a streamed question to the first piece of its answer.

    Raises:
        SystemExit: there was none.
    """
    import httpx2

    message = {"role": "user", "content": f"{NOTE}\n\n{QUESTION}"}
    asked = {"messages": [message], "stream": True, "max_tokens": 16}
    started = time.perf_counter()
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=asked, timeout=600) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {") and '"content"' in line:
                return time.perf_counter() - started
    raise SystemExit("the server sent no piece")


@contextmanager
def server(*options: str) -> Iterator[tuple[str, float]]:
    """The URL of a warm server, and the seconds until it listened.

    Raises:
        SystemExit: it did not start.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [*MEDGEMMA, "serve", "--port", "0", *options],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                yield found[0], time.perf_counter() - started
                break
            if time.perf_counter() - started > _START:
                break
        else:
            raise SystemExit(f"medgemma serve ended: {process.wait()}")
    finally:
        process.terminate()
        process.wait()


def median(measure: Callable[[], float], repeats: int) -> dict[str, float]:
    """Of the repeats behind the first, with the least and the most."""
    taken = [measure() for _ in range(repeats + 1)][1:]
    return {
        "median_s": round(statistics.median(taken), 3),
        "least_s": round(min(taken), 3),
        "most_s": round(max(taken), 3),
    }


def measure(options: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """All figures."""
    limits = ["--max-new-tokens", "16"]
    figures = {"cold_ask": median(lambda: first_byte("ask", QUESTION, *options, *limits), repeats)}
    with server(*options) as (url, seconds):
        figures["server_start"] = {"once_s": round(seconds, 3)}
        figures["warm_request"] = median(lambda: first_piece(url), repeats)
        there = ["--engine", "server", "--base-url", f"{url}/v1", *limits]
        figures["warm_ask"] = median(lambda: first_byte("ask", QUESTION, *there), repeats)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = ["--engine", options.engine]
    if options.engine == "local":
        chosen += ["--model", options.model, "--device", options.device]
    figures = measure(chosen, options.repeats)
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(f"{name:14}", "  ".join(f"{key} {value:.3f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
