"""Long documents, and engines that are watched, fail or answer as they are told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medgemma_cli import contracts, readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.base import Engine
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.job import Job
from medgemma_cli.ledger import Attempts, Ledger, current_lines
from medgemma_cli.longdocs import MERGE, LongDocuments
from medgemma_cli.longdocs.answers import Answer
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Contract, Document, Generation, Limits, Place, Prompt, Source
from medgemma_cli.totals import Totals

Line = dict[str, Any]


class Watched(EchoEngine):
    """The echo engine; keeps what it was shown, and fails where a word is in a prompt's id."""

    def __init__(self, fail: str = "\0") -> None:
        super().__init__()
        self.fail = fail
        self.shown: list[Prompt] = []

    def _answer(self, prompt: Prompt) -> Generation:
        self.shown.append(prompt)
        if self.fail in prompt.id:
            return Generation(id=prompt.id, finish_reason="error", error="oom")
        return super()._answer(prompt)

    @property
    def asked(self) -> list[str]:
        """What of a document each prompt was about."""
        return [prompt.id.partition("/")[2] for prompt in self.shown]


class Answering(Watched):
    """Changes what the echo engine wrote."""

    def __init__(self, change: Callable[[Prompt, Line], Line]) -> None:
        super().__init__()
        self.change = change

    def _answer(self, prompt: Prompt) -> Generation:
        made = super()._answer(prompt)
        fields = self.change(prompt, json.loads(made.text))
        return made.model_copy(update={"text": json.dumps(fields)})


def note(pages: int, lines: int = 6) -> str:
    """A record of visits, no two sentences of it alike."""
    return "\n\n".join(
        f"## Visit {page}\n\n"
        + "\n".join(
            f"On day {page} at hour {line} the patient took {page + line} mg of drug {page * 31}."
            for line in range(lines)
        )
        for page in range(pages)
    )


def long(engine: Engine, on_long: Any = "split") -> LongDocuments:
    """The engine, for long documents, too."""
    return LongDocuments(engine, on_long, templates.load(MERGE))


def execute(
    tmp_path: Path,
    texts: dict[str, str],
    engine: Engine,
    template: str = "summarize",
    tokens: int = 1500,
) -> tuple[dict[str, Line], Totals]:
    """Run over the texts, which stay where they are; the current records, and the totals."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    limits = Limits(max_new_tokens=200, max_input_tokens=tokens)
    job = Job(template=templates.load(template), limits=limits, fsync=False)
    with Ledger(out, fsync=False) as ledger, Attempts(ledger) as attempts:
        totals = Run(job, ledger, engine, SilentReporter(), attempts=attempts).execute(
            Discovery([str(folder)], readers.SUFFIXES, out=out)
        )
    return {line["source"]: line for line in current_lines(out)}, totals


def record_of(tmp_path: Path, text: str, engine: Engine, *args: Any) -> Line:
    """The record of one text."""
    return execute(tmp_path, {"a.md": text}, engine, *args)[0]["a.md"]


def document_of(text: str, **more: Any) -> Document:
    """A document of a text."""
    source = Source(place="a", relative="a", origin="a")
    given = {"coverage": {"characters": (len(text), len(text))}, **more}
    return Document(source=source, sha256="", bytes=0, media_type="text/plain", text=text, **given)


def prompt_of(text: str, template: str = "summarize", tokens: int = 1500, **more: Any) -> Prompt:
    """The prompt of a text."""
    limits = Limits(max_new_tokens=200, max_input_tokens=tokens)
    return templates.render(templates.load(template), document_of(text, **more), "k", limits)


def contract(**fields: Any) -> Contract:
    """A contract of these fields."""
    return contracts.contract(fields)


def finding(quote: str, statement: str = "It is documented.") -> Line:
    """A finding."""
    return {"quote": quote, "statement": statement}


def answer(fields: Line, quotable: bool = True, **places: tuple[int, int]) -> Answer:
    """An answer; places by the path of the finding, ``_1`` for ``[1]``."""
    made = tuple(
        Place(where=_path(name), quote="q", start=start, end=end)
        for name, (start, end) in places.items()
    )
    return Answer(fields, made, quotable)


def _path(name: str) -> str:
    field, _, index = name.rpartition("_")
    return f"{field}[{index}]" if index.isdigit() else name


def assert_placed(record: Line, text: str) -> None:
    """Every finding has its quote, and that stands where the record says."""
    assert record["quotes"]
    for quote in record["quotes"]:
        assert text[quote["start"] : quote["end"]] == quote["text"]
    assert "quote_not_in_source" not in {flag["rule"] for flag in record["flags"]}
