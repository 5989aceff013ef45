"""One request → one record, by the stages that `run` takes a document through."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

from medgemma_cli import asking, identity, paging, readers, templates
from medgemma_cli.concluding import conclude
from medgemma_cli.engines.base import Engine
from medgemma_cli.errors import FAULTS, DocumentError, MedgemmaError, one_document
from medgemma_cli.job import Job
from medgemma_cli.planning import Decision
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.loading import sha256
from medgemma_cli.readers.pool import InProcess, Reading
from medgemma_cli.recording import make_record
from medgemma_cli.records import Contract, Document, Generation, Limits, Prompt, Record, Source
from medgemma_cli.refusing import refuse
from medgemma_cli.safety.triage import triage_question
from medgemma_cli.safety.verdict import Verdict
from medgemma_cli.serve.pictures import suffix_of
from medgemma_cli.serve.room import Room
from medgemma_cli.serve.warm import Item, Warm

T = TypeVar("T")
_PIXELS = 256_000_000  # 768 MB
_DECODING = 4


class Asked(NamedTuple):
    """What one request wants: a template by name, what it is about, and how to generate."""

    mode: str = "summarize"
    text: str | None = None
    image: bytes | None = None
    question: str | None = None
    system: str | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Answered(NamedTuple):
    """A record, and what the engine wrote for it where it came to that."""

    record: Record
    generation: Generation | None = None


class Work(NamedTuple):
    """A document on its way: its job and key, and the prompt that was made of it."""

    job: Job
    key: str
    document: Document
    prompt: Prompt


class Service:
    """Answers requests with one warm engine.

    Args:
        reading: decodes images, in processes of their own where they are a stranger's.
        threads: what checks and rendering run in; they hold up no other request.
    """

    def __init__(
        self,
        engine: Engine,
        warm: Warm,
        reading: Reading,
        limits: ReadLimits,
        threads: ThreadPoolExecutor,
    ) -> None:
        self.engine = engine
        self.limits = limits
        self._warm = warm
        self._reading = reading
        self._threads = threads
        self._room = Room(_PIXELS)
        # Decoded pictures wait for room, too.
        self._decoding = asyncio.Semaphore(_DECODING)

    @property
    def lost(self) -> MedgemmaError | None:
        """Why the engine is of no use any more; None while it is."""
        return self._warm.error

    # -- a template and a document ------------------------------------------------------------

    async def answer(self, asked: Asked) -> Answered:
        """The record of one request; a refused document or question has one, too.

        Raises:
            ConfigError: 78, there is no such template.
            ModelUnavailableError: 69, the engine is lost.
        """
        if asked.question and (flag := triage_question(asked.question)):
            return Answered(refuse(asked.question, asked.mode, flag))
        job = await self.in_thread(self._job, asked)
        sources = self._sources(asked)
        key = self._key(job, sources)
        document = None
        try:
            async with self.held(sources) as document:
                work = await self.in_thread(self._render, job, key, document)
                generation = await self.generate(work.prompt)
        except DocumentError as error:
            return Answered(self._failed(job, key, error.code, document))
        record = await self.conclude(work, generation)
        return Answered(record, generation)

    def _job(self, asked: Asked) -> Job:
        template = _template(asked.mode, asked.system)
        limits = Limits(
            max_new_tokens=asked.max_new_tokens or template.max_new_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
        )
        return Job(template, limits, self.limits, asked.question)

    def _sources(self, asked: Asked) -> list[tuple[str, bytes]]:
        """What there is to read: a name whose ending is the kind, and the bytes."""
        found = []
        if asked.text is not None:
            found.append(("request.md", asked.text.encode("utf-8", "surrogatepass")))
        if asked.image is not None:
            found.append((f"request{suffix_of(asked.image)}", asked.image))
        return found

    def _key(self, job: Job, sources: list[tuple[str, bytes]]) -> str:
        """As `run` would have it, of one source; of several, of all their bytes."""
        kinds = [readers.media_type(_source(name)) for name, _ in sources]
        version = " ".join(readers.reader_version(kind) for kind in kinds)
        digests = [sha256(data) for _, data in sources]
        digest = digests[0] if len(digests) == 1 else identity.digest(digests)
        settings = job.settings(self.engine.identity)
        return identity.document_key(settings, digest, version, tuple(job.read_limits))

    @contextlib.asynccontextmanager
    async def held(self, sources: list[tuple[str, bytes]]) -> AsyncIterator[Document]:
        """The sources as one document, while there is room for its pixels.

        Raises:
            DocumentError: the first that cannot be read.
        """
        if all(name.endswith(".md") for name, _ in sources):
            yield await self.read(sources)
            return
        async with contextlib.AsyncExitStack() as stack:
            async with self._decoding:
                document = await self.read(sources)
                pixels = sum(image.width * image.height for image in document.images)
                await stack.enter_async_context(self._room.taken(pixels))
            yield document

    async def read(self, sources: list[tuple[str, bytes]]) -> Document:
        """The sources as one document.

        Raises:
            DocumentError: the first that cannot be read.
        """
        documents = [await self._read(name, data) for name, data in sources]
        return documents[0] if len(documents) == 1 else asking.joined(documents)

    async def _read(self, name: str, data: bytes) -> Document:
        if len(data) > self.limits.max_bytes:
            raise DocumentError("too_large")
        # Text is decoded here: only the decoders of pictures are worth a process.
        reading = InProcess() if name.endswith(".md") else self._reading
        blob = readers.Blob(data, sha256(data))
        made = reading.submit(_source(name), blob, self.limits)
        return await asyncio.wrap_future(made)

    def _render(self, job: Job, key: str, document: Document) -> Work:
        with one_document():
            document = paging.fit(job.template, document, lambda: self.engine.reads_images)
            prompt = templates.render(job.template, document, key, job.limits, job.question)
        return Work(job, key, document, prompt)

    def _failed(self, job: Job, key: str, code: str, document: Document | None) -> Record:
        verdict = Verdict(FAULTS[code].status, error=code)
        return make_record(job, self.engine.info, _decision(key), verdict, document=document)

    # -- parts that a conversation needs, too -------------------------------------------------

    async def conclude(self, work: Work, generation: Generation) -> Record:
        """What the checks say of an answer, as a record."""
        contract: Contract = work.prompt.contract
        info, decision = self.engine.info, _decision(work.key)
        return await self.in_thread(
            conclude, work.job, info, decision, work.document, contract, generation
        )

    async def generate(self, prompt: Prompt) -> Generation:
        """The engine's answer.

        Raises:
            DocumentError: the prompt does not fit. ModelUnavailableError: the engine is lost.
        """
        async with contextlib.aclosing(self.pieces(prompt, watch=False)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Generation):
                    return piece
        raise DocumentError("engine")

    async def pieces(
        self, prompt: Prompt, *, watch: bool = True
    ) -> AsyncGenerator[str | Generation, None]:
        """The answer as it is written, the `Generation` last; closing this gives its place up.

        Raises:
            DocumentError: the prompt does not fit. ModelUnavailableError: the engine is lost.
        """
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Item] = asyncio.Queue()

        def listen(item: Item) -> None:
            with contextlib.suppress(RuntimeError):  # nobody is there any more
                loop.call_soon_threadsafe(items.put_nowait, item)

        place = self._warm.join(prompt, listen, watch=watch)
        try:
            while True:
                item = await items.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if isinstance(item, Generation):
                    return
        finally:
            place.leave()

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """What takes long, out of the way of other requests."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *args))


@lru_cache(maxsize=64)
def _template(name: str, system: str | None) -> templates.Template:
    return templates.load(name, system=system)


def _source(name: str) -> Source:
    return Source(place=name, relative=name, origin="-")


def _decision(key: str) -> Decision:
    name = f"request/{key[:12]}"
    return Decision("infer", "asked", Source(place=name, relative=name, origin="-"), None, key)
