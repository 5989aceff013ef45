"""The one place that makes a run of the product, and names its files."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from medgemma_cli import readers, summaries, templates
from medgemma_cli.committing import Committer
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.job import Job
from medgemma_cli.ledger import Attempts, Ledger, current_lines
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Generation, Limits, Prompt, Record

FILES = {"records.jsonl", "attempts.jsonl", ".lock"}

_TEMPLATE = templates.load("general")


class Counting(EchoEngine):
    """The echo engine; tells of each inference before it makes it."""

    def __init__(self, on_answer: Callable[[], None], delay: float = 0.0) -> None:
        super().__init__(delay)
        self._on_answer = on_answer

    def _answer(self, prompt: Prompt) -> Generation:
        self._on_answer()
        return super()._answer(prompt)


def run(
    inputs: Path,
    out: Path,
    *,
    on_record: Callable[[Record], None] | None = None,
    on_answer: Callable[[], None] = lambda: None,
    on_open: Callable[[], None] = lambda: None,
    on_done: Callable[[], None] = lambda: None,
    delay: float = 0.0,
    group: int = 1,
) -> None:
    """What `medgemma run INPUTS -o OUT --engine echo` does, in this process.

    Records are made durable in groups of this size, however long that takes: with the clock out
    of it, the same run takes the same steps.
    """
    job = Job(template=_TEMPLATE, limits=Limits(max_new_tokens=200))
    settings = {"fsync": True, "group": group, "wait": 3600.0}
    with Ledger(out, fsync=True) as ledger, Attempts(ledger, trace=True) as attempts:
        on_open()
        engine = Counting(on_answer, delay)
        with patch.dict(Committer.__init__.__kwdefaults__, settings):
            process = Run(
                job, ledger, engine, SilentReporter(), attempts=attempts, on_record=on_record
            )
        process.prepare()
        process.execute(Discovery([str(inputs)], readers.SUFFIXES, out=out))
        on_done()


def rendered(out: Path) -> dict[str, str]:
    """The summaries that ought to stand in OUT, by their names."""
    records = (Record.model_validate(line) for line in current_lines(out))
    return {r.summary: summaries.render(r) for r in records if r.summary is not None}
