"""The endpoints. What stands before them is `gate`, what stands behind them `service`."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from medgemma_cli import __version__
from medgemma_cli.errors import ConfigError, DocumentError, ModelUnavailableError
from medgemma_cli.records import RECORD_SCHEMA
from medgemma_cli.safety.framing import NOTICE
from medgemma_cli.serve import answers, conversing
from medgemma_cli.serve.bodies import ChatBody, InferBody, RunBody
from medgemma_cli.serve.gate import error_body
from medgemma_cli.serve.service import Asked, Service

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

_FIELD = 20_000  # characters of the question beside an uploaded image
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image_file"],
                    "properties": {
                        "image_file": {"type": "string", "format": "binary"},
                        "question": {"type": "string", "maxLength": _FIELD},
                    },
                }
            }
        },
    }
}
_ERROR: dict[str, Any] = {
    "description": "Not answered, and why.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "object"}},
            }
        }
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = dict.fromkeys(
    (400, 401, 403, 404, 408, 413, 415, 422, 500, 503, 504), _ERROR
)


def make_app(service: Service, model: str) -> "FastAPI":
    """The ASGI application.

    Args:
        model: what the served model is called.
    """
    from fastapi import FastAPI, Request
    from starlette.responses import JSONResponse, Response

    # The pages that FastAPI makes of the schema fetch scripts from elsewhere.
    app = FastAPI(title="medgemma", version=__version__, docs_url=None, redoc_url=None)
    _handle_errors(app)

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether it answers."""
        lost = service.lost
        return JSONResponse({"status": "lost" if lost else "ok"}, 503 if lost else 200)

    @app.get("/")
    async def root() -> dict[str, Any]:
        """What this is."""
        return {
            "name": "medgemma",
            "version": __version__,
            "model": model,
            "schema": RECORD_SCHEMA,
            "notice": NOTICE,
            "endpoints": ["/infer", "/predict", "/v1/run", "/v1/chat/completions", "/v1/models"],
        }

    @app.post("/infer", responses=_RESPONSES)
    async def infer(body: InferBody) -> JSONResponse:
        """Summarise a note."""
        answered = await service.answer(body.asked())
        record = answered.record
        if record.error is not None:
            return JSONResponse(answers.failure(record), answers.status_of(record))
        return JSONResponse(answers.as_infer(body.case_id, answered, service.engine.info))

    @app.post("/predict", responses=_RESPONSES, openapi_extra=_FORM)
    async def predict(request: Request) -> JSONResponse:
        """Answer a yes/no question about an image."""
        answered = await service.answer(await _uploaded(request))
        record = answered.record
        if record.error is not None:
            return JSONResponse(answers.failure(record), answers.status_of(record))
        return JSONResponse(answers.as_predict(record))

    @app.post("/v1/run", responses=_RESPONSES)
    async def run(body: RunBody) -> JSONResponse:
        """The record of a text, an image or a question."""
        record = (await service.answer(body.asked())).record
        return JSONResponse(answers.as_run(record), answers.status_of(record))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model, as OpenAI's clients ask for it."""
        return answers.as_models(service.engine, model)

    @app.post("/v1/chat/completions", responses=_RESPONSES)
    async def chat(body: ChatBody) -> Response:
        """Go on with a conversation."""
        if body.model not in ("", model):
            why = "There is no such model here; GET /v1/models tells."
            return JSONResponse(error_body("model_not_found", why, 404), 404)
        talk = conversing.Talk(service, model, int(time.time()))
        if not body.stream:
            done = await talk.whole(body)
            return JSONResponse(done.body, done.status)
        return await _streamed(talk, body)

    return app


async def _streamed(talk: "conversing.Talk", body: ChatBody) -> "Response":
    """Pieces as they come. The first is waited for: what fails before it has a status."""
    from starlette.responses import JSONResponse, StreamingResponse

    pieces = talk.pieces(body)
    try:
        first = await anext(pieces)
    except conversing.NoAnswerError as error:
        return JSONResponse(error.body, error.status)

    async def events() -> AsyncIterator[str]:
        async with contextlib.aclosing(pieces):
            yield first
            try:
                async for piece in pieces:
                    yield piece
            except conversing.NoAnswerError as error:
                yield answers.event(error.body)

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def _uploaded(request: "Request") -> Asked:
    """The image and the question of a form, read in memory: no upload is written to disk.

    Raises:
        HTTPException: 415, it is no such form; 400, it is broken; 422, it has no image.
    """
    import sys

    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException, MultiPartParser

    class InMemory(MultiPartParser):
        spool_max_size = sys.maxsize

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, "send a form: multipart/form-data with image_file")
    try:
        parser = InMemory(request.headers, request.stream(), max_files=1, max_fields=4)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, AssertionError):
        raise HTTPException(400, "the form is broken") from None
    file, question = form.get("image_file"), form.get("question")
    if not isinstance(file, UploadFile):
        raise HTTPException(422, "image_file is missing, or no file")
    if not isinstance(question, str | None) or len(question or "") > _FIELD:
        raise HTTPException(422, f"question is a text of {_FIELD} characters at most")
    return Asked(mode="screen", image=await file.read(), question=question or None)


def _handle_errors(app: "FastAPI") -> None:
    """Every error in one shape, with words of our own: none quotes a request."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse

    def said(status: int, code: str, why: str, **headers: str) -> JSONResponse:
        return JSONResponse(error_body(code, why, status), status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Any, error: RequestValidationError) -> JSONResponse:
        found = [f"{_place(one['loc'])}: {_why(one)}" for one in error.errors()[:5]]
        return said(422, "invalid_request", "; ".join(found))

    @app.exception_handler(HTTPException)
    async def refused(request: Any, error: HTTPException) -> JSONResponse:
        return said(error.status_code, "http", str(error.detail), **(error.headers or {}))

    @app.exception_handler(ConfigError)
    async def no_template(request: Any, error: ConfigError) -> JSONResponse:
        return said(400, "template", "There is no such mode; `medgemma templates` lists them.")

    @app.exception_handler(DocumentError)
    async def no_document(request: Any, error: DocumentError) -> JSONResponse:
        return said(answers.status_of_code(error.code), error.code, error.fault.hint)

    @app.exception_handler(ModelUnavailableError)
    async def lost(request: Any, error: ModelUnavailableError) -> JSONResponse:
        return said(503, "model", f"{error.message} {error.next_step}", **{"retry-after": "30"})


_KNOWN = {
    name
    for body in (InferBody, RunBody, ChatBody)
    for field, about in body.model_fields.items()
    for name in (field, about.alias or field)
} | {"body", "content", "type", "role", "url", "image_url", "json_schema", "schema", "name"}


def _place(where: tuple[Any, ...]) -> str:
    """Where in a request, without names that are the sender's own."""
    return ".".join(str(step) if isinstance(step, int) or step in _KNOWN else "…" for step in where)


def _why(error: dict[str, Any]) -> str:
    """Pydantic's words are its own, but for those of unions and of JSON, which quote."""
    if error["type"] in ("json_invalid", "union_tag_invalid", "literal_error", "enum"):
        return {"json_invalid": "no JSON"}.get(error["type"], "not one of what it may be")
    return str(error["msg"])
