"""Where a run writes: an output folder, or a shard's place in it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgemma_cli.engines.base import Engine
    from medgemma_cli.job import Job
    from medgemma_cli.sharding.opening import Part, Whole
    from medgemma_cli.sharding.split import Shard


def make_folder(
    out: Path, part: "Shard | None", job: "Job", engine: "Engine", *, read_only: bool = False
) -> "Whole | Part":
    """The output folder, or the shard's place in it; nothing is opened yet."""
    from medgemma_cli import identity
    from medgemma_cli.longdocs import rule_of
    from medgemma_cli.sharding.opening import Part, Whole

    if part is None:
        return Whole(out, fsync=job.fsync, read_only=read_only)
    asked = [job.settings(engine.identity), list(job.read_limits), rule_of(engine)]
    settings = identity.digest(asked)
    return Part(out, part, settings, fsync=job.fsync, read_only=read_only)
