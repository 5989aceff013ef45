"""Do a model server and the local engine write the same? `transformers serve`, demo model, fp32.

    python benchmarks/served.py                       # 60 documents, 24 new tokens each
    python benchmarks/served.py --documents 6

The documents are paragraphs of `raw/notes`, the template is `general`, decoding is greedy. Both
engines get the very same prompts, under keys of their own. Prints one JSON line: how many
documents, how many with the same text and with as many tokens in the prompt, the seconds of each.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from serve_kit import plain_model, transformers_serve  # noqa: E402

from medgemma_cli import models, templates  # noqa: E402
from medgemma_cli.engines.base import Engine  # noqa: E402
from medgemma_cli.engines.local import LocalEngine, LocalOptions  # noqa: E402
from medgemma_cli.engines.server import ServerEngine, ServerOptions  # noqa: E402
from medgemma_cli.readers.loading import sha256  # noqa: E402
from medgemma_cli.records import Document, Generation, Limits, Prompt, Source  # noqa: E402


def paragraphs(count: int) -> list[str]:
    """So many different paragraphs of the project's own notes, of 8 to 80 words."""
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "raw" / "notes").rglob("*.*"))]
    found = [part.strip() for text in texts for part in text.split("\n\n")]
    kept = dict.fromkeys(part for part in found if 8 <= len(part.split()) <= 80)
    assert len(kept) >= count, "there are not so many paragraphs"
    return list(kept)[:count]


def prompt(text: str, tokens: int) -> Prompt:
    """What the template `general` asks about a text, named by its hash."""
    data = text.encode("utf-8")
    document = Document(
        source=Source(place="a.md", relative="a.md", origin="-"),
        sha256=sha256(data),
        bytes=len(data),
        media_type="text/markdown",
        text=text,
        coverage={"characters": (len(text), len(text))},
    )
    limits = Limits(max_new_tokens=tokens)
    return templates.render(templates.load("general"), document, sha256(data), limits)


def answers(engine: Engine, asked: list[Prompt]) -> tuple[dict[str, Generation], float]:
    """The generations, by name, and the seconds that they took, loading among them."""
    started = time.perf_counter()
    made = {one.id: one for one in engine.generate(asked)}
    assert set(made) == {one.id for one in asked}, "something was lost"
    return made, time.perf_counter() - started


def compare(documents: int, tokens: int, work: Path) -> dict[str, Any]:
    """Both engines on the same prompts."""
    found = models.fetch(models.resolve("demo"), lambda text, done, total: None).path
    assert found is not None
    model = plain_model(found, work / "model")
    asked = [prompt(text, tokens) for text in paragraphs(documents)]
    here = LocalEngine(
        models.resolve(str(model)), LocalOptions(precision="fp32", device="cpu", batch_size=8)
    )
    local, local_seconds = answers(here, asked)
    with transformers_serve(model) as url:
        there = ServerEngine(ServerOptions(urls=(url,), model=str(model)))
        served, served_seconds = answers(there, asked)
        same_identity = here.identity == there.identity
    texts = [name for name in local if local[name].text == served[name].text]
    counts = [
        name
        for name in local
        if local[name].usage.prompt_tokens == served[name].usage.prompt_tokens
    ]
    return {
        "documents": len(local),
        "same_text": len(texts),
        "same_prompt_tokens": len(counts),
        "different": sorted(set(local) - set(texts)),
        "same_identity": same_identity,
        "local_seconds": round(local_seconds),
        "served_seconds": round(served_seconds),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=24)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(compare(asked.documents, asked.tokens, Path(work))))


if __name__ == "__main__":
    main()
