"""`medgemma doctor`: can this machine do it, and what to do where not."""

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands.run import DEFAULT_MODEL
from medgemma_cli.display import visible
from medgemma_cli.errors import OK, UNAVAILABLE, MedgemmaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medgemma_cli.commands.remote import Servers
    from medgemma_cli.engines.server import ServerEngine
    from medgemma_cli.models import Checkpoint
    from medgemma_cli.records import Precision

_GIB = 2**30


class Check(NamedTuple):
    """One line: its state (`ok`, `note`, `problem`), what was found, and what to do."""

    name: str
    state: str
    found: str
    fix: str = ""


def doctor(
    model: o.Model = DEFAULT_MODEL,
    precision: o.PrecisionOption = o.PrecisionChoice.auto,
    device: o.Device = "auto",
    revision: o.Revision = None,
    engine: o.Engine = o.EngineChoice.local,
    base_url: o.BaseUrl = None,
    served_model: o.ServedModel = None,
    allow_remote: o.AllowRemote = False,
    endpoint: o.Endpoint = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON line a check.")] = False,
) -> None:
    """Check Python, libraries, device, memory and the model; say what to do about each problem.

    With --engine server or runpod, the servers are checked in place of device, memory and model.
    """
    import json

    from medgemma_cli.progress import emit

    problems = 0
    if engine in ("server", "runpod"):
        from medgemma_cli.commands.remote import Servers

        servers = Servers(base_url, served_model, allow_remote, endpoint=endpoint)
        checks = _server_checks(servers, runpod=engine == "runpod")
    else:
        checks = _checks(model, precision.value, device, revision)
    for check in checks:
        problems += check.state == "problem"
        if json_lines:
            emit(json.dumps(check._asdict()))
        else:
            emit(f"{check.state:8} {check.name:10} {check.found}")
            if check.fix:
                emit(f"{'':19} → {check.fix}")
    raise typer.Exit(UNAVAILABLE if problems else OK)


def _python() -> Check:
    state = "ok" if sys.version_info >= (3, 11) else "problem"
    fix = "" if state == "ok" else "Install Python 3.11 or newer."
    return Check("python", state, platform.python_version(), fix)


def _server_checks(servers: "Servers", *, runpod: bool) -> "Iterator[Check]":
    """Libraries, each server by itself, and whether they serve the same. No document is sent."""
    from medgemma_cli.commands import remote

    yield _python()
    for name in ("httpx2", "tenacity"):
        yield _library(name, "pip install 'medgemma-cli[server]'")
    for variable in [remote.SERVER_KEY, *([remote.RUNPOD_KEY] if runpod else [])]:
        told = "set" if os.environ.get(variable) else "not set"
        yield Check("key", "ok", f"{variable} is {told}")
    if runpod:
        yield _server("endpoint", servers, remote.runpod_engine)
        return
    every = [url.strip() for url in (servers.urls or "").split(",") if url.strip()]
    together = [",".join(every)] if len(every) > 1 else []
    for number, url in enumerate([*every, *together] if every else [""], 1):
        name = "servers" if number > len(every) > 0 else f"server {number}"
        yield _server(name, servers._replace(urls=url), remote.server_engine)


def _server(name: str, servers: "Servers", make: "Callable[..., ServerEngine]") -> Check:
    from medgemma_cli.commands.wiring import Batching
    from medgemma_cli.engines.calls.about import UNKNOWN_WINDOW

    notes: list[str] = []
    try:
        served = make(servers, Batching(), True, notes.append).served()
    except MedgemmaError as error:
        return Check(name, "problem", error.message, error.next_step)
    window = f"{served.window:,}" if served.window < UNKNOWN_WINDOW else "not known"
    listed = "" if served.says else ", which it does not list"
    found = f"answers; model {visible(served.name)}{listed}; window {window}"
    return Check(name, "note" if notes else "ok", found, "; ".join(notes))


def _checks(
    model: str, precision: "Precision", device: str, revision: str | None
) -> "Iterator[Check]":
    yield _python()
    for name in ("torch", "transformers", "bitsandbytes", "llguidance"):
        yield _library(name)
    yield _cache()
    yield _licence()
    yield _demo()
    picked, check = _device(device)
    yield check
    checkpoint, check = _model(model, revision)
    yield check
    if checkpoint is not None and picked is not None:
        yield from _memory(checkpoint, picked, precision)


def _library(name: str, fix: str = "pip install --force-reinstall medgemma-cli") -> Check:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "problem", "missing", fix)


def _cache() -> Check:
    from medgemma_cli.models import cache_folder

    folder = cache_folder()
    there: Path = folder
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        return Check("cache", "problem", f"{folder} cannot be written", "Set MEDGEMMA_CACHE.")
    stat = os.statvfs(there)
    free = stat.f_bavail * stat.f_frsize / _GIB
    state = "ok" if free > 10 else "note"
    fix = "" if state == "ok" else "A 4B model takes 9 GB; set HF_HOME to a larger disk."
    return Check("cache", state, f"{folder}, {free:.0f} GiB free", fix)


def _licence() -> Check:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return Check("login", "note", "HF_HUB_OFFLINE is set: only what is here can be loaded")
    if get_token():
        return Check("login", "ok", "a Hugging Face token is set")
    fix = "For MedGemma: accept its licence on its page, then `hf auth login` or HF_TOKEN."
    return Check("login", "note", "no Hugging Face token", fix)


def _demo() -> Check:
    from medgemma_cli import demo

    if not demo.installed():
        return Check("demo", "note", "not installed", "pip install 'medgemma-cli[demo]'")
    try:
        converted = demo.converted()
    except MedgemmaError as error:
        return Check("demo", "note", error.message, error.next_step)
    return Check("demo", "ok", "converted" if converted else "installed, not yet converted")


def _device(wanted: str) -> tuple[str | None, Check]:
    from medgemma_cli.engines.loading import free_memory, pick_device, pick_precision

    try:
        device = pick_device(wanted)
    except MedgemmaError as error:
        return None, Check("device", "problem", error.message, error.next_step)
    free = free_memory(device) / _GIB
    auto = pick_precision("auto", device)
    return device, Check("device", "ok", f"{device}, {free:.1f} GiB free, auto is {auto}")


def _model(model: str, revision: str | None) -> "tuple[Checkpoint | None, Check]":
    from medgemma_cli import models

    try:
        checkpoint = models.resolve(model, revision=revision)
    except MedgemmaError as error:
        return None, Check("model", "problem", error.message, error.next_step)
    where = "here" if checkpoint.path else "to be converted" if model == "demo" else "to download"
    return checkpoint, Check("model", "ok", f"{checkpoint.id}, {where}")


def _memory(checkpoint: "Checkpoint", device: str, wanted: "Precision") -> "Iterator[Check]":
    from medgemma_cli import models
    from medgemma_cli.engines.loading import free_memory, pick_precision

    weights = models.parameters(checkpoint)
    if weights is None:
        yield Check("memory", "note", "the size of this model is not known before it is here")
        return
    free = free_memory(device)
    asked = pick_precision(wanted, device)
    for precision in ("fp32", "bf16", "int8", "nf4"):
        need = models.memory_needed(weights, precision)
        fits = need <= free
        chosen = precision == asked
        state = "ok" if fits else "problem" if chosen else "note"
        fix = "Use --precision nf4 or a smaller --model." if state == "problem" else ""
        mark = " (chosen)" if chosen else ""
        told = f"{precision}{mark} needs about {need / _GIB:.1f} of {free / _GIB:.1f} GiB"
        yield Check("memory", state, told, fix)
