"""Sources in, decided documents out: in order, and read ahead of the engine."""

import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

from medgemma_cli.planning import Decision, Planner
from medgemma_cli.readers import pair
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.pool import Reading
from medgemma_cli.records import Document, Source


class Decided(NamedTuple):
    """A source on its way: what is to be done with it, and its document where that is read.

    `seconds` is what deciding took, reading the bytes included.
    """

    decision: Decision
    document: "Future[Document] | None" = None
    seconds: float = 0.0


class Intake:
    """Decides on sources and has the documents read that are to be inferred.

    Args:
        later: keys whose documents are not to be read yet.

    Attributes:
        left: how many sources, at least, were found and not given out.
    """

    def __init__(
        self,
        planner: Planner,
        reading: Reading,
        limits: ReadLimits,
        keep_going: Callable[[], bool],
        later: Container[str] = (),
    ) -> None:
        self.left = 0
        self._planner = planner
        self._reading = reading
        self._limits = limits
        self._keep_going = keep_going
        self._later = later

    def stream(self, sources: Iterable[Source]) -> Iterator[Decided]:
        """In the order of the sources; documents are being read while earlier ones are used."""
        ahead: deque[Decided] = deque()
        for source in sources:
            if not self._keep_going():
                self.left += 1
                break
            started = time.perf_counter()
            decision = self._planner.decide(source)
            seconds = time.perf_counter() - started
            waits = decision.key in self._later
            ahead.append(Decided(decision) if waits else self.read(decision, seconds))
            while len(ahead) > self._reading.ahead:
                yield ahead.popleft()
        while ahead and self._keep_going():
            yield ahead.popleft()
        self.left += len(ahead)

    def read(self, decision: Decision, seconds: float = 0.0) -> Decided:
        """Have the document of a decision read, if it is to be inferred and its bytes are here."""
        if decision.action != "infer" or decision.blob is None:
            return Decided(decision, None, seconds)
        document = pair.submit(self._reading, decision.source, decision.blob, self._limits)
        return Decided(decision, document, seconds)
