"""A conversation → a completion, whole or in pieces, with what the checks say of it."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

from medgemma_cli.errors import DocumentError
from medgemma_cli.job import Job
from medgemma_cli.records import Generation, Record
from medgemma_cli.refusing import refuse
from medgemma_cli.serve import answers
from medgemma_cli.serve.bodies import ChatBody
from medgemma_cli.serve.chat import BadConversationError, Conversation, conversation, with_pictures
from medgemma_cli.serve.gate import error_body
from medgemma_cli.serve.pictures import suffix_of
from medgemma_cli.serve.service import Service, Work


class Said(NamedTuple):
    """A response's body and status."""

    body: dict[str, Any]
    status: int = 200


class NoAnswerError(Exception):
    """There will be no answer; `body` and `status` say why."""

    def __init__(self, body: dict[str, Any], status: int) -> None:
        super().__init__(status)
        self.body = body
        self.status = status


class Talk:
    """Answers one request.

    Args:
        model: what the served model is called.
        created: the time, in seconds since 1970.
    """

    def __init__(self, service: Service, model: str, created: int) -> None:
        self._service = service
        self._model = model
        self._created = created

    async def whole(self, body: ChatBody) -> Said:
        """The completion, or why there is none."""
        try:
            talk = await self._service.in_thread(_conversation, body)
            if (fixed := _fixed(talk)) is not None:
                return Said(answers.as_chat(fixed, None, self._model, self._created))
            async with self._work(talk) as work:
                made = await self._service.generate(work.prompt)
            record = await self._record(work, made)
        except NoAnswerError as error:
            return Said(error.body, error.status)
        except DocumentError as error:
            return Said(_failure(error).body, _failure(error).status)
        return Said(answers.as_chat(record, made, self._model, self._created))

    async def pieces(self, body: ChatBody) -> AsyncGenerator[str, None]:
        """Server-sent events.

        Raises:
            NoAnswerError: maybe in the midst of them.
        """
        model, created = self._model, self._created
        talk = await self._service.in_thread(_conversation, body)
        if (fixed := _fixed(talk)) is not None:
            yield answers.event(answers.as_chunk(fixed.key, model, created, fixed.raw_text or ""))
            yield answers.event(answers.last_chunk(fixed, None, model, created))
            yield answers.event("[DONE]")
            return
        try:
            shown = ""
            async with (
                self._work(talk) as work,
                contextlib.aclosing(self._service.pieces(work.prompt)) as pieces,
            ):
                async for piece in pieces:
                    if isinstance(piece, Generation):
                        made = piece
                        break
                    shown += piece
                    yield answers.event(answers.as_chunk(work.key, model, created, piece))
            record = await self._record(work, made)
        except DocumentError as error:
            raise _failure(error) from None
        if not shown:
            yield answers.event(answers.as_chunk(work.key, model, created, made.text))
        yield answers.event(answers.last_chunk(record, made, model, created))
        if body.stream_options and body.stream_options.include_usage:
            last = answers.as_chunk(work.key, model, created, None)
            yield answers.event({**last, "choices": [], "usage": answers.usage(made)})
        yield answers.event("[DONE]")

    @contextlib.asynccontextmanager
    async def _work(self, talk: Conversation) -> AsyncIterator[Work]:
        """The prompt, its pictures read, while there is room for them."""
        service = self._service
        key = talk.key(service.engine.identity)
        named = [(f"request{suffix_of(data)}", data) for data in talk.images]
        job = Job(talk.template(), talk.limits, service.limits)
        if not named:
            yield Work(job, key, with_pictures(talk, key, None), talk.prompt(key))
            return
        async with service.held(named) as pictures:
            if len(pictures.images) != len(named):
                raise DocumentError("not_accepted")  # several in one file: whose slot is whose
            document = with_pictures(talk, key, pictures)
            yield Work(job, key, document, talk.prompt(key, document.images))

    async def _record(self, work: Work, made: Generation) -> Record:
        """What the checks say. An answer outside its schema is the client's to judge.

        Raises:
            NoAnswerError: the engine has no answer.
        """
        record = await self._service.conclude(work, made)
        if made.error is not None:
            raise NoAnswerError(answers.failure(record), answers.status_of(record))
        return record


def _conversation(body: ChatBody) -> Conversation:
    try:
        return conversation(body)
    except BadConversationError as error:
        raise NoAnswerError(error_body("invalid_request", str(error), 400), 400) from None


def _fixed(talk: Conversation) -> Record | None:
    """The fixed words for an emergency, or for a wish for personal advice."""
    flag = talk.refused()
    if flag is None:
        return None
    said = "\n".join(part.text for part in talk.messages[-1].parts)
    return refuse(said, "chat", flag)


def _failure(error: DocumentError) -> NoAnswerError:
    status = answers.status_of_code(error.code)
    return NoAnswerError(error_body(error.code, error.fault.hint, status), status)
