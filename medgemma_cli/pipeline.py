"""The whole flow: discover → read → render → generate → check → write. One direction.

Each document is decided on (done already? the same bytes under way? to be inferred?), read,
rendered and handed to the engine; what comes back is judged and committed to the ledger, and
only then its summary is written.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from medgemma_cli import readers, summaries, templates
from medgemma_cli.engines.base import Engine, always, check_fits
from medgemma_cli.errors import FAULTS, DocumentError, StorageError
from medgemma_cli.job import Job
from medgemma_cli.ledger import Entry, Ledger
from medgemma_cli.planning import Decision, Planner
from medgemma_cli.progress import Reporter
from medgemma_cli.recording import make_record, now
from medgemma_cli.records import Contract, Document, Generation, Prompt, Record, Seconds, Source
from medgemma_cli.safety.verdict import Verdict, judge


@dataclass
class Totals:
    """What the selected inputs came to. Counts current records, cached ones too."""

    status: Counter[str] = field(default_factory=Counter)
    inferred: int = 0
    reused: int = 0
    duplicates: int = 0
    cached: int = 0
    rebuilt: int = 0
    altered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    left: int = 0

    @property
    def documents(self) -> int:
        """How many of the selected inputs have a current record."""
        return sum(self.status.values())


@dataclass
class _Pending:
    """A document with the engine, and the later ones that have the same bytes."""

    decision: Decision
    document: Document
    contract: Contract
    read_seconds: float
    followers: list[Decision] = field(default_factory=list)


class Run:
    """One pass over a stream of sources with one ledger and one engine.

    Args:
        keep_going: asked before each document and each batch; after a no, the batch in hand is
            finished and everything else is left for the next run.
        on_record: called with each selected input's current record, cached ones too.
        all_rules: whether `Totals.rules` counts the flags of cached records, too; it reads them.
    """

    def __init__(
        self,
        job: Job,
        ledger: Ledger,
        engine: Engine,
        reporter: Reporter,
        *,
        keep_going: Callable[[], bool] = always,
        on_record: Callable[[Record], None] | None = None,
        all_rules: bool = False,
    ) -> None:
        self.job = job
        self.totals = Totals()
        self._ledger = ledger
        self._engine = engine
        self._reporter = reporter
        self._keep_going = keep_going
        self._on_record = on_record
        self._all_rules = all_rules
        self._pending: dict[str, _Pending] = {}
        self._planner = Planner(job, ledger, engine.identity)

    def execute(self, sources: Iterable[Source]) -> Totals:
        """Every source ends with a current record, or stays for the next run.

        Raises:
            StorageError: 74. ModelUnavailableError: 69. What was committed stays committed.
        """
        for generation in self._engine.generate(self._prompts(sources), self._keep_going):
            self._finish(self._pending.pop(generation.id), generation)
        self.totals.left += sum(1 + len(p.followers) for p in self._pending.values())
        return self.totals

    def plan(self, sources: Iterable[Source]) -> Iterator[Decision]:
        """What `execute` would do with each source; reads, but loads and writes nothing."""
        for source in sources:
            yield self._planner.decide(source)

    def _prompts(self, sources: Iterable[Source]) -> Iterator[Prompt]:
        for source in sources:
            if not self._keep_going():
                self.totals.left += 1
                return
            started = time.perf_counter()
            decision = self._planner.decide(source)
            if decision.action == "duplicate" and decision.entry is None:
                decision = self._first(decision)
            if decision.action == "infer":
                prompt = self._admit(decision, started)
                if prompt is not None:
                    yield prompt
            elif decision.action == "refuse":
                assert decision.error is not None
                self._refuse(decision, decision.error)
            else:
                self._settle(decision)

    def _first(self, decision: Decision) -> Decision:
        """A duplicate of what this run took before: of its record, if that is there and good."""
        entry = self._ledger.by_key.get(decision.key)
        waiting = decision.key in self._pending
        if waiting or entry is None or entry.status == "failed":
            return decision._replace(action="infer")
        return decision._replace(entry=entry)

    # -- one document forward ---------------------------------------------------------------

    def _admit(self, decision: Decision, started: float) -> Prompt | None:
        """Read and render; a prompt for the engine, or None when it ended here."""
        if (pending := self._pending.get(decision.key)) is not None:
            pending.followers.append(decision._replace(blob=None))
            return None
        assert decision.blob is not None
        document = None
        try:
            self._check_path(decision)
            document = readers.decode(decision.source, decision.blob, self.job.read_limits)
            prompt = templates.render(
                self.job.template, document, decision.key, self.job.limits, self.job.question
            )
            check_fits(prompt, self._engine)
        except DocumentError as error:
            self._refuse(decision, error.code, document)
            return None
        seconds = time.perf_counter() - started
        # Bytes and pixels are dropped here: many documents wait, and the prompt has them.
        held = decision._replace(blob=None)
        self._pending[decision.key] = _Pending(held, _light(document), prompt.contract, seconds)
        return prompt

    def _check_path(self, decision: Decision) -> None:
        if decision.name is not None:
            self._check_name(decision.name, decision.key)

    def _check_name(self, name: str, key: str) -> None:
        known = self._ledger.by_key
        summaries.check_free(self._ledger.out, name, lambda k: k == key or k in known)

    def _finish(self, pending: _Pending, generation: Generation) -> None:
        started = time.perf_counter()
        document, decision = pending.document, pending.decision
        verdict = judge(document, pending.contract, generation)
        seconds = Seconds(
            read=round(pending.read_seconds, 6),
            generate=round(generation.seconds, 6),
            check=round(time.perf_counter() - started, 6),
        )
        record = make_record(
            self.job,
            self._engine.info,
            decision,
            verdict,
            document=document,
            generation=generation,
            seconds=seconds,
        )
        self.totals.inferred += 1
        self.totals.prompt_tokens += generation.usage.prompt_tokens
        self.totals.completion_tokens += generation.usage.completion_tokens
        self._write(record)
        for follower in pending.followers:
            self._copy(follower, record)

    def _settle(self, decision: Decision) -> None:
        """A decision that needs no inference."""
        assert decision.entry is not None
        if decision.action == "cached":
            self._keep(decision.entry)
            return
        record = self._ledger.read(decision.entry)
        self._copy(decision, record, reused=decision.action == "reuse")

    def _copy(self, decision: Decision, record: Record, *, reused: bool = False) -> None:
        """Append another name's record, or an earlier one of the same name, as current."""
        try:
            self._check_path(decision)
        except DocumentError as error:
            self._refuse(decision, error.code)
            return
        other = record.source if not reused else record.duplicate_of
        copy = record.model_copy(
            update={
                "source": decision.source.relative,
                "origin": decision.source.origin,
                "summary": decision.name,
                "duplicate_of": other,
                "reused": reused,
                "created": now(),
            }
        )
        if reused:
            self.totals.reused += 1
        else:
            self.totals.duplicates += 1
        self._write(copy)

    def _refuse(self, decision: Decision, code: str, document: Document | None = None) -> None:
        verdict = Verdict(FAULTS[code].status, error=code)
        record = make_record(self.job, self._engine.info, decision, verdict, document=document)
        self._write(record)

    # -- writing ----------------------------------------------------------------------------

    def _write(self, record: Record) -> None:
        """Commit, then project. A file not ours at the output path is left alone."""
        self._ledger.commit(record)
        if record.summary is not None and (
            record.error is None or record.error.code != "output_exists"
        ):
            self._project(record)
        self._count(record)

    def _project(self, record: Record) -> None:
        assert record.summary is not None
        text = summaries.render(record)
        summaries.write(self._ledger.out, record.summary, text, fsync=self.job.fsync)

    def _keep(self, entry: Entry) -> None:
        """A record that stands: see that its summary does, too."""
        self.totals.cached += 1
        self.totals.status[entry.status] += 1
        if not entry.slot.startswith("//"):
            path = f"{self._ledger.out}/{entry.slot}"
            state = summaries.state(path, entry.key, entry.created)
            if state == "altered":
                # What stands at the path of a failed record may be the file it failed for.
                self.totals.altered += entry.status != "failed"
            elif state != "current":
                self._rebuild(entry)
        if self._on_record is not None or self._all_rules:
            record = self._ledger.read(entry)
            if self._all_rules:
                self.totals.rules.update(flag.rule for flag in record.flags)
            if self._on_record is not None:
                self._on_record(record)

    def _rebuild(self, entry: Entry) -> None:
        record = self._ledger.read(entry)
        if record.error is not None and record.error.code == "output_exists":
            return
        try:
            self._check_name(entry.slot, entry.key)
        except DocumentError:
            self.totals.altered += 1
            return
        self._project(record)
        self.totals.rebuilt += 1

    def _count(self, record: Record) -> None:
        self.totals.status[record.status] += 1
        self.totals.rules.update(flag.rule for flag in record.flags)
        self.totals.degraded.update(record.degraded)
        self._reporter.document(record)
        if self._on_record is not None:
            self._on_record(record)

    def prepare(self, *, fresh: bool = False) -> None:
        """Bring the summaries in line with the ledger before the first document.

        Missing ones are made again, temporary files of a killed run go. With `fresh`, the old
        ledger and its summaries move to the quarantine.

        Raises:
            StorageError: 74, the folder cannot be read or written.
            ConfigError: 78, there are summaries of a ledger that is gone, and not `fresh`.
        """
        ledger = self._ledger
        try:
            present = set(summaries.scan(ledger.out))
            if fresh:
                folder = ledger.start_over()
                present -= set(summaries.retire(ledger.out, present, folder))
            elif not ledger.current:
                summaries.refuse_orphans(ledger.out, present)
        except OSError as error:
            raise StorageError(
                f"The output folder cannot be read ({error.strerror}).", "Check its permissions."
            ) from None
        for slot, entry in ledger.current.items():
            if slot not in present and not slot.startswith("//"):
                self._rebuild(entry)


def _light(document: Document) -> Document:
    """The document with its images, but without their pixels."""
    images = tuple(image.model_copy(update={"rgb": b""}) for image in document.images)
    return document.model_copy(update={"images": images}) if images else document
