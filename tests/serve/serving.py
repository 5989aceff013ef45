"""A server in this process, on a free port, for as long as a block lasts."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import uvicorn

from medgemma_cli.engines.base import Engine
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.serve import running
from medgemma_cli.serve.app import make_app
from medgemma_cli.serve.gate import Bounds, Gate
from medgemma_cli.serve.service import Service

NOTE = "Dry cough since Monday. No fever. Takes 5 mg of ramipril."


class Serving:
    """What a test needs of a server that runs."""

    def __init__(self, url: str, gate: Gate, service: Service) -> None:
        self.url = url
        self.gate = gate
        self.service = service
        # Patient: where these tests share a busy machine, it is the machine that is slow.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self.client = httpx2.Client(base_url=url, timeout=300, limits=limits, trust_env=False)

    def post(self, path: str, **settings: Any) -> httpx2.Response:
        """One request, on a connection of its own."""
        return self.client.post(path, **settings)

    def get(self, path: str, **settings: Any) -> httpx2.Response:
        """The same."""
        return self.client.get(path, **settings)

    def alive(self) -> bool:
        """Whether it still does its work, and nobody holds a place."""
        answered = self.post("/v1/run", json={"text": NOTE})
        return answered.status_code == 200 and self.empty()

    def empty(self) -> bool:
        """Whether all places are free, at once or soon."""
        ends = time.monotonic() + 10
        while self.gate.taken and time.monotonic() < ends:
            time.sleep(0.01)
        return self.gate.taken == 0


@contextlib.contextmanager
def serving(
    engine: Engine,
    bounds: Bounds | None = None,
    *,
    key: bytes | None = None,
    hosts: frozenset[str] | None = None,
    limits: ReadLimits | None = None,
) -> Iterator[Serving]:
    """Serve an engine."""
    bounds = bounds or Bounds()
    limits = limits or ReadLimits(max_bytes=bounds.body)
    with running.services(engine, limits) as service:
        gate = Gate(make_app(service, "served"), bounds, key=key, hosts=hosts)
        listener = running.bind(running.Address(port=0))
        config = uvicorn.Config(gate, log_config=None, lifespan="off", ws="none", backlog=512)
        server = uvicorn.Server(config)
        server.force_exit = False
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            host, port = listener.getsockname()
            yield Serving(f"http://{host}:{port}", gate, service)
        finally:
            server.should_exit = True
            thread.join(20)
