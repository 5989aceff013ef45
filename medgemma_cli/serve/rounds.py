"""An engine that can only be given a list, fed as if it were alive: round by round."""

from collections.abc import Iterable, Iterator

from medgemma_cli.engines.base import Audience, Engine
from medgemma_cli.records import Generation, Prompt


class Rounds:
    """What waits is asked together; what comes meanwhile waits for the next round."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def live(self, prompts: Iterable[Prompt | None], audience: Audience) -> Iterator[Generation]:
        """As `Live`, without showing anything before it is done."""
        waiting: list[Prompt] = []
        for prompt in prompts:
            if prompt is not None:
                waiting.append(prompt)
                continue
            for one in waiting:
                if not audience.wanted(one.id):
                    yield Generation(id=one.id, finish_reason="error", error="engine")
            wanted = [one for one in waiting if audience.wanted(one.id)]
            waiting = []
            yield from self._engine.generate(wanted)
