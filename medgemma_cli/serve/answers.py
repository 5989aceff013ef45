"""A record → what each endpoint answers, and its HTTP status."""

import json
from typing import Any

from medgemma_cli import identity
from medgemma_cli.engines.base import Engine
from medgemma_cli.errors import FAULTS
from medgemma_cli.records import Generation, ModelInfo, Record
from medgemma_cli.serve.gate import error_body
from medgemma_cli.serve.service import Answered

_TOO_LARGE = {"too_large", "too_many_pixels", "limit"}
# Failures that the request can do something about.
_ITS_OWN = {"budget", "reader_crashed", "control_tokens"}


def status_of(record: Record) -> int:
    """200; 413 or 422 where the request is the reason; 500 where the model is."""
    return 200 if record.error is None else status_of_code(record.error.code)


def status_of_code(code: str) -> int:
    """The HTTP status of a code of `errors.FAULTS`."""
    if code in _TOO_LARGE:
        return 413
    return 422 if FAULTS[code].status == "rejected" or code in _ITS_OWN else 500


def failure(record: Record) -> dict[str, Any]:
    """Why there is no output. The record must have an error."""
    assert record.error is not None
    return error_body(record.error.code, record.error.hint, status_of(record))


def as_run(record: Record) -> dict[str, Any]:
    """The record itself."""
    dumped: dict[str, Any] = record.model_dump(mode="json", by_alias=True)
    return dumped


def as_infer(case_id: str, answered: Answered, model: ModelInfo) -> dict[str, Any]:
    """A summary in few fields.

    `confidence` is the record's, `used_fallback` says whether anything was degraded; what that
    was, and the flags, are there beside them.
    """
    record, made = answered
    output = record.output or {}
    places = {quote.where: quote for quote in record.quotes}
    findings = [
        {**finding, **_place(places.get(f"key_findings[{i}]"))}
        for i, finding in enumerate(output.get("key_findings", []))
    ]
    return {
        "case_id": case_id,
        "summary": output.get("summary", ""),
        "findings": findings,
        "confidence": record.confidence["value"] if record.confidence else None,
        "used_fallback": bool(record.degraded),
        "run_mode": model.engine,
        "model_source": model.path or model.id,
        "generated_token_count": made.usage.completion_tokens if made else 0,
        "raw_generated_text": made.text if made else "",
        "raw_generated_text_with_special": (made.raw or made.text) if made else "",
        **checked(record),
    }


def _place(quote: Any) -> dict[str, Any]:
    return {"start": quote.start, "end": quote.end, "line": quote.line} if quote else {}


def as_predict(record: Record) -> dict[str, Any]:
    """Yes or no, why, and how probable the model found it."""
    output, confidence = record.output or {}, record.confidence or {}
    options = confidence.get("fields", {}).get("answer", {}).get("options", {})
    refused = "reason" not in output  # fixed words in place of a model's
    return {
        "answer": "cannot tell" if refused else output["answer"],
        "sentence": output.get("answer" if refused else "reason", ""),
        "probability": confidence.get("value"),
        "probabilities": options,
        **checked(record),
    }


def checked(record: Record) -> dict[str, Any]:
    """What the checks said, in every answer."""
    return {
        "status": record.status,
        "flags": [flag.model_dump(mode="json") for flag in record.flags],
        "degraded": list(record.degraded),
        "key": record.key,
        "notice": record.notice,
    }


def as_chat(record: Record, made: Generation | None, model: str, created: int) -> dict[str, Any]:
    """A completion in OpenAI's shape, with the checks under ``medgemma``."""
    text = made.text if made else record.raw_text or ""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": _finish(made), "logprobs": None}
    return {
        "id": f"chatcmpl-{record.key[:24]}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage(made),
        "medgemma": checked(record),
    }


def as_models(engine: Engine, model: str) -> dict[str, Any]:
    """The one model, as OpenAI's clients ask for it.

    `root` names weights and settings by their hash: a client's keys change when they do.
    """
    about = {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": "medgemma",
        "root": identity.digest(engine.identity),
        "max_model_len": engine.window,
    }
    return {"object": "list", "data": [about]}


def as_chunk(name: str, model: str, created: int, text: str | None) -> dict[str, Any]:
    """A piece of a completion; None for its end."""
    delta = {} if text is None else {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{name[:24]}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}],
    }


def last_chunk(record: Record, made: Generation | None, model: str, created: int) -> dict[str, Any]:
    """The end of a completion that came in pieces, with the checks."""
    chunk = as_chunk(record.key, model, created, None)
    chunk["choices"][0]["finish_reason"] = _finish(made)
    return {**chunk, "medgemma": checked(record)}


def usage(made: Generation | None) -> dict[str, int]:
    """Tokens in OpenAI's words."""
    prompt, written = (made.usage.prompt_tokens, made.usage.completion_tokens) if made else (0, 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }


def event(data: dict[str, Any] | str) -> str:
    """One server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


def _finish(made: Generation | None) -> str:
    return "length" if made and made.finish_reason == "length" else "stop"
