"""What `export --merge` does, step by step: refuse → merge and write → reload, compare → place."""

import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medgemma_cli.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from medgemma_cli.adapters import Adapter
    from medgemma_cli.engines.exporting.merging import Kind
    from medgemma_cli.exporting.folder import Folder
    from medgemma_cli.models import Checkpoint
    from medgemma_cli.progress import Reporter

# Counted up when the same adapter and base would become other weights.
_FORMAT = 1
_PACKAGES = ("torch", "transformers", "peft", "safetensors")


class Asked(NamedTuple):
    """The command line."""

    adapter: Path
    out: Path
    kind: "Kind"
    tolerance: float
    model: str
    device: str
    revision: str | None
    offline: bool
    repo: str | None
    private: bool


def run(asked: Asked, reporter: "Reporter", *, quiet: bool) -> None:
    """The whole of it.

    Raises:
        MedgemmaError: whatever ends it; nothing of the export is then left, unless it is the
            upload that failed.
    """
    from medgemma_cli import models
    from medgemma_cli.commands.wiring import find_adapter
    from medgemma_cli.exporting import folder, pushing
    from medgemma_cli.progress import emit

    if asked.repo is not None:
        pushing.check(asked.repo, offline=asked.offline)
    base = models.resolve(
        asked.model, revision=asked.revision, offline=asked.offline, step=reporter.step
    )
    adapter = find_adapter(asked.adapter, base, reporter)
    assert adapter is not None
    if asked.kind == "fp16":
        reporter.note("warning: Gemma 3 overflows when it computes in fp16; prefer --dtype bf16")
    with folder.Folder(asked.out) as place:
        words = _export(asked, base, adapter, place, reporter)
        files = [*place.known["files"], folder.EXPORT]
    if not quiet:
        emit(f"medgemma: {words}", sys.stderr)
    if asked.repo is not None:
        reporter.step("sending it to the hub", 0, 0)
        pushing.push(place.out, files, asked.repo, private=asked.private)
        if not quiet:
            emit("medgemma: sent to the hub", sys.stderr)


def _export(
    asked: Asked, base: "Checkpoint", adapter: "Adapter", place: "Folder", reporter: "Reporter"
) -> str:
    """Make it, unless it is there; the closing words."""
    from medgemma_cli import models
    from medgemma_cli.identity import digest

    identity = digest([_FORMAT, base.fingerprint, adapter.hash, asked.kind])
    _check_base(base, place)
    if place.whole(identity):
        return "nothing to do; the export is there"
    place.check_room(models.parameters(base) or 0)
    base = models.fetch(base, reporter.step)
    _check_base(base, place)
    told = {"identity": identity, **_told(asked, base, adapter)}
    return "done; " + _make(asked, base, adapter, place, told, reporter)


def _check_base(base: "Checkpoint", place: "Folder") -> None:
    """Not what is quantised in itself, and not what would be replaced.

    Raises:
        ConfigError: 78. UsageError: 2.
    """
    from medgemma_cli import models

    if base.path is None:
        return
    if models.config(base.path).get("quantization_config"):
        raise ConfigError(
            "The base is quantised, and nothing is merged into such weights.",
            "Give the unquantised --model that it was made from.",
        )
    if base.path.resolve() == place.out:
        raise UsageError("-o is the folder of the base.", "Give another -o.")


def _told(asked: Asked, base: "Checkpoint", adapter: "Adapter") -> dict[str, Any]:
    # Where a folder lies, and its name, is nobody else's business.
    named = {"id": _name(base), "revision": base.revision, "fingerprint": base.fingerprint}
    return {
        "dtype": asked.kind,
        "base": named,
        "adapter": {"hash": adapter.hash},
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _name(base: "Checkpoint") -> str | None:
    from medgemma_cli.models import DEMO

    return base.id if "@" in base.fingerprint or base.id == DEMO else None


def _make(
    asked: Asked,
    base: "Checkpoint",
    adapter: "Adapter",
    place: "Folder",
    told: dict[str, Any],
    reporter: "Reporter",
) -> str:
    from medgemma_cli.engines.exporting.making import Maker
    from medgemma_cli.exporting.folder import storing
    from medgemma_cli.exporting.notice import NOTICE, notice

    maker = Maker(base, adapter, asked.device, reporter.step)
    with storing():
        made, along = maker.write(place.work, asked.kind)
        text = notice(_name(base), adapter.hash, made, along)
        (place.work / NOTICE).write_text(text, "utf-8")
    agreement = maker.compare(place.work)
    if not agreement.within(asked.tolerance):
        raise ConfigError(
            f"The merged model is not base and adapter: {agreement.words()}.",
            "Nothing of it was kept. Use --adapter unmerged, or a greater --tolerance.",
        )
    told |= {"computed_in": maker.precision, "tolerance": asked.tolerance}
    told |= {"compared": agreement.plain()}
    with storing():
        place.finish(told)
        place.place()
    return agreement.words()
