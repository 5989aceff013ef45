"""Replicas at work: who gets which prompt, and what becomes of it where a replica dies.

A replica that dies gives its documents back. Where its node died, too, or its model was still
being loaded, they go on as if nothing had been. Where it died by itself, each of them may be why:
they come last, each alone on a replica; one during which its replica died three times while it
was alone there is given up. Replicas are started again as long as that gets anywhere.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from medgemma_cli.engines.base import always
from medgemma_cli.engines.replica import READY, Failure, Report, Task
from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.records import Generation, ModelInfo, Prompt

CRASHES = 3
_FRUITLESS = 3  # deaths a replica, one after another, with no answer in between
_LOOK = 0.2  # seconds between looks at whether to go on
_START_SECONDS = 600.0
_BYTES = 64 * 2**20  # of pixels, in prompts that wait in one replica


class ReplicaDiedError(Exception):
    """A replica is gone, or cannot be reached, with all that was not taken from it."""


class Fleet(Protocol):
    """Starts replicas somewhere, and carries words between them and this process."""

    def start(self) -> Any:
        """A new replica, perhaps not running yet."""

    def exchange(self, replica: Any, task: Task) -> Any:
        """Say something to a replica; a ticket for the answer."""

    def wait(self, tickets: Sequence[Any], seconds: float) -> list[Any]:
        """The tickets whose answers are there, one at least if that happens in time."""

    def take(self, ticket: Any) -> Report:
        """An answer.

        Raises:
            ReplicaDiedError: there will be none.
        """

    def end(self, replica: Any) -> None:
        """End a replica, dead or alive."""

    def lives(self, node: str) -> bool:
        """Whether a node is there."""


class _Member:
    """A replica as the driver sees it."""

    def __init__(self, replica: Any) -> None:
        self.replica = replica
        self.started = time.monotonic()
        self.ticket: Any = None
        self.report: Report | None = None
        self.under_way: dict[str, Prompt] = {}
        self.alone = False
        self.answers = 0


class Crew:
    """A number of replicas, kept from one `answer` to the next.

    Args:
        step: told how many replicas there are of those that are wanted.

    Attributes:
        info: of the replica whose answer came last.
    """

    def __init__(
        self,
        fleet: Fleet,
        count: int,
        step: Callable[[str, int, int], None] = lambda text, done, total: None,
    ) -> None:
        self.info: ModelInfo | None = None
        self._fleet = fleet
        self._count = count
        self._step = step
        self._members: list[_Member] = []
        self._fruitless = 0
        self._source: Iterator[Prompt] = iter(())
        self._more = False
        self._stopped = False
        self._back: deque[Prompt] = deque()
        self._suspects: deque[Prompt] = deque()
        self._deaths: dict[str, int] = {}

    @property
    def replicas(self) -> list[tuple[int, str]]:
        """Process and node of each replica that has said something."""
        return [(m.report.pid, m.report.node) for m in self._members if m.report is not None]

    def close(self) -> None:
        """End every replica."""
        for member in self._members:
            self._fleet.end(member.replica)
        self._members.clear()

    def answer(
        self, prompts: Iterable[Prompt], keep_going: Callable[[], bool] = always
    ) -> Iterator[Generation]:
        """One `Generation` a prompt, as they finish.

        Raises:
            ModelUnavailableError: 69, no replica comes up, or none stays.
        """
        self._begin(prompts)
        while True:
            self._stopped = self._stopped or not keep_going()
            self._talk()
            if self._ended():
                return
            tickets = {m.ticket: m for m in self._members if m.ticket is not None}
            for ticket in self._fleet.wait(list(tickets), _LOOK):
                yield from self._hear(tickets[ticket], ticket)

    def _begin(self, prompts: Iterable[Prompt]) -> None:
        """Forget what another `answer` left behind that nobody waits for any more."""
        for member in list(self._members):
            if member.under_way or self._stopped:
                self._dismiss(member)
        self._source, self._more, self._stopped = iter(prompts), True, False
        self._back.clear()
        self._suspects.clear()
        self._deaths.clear()

    def _ended(self) -> bool:
        under_way = any(member.under_way for member in self._members)
        left = self._more or self._back or self._suspects
        return not under_way and (self._stopped or not left)

    # -- saying -------------------------------------------------------------------------------

    def _talk(self) -> None:
        """See that all replicas are there, and that each has something to do."""
        while len(self._members) < self._count and not self._stopped:
            self._members.append(_Member(self._fleet.start()))
            self._tell()
        for member in self._members:
            if member.ticket is None and (task := self._task(member)) is not None:
                member.under_way |= {prompt.id: prompt for prompt in task.prompts}
                member.ticket = self._fleet.exchange(member.replica, task)
        up = any(member.report is not None for member in self._members)
        oldest = min((member.started for member in self._members), default=time.monotonic())
        if not up and time.monotonic() - oldest > _START_SECONDS:
            raise ModelUnavailableError(
                "No replica could be started in ten minutes.",
                "Check that the cluster has the --gpus-per-replica asked for, on one node each.",
            )

    def _tell(self) -> None:
        up = sum(member.report is not None for member in self._members)
        self._step("starting replicas", up, self._count)

    def _task(self, member: _Member) -> Task | None:
        """What to tell a replica; None where there is nothing to say or to hear."""
        if member.report is None:
            return Task()  # one that never comes up must not hold a document
        if self._stopped:
            return Task(stop=True) if member.under_way else None
        if member.alone:
            return Task()
        prompts = tuple(self._fill(READY - member.report.waiting))
        if not prompts and not member.under_way:
            member.alone = bool(self._suspects)
            return Task((self._suspects.popleft(),)) if member.alone else None
        return Task(prompts, more=self._more or bool(self._back))

    def _fill(self, room: int) -> Iterator[Prompt]:
        size = 0
        while room > 0 and size < _BYTES:
            prompt = self._back.popleft() if self._back else next(self._source, None)
            if prompt is None:
                self._more = False
                return
            room -= 1
            size += sum(len(image.rgb) for image in prompt.images)
            yield prompt

    # -- hearing ------------------------------------------------------------------------------

    def _hear(self, member: _Member, ticket: Any) -> Iterator[Generation]:
        try:
            report = self._fleet.take(ticket)
        except ReplicaDiedError:
            yield from self._bury(member, self._blamed(member))
            return
        member.ticket, first = None, member.report is None
        member.report = report
        if first:
            self._tell()
        for made in report.done:
            if member.under_way.pop(made.id, None) is not None:
                self._fruitless, self.info = 0, report.info
                member.answers += 1
                member.alone = False
                yield made
        if report.failed is not None:
            yield from self._fail(member, report.failed)
        elif self._stopped and report.idle:
            member.under_way.clear()  # what was not begun gets no answer

    def _fail(self, member: _Member, failed: Failure) -> Iterator[Generation]:
        """Its engine ended: at once, for a reason that others will have, too; or later."""
        if failed.foreseen and not member.answers:
            raise ModelUnavailableError(failed.message, failed.next_step)
        yield from self._bury(member, not failed.foreseen and self._blamed(member))

    def _blamed(self, member: _Member) -> bool:
        """Whether a death may be due to a document."""
        report = member.report
        return report is not None and report.loaded and self._fleet.lives(report.node)

    def _dismiss(self, member: _Member) -> None:
        self._fleet.end(member.replica)
        self._members.remove(member)

    def _bury(self, member: _Member, blamed: bool) -> Iterator[Generation]:
        """Take a dead replica's documents back."""
        self._dismiss(member)
        prompts = list(member.under_way.values())
        if blamed and prompts:
            if member.alone:
                yield from self._accuse(prompts[0])
            else:
                self._suspects.extend(prompts)
            return
        (self._suspects if member.alone else self._back).extendleft(reversed(prompts))
        self._fruitless += 1
        if self._fruitless >= _FRUITLESS * self._count:
            raise ModelUnavailableError(
                "The replicas die before they answer anything.",
                "See that medgemma-cli is on each node, with memory enough; try fewer replicas.",
            )

    def _accuse(self, prompt: Prompt) -> Iterator[Generation]:
        self._deaths[prompt.id] = self._deaths.get(prompt.id, 0) + 1
        if self._deaths[prompt.id] < CRASHES:
            self._suspects.append(prompt)
        else:
            yield Generation(id=prompt.id, finish_reason="error", error="replica_crashed")
