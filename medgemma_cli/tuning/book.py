"""The folder of a tuning: its lock, `training.json`, the curve, checkpoints, the adapter at last.

`training.json` says what was asked for before the first step, so that the same command goes on
and another one is refused. A checkpoint counts once it is marked whole: one that a kill cut short
is taken away. The adapter's two files are put in place when all is done, and only then.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medgemma_cli.adapters import CONFIG, WEIGHTS
from medgemma_cli.errors import ConfigError, StorageError
from medgemma_cli.files import TEMPORARY, make_folder, replace_file, replace_files, sync_folder
from medgemma_cli.ledger.locking import LOCK, Lock, opening
from medgemma_cli.tuning.curve import Curve, svg

TRAINING = "training.json"
CURVE = "curve.svg"
CHECKPOINTS = "checkpoints"
SCHEMA = "medgemma.training/1"
_WHOLE = "whole"
_STATE = "trainer_state.json"
_OTHER = "Give the same command as before, another -o, or remove that folder."


class Book:
    """The folder, open for one writer. A context manager.

    Attributes:
        known: what `training.json` had when it was opened; empty for a new folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.known: dict[str, Any] = {}
        self._lock: Lock | None = None

    def __enter__(self) -> Self:
        """Lock and read.

        Raises:
            OutputError: 73, the folder cannot be written. RunAgainError: 75, another holds it.
            ConfigError: 78, it holds something else.
        """
        with opening(self.close):
            make_folder(self.out)
            self._check_own()
            self._lock = Lock(self.out)
            self.known = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def _check_own(self) -> None:
        held = {entry.name for entry in self.out.iterdir()} - {LOCK}
        held = {name for name in held if not name.startswith(TEMPORARY)}
        if held and TRAINING not in held:
            raise ConfigError("The output folder holds something else.", "Give an empty -o.")

    def _read(self) -> dict[str, Any]:
        path = self.out / TRAINING
        if not path.is_file():
            return {}
        try:
            known = json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError):
            known = None
        if not isinstance(known, dict) or known.get("schema") != SCHEMA:
            raise ConfigError(
                f"{TRAINING} of the output folder is damaged, or of a newer version.", _OTHER
            )
        return known

    def check_same(self, identity: str) -> None:
        """See that the folder is of the same settings and data, or of none yet.

        Raises:
            ConfigError: 78.
        """
        if self.known and self.known.get("identity") != identity:
            raise ConfigError(
                "The output folder is of a tuning with other settings, data or model.", _OTHER
            )

    @property
    def done(self) -> bool:
        """Whether the tuning has come to its end, and the adapter is there."""
        there = (self.out / CONFIG).is_file() and (self.out / WEIGHTS).is_file()
        return self.known.get("state") == "done" and there

    # -- checkpoints --------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path:
        """Where the trainer keeps its checkpoints."""
        return self.out / CHECKPOINTS

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"checkpoint-{step}"

    def seal(self, step: int) -> None:
        """Mark a checkpoint whole, once all of it is on the disk."""
        folder = self.checkpoint(step)
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
        replace_file(folder / _WHOLE, b"")

    def last(self) -> int | None:
        """The step of the newest whole checkpoint; those that are not whole are taken away."""
        found = []
        for folder in self.checkpoints.glob("checkpoint-*"):
            step = folder.name.removeprefix("checkpoint-")
            if step.isdigit() and (folder / _WHOLE).is_file():
                found.append(int(step))
            else:
                shutil.rmtree(folder)
        return max(found, default=None)

    def history(self, step: int) -> list[dict[str, Any]]:
        """The trainer's log as a checkpoint has it."""
        state = json.loads((self.checkpoint(step) / _STATE).read_text("utf-8"))
        entries: list[dict[str, Any]] = state["log_history"]
        return entries

    # -- writing ------------------------------------------------------------------------------

    def write(self, told: Mapping[str, Any], curve: Curve) -> None:
        """`training.json` and the drawing of the curve.

        Raises:
            StorageError: 74.
        """
        if self._lock is not None:
            self._lock.check()
        value = {"schema": SCHEMA, **told, "curve": curve.plain()}
        text = json.dumps(value, indent=1, allow_nan=False) + "\n"
        with storing():
            replace_files(
                [(self.out / TRAINING, text.encode()), (self.out / CURVE, svg(curve).encode())]
            )

    def finish(self, config: bytes, weights: bytes) -> None:
        """Put the adapter in place.

        Raises:
            StorageError: 74.
        """
        with storing():
            replace_files([(self.out / WEIGHTS, weights), (self.out / CONFIG, config)])

    def clear(self) -> None:
        """Take the checkpoints away: the tuning is done."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


@contextlib.contextmanager
def storing() -> Iterator[None]:
    """What the system says of a write that failed, as the end of the command.

    Raises:
        StorageError: 74.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The output folder cannot be written ({error.strerror}).",
            "Make room, then run the same command again; it goes on.",
        ) from None
