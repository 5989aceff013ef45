"""Replicas in threads of the test's own process, which die, hang and fail as they are told."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from medgemma_cli.engines.base import Engine, always, unwatched
from medgemma_cli.engines.crew import ReplicaDiedError
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.engines.replica import Replica, Report, Task
from medgemma_cli.records import Contract, Generation, Limits, Message, Part, Prompt

IDENTITY = EchoEngine().identity


def prompt(name: str, text: str = "a cough") -> Prompt:
    """A question about a text."""
    part = Part(kind="document", text=text)
    return Prompt(
        id=name,
        messages=(Message(role="user", parts=(part,)),),
        contract=Contract(kind="text"),
        limits=Limits(),
    )


def prompts(count: int, **texts: str) -> list[Prompt]:
    """Questions named 0, 1, …; of those named in `texts` (as ``n3``) the text is that."""
    return [prompt(str(i), texts.get(f"n{i}", f"note {i}")) for i in range(count)]


@dataclass
class Handle:
    """A replica in a thread."""

    replica: Replica | None = None
    dead: threading.Event = field(default_factory=threading.Event)
    node: str = "here"


class Wilful(EchoEngine):
    """Does as a document says: ``die``, ``raise``, ``lose`` the device; else echoes."""

    def __init__(self, handle: Handle, script: "Threads") -> None:
        super().__init__()
        self._handle = handle
        self._script = script

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """One after another, as `EchoEngine`, but for what documents say."""
        if self._script.at_loading is not None:
            self._script.at_loading(self._handle)
        for one in prompts:
            if not keep_going():
                return
            begin([one.id])
            word = one.document.split()[0]
            if word in self._script.orders:
                self._script.orders[word](self._handle)
            yield self._answer(one)


class Threads:
    """A fleet of them. `orders` are what words at the beginning of a document do."""

    def __init__(self) -> None:
        self.orders: dict[str, Callable[[Handle], Any]] = {"die": self.die}
        self.at_loading: Callable[[Handle], Any] | None = None
        self.make: Callable[[Handle], Engine] = lambda handle: Wilful(handle, self)
        self.handles: list[Handle] = []
        self.gone: set[str] = set()
        self.silent: set[int] = set()
        self._threads = ThreadPoolExecutor(16)

    def die(self, handle: Handle) -> None:
        """The end of a replica, seen from inside: nothing comes after it."""
        handle.dead.set()
        threading.Event().wait()

    def start(self) -> Handle:
        """See `Fleet`."""
        handle = Handle(node=f"node{len(self.handles)}")
        handle.replica = Replica(lambda: self.make(handle), IDENTITY, handle.node)
        self.handles.append(handle)
        return handle

    def exchange(self, replica: Handle, task: Task) -> "Future[Report]":
        """See `Fleet`."""
        if self.handles.index(replica) in self.silent:
            return Future()
        return self._threads.submit(self._exchange, replica, task)

    def _exchange(self, handle: Handle, task: Task) -> Report:
        assert handle.replica is not None
        if not handle.dead.is_set():
            report = handle.replica.exchange(task)
            if not handle.dead.is_set():
                return report
        raise ReplicaDiedError

    def wait(self, tickets: Sequence[Any], seconds: float) -> list[Any]:
        """See `Fleet`."""
        return list(wait(tickets, seconds, return_when="FIRST_COMPLETED").done)

    def take(self, ticket: Any) -> Report:
        """See `Fleet`."""
        report: Report = ticket.result()
        return report

    def end(self, replica: Handle) -> None:
        """See `Fleet`."""
        replica.dead.set()

    def lives(self, node: str) -> bool:
        """See `Fleet`."""
        return node not in self.gone
