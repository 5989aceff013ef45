"""The whole flow: discover → read → render → generate → check → write. One direction.

Each document is decided on (done already? the same bytes under way? to be inferred?), read,
rendered and handed to the engine; what comes back is judged and committed to the ledger, and
only then its summary is written. What was under way when an earlier process died comes last, one
by one.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from medgemma_cli import conversations, longdocs, paging, templates
from medgemma_cli.committing import Committer
from medgemma_cli.concluding import conclude
from medgemma_cli.engines.base import Engine, always, check_fits
from medgemma_cli.errors import FAULTS, DocumentError, one_document
from medgemma_cli.intake import Decided, Intake
from medgemma_cli.job import Job
from medgemma_cli.keeping import Keeper
from medgemma_cli.ledger import CRASHES, Attempts, DamagedRecordError, Entry, Ledger
from medgemma_cli.planning import Decision, Planner
from medgemma_cli.progress import Reporter
from medgemma_cli.projection import Projection
from medgemma_cli.readers import pair
from medgemma_cli.readers.pool import InProcess, Reading
from medgemma_cli.recording import make_record, now, reading_of, renamed
from medgemma_cli.records import (
    Contract,
    Document,
    Generation,
    Image,
    Prompt,
    Record,
    Source,
)
from medgemma_cli.safety.verdict import Verdict
from medgemma_cli.totals import Totals

__all__ = ["Run", "Totals"]

_LOOK = 0.2  # seconds between looks at whether to go on


@dataclass
class _Pending:
    """A document with the engine, and the later ones that have the same bytes."""

    decision: Decision
    document: Document
    contract: Contract
    read_seconds: float
    sheet: bytes | None = None
    followers: list[Decision] = field(default_factory=list)


class Run:
    """One pass over a stream of sources with one ledger and one engine.

    Args:
        attempts: the journal of what is being worked on; None: the process is not expected to
            die.
        reading: decodes documents; in this process where it is left out.
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
        attempts: Attempts | None = None,
        reading: Reading | None = None,
        keep_going: Callable[[], bool] = always,
        on_record: Callable[[Record], None] | None = None,
        all_rules: bool = False,
    ) -> None:
        self.job = job
        self.totals = Totals()
        self._ledger = ledger
        self._engine = engine
        self._reporter = reporter
        self._attempts = attempts if attempts is not None else Attempts(ledger)
        self._keep_going = keep_going
        self._on_record = on_record
        self._all_rules = all_rules
        self._pending: dict[str, _Pending] = {}
        self._later: dict[str, list[Decision]] = {}
        self._answered: set[str] = set()
        self._planner = Planner(job, ledger, engine.identity, longdocs.rule_of(engine))
        reading = self._reading = reading if reading is not None else InProcess()
        suspects = self._attempts.suspects
        self._intake = Intake(self._planner, reading, job.read_limits, keep_going, suspects)
        self._projection = Projection(ledger, fsync=job.fsync)
        self._keeper = Keeper(ledger, wanted=job.keep_views, fsync=job.fsync)
        self._committer = Committer(ledger, self._tell, fsync=job.fsync)
        self._telling = threading.Lock()

    def prepare(self, *, fresh: bool = False) -> None:
        """Bring the summaries in line with the ledger before the first document.

        Raises:
            StorageError: 74. ConfigError: 78. See `Projection.prepare`.
        """
        self._projection.prepare(fresh=fresh)
        if fresh:
            self._attempts.forget()

    def execute(self, sources: Iterable[Source]) -> Totals:
        """Every source ends with a current record, or stays for the next run.

        Raises:
            StorageError: 74. ModelUnavailableError: 69. What was committed stays committed.
        """
        with self._committer:
            self._generate(self._prompts(sources))
            self._suspects_alone()
        waiting = sum(1 + len(pending.followers) for pending in self._pending.values())
        self.totals.left += self._intake.left + waiting + sum(map(len, self._later.values()))
        self.totals.rebuilt = self._projection.rebuilt + self._keeper.rebuilt
        self.totals.altered = self._projection.altered + self._keeper.altered
        return self.totals

    def plan(self, sources: Iterable[Source]) -> Iterator[Decision]:
        """What `execute` would do with each source; reads, but loads and writes nothing."""
        for source in sources:
            yield self._planner.decide(source)

    # -- the stream ---------------------------------------------------------------------------

    def _generate(self, prompts: Iterator[Prompt]) -> None:
        begin = self._attempts.generate
        for generation in self._engine.generate(prompts, self._keep_going, begin):
            self._finish(self._pending.pop(generation.id), generation)

    def _suspects_alone(self) -> None:
        """What may have brought a process down: the least suspected first, so that all go on."""
        self._attempts.alone = True
        if self._later:
            count = len(self._later)
            self._reporter.note(f"{count} documents were under way when a run died: now one by one")
        for key in sorted(self._later, key=self._attempts.crashes):
            if not self._keep_going():
                return
            self._generate(self._alone(key))

    def _alone(self, key: str) -> Iterator[Prompt]:
        first, *others = self._later.pop(key)
        yield from self._forward(self._intake.read(first))
        for other in others:
            same = Decided(other._replace(action="duplicate", entry=None))
            yield from self._forward(self._resolve(same))

    def _prompts(self, sources: Iterable[Source]) -> Iterator[Prompt]:
        for decided in self._intake.stream(sources):
            decision = decided.decision
            key = decision.key
            if decision.action == "duplicate" and decision.entry is None:
                decided = self._resolve(decided)
            if decided.decision.action == "infer" and key in self._attempts.suspects:
                self._suspect(decided.decision)
            else:
                yield from self._forward(decided)

    def _resolve(self, decided: Decided) -> Decided:
        """A duplicate of what this run took before: of its record, if that is there and good."""
        decision = decided.decision
        entry = self._ledger.by_key.get(decision.key)
        waiting = decision.key in self._pending or decision.key in self._later
        failed = entry is not None and entry.status == "failed"
        if waiting or entry is None or (failed and decision.key not in self._answered):
            wanted = decision._replace(action="infer")
            return Decided(wanted) if waiting else self._intake.read(wanted, decided.seconds)
        return decided._replace(decision=decision._replace(entry=entry))

    def _suspect(self, decision: Decision) -> None:
        """Take it last; or never again, if it crashed the process too often."""
        if self._is_poison(decision.key):
            crashes = self._attempts.crashes(decision.key)
            self._refuse(decision._replace(attempt=crashes), "poison")
        else:
            self._later.setdefault(decision.key, []).append(decision)

    def _is_poison(self, key: str) -> bool:
        allowed = max(CRASHES, self.job.max_attempts if self.job.retry_failed else 0)
        return self._attempts.crashes(key) >= allowed and not self.job.force

    # -- one document forward -----------------------------------------------------------------

    def _forward(self, decided: Decided) -> Iterator[Prompt]:
        """At most one prompt for the engine; none where the document ended here."""
        decision = decided.decision
        if decision.action == "infer":
            if (pending := self._pending.get(decision.key)) is not None:
                pending.followers.append(decision._replace(blob=None))
            elif (prompt := self._admit(decided)) is not None:
                yield prompt
        elif decision.action == "refuse":
            assert decision.error is not None
            self._refuse(decision, decision.error)
        else:
            yield from self._settle(decision)

    def _admit(self, decided: Decided) -> Prompt | None:
        """Read and render; a prompt for the engine, or None when it ended here."""
        decision, started, document = decided.decision, time.perf_counter(), None
        assert decided.document is not None
        self._attempts.prepare(decision.key)
        try:
            with one_document():
                self._check_path(decision)
                if not self._awaited(decided.document):
                    self._intake.left += 1
                    return None
                document = decided.document.result()
                document = paging.fit(
                    self.job.template, document, lambda: self._engine.reads_images
                )
                render = conversations.render if document.request else templates.render
                prompt = render(
                    self.job.template, document, decision.key, self.job.limits, self.job.question
                )
                check_fits(prompt, self._engine)
        except DocumentError as error:
            if error.code == "too_long":
                decision = self._planner.as_long(decision)
            self._refuse(decision._replace(about=error.document), error.code, document)
            return None
        if longdocs.parts_of(self._engine, prompt):
            decision = self._planner.as_long(decision)
            prompt = prompt.model_copy(update={"id": decision.key})
            if self._is_settled(decision):
                return None
        seconds = decided.seconds + time.perf_counter() - started
        sheet = self._keeper.drawn(prompt.images, decision.key)
        # Bytes and pixels are dropped here: many documents wait, and the prompt has them.
        held = decision._replace(blob=None)
        self._pending[decision.key] = _Pending(
            held, _light(document), prompt.contract, seconds, sheet
        )
        return prompt

    def _is_settled(self, decision: Decision) -> bool:
        """Whether a document has its place already, now that it has the key of a long one.

        Until it was read it went by another key, under which nothing of it is known.
        """
        key = decision.key
        if (pending := self._pending.get(key)) is not None:
            pending.followers.append(decision._replace(blob=None))
        elif self._is_poison(key) or (key in self._attempts.suspects and not self._attempts.alone):
            self._suspect(decision)
        elif key in self._answered:
            self._copy(decision, self._ledger.read(self._ledger.by_key[key]))
        else:
            self._attempts.prepare(key)  # in place of the other: this is under way now
            return False
        return True

    def _awaited(self, document: "Future[Document]") -> bool:
        """Whether a document came; a reader that takes its time does not hold up a stop."""
        while not wait([document], _LOOK).done:
            if not self._keep_going():
                return False
        return True

    def _check_path(self, decision: Decision) -> None:
        if decision.name is not None:
            self._projection.check_name(decision.name, decision.key)

    def _finish(self, pending: _Pending, generation: Generation) -> None:
        decision = pending.decision
        record = conclude(
            self.job,
            self._engine.info,
            decision,
            pending.document,
            pending.contract,
            generation,
            pending.read_seconds,
        )
        record = self._keeper.kept(record, pending.sheet)
        self.totals.answered(generation)
        self._answered.add(decision.key)
        self._committer.put(record)
        for follower in pending.followers:
            self._copy(follower, record)

    def _settle(self, decision: Decision) -> Iterator[Prompt]:
        """A decision that needs no inference, unless its record turns out to be damaged."""
        assert decision.entry is not None
        try:
            if decision.action == "cached":
                self._stands(decision, decision.entry)
            else:
                record = self._ledger.read(decision.entry)
                self._copy(decision, record, reused=decision.action == "reuse")
        except DamagedRecordError:
            self._ledger.drop(decision.entry)
            self._reporter.note("warning: a damaged record is in quarantine/; it is done again")
            again = decision._replace(action="infer", entry=None)
            yield from self._forward(self._intake.read(again))

    def _stands(self, decision: Decision, entry: Entry) -> None:
        """A current record; if its sheet is to be made, with that."""
        if self._keeper.lacks(entry):
            record = self._ledger.read(entry)
            made = self._keeper.copied(record, decision.name, lambda: self._seen(decision))
            if made is not None and record.views is None:
                self._copy(decision, record, reused=True)
                return
            if made is None and self._keeper.has(record):
                self._reporter.note("warning: what the model saw could not be shown again")
        self._keep(entry)

    def _seen(self, decision: Decision) -> tuple[Image, ...]:
        """What of a source the model would be shown: it is read again.

        Raises:
            DocumentError: it cannot be read.
        """
        if decision.blob is None:
            return ()
        limits = self.job.read_limits
        read = pair.submit(self._reading, decision.source, decision.blob, limits)
        document = paging.fit(self.job.template, read.result(), lambda: self._engine.reads_images)
        return (*(document.prior.images if document.prior else ()), *document.images)

    def _copy(self, decision: Decision, record: Record, *, reused: bool = False) -> None:
        """Append another name's record, or an earlier one of the same name, as current."""
        try:
            self._check_path(decision)
        except DocumentError as error:
            self._refuse(decision, error.code)
            return
        other = record.source if not reused else record.duplicate_of
        views = self._keeper.copied(record, decision.name, lambda: self._seen(decision))
        copy = record.model_copy(
            update={
                "source": decision.source.relative,
                "origin": decision.source.origin,
                "summary": decision.name,
                "custom_id": decision.source.custom_id,
                "reading": reading_of(self.job, decision.source),
                "views": views,
                "prior": renamed(record.prior, decision.source),
                "duplicate_of": other,
                "reused": reused,
                "created": now(),
            }
        )
        if reused:
            self.totals.reused += 1
        else:
            self.totals.duplicates += 1
        self._committer.put(copy)

    def _refuse(self, decision: Decision, code: str, document: Document | None = None) -> None:
        try:
            self._check_path(decision)
        except DocumentError as error:
            code = error.code  # its page may not be written there, either
        verdict = Verdict(FAULTS[code].status, error=code)
        self._committer.put(
            make_record(self.job, self._engine.info, decision, verdict, document=document)
        )

    # -- telling ------------------------------------------------------------------------------

    def _keep(self, entry: Entry) -> None:
        """A record that stands: see that its summary does, too."""
        self._projection.follow(entry)
        record = None
        if self._on_record is not None or self._all_rules:
            record = self._ledger.read(entry)
        with self._telling:
            self.totals.cached += 1
            self.totals.status[entry.status] += 1
            if record is not None and self._all_rules:
                self.totals.rules.update(flag.rule for flag in record.flags)
            if record is not None and self._on_record is not None:
                self._on_record(record)

    def _tell(self, record: Record) -> None:
        """A record that is durable."""
        with self._telling:
            self.totals.committed(record)
            self._reporter.document(record)
            if self._on_record is not None:
                self._on_record(record)


def _light(document: Document) -> Document:
    """The document with its images, but without their pixels."""
    images = tuple(image.model_copy(update={"rgb": b""}) for image in document.images)
    prior = document.prior and _light(document.prior)
    changes = {"images": images, "prior": prior}
    return document.model_copy(update=changes) if images or prior else document
