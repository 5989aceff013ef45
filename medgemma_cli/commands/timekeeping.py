"""What a run keeps for the estimates of later ones: see `speeds`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgemma_cli.engines.base import Engine
    from medgemma_cli.job import Job
    from medgemma_cli.speeds import Setup
    from medgemma_cli.totals import Totals


def setup_of(engine: "Engine", precision: str, device: str) -> "Setup":
    """What this engine's runs are compared by; `precision` and `device` as picked, not ``auto``."""
    from medgemma_cli.engines.loading import device_name
    from medgemma_cli.speeds import Setup

    identity = engine.identity
    if identity.get("deterministic"):
        precision += " deterministic"  # one at a time: as slow as another machine
    return Setup(str(identity["weights"]), precision, device_name(device))


def keep_time(engine: "Engine", device: str, job: "Job", totals: "Totals") -> None:
    """Note how fast a run went that has ended; nothing where no model answered.

    Args:
        device: as asked for.
    """
    timing = getattr(engine, "timing", None)
    precision = engine.info.precision
    # Before anything is imported: a run with nothing to do loads no torch.
    if timing is None or precision is None or not totals.inferred:
        return
    from medgemma_cli import speeds
    from medgemma_cli.engines.loading import pick_device

    setup = setup_of(engine, precision, pick_device(device))
    speeds.note(timing, setup, job.template.hash, totals.inferred, totals.prompt_tokens)
