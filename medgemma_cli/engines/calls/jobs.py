"""RunPod's jobs as a server of chat completions: a job is put, and asked for until it is done.

What a worker of `medgemma serve --runpod` takes and gives stands in `serve.runpod_handler`. RunPod
keeps inputs and outputs for a while; whoever uses this has said `--allow-remote`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Literal

from medgemma_cli.engines.calls import replies
from medgemma_cli.engines.calls.address import Address
from medgemma_cli.engines.calls.client import Client
from medgemma_cli.engines.calls.replies import Again, Reply

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
How = Literal["sync", "async"]

_WAITING = {"IN_QUEUE", "IN_PROGRESS"}
_FIRST_LOOK, _LONGEST_LOOK = 0.2, 5.0  # seconds between looks at a job


class JobsClient(Client):
    """One endpoint; belongs to one event loop.

    Args:
        how: ``sync`` waits with the request that puts the job, as long as RunPod does, and asks
            for it then; ``async`` asks for it from the start.
    """

    def __init__(self, address: Address, key: str | None, timeout: float, how: How) -> None:
        super().__init__(address, key, timeout)
        self._how = how
        # RunPod's API takes GET, the SDK's own server POST.
        self._method = "GET"

    async def models(self) -> dict[str, Any]:
        """What the worker serves; it may have to be started for that.

        Raises:
            Again, ModelUnavailableError: as `replies.check` has it.
        """
        return await self._job({"openai_route": MODELS})

    async def chat(self, body: dict[str, Any]) -> Reply:
        """The whole answer of a chat completion.

        Raises:
            Again, Refused, ModelUnavailableError: as `replies` has it.
        """
        return replies.reply(await self._job({"openai_route": CHAT, "openai_input": body}))

    async def pieces(self, body: dict[str, Any]) -> AsyncGenerator[str | Reply, None]:
        """The answer in one piece: jobs are not streamed.

        Raises:
            Again, Refused, ModelUnavailableError: as `replies` has it.
        """
        whole = await self.chat(body)
        yield whole.text
        yield whole

    async def _job(self, asked: dict[str, Any]) -> dict[str, Any]:
        path = "/runsync" if self._how == "sync" else "/run"
        async with asyncio.timeout(self._timeout) as limit:
            try:
                state = await self._said("POST", path, {"input": asked})
                return _output(await self._done(state))
            except TimeoutError:
                if limit.expired():
                    raise Again("fault") from None
                raise

    async def _done(self, state: dict[str, Any]) -> dict[str, Any]:
        """The job's last state. Given up before that, the job is told so."""
        name, pause = state.get("id"), _FIRST_LOOK
        try:
            while state.get("status") in _WAITING:
                if not isinstance(name, str) or not name.replace("-", "").isalnum():
                    raise Again("fault")
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_LOOK)
                state = await self._status(name)
        except (asyncio.CancelledError, TimeoutError):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._said("POST", f"/cancel/{name}", None), _LONGEST_LOOK)
            raise
        return state

    async def _status(self, name: str) -> dict[str, Any]:
        seconds = self._timeout
        async with self._sent(self._method, f"/status/{name}", None, seconds, (200, 405)) as got:
            if got.status_code == 200:
                return replies.loaded(got.headers, await self._body(got))
        self._method = "POST"
        return await self._said("POST", f"/status/{name}", None)

    async def _said(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        async with self._sent(method, path, body, self._timeout) as response:
            return replies.loaded(response.headers, await self._body(response))


def _output(state: dict[str, Any]) -> dict[str, Any]:
    """The completion, or the models, of a job.

    Raises:
        Again: it failed, or its output makes no sense. Refused, ModelUnavailableError: the worker
            says so.
    """
    output = state.get("output")
    if state.get("status") != "COMPLETED" or not isinstance(output, dict):
        raise Again("fault")
    refused = output.get("refused")
    if isinstance(refused, dict):
        status, why = refused.get("status"), refused.get("message")
        if not isinstance(status, int) or isinstance(status, bool) or status < 400:
            raise Again("fault")
        replies.check(status, {}, str(why).encode("utf-8", "replace"))
    completion = output.get("completion")
    if not isinstance(completion, dict):
        raise Again("fault")
    return completion
