"""A PDF of text and scans with a real, tiny model: what goes in is what the record says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pdfs
import tiny

from medgemma_cli import templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.readers import SUFFIXES
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.records import Generation, Limits, Prompt, Record

PAGES = [
    pdfs.text("Dry cough since Monday."),
    pdfs.scan(),
    pdfs.Page(),
    pdfs.scan(shade=200),
    pdfs.text("No fever at all."),
]


class Watched(LocalEngine):
    """Keeps the prompts that it answers."""

    asked: list[Prompt]

    def generate(self, prompts: Any, *args: Any) -> Iterator[Generation]:
        """As the engine does."""
        self.asked = list(prompts)
        yield from super().generate(iter(self.asked), *args)


def test_a_mixed_file(make_engine: tiny.MakeEngine, tmp_path: Path) -> None:
    """Two pictures in the order of their pages, each with its number; five pages read of five."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdfs.pdf(PAGES))
    engine = make_engine()
    engine.__class__ = Watched
    record = summarised(engine, folder, tmp_path / "out")
    assert record.error is None and record.status in ("ok", "flagged")
    assert record.coverage == {"pages": (5, 5)}
    assert "pages_as_images:2,4" in record.degraded
    assert record.usage is not None and record.usage.images == 2
    assert "An image was read" in record.notice
    (prompt,) = engine.asked  # type: ignore[attr-defined]
    loaded = engine.loaded()
    encoder = Encoder(loaded.tokenizer, loaded.processor)
    ids = encoder.encode(prompt).ids
    assert ids.count(encoder.image_id) == 2 * tiny.IMAGE_TOKENS
    said = encoder.tokenizer.decode(ids)
    places = [said.index(f"PAGE {number} of the document") for number in (2, 4)]
    assert places[0] < places[1] < said.index("Dry cough") < said.index("No fever")
    assert [image.rgb[0] for image in prompt.images] == [90, 200]


def summarised(engine: LocalEngine, folder: Path, out: Path) -> Record:
    """The record of the one document in a folder, read in a process of its own."""
    job = Job(template=templates.load("general"), limits=Limits(max_new_tokens=8))
    with Ledger(out) as ledger, ReaderPool(1) as reading:
        run = Run(job, ledger, engine, SilentReporter(), reading=reading)
        run.execute(Discovery([str(folder)], SUFFIXES))
        (entry,) = ledger.current.values()
        return ledger.read(entry)
