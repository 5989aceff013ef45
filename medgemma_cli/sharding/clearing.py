"""Merged shards are cleared away; what they hold beside records and their summaries is kept."""

import contextlib
import os
import stat
from collections.abc import Container
from datetime import UTC, datetime
from pathlib import Path

from medgemma_cli import summaries, views
from medgemma_cli.files import QUARANTINE, SHARDS, make_folder
from medgemma_cli.ledger import ATTEMPTS, LOCK, RECORDS
from medgemma_cli.ledger.book import MERGE
from medgemma_cli.ledger.endings import TRACE
from medgemma_cli.sharding.folders import STATE
from medgemma_cli.sharding.split import Shard

_OWN = {RECORDS, ATTEMPTS, LOCK, STATE}


def clear(out: Path, shard: Shard, folder: Path, known: Container[str | None]) -> None:
    """Remove a shard whose lines are in OUT's ledger.

    A summary that was changed by hand, a sheet of views that does not stand in OUT, a crash's
    trace, the shard's quarantine and files that are nobody's go to ``OUT/quarantine``.

    Args:
        known: keys of OUT's ledger.

    Raises:
        OSError: as the system says; the rest is done when it is called again.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = out / QUARANTINE / f"shard-{shard.name}-{stamp}"
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(at, name)
            if _ours(path, folder, known) or _in_place(path, out / path.relative_to(folder)):
                path.unlink()
            else:
                target = kept / path.relative_to(folder)
                make_folder(target.parent)
                os.replace(path, target)
        # A link to a folder is none that `walk` enters, and is no file to it either.
        for entry in list(os.scandir(at)):
            os.unlink(entry.path) if entry.is_symlink() else os.rmdir(entry.path)
    folder.rmdir()


def clear_rest(out: Path) -> None:
    """The last: no merge is under way any more.

    Raises:
        OSError: as the system says.
    """
    (out / SHARDS / MERGE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (out / SHARDS / LOCK).unlink(missing_ok=True)
        (out / SHARDS).rmdir()


def _ours(path: Path, folder: Path, known: Container[str | None]) -> bool:
    """Whether nothing is lost with it: it is in the ledger, follows from it, or is empty."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    if path.parent == folder and path.name in _OWN:
        return True
    name = str(path.relative_to(folder))
    empty = path.parent == folder and path.name == TRACE and not status.st_size
    if empty or summaries.is_temporary(name):
        return True
    return summaries.key_of(path) in known and summaries.is_intact(path)


def _in_place(path: Path, target: Path) -> bool:
    """Whether a file is a sheet that stands in the merged folder, too."""
    if not path.name.endswith(views.SUFFIX):
        return False
    key = views.key_of(path)
    return key is not None and {views.state(path, key), views.state(target, key)} == {"current"}
