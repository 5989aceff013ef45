"""From a warm engine to a server that listens, and to its end."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from medgemma_cli.engines.base import Engine
from medgemma_cli.errors import (
    INTERRUPTED,
    OK,
    RUN_AGAIN,
    MissingExtraError,
    OutputError,
    UsageError,
)
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.records import Contract, Limits, Message, Part, Prompt
from medgemma_cli.serve.gate import Bounds, Gate
from medgemma_cli.serve.service import Service
from medgemma_cli.serve.warm import Item, Warm
from medgemma_cli.signals import TERM_DEADLINE

if TYPE_CHECKING:
    import uvicorn

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_THREADS = 4


class Address(NamedTuple):
    """Where to listen; `key` is what requests must show, if anything."""

    host: str = "127.0.0.1"
    port: int = 8000
    key: bytes | None = None


def check_extra() -> None:
    """See that the packages of a server are there.

    Raises:
        MissingExtraError: 69.
    """
    try:
        import fastapi
        import python_multipart
        import uvicorn
    except ImportError:
        raise MissingExtraError(
            "`medgemma serve` needs packages that are not there.",
            "pip install 'medgemma-cli[serve]'.",
        ) from None
    del fastapi, python_multipart, uvicorn


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(address: Address) -> socket.socket:
    """A socket that is taken but does not listen yet: said before the model loads.

    Raises:
        UsageError: 2, others could ask without a key. OutputError: 73, it is taken.
    """
    if not is_loopback(address.host) and address.key is None:
        raise UsageError(
            "Other machines could ask, and there is no key.",
            "Leave --host out, or give --api-key-file FILE.",
        )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address.host, address.port))
    except (OSError, OverflowError):
        made.close()
        raise OutputError(
            "The address of --host and --port cannot be had.",
            "Choose another --port; perhaps a server runs there already.",
        ) from None
    return made


def warm_up(warm: Warm) -> None:
    """Load the model, by a first answer of one token.

    Raises:
        MedgemmaError: why it cannot be loaded, with its own exit code.
    """
    done = threading.Event()

    def listen(item: Item) -> None:
        if not isinstance(item, str):
            done.set()

    message = Message(role="user", parts=(Part(kind="text", text="Ready?"),))
    warm.join(
        Prompt(
            id="warm-up",
            messages=(message,),
            contract=Contract(kind="text"),
            limits=Limits(max_new_tokens=1),
        ),
        listen,
    )
    while not done.wait(0.5):  # so that a signal is seen
        pass
    if warm.error is not None:
        raise warm.error


@contextlib.contextmanager
def services(
    engine: Engine, limits: ReadLimits, lost: Callable[[], None] = lambda: None
) -> Iterator[Service]:
    """A service with a warm engine, and everything it needs, until the end of the block."""
    warm = Warm(engine, lost)
    with ReaderPool() as reading, ThreadPoolExecutor(_THREADS, "host") as threads:
        warm.start()
        try:
            warm_up(warm)
            yield Service(engine, warm, reading, limits, threads)
        finally:
            warm.close()


def serve(
    service: Service,
    model: str,
    address: Address,
    bounds: Bounds,
    listener: socket.socket,
    tell: Callable[[str], None],
    stop: "Stop",
) -> int:
    """Answer until a signal comes; the exit code.

    The first SIGTERM or SIGINT lets nothing more in and what is inside finish, for 20 seconds;
    the second leaves at once.
    """
    import uvicorn

    from medgemma_cli.serve.app import make_app

    local = is_loopback(address.host)
    hosts = _LOCAL_NAMES | {address.host} if local else None
    gate = Gate(make_app(service, model), bounds, key=address.key, hosts=hosts)
    config = uvicorn.Config(
        gate,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(TERM_DEADLINE),
        backlog=512,
    )

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    told = f"medgemma: serving {model} on http://{shown}:{port}"

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are ours

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            tell(told)  # and not before: whoever reads it may ask

    server = Server(config)
    stop.then(gate, server)
    asyncio.run(_main(server, listener, stop))
    return stop.code


async def _main(server: "uvicorn.Server", listener: socket.socket, stop: "Stop") -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.signalled, number)
    await server.serve(sockets=[listener])


class Stop:
    """Ends a server: at a signal, or when the engine is lost.

    Attributes:
        code: the exit code so far.
    """

    def __init__(self) -> None:
        self.code = OK
        self._gate: Gate | None = None
        self._server: uvicorn.Server | None = None

    def then(self, gate: Gate, server: "uvicorn.Server") -> None:
        """Know what to end."""
        self._gate, self._server = gate, server

    def signalled(self, number: int) -> None:
        """A signal came: finish; the second time, leave."""
        if self._gate is None or self._server is None or self._gate.draining:
            os._exit(INTERRUPTED if number == signal.SIGINT else RUN_AGAIN)
        if number == signal.SIGINT:
            self.code = INTERRUPTED
        self.end()

    def end(self) -> None:
        """Let nothing more in, and finish; from any thread."""
        if self._gate is not None and self._server is not None:
            self._gate.draining = True
            self._server.should_exit = True
