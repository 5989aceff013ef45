"""The options of `--engine server` and `--engine runpod` become engines."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from medgemma_cli.errors import ConfigError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from medgemma_cli.commands.options import Jobs, Structured
    from medgemma_cli.commands.wiring import Batching
    from medgemma_cli.engines.base import Engine
    from medgemma_cli.engines.calls.jobs import How
    from medgemma_cli.engines.calls.structure import Level
    from medgemma_cli.engines.server import ServerEngine, ServerOptions
    from medgemma_cli.progress import Reporter


# The only place that a key comes from: options stand in histories and process lists.
SERVER_KEY = "MEDGEMMA_SERVER_API_KEY"
RUNPOD_KEY = "RUNPOD_API_KEY"


class Servers(NamedTuple):
    """The options of `--engine server`, as they were given."""

    urls: str | None = None
    model: str | None = None
    allow_remote: bool = False
    timeout: float = 600.0
    structured: "Structured | None" = None
    endpoint: str | None = None
    jobs: "Jobs | None" = None


def refuse_local(adapter: Path | None, precision: str, batching: "Batching") -> None:
    """Options that a server decides on, or that nobody can promise for it.

    Raises:
        UsageError: 2, one of them is given.
    """
    given = {
        "--adapter": adapter is not None,
        "--precision": precision != "auto",
        "--deterministic": batching.deterministic,
        "--batch-tokens": batching.tokens is not None,
    }
    for name in (name for name, there in given.items() if there):
        raise UsageError(
            f"{name} cannot be kept by --engine server.",
            "Leave it out; what the server does is set where it is started.",
        )


def make_server(
    servers: Servers, batching: "Batching", grammar: bool, attempts: int, reporter: "Reporter"
) -> "Engine":
    """An engine of model servers, its answers judged. They are asked what they serve.

    Raises: as `server_options`.
    """
    from medgemma_cli.retrying import Retrying

    return Retrying(server_engine(servers, batching, grammar, reporter.note), attempts)


def make_runpod(
    servers: Servers, batching: "Batching", grammar: bool, attempts: int, reporter: "Reporter"
) -> "Engine":
    """An engine of RunPod's jobs, its answers judged. Nothing is sent yet.

    Raises: as `runpod_engine`.
    """
    from medgemma_cli.retrying import Retrying

    return Retrying(runpod_engine(servers, batching, grammar, reporter.note), attempts)


def server_engine(
    servers: Servers, batching: "Batching", grammar: bool, note: "Callable[[str], None]"
) -> "ServerEngine":
    """An engine of model servers. Raises as `server_options`."""
    from medgemma_cli.engines.server import ServerEngine

    return ServerEngine(server_options(servers, batching, grammar), note=note)


def runpod_engine(
    servers: Servers, batching: "Batching", grammar: bool, note: "Callable[[str], None]"
) -> "ServerEngine":
    """An engine of RunPod's jobs.

    Raises: as `server_options`; UsageError: 2, no endpoint is named.
    """
    from medgemma_cli.engines.runpod import RunpodEngine, endpoint_url

    # A base URL takes RunPod's place: the SDK's own server, or a proxy.
    given = servers if servers.urls else servers._replace(urls=endpoint_url(servers.endpoint))
    options = server_options(given, batching, grammar)
    if options.key is None:
        options = replace(options, key=_key(RUNPOD_KEY))
    how: How = "async" if str(servers.jobs) == "async" else "sync"
    return RunpodEngine(options, how, note=note)


def server_options(servers: Servers, batching: "Batching", grammar: bool) -> "ServerOptions":
    """The options of a `ServerEngine`; the key comes from the environment alone.

    Raises:
        UsageError: 2, no server is named. ConfigError: 78, the key is none.
        MissingExtraError: 69, its packages are not there.
    """
    from importlib.util import find_spec

    from medgemma_cli.engines.server import ServerOptions

    urls = [url.strip() for url in (servers.urls or "").split(",") if url.strip()]
    if not urls:
        raise UsageError(
            "--engine server needs --base-url.", "For example: --base-url http://127.0.0.1:8000/v1"
        )
    if find_spec("httpx2") is None or find_spec("tenacity") is None:
        raise MissingExtraError(
            "Packages of --engine server are missing.", "pip install 'medgemma-cli[server]'"
        )
    asked = str(servers.structured or "schema") if grammar else "none"
    defaults = ServerOptions(urls=())
    return ServerOptions(
        urls=tuple(dict.fromkeys(urls)),
        model=servers.model,
        allow_remote=servers.allow_remote,
        key=_server_key(),
        most=batching.size or defaults.most,
        timeout=servers.timeout,
        structured=cast("Level", asked),
    )


def _server_key() -> str | None:
    """The key of `SERVER_KEY`."""
    return _key(SERVER_KEY)


def _key(variable: str) -> str | None:
    """The key of the environment, if it is one that a header can carry.

    Raises:
        ConfigError: 78, it is not. It is not quoted.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{variable} is no key: it has spaces or other signs.", "Copy it again.")
    return key
