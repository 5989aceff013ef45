"""A cluster of two nodes on this machine, runs through it, and an engine that dies in a replica."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medgemma_cli import templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.base import Engine
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.engines.ray import RayEngine, RayOptions, _prepare_environment
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.readers import SUFFIXES
from medgemma_cli.records import Generation, Limits, Prompt, Record
from medgemma_cli.totals import Totals

_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


class TwoNodes:
    """A head and another node, each with room for one replica."""

    def __init__(self) -> None:
        _prepare_environment(local=True)
        # Nodes have this module, as they have the package: an engine of a test travels by name.
        here = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, here))
        from ray.cluster_utils import Cluster

        self.folder = Path(tempfile.mkdtemp(prefix="mg-"))
        # Ray's own default holds the address of the cluster, and nobody has made it yet.
        os.environ["RAY_TMPDIR"] = str(self.folder)
        (self.folder / "ray").mkdir()
        args = {**_NODE, "include_dashboard": False, "temp_dir": str(self.folder / "ray")}
        self._cluster = Cluster(initialize_head=True, head_node_args=args)
        self._other = self._cluster.add_node(**_NODE)

    @property
    def options(self) -> RayOptions:
        """Two replicas on them."""
        return RayOptions(self._cluster.address, replicas=2, gpus=0)

    def lose(self) -> None:
        """The other node goes down at once, with all that runs there."""
        self._cluster.remove_node(self._other, allow_graceful=False)

    def mend(self) -> None:
        """Another one comes in its place."""
        self._other = self._cluster.add_node(**_NODE)

    def logs(self) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of every file that Ray left."""
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path.name, path.read_bytes()

    def close(self) -> None:
        """Take all of it down."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()
        os.environ.pop("RAY_TMPDIR", None)
        shutil.rmtree(self.folder, ignore_errors=True)


class Mortal(EchoEngine):
    """Its process dies at a document that begins with ``die``; of ``raise``, it raises the text."""

    def _answer(self, prompt: Prompt) -> Generation:
        if prompt.document.startswith("die"):
            os._exit(1)
        if prompt.document.startswith("raise"):
            os.write(1, prompt.document.encode())
            os.write(2, prompt.document.encode())
            raise RuntimeError(prompt.document)
        return super()._answer(prompt)


def echo() -> Engine:
    """What a replica is made of."""
    return EchoEngine()


def mortal() -> Engine:
    """What a replica is made of that may die."""
    return Mortal()


def on_ray(options: RayOptions, make: Callable[[], Engine] = echo) -> RayEngine:
    """An engine on a cluster; close it, for the next one needs its place."""
    return RayEngine(make(), make, options)


def notes(folder: Path, count: int) -> Path:
    """Short notes, each of its own words."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}.md").write_text(f"Note {number}: cough since day {number % 28}.")
    return folder


def run(
    folder: Path,
    out: Path,
    engine: Engine,
    on_record: Callable[[Record], Any] | None = None,
    tokens: int = 16,
) -> Totals:
    """A folder through the pipeline."""
    template = templates.load("general")
    job = Job(template=template, limits=Limits(max_new_tokens=tokens), question="?", fsync=False)
    with Ledger(out, fsync=False) as ledger:
        process = Run(job, ledger, engine, SilentReporter(), on_record=on_record)
        process.prepare()
        return process.execute(Discovery([str(folder)], SUFFIXES))
