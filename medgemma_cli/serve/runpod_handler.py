"""RunPod's jobs, answered by the same service: `medgemma serve --runpod`.

A job's input is the body of ``/v1/run``, and its output ``{"record": …}``: one level down, since
the SDK takes a field called ``error``, which every record has, out of an output. With RunPod's own
convention, ``{"openai_route": "/v1/chat/completions", "openai_input": {…}}``, it is a conversation,
and the output ``{"completion": …}``. What cannot be answered is ``{"refused": {code, message,
status}}``, and never a request's text: RunPod keeps outputs.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from medgemma_cli.errors import ConfigError, MedgemmaError, MissingExtraError
from medgemma_cli.serve import answers
from medgemma_cli.serve.bodies import ChatBody, RunBody
from medgemma_cli.serve.conversing import Talk
from medgemma_cli.serve.gate import error_body
from medgemma_cli.serve.service import Service

ROUTE, MODELS = "/v1/chat/completions", "/v1/models"
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def make_handler(service: Service, model: str) -> Handler:
    """The function that RunPod's SDK calls with each job."""

    async def handler(job: dict[str, Any]) -> dict[str, Any]:
        asked = job.get("input")
        try:
            if isinstance(asked, dict) and "openai_route" in asked:
                return await _chat(service, model, asked)
            body = RunBody.model_validate(asked)
            return {"record": answers.as_run((await service.answer(body.asked())).record)}
        except ValidationError:
            # `from None` and no message: pydantic's quotes its input.
            return _refused("invalid_request", "The input is no body of /v1/run.", 422)
        except ConfigError:
            return _refused("template", "There is no such mode.", 400)
        except MedgemmaError as error:
            return _refused("model", f"{error.message} {error.next_step}", 503)
        except Exception:
            return _refused("internal", "The program failed; run with --debug.", 500)

    return handler


async def _chat(service: Service, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["openai_route"] == MODELS:
        return {"completion": answers.as_models(service.engine, model)}
    if asked["openai_route"] != ROUTE:
        return _refused("route", f"The routes are {ROUTE} and {MODELS}.", 404)
    body = ChatBody.model_validate(asked.get("openai_input"))
    if body.stream:
        return _refused("stream", "Jobs are not streamed; leave stream out.", 422)
    if body.model not in ("", model):
        return _refused("model_not_found", "There is no such model here.", 404)
    said = await Talk(service, model, int(time.time())).whole(body)
    if said.status != 200:
        return {"refused": {**said.body["error"], "status": said.status}}
    return {"completion": said.body}


def _refused(code: str, why: str, status: int) -> dict[str, Any]:
    return {"refused": {**error_body(code, why, status)["error"], "status": status}}


def take_jobs(service: Service, model: str, most: int, port: int | None = None) -> None:
    """Take jobs until RunPod ends the worker.

    Args:
        most: jobs at once.
        port: where the SDK's own server is to listen in place of that, on this machine alone.

    Raises:
        MissingExtraError: 69.
    """
    import os
    import sys

    check_sdk()
    # Before the SDK is imported: it logs outputs, and does so unless it is told not to.
    os.environ["RUNPOD_LOG_LEVEL"] = "ERROR"
    import runpod

    # The SDK reads the command line of whatever program it is in.
    local = [] if port is None else ["--rp_serve_api", "--rp_api_port", str(port)]
    sys.argv = [sys.argv[0], "--rp_log_level", "ERROR", *local]
    handler = make_handler(service, model)
    runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda now: most})


def check_sdk() -> None:
    """See that RunPod's SDK is there, without importing it.

    Raises:
        MissingExtraError: 69.
    """
    from importlib.util import find_spec

    if find_spec("runpod") is None:
        raise MissingExtraError(
            "`medgemma serve --runpod` needs a package that is not there.",
            "pip install 'medgemma-cli[runpod]'.",
        )
