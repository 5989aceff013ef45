"""The folder of an export: made beside its place, checked there, and put in place by one rename.

Until then nothing stands at -o but what stood there. What a kill leaves is a hidden folder beside
it, `.NAME.medgemma-export`, which the next export to the same place clears away. An earlier export
is moved aside first and gone once the new one stands; a kill between these two renames is mended
by the next one.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medgemma_cli.errors import ConfigError, OutputError, StorageError
from medgemma_cli.files import make_folder, sync_folder
from medgemma_cli.ledger.locking import LOCK, Lock

EXPORT = "export.json"
SCHEMA = "medgemma.export/1"
_ELSE = "Give an -o that is empty or not there yet."
# Tokenizer, processor, rounding of the filesystem.
_BESIDE = 100_000_000


class Folder:
    """The place of an export, open for one writer. A context manager.

    Attributes:
        work: where the export is made.
        known: what `export.json` of an earlier export says; empty where there is none.
    """

    def __init__(self, out: Path) -> None:
        self.out = Path(os.path.realpath(out))
        self.work = self.out.parent / f".{self.out.name}.medgemma-export"
        self.known: dict[str, Any] = {}
        self._aside = self.out.parent / f".{self.out.name}.medgemma-before"
        self._lock: Lock | None = None

    def __enter__(self) -> Self:
        """Lock, clear away what a kill left, and look at what is there.

        Raises:
            OutputError: 73, it cannot be written. RunAgainError: 75, another export is under way.
            ConfigError: 78, something else is there.
        """
        try:
            make_folder(self.work)
            self._lock = Lock(self.work)
            self._empty()
            self._mend()
            self.known = self._look()
        except OSError:
            self.close()
            raise OutputError(
                "The output folder cannot be written.", "Check -o, its permissions and free space."
            ) from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing beside the place, and let go of it. Idempotent."""
        if self._lock is not None:
            shutil.rmtree(self.work, ignore_errors=True)
            self._lock.release()
        self._lock = None

    def _empty(self) -> None:
        for entry in self.work.iterdir():
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _mend(self) -> None:
        """A kill between two renames left the earlier export aside; or it was gone already."""
        if not self._aside.exists():
            return
        if self.out.exists():
            shutil.rmtree(self._aside)
        else:
            os.rename(self._aside, self.out)

    def _look(self) -> dict[str, Any]:
        if not os.path.lexists(self.out):
            return {}
        held = {entry.name for entry in self.out.iterdir()}  # a file is an OSError: 73
        if not held:
            return {}
        known = self._read()
        if not known:
            raise ConfigError("The output folder holds something else.", _ELSE)
        own = {EXPORT, LOCK, *known["files"]}
        if held - own:
            raise ConfigError(
                "The output folder is an export, with files in it that are not the export's.",
                f"Move them away. {_ELSE}",
            )
        return known

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads((self.out / EXPORT).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(known, dict) or known.get("schema") != SCHEMA:
            return {}
        files, weights = known.get("files"), known.get("weights")
        if not isinstance(files, list) or not isinstance(weights, dict):
            return {}
        names = [*files, *weights]
        return known if all(isinstance(name, str) and "/" not in name for name in names) else {}

    def whole(self, identity: str) -> bool:
        """Whether the earlier export is this very one, and its weights are as they were."""
        from medgemma_cli.models import file_hashes

        if self.known.get("identity") != identity:
            return False
        weights: dict[str, str] = self.known["weights"]
        paths = [self.out / name for name in (*self.known["files"], EXPORT)]
        if not all(path.is_file() for path in paths):
            return False
        return file_hashes([self.out / name for name in weights]) == weights

    def check_room(self, weights: int) -> None:
        """See, before anything is loaded, that so many weights of 16 bits have room.

        Raises:
            OutputError: 73.
        """
        need, free = weights * 2 + _BESIDE, shutil.disk_usage(self.work).free
        if need > free:
            raise OutputError(
                f"The export takes about {need / 1e9:.1f} GB; {free / 1e9:.1f} GB are free there.",
                "Make room, or give another -o.",
            )

    def finish(self, told: dict[str, Any]) -> None:
        """Write `export.json` beside what was made; all of it durable, and its owner's alone.

        Raises:
            OSError: as the system says.
        """
        from medgemma_cli.models import file_hashes

        files = sorted(path.name for path in self.work.iterdir() if path.name != LOCK)
        weights = [self.work / name for name in files if name.endswith(".safetensors")]
        made = {"weights": file_hashes(weights), "files": files}
        self.known = {"schema": SCHEMA, **told, **made}
        text = json.dumps(self.known, indent=1, allow_nan=False)
        (self.work / EXPORT).write_text(text + "\n", "utf-8")
        for path in self.work.iterdir():
            path.chmod(0o600)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(self.work)

    def place(self) -> None:
        """Put what was made in its place.

        Raises:
            OSError: as the system says; what stood there stands.
            RunAgainError: 75, somebody took the lock file away.
        """
        assert self._lock is not None
        self._lock.check()
        earlier = (self.out / EXPORT).is_file()
        if earlier:
            os.rename(self.out, self._aside)
        try:
            os.rename(self.work, self.out)
        except OSError:
            if earlier:
                os.rename(self._aside, self.out)
            raise
        sync_folder(self.out.parent)
        self._lock.release()
        self._lock = None
        with contextlib.suppress(OSError):
            (self.out / LOCK).unlink()
        shutil.rmtree(self._aside, ignore_errors=True)


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
            f"The export cannot be written ({error.strerror or 'I/O error'}).",
            "Make room, then run the same command again. Nothing of it was left.",
        ) from None
