"""Any server that speaks OpenAI's chat API: vLLM, SGLang, llama-server, `transformers serve`, …

An event loop in a thread of its own makes the requests; the caller's thread takes prompts as
there is room and hands on what has come. What is known of the weights is what the servers say.
See docs/server.md.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from medgemma_cli.engines.base import always, unwatched
from medgemma_cli.engines.calls import about, address, eyes, tries
from medgemma_cli.engines.calls.about import Served
from medgemma_cli.engines.calls.address import Address
from medgemma_cli.engines.calls.client import Client
from medgemma_cli.engines.calls.pool import Pool, Server
from medgemma_cli.engines.calls.replies import Again, Refused, Reply
from medgemma_cli.engines.calls.requests import Call
from medgemma_cli.engines.calls.structure import Level
from medgemma_cli.engines.calls.tries import Patience, Tries
from medgemma_cli.engines.calls.underway import Shown, UnderWay
from medgemma_cli.engines.calls.wording import count_words, least_tokens
from medgemma_cli.errors import ConfigError, MedgemmaError
from medgemma_cli.records import Generation, ModelInfo, Prompt, ServerInfo

# What is sent for a prompt; counted up when that changes, since it is in every key.
_WORDING = 1
_LOOK = 0.2  # seconds between looks at whether to go on
_MOST = 64
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class ServerOptions:
    """Which servers, and how they are asked.

    Attributes:
        urls: base URLs of servers that serve the same model.
        model: the served name; None: the only one that is served.
        key: sent to every server; in no record, message or representation.
        most: requests at once at each server, at most.
        timeout: seconds that one answer may take.
        structured: how the shape of an answer is asked for at first.
    """

    urls: tuple[str, ...]
    model: str | None = None
    allow_remote: bool = False
    key: str | None = field(default=None, repr=False)
    most: int = _MOST
    timeout: float = 600.0
    structured: Level = "schema"
    patience: Patience = field(default_factory=Patience)


class ServerEngine:
    """One model behind one or several servers.

    Args:
        note: told once, before anything is sent, that documents leave this machine.
        look: what a name's addresses are.
    """

    constrains = False  # what is asked for is not always done: `retrying` judges

    def __init__(
        self,
        options: ServerOptions,
        *,
        note: Callable[[str], None] = lambda text: None,
        look: address.Resolve = address.looked_up,
    ) -> None:
        self._options = options
        self._note = note
        self._look = look
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: Pool | None = None
        self._served: Served | None = None
        self._sees: bool | None = None
        self._looked = False
        self._levels: dict[str, Level] = {}
        self._stopped = False

    # -- what is known of it ------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, Any]:
        """The hosts, what they say of the model, and how it is asked. Asks the servers once."""
        served = self.served()
        return {
            "engine": "server",
            "wording": _WORDING,
            "hosts": self._hosts(),
            "served": served.name,
            "says": served.says,
            "structured": self._options.structured,
        }

    @property
    def info(self) -> ModelInfo:
        """The served name; hosts, and what they say of it, in `server`."""
        served = self.served()
        told = ServerInfo(hosts=tuple(self._hosts()), says=served.says)
        return ModelInfo(id=served.name, engine="server", server=told)

    @property
    def window(self) -> int:
        """What the servers say; `about.UNKNOWN_WINDOW` where they say nothing."""
        return self.served().window

    @property
    def reads_images(self) -> bool:
        """Whether an image makes a prompt longer there; where that is not told, yes."""
        if not self._looked:
            self.served()
            self._sees = self._run(self._look_at_an_image())
            self._looked = True
        return self._sees is not False

    def count(self, prompt: Prompt) -> int:
        """The least that it may be: the server has the tokenizer. Images are not counted."""
        return least_tokens(count_words(prompt))

    def _hosts(self) -> list[str]:
        """Without ports: a server that is started again elsewhere on its host is the same."""
        return sorted({address.parse(url).host for url in self._options.urls})

    def served(self) -> Served:
        """What the servers say of the model, asked at the first call.

        Raises:
            UsageError: 2, a server's address is public, or it serves several models.
            ConfigError: 78, the servers differ. ModelUnavailableError: 69, one does not answer.
        """
        if self._served is None:
            found = [address.parse(url) for url in self._options.urls]
            remote = self._options.allow_remote
            found = [address.resolve(one, allow_remote=remote, look=self._look) for one in found]
            for sentence in dict.fromkeys(address.told(found)):
                self._note(sentence)
            self._pool = self._run(self._connect(found))
            self._served = self._run(self._introduced())
        return self._served

    async def _connect(self, found: list[Address]) -> Pool:
        options = self._options
        clients = [Client(one, options.key, options.timeout) for one in found]
        return Pool([Server(client, options.most) for client in clients])

    async def _introduced(self) -> Served:
        assert self._pool is not None
        said = [await self._said(server) for server in self._pool.servers]
        return about.agreed(said)

    async def _said(self, server: Server) -> Served:
        for pause in (0.3, 1.0, None):
            try:
                return about.served(await server.client.models(), self._options.model)
            except Refused:
                break
            except Again as error:
                if pause is None:
                    raise tries.unavailable(error.kind) from None
                await asyncio.sleep(pause)
        raise tries.unavailable("gone")

    async def _look_at_an_image(self) -> bool | None:
        pool, served = self._ready()

        async def send(server: Server) -> Reply:
            seen.append(await eyes.sees(server.client, served.name))
            return Reply("", "stop", 0, 0)

        seen: list[bool | None] = []
        try:
            await Tries(self._options.patience, lambda: False).ask(pool, send)
        except Again as error:
            raise tries.unavailable(error.kind) from None
        except Refused:
            return None  # it refused the text, too: nothing is known
        return seen[0]

    def _ready(self) -> tuple[Pool, Served]:
        assert self._pool is not None and self._served is not None
        return self._pool, self._served

    # -- prompts in, generations out ----------------------------------------------------------

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """As they come back. After a no of `keep_going`, what waits to be asked again is left."""
        self.served()
        assert self._pool is not None
        self._stopped = False
        source, under_way = iter(prompts), UnderWay(self._in_loop())
        more = True
        try:
            while more or under_way:
                if not self._stopped and not keep_going():
                    more, self._stopped = False, True
                    under_way.leave_waiting()
                if more and len(under_way) < self._pool.room:
                    prompt = next(source, None)
                    if prompt is None:
                        more = False
                        continue
                    wait = 0.0
                    call = self._call(prompt)
                    if isinstance(call, Generation):
                        yield call
                    else:
                        begin([prompt.id])
                        attempts = self._tries()
                        future = self._submit(self._answer(call, attempts, None))
                        under_way.add(attempts, future)
                else:
                    wait = _LOOK
                yield from under_way.ended(wait)
        finally:
            under_way.end()

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """The answer as it comes, in the words of the first server that begins to answer."""
        self.served()
        self._stopped = False
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        shown = Shown(events.put)
        call = self._call(prompt)
        if isinstance(call, Generation):
            yield call
            return
        future = self._submit(self._answer(call, self._tries(), shown))
        future.add_done_callback(events.put)
        try:
            while isinstance(event := events.get(), str):
                yield event
            made: Generation | None = event.result()
            assert made is not None
            yield made
        finally:
            future.cancel()

    def _tries(self) -> Tries:
        return Tries(self._options.patience, lambda: self._stopped)

    def _call(self, prompt: Prompt) -> Call | Generation:
        """What is asked; the failed generation where nothing can be made of the prompt."""
        _, served = self._ready()
        asked = self._options.structured
        level = self._levels.get(prompt.contract.json_schema, asked)
        unsure = bool(prompt.images) and self._looked and self._sees is None
        notes = ("images_unconfirmed",) if unsure else ()
        try:
            return Call(prompt, served, level, asked, notes)
        except (RuntimeError, ValueError, OSError):
            _LOG.debug("a prompt could not be made ready", exc_info=True)
            return Generation(id=prompt.id, finish_reason="error", error="engine")

    async def _answer(self, call: Call, attempts: Tries, shown: Shown | None) -> Generation | None:
        """The generation; None where the run stops before there is one."""
        pool, _ = self._ready()
        started = time.perf_counter()

        async def send(server: Server) -> Reply:
            await self._still_the_same(server)
            return await self._sent(server, call, shown)

        try:
            reply = await attempts.ask(pool, send)
        except Refused as error:
            return call.failed(error.code, time.perf_counter() - started)
        except Again as error:
            if self._stopped:
                return None
            if error.kind != "fault":
                raise tries.unavailable(error.kind) from None
            await tries.alive(pool, self._options.patience)
            return call.failed("server_failed", time.perf_counter() - started)
        except MedgemmaError:
            raise
        except Exception:
            # Shown with --debug alone: the message may quote what was being worked on.
            _LOG.debug("a document could not be asked about", exc_info=True)
            return call.failed("engine", time.perf_counter() - started)
        self._levels[call.prompt.contract.json_schema] = call.level
        return call.made(reply, time.perf_counter() - started)

    async def _still_the_same(self, server: Server) -> None:
        """A server that was away may come back with another model."""
        if not server.away:
            return
        _, served = self._ready()
        now = about.served(await server.client.models(), self._options.model)
        if (now.name, now.says) != (served.name, served.says):
            raise ConfigError(
                "A server came back with another model than it had.",
                "Run again: what it answers now has keys of its own.",
            )

    async def _sent(self, server: Server, call: Call, shown: Shown | None) -> Reply:
        """The answer of one server, asked for less where it refuses what was asked for."""
        while True:
            try:
                if shown is None:
                    reply = await server.client.chat(call.body())
                    if len(reply.text) > call.longest:
                        raise Again("fault")
                else:
                    reply = await shown.of(server.client, call.body(), call.longest)
            except Refused:
                if not call.lower():
                    raise
                continue
            server.answered(reply.completion_tokens, time.monotonic())
            return reply

    # -- the loop -----------------------------------------------------------------------------

    def _in_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # Ends with the process, whatever is under way in it.
            threading.Thread(target=self._loop.run_forever, name="requests", daemon=True).start()
        return self._loop

    def _submit(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        return asyncio.run_coroutine_threadsafe(work, self._in_loop())

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._submit(work).result()
