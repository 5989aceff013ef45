"""`medgemma serve`: one warm engine behind HTTP, for this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands.run import DEFAULT_MODEL
from medgemma_cli.errors import UsageError

SERVER_PANEL = "Server"


def serve(
    host: Annotated[
        str, o.option("--host", help="Address to listen on; any but loopback needs a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, o.option("--port", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    api_key_file: Annotated[
        Path | None,
        o.option("--api-key-file", help="A private file with the key that requests must show."),
    ] = None,
    model: o.Model = DEFAULT_MODEL,
    served_model: Annotated[
        str | None, o.option("--served-model", help="What clients call the model.")
    ] = None,
    runpod: Annotated[
        bool, o.option("--runpod", help="Take RunPod's jobs in place of listening.")
    ] = False,
    runpod_port: Annotated[
        int | None,
        o.option(
            "--runpod-port",
            panel=SERVER_PANEL,
            min=1,
            max=65535,
            help="With --runpod: the SDK's own server on this port, to try it without RunPod.",
        ),
    ] = None,
    queue: Annotated[
        int, o.option("--queue", panel=SERVER_PANEL, min=1, help="Requests at once; then 503.")
    ] = 256,
    timeout: Annotated[
        float, o.option("--timeout", panel=SERVER_PANEL, min=1, help="Seconds a request may take.")
    ] = 600.0,
    max_body: Annotated[
        int, o.option("--max-body", panel=SERVER_PANEL, min=1000, help="Bytes of a request.")
    ] = 20_000_000,
    max_pixels: o.MaxPixels = 64_000_000,
    precision: o.PrecisionOption = o.PrecisionChoice.auto,
    double_quant: o.DoubleQuant = True,
    device: o.Device = "auto",
    batch_size: Annotated[
        str,
        o.option("--batch-size", panel=o.MODEL_PANEL, help="Requests at once: auto, or a number."),
    ] = "auto",
    batch_tokens: Annotated[
        int | None,
        o.option(
            "--batch-tokens",
            panel=o.MODEL_PANEL,
            min=1,
            help="Requests at once times the longest, in tokens. Default: what fits.",
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        o.option(
            "--deterministic",
            panel=o.MODEL_PANEL,
            help="One at a time: no byte of an answer depends on other requests. Slower.",
        ),
    ] = False,
    adapter: o.Adapter = None,
    revision: o.Revision = None,
    offline: o.Offline = False,
    engine: o.Engine = o.EngineChoice.local,
    echo_delay: o.EchoDelay = 0.0,
    grammar: o.Grammar = True,
    max_attempts: o.MaxAttempts = 3,
    quiet: o.Quiet = False,
) -> None:
    """Keep a model loaded and answer requests, with the checks of `run`. Writes no documents.

    Listens on this machine alone unless a key is given. SIGTERM finishes what is under way.
    """
    from medgemma_cli.commands import wiring
    from medgemma_cli.progress import emit, reporter_for
    from medgemma_cli.readers import ReadLimits
    from medgemma_cli.serve import running
    from medgemma_cli.serve.gate import Bounds
    from medgemma_cli.serve.keys import read_key
    from medgemma_cli.serve.runpod_handler import check_sdk, take_jobs

    key = read_key(api_key_file) if api_key_file is not None else None
    address = running.Address(host, port, key)
    if runpod and key is not None:
        raise UsageError("--runpod does not listen, and takes no key.", "Leave one of them out.")
    if runpod_port is not None and not runpod:
        raise UsageError("--runpod-port goes with --runpod.", "Give both, or --port.")
    if runpod:
        check_sdk()
    else:
        running.check_extra()
    listener = None if runpod else running.bind(address)
    reporter = reporter_for(quiet=quiet, verbose=False)
    made = wiring.make_engine(
        engine,
        model=model,
        revision=revision,
        adapter=adapter,
        offline=offline,
        precision=precision,
        double_quant=double_quant,
        device=device,
        batching=wiring.make_batching(batch_size, batch_tokens, deterministic),
        echo_delay=echo_delay,
        grammar=grammar,
        max_attempts=max_attempts,
        reporter=reporter,
    )
    limits = ReadLimits(max_bytes=max_body, max_pixels=max_pixels)
    name = served_model or made.info.id
    stop = running.Stop()
    with running.services(made, limits, stop.end) as service:
        reporter.end()
        if listener is None:
            take_jobs(service, name, queue, runpod_port)
            raise typer.Exit
        bounds = Bounds(places=queue, body=max_body, seconds=timeout)
        told = (lambda text: None) if quiet else (lambda text: emit(text, sys.stderr))
        code = running.serve(service, name, address, bounds, listener, told, stop)
        if service.lost is not None:
            raise service.lost
    raise typer.Exit(code)
