"""An output folder open for a run: all of it, or one shard of it."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from medgemma_cli import summaries
from medgemma_cli.errors import RunAgainError
from medgemma_cli.files import SHARDS, make_folder
from medgemma_cli.ledger import LOCK, Ledger
from medgemma_cli.ledger.appending import storage_error
from medgemma_cli.ledger.locking import Lock, opening
from medgemma_cli.sharding import folders
from medgemma_cli.sharding.folders import State
from medgemma_cli.sharding.split import Portion, Shard


class Whole:
    """The ledger of a whole folder, unless shards of it wait to be merged. A context manager.

    Raises on entry what `Ledger` does, and:
        ConfigError: 78, there are shards.
    """

    def __init__(self, out: Path, *, fsync: bool = True, read_only: bool = False) -> None:
        self._out = out
        self._ledger = Ledger(out, fsync=fsync, read_only=read_only)

    def __enter__(self) -> Ledger:
        folders.refuse_unmerged(self._out)  # before anything is made
        self._ledger.__enter__()
        try:
            folders.refuse_unmerged(self._out)  # nobody can make one now
        except BaseException:
            self._ledger.close()
            raise
        return self._ledger

    def finish(self, sources: object, left: int) -> None:
        """Nothing to say: the ledger is all there is."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ledger.close()


class Part:
    """The ledger of one shard, an output folder below OUT of its own. A context manager.

    While it is open it shares the lock of OUT with other shards, which keeps runs of the whole
    folder and merges out.

    Args:
        settings: a digest of what is asked of the documents; shards that are merged share it.

    Raises on entry what `Ledger` does, and:
        ConfigError: 78, there are shards of another number, or a merge was interrupted.
        RunAgainError: 75, a run of the whole folder, or a merge, is under way.
    """

    def __init__(
        self, out: Path, shard: Shard, settings: str, *, fsync: bool = True, read_only: bool = False
    ) -> None:
        self._out = out
        self._shard = shard
        self._settings = settings
        self._fsync = fsync
        self._read_only = read_only
        self._stack = ExitStack()
        self._ledger = Ledger(
            out / SHARDS / shard.name,
            fsync=fsync,
            read_only=read_only,
            below=Ledger(out, read_only=True),
        )

    def __enter__(self) -> Ledger:
        if self._read_only:
            folders.refuse_others(self._out, self._shard)
        else:
            with opening(self._stack.close):
                make_folder(self._out, fsync=self._fsync)
                self._stack.callback(Lock(self._out, shared=True).release)
                self._make()
        with opening(self._stack.close):
            self._open()
        return self._ledger

    def _make(self) -> None:
        """The shard's folder, unless there are others that it cannot stand beside."""
        if folders.half_merged(self._out):
            raise RunAgainError(
                "A merge of this output folder was interrupted.", "Run `medgemma merge` on it."
            )
        make_folder(self._out / SHARDS, fsync=self._fsync)
        # One at a time: of two first shards with different numbers the second one is to see it.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._out / SHARDS / LOCK, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            folders.refuse_others(self._out, self._shard)
            make_folder(self._ledger.out, fsync=self._fsync)
        finally:
            os.close(descriptor)

    def _open(self) -> None:
        below = self._ledger.below
        assert below is not None
        self._stack.enter_context(below)
        if not self._read_only and not below.current and self._out.is_dir():
            summaries.refuse_orphans(self._out, summaries.walk(self._out))
        self._stack.enter_context(self._ledger)
        if not self._read_only:
            self._say(complete=False)

    def finish(self, sources: object, left: int) -> None:
        """Say how the run ended: whether nothing of the shard is left.

        Raises:
            StorageError: 74.
        """
        if isinstance(sources, Portion) and not left and sources.total is not None:
            self._say(complete=True, sources=sources)

    def _say(self, *, complete: bool, sources: Portion | None = None) -> None:
        state = State(
            number=self._shard.number,
            of=self._shard.of,
            complete=complete,
            settings=self._settings,
            total=sources.total if sources else None,
            listing=sources.listing if sources else None,
            taken=sources.taken if sources else 0,
            records=len(self._ledger.current),
            size=self._ledger.size,
        )
        try:
            folders.write_state(self._ledger.out, state, fsync=self._fsync)
        except OSError as error:
            raise storage_error(error) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
