"""`--engine runpod`: an endpoint of RunPod whose workers run `medgemma serve --runpod`.

The engine for servers, with another way to ask: the same retries, the same judging, the same rule
that documents do not leave this machine's network unless `--allow-remote` is given.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from medgemma_cli.engines.calls.address import Address
from medgemma_cli.engines.calls.jobs import How, JobsClient
from medgemma_cli.engines.calls.pool import Pool, Server
from medgemma_cli.engines.server import ServerEngine, ServerOptions
from medgemma_cli.errors import UsageError
from medgemma_cli.records import ModelInfo

API = "https://api.runpod.ai/v2"
_ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{2,63}")


def endpoint_url(name: str | None) -> str:
    """The URL of an endpoint.

    Raises:
        UsageError: 2, there is none, or it is no endpoint's id.
    """
    if name is None or not _ENDPOINT.fullmatch(name):
        raise UsageError(
            "--engine runpod needs --endpoint ID.", "RunPod's console shows it; letters and digits."
        )
    return f"{API}/{name}"


class RunpodEngine(ServerEngine):
    """One endpoint.

    Args:
        how: whether jobs are put synchronously or asynchronously; see `JobsClient`.
    """

    def __init__(self, options: ServerOptions, how: How = "sync", **more: Any) -> None:
        super().__init__(options, **more)
        self._how: How = how

    @property
    def identity(self) -> dict[str, Any]:
        """As of a server; the endpoint is part of it, since one host has all of them."""
        paths = sorted(urlsplit(url).path for url in self._options.urls)
        return {**super().identity, "engine": "runpod", "endpoints": paths}

    @property
    def info(self) -> ModelInfo:
        """The served name, and what the worker says of it."""
        return super().info.model_copy(update={"engine": "runpod"})

    async def _connect(self, found: list[Address]) -> Pool:
        options = self._options
        # A URL without a path means `/v1` to a server of chat completions; here it has none.
        bare = [not urlsplit(url).path.strip("/") for url in options.urls]
        ends = [one._replace(path="") if b else one for one, b in zip(found, bare, strict=True)]
        clients = [JobsClient(one, options.key, options.timeout, self._how) for one in ends]
        return Pool([Server(client, options.most) for client in clients])
