"""Many engines on a Ray cluster, or on this machine's devices, behind the one protocol.

Each replica is a Ray actor with an engine; the driver, which is this process, keeps the ledger.
Documents go to the cluster's nodes and nowhere else: no dashboard, no usage statistics, and
neither actors nor tasks say anything in Ray's logs.
"""

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medgemma_cli import __version__
from medgemma_cli.engines.base import Engine, always, unwatched
from medgemma_cli.engines.crew import Crew, ReplicaDiedError
from medgemma_cli.engines.replica import Replica, Report, Task
from medgemma_cli.errors import MissingExtraError, ModelUnavailableError, UsageError
from medgemma_cli.records import Generation, ModelInfo, Prompt

_STORE = 256 * 2**20  # bytes of a local cluster's shared memory for what is under way


class RayOptions(NamedTuple):
    """Where, and how many. `gpus` of a replica; None: one where the cluster has any."""

    address: str | None = None
    replicas: int = 1
    gpus: float | None = None


class RayEngine:
    """The engine that `make` makes, as often as asked for, in other processes.

    Args:
        inner: an engine of the same identity, for what needs no weights: counting, the window.
        make: makes the engine; travels to the nodes, which must have this package.
        step: told of slow steps, with how far they are.
        tokens: told of new tokens, an answer at a time.
    """

    def __init__(
        self,
        inner: Engine,
        make: Callable[[], Engine],
        options: RayOptions,
        *,
        step: Callable[[str, int, int], None] = lambda text, done, total: None,
        tokens: Callable[[int], None] = lambda count: None,
    ) -> None:
        if options.address is not None and options.address.startswith("ray://"):
            raise UsageError(
                "--ray-address does not take ray:// (Ray's client).",
                "Run on a node of the cluster and give auto, or the host:port of its head.",
            )
        self.identity: dict[str, Any] = {**inner.identity, "engine": "ray"}
        self._inner = inner
        self._make = make
        self._options = options
        self._step = step
        self._tokens = tokens
        self._crew: Crew | None = None

    @property
    def info(self) -> ModelInfo:
        """The model; precision as the replica has it whose answer came last."""
        crew = self._crew.info if self._crew is not None else None
        precision = crew.precision if crew is not None else None
        return self._inner.info.model_copy(update={"engine": "ray", "precision": precision})

    @property
    def window(self) -> int:
        """The model's."""
        return self._inner.window

    @property
    def reads_images(self) -> bool:
        """Whether the model reads images."""
        return self._inner.reads_images

    @property
    def constrains(self) -> bool:
        """Whether the replicas decode inside grammars."""
        return self._inner.constrains

    @property
    def replicas(self) -> list[tuple[int, str]]:
        """Process and node of each replica that has said something."""
        return self._crew.replicas if self._crew is not None else []

    def count(self, prompt: Prompt) -> int:
        """The prompt's length in tokens, counted here."""
        return self._inner.count(prompt)

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """As they finish, on whichever replica.

        `begin` is told of no document: none can bring this process down where it is worked on.
        What brings a replica down is found by the crew.
        """
        stream = iter(prompts)
        first = next(stream, None)
        if first is None:
            return
        begin(())
        if self._crew is None:
            self._crew = self._start()

        def all_of_them() -> Iterator[Prompt]:
            yield first
            yield from stream

        for made in self._crew.answer(all_of_them(), keep_going):
            self._tokens(made.usage.completion_tokens)
            yield made

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """The answer in one piece, then the `Generation`."""
        for made in self.generate([prompt]):
            yield made.text
            yield made

    def close(self) -> None:
        """End the replicas, and the cluster if it was started here."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def _start(self) -> Crew:
        self._step("starting Ray", 0, 0)
        with _signals_kept():
            ray = _connect(self._options)
        gpus = _gpus(ray, self._options)
        fleet = RayFleet(ray, gpus, self._make, self._inner.identity)
        return Crew(fleet, self._options.replicas, self._step)


class RayReplica(Replica):
    """A replica as a Ray actor. Its process says nothing, but with `--debug`."""

    def __init__(
        self, make: Callable[[], Engine], identity: dict[str, Any], version: str, debug: bool
    ) -> None:
        import ray

        from medgemma_cli.hush import hush

        if debug:
            os.environ["MEDGEMMA_DEBUG"] = "1"
        else:
            hush()
            _silence()
        # Another version may answer otherwise under the same key.
        expected = identity if version == __version__ else {}
        super().__init__(make, expected, ray.get_runtime_context().get_node_id())


class RayFleet:
    """Replicas as actors: restarted by the crew, never by Ray, which knows of no documents."""

    def __init__(
        self, ray: Any, gpus: float, make: Callable[[], Engine], identity: dict[str, Any]
    ) -> None:
        self._ray = ray
        self._actor = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )(RayReplica)
        debug = bool(os.environ.get("MEDGEMMA_DEBUG"))
        self._made_of = (make, identity, __version__, debug)

    def start(self) -> Any:
        """See `Fleet`."""
        return self._actor.remote(*self._made_of)

    def exchange(self, replica: Any, task: Task) -> Any:
        """See `Fleet`."""
        return replica.exchange.remote(task)

    def wait(self, tickets: Sequence[Any], seconds: float) -> list[Any]:
        """See `Fleet`."""
        done, waiting = self._ray.wait(list(tickets), num_returns=1, timeout=seconds)
        if waiting and done:  # the others that are there, too
            more, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
            done += more
        return list(done)

    def take(self, ticket: Any) -> Report:
        """See `Fleet`."""
        try:
            report: Report = self._ray.get(ticket)
        except self._ray.exceptions.RayError:
            raise ReplicaDiedError from None  # its message may hold what was under way
        return report

    def end(self, replica: Any) -> None:
        """See `Fleet`."""
        with contextlib.suppress(Exception):
            self._ray.kill(replica, no_restart=True)

    def lives(self, node: str) -> bool:
        """See `Fleet`."""
        return any(found["NodeID"] == node and found["Alive"] for found in self._ray.nodes())


def _connect(options: RayOptions) -> Any:
    """The `ray` module, connected to the cluster asked for, or to one of this machine's own.

    Raises:
        MissingExtraError: 69. ModelUnavailableError: 69, the cluster cannot be reached.
    """
    _prepare_environment(local=options.address is None)
    try:
        import ray
    except ImportError:
        raise MissingExtraError(
            "--engine ray needs a package that is not there.", "pip install 'medgemma-cli[ray]'"
        ) from None
    if ray.is_initialized():
        return ray
    if not os.environ.get("MEDGEMMA_DEBUG"):
        _quiet_driver()
    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if options.address is not None:
        settings |= {"address": options.address}
    else:
        settings |= _own_cluster(options)
    try:
        ray.init(**settings)
    except Exception:
        logging.getLogger(__name__).debug("no cluster", exc_info=True)
        raise ModelUnavailableError(
            "The Ray cluster cannot be reached, or not be started here.",
            "Check --ray-address, and that its version of Ray and Python is this one's; --debug "
            "shows what Ray says.",
        ) from None
    atexit.register(ray.shutdown)
    return ray


def _own_cluster(options: RayOptions) -> dict[str, Any]:
    """A cluster of this machine alone, for this run alone."""
    # Ray opens its folder to everybody, and logs lie in it: one that is ours goes around it.
    folder = Path(tempfile.mkdtemp(prefix="medgemma-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {
        "include_dashboard": False,
        "num_cpus": max(os.cpu_count() or 1, options.replicas),
        "object_store_memory": _STORE,
        "_temp_dir": str(folder / "ray"),
    }


def _prepare_environment(*, local: bool) -> None:
    """What Ray reads when it is imported: no statistics, and nobody else in our cluster."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if local:
        # Ray's workers give way to all others; here they are what the run is for.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # A machine that is busy with other work starts a cluster late, not never: 30 by default.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "300")
    if local and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _quiet_driver() -> None:
    """Ray prints on standard output that workers died, which is where results go."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with contextlib.suppress(ImportError):
        from ray._private import worker

        if hasattr(worker, "print_to_stdstream"):
            worker.print_to_stdstream = lambda *args, **settings: None


def _gpus(ray: Any, options: RayOptions) -> float:
    """GPUs of a replica.

    Raises:
        ModelUnavailableError: 69, the cluster has not as many.
    """
    there = float(ray.cluster_resources().get("GPU", 0))
    gpus = options.gpus if options.gpus is not None else float(there > 0)
    if gpus * options.replicas > there:
        raise ModelUnavailableError(
            f"{options.replicas} replicas need {gpus * options.replicas:g} GPUs; the cluster has "
            f"{there:g}.",
            "Lower --replicas, or --gpus-per-replica (0 for none, a fraction to share one).",
        )
    return gpus


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray would take SIGTERM for itself and leave at once, with documents under way."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread: nothing was taken
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)


def _silence() -> None:
    """Standard output and error go nowhere: Ray keeps them in files."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
