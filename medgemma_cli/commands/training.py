"""What `tune` does, step by step: examples → lessons → training → adapter."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medgemma_cli.commands import lessons
from medgemma_cli.errors import OK, MissingExtraError

if TYPE_CHECKING:
    from medgemma_cli.adapters import Adapter
    from medgemma_cli.engines.local import LocalEngine
    from medgemma_cli.models import Checkpoint
    from medgemma_cli.progress import Reporter
    from medgemma_cli.signals import Stopper
    from medgemma_cli.tuning.book import Book
    from medgemma_cli.tuning.curve import Curve
    from medgemma_cli.tuning.settings import Settings

# Counted up when the same examples would be shown in other tokens.
_FORMAT = 1
_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes")


class Asked(NamedTuple):
    """The command line."""

    data: Path
    validation: Path | None
    out: Path
    model: str
    revision: str | None
    offline: bool
    device: str
    settings: "Settings"
    seconds: float | None = None
    start: Path | None = None


def require() -> None:
    """See that the packages of the extra are there; they are not imported yet.

    Raises:
        MissingExtraError: 69.
    """
    if any(importlib.util.find_spec(name) is None for name in ("trl", "peft", "datasets")):
        raise MissingExtraError(
            "Tuning needs the packages trl and peft.",
            "Install them: pip install 'medgemma-cli[tune]'",
        )


def run(asked: Asked, reporter: "Reporter", *, quiet: bool) -> int:
    """The whole of it; the exit code.

    Raises:
        MedgemmaError: whatever ends it.
    """
    from medgemma_cli import models
    from medgemma_cli.signals import Stopper
    from medgemma_cli.tuning.book import Book

    require()
    train = lessons.read(asked.data, lessons.TRAIN)
    validation = lessons.read(asked.validation, lessons.VALIDATION) if asked.validation else None
    base = models.resolve(
        asked.model, revision=asked.revision, offline=asked.offline, step=reporter.step
    )
    start = _start(asked.start, base, reporter)
    if start is not None:
        asked = asked._replace(settings=asked.settings.beginning(start))
    told = _told(asked.settings, base, train, validation)
    stopper = Stopper(asked.seconds)
    with stopper.watching(), Book(asked.out) as book:
        book.check_same(told["identity"])
        if book.done:
            book.clear()  # where a kill came between the adapter and this
            words = "nothing to do; the adapter is there"
        else:
            tuning = Tuning(asked, base, start, book, told, reporter)
            words = tuning.execute(train, validation, stopper)
    if not quiet:
        from medgemma_cli.progress import emit

        emit(f"medgemma: {words}", sys.stderr)
    return stopper.code or OK


def _start(folder: Path | None, base: "Checkpoint", reporter: "Reporter") -> "Adapter | None":
    """The adapter to begin with, if there is one."""
    from medgemma_cli import adapters

    if folder is None:
        return None
    found = adapters.resolve(folder, base, reporter.step)
    if found.warning:
        reporter.note(f"--from: {found.warning}")
    return found


def _told(
    settings: "Settings", base: "Checkpoint", train: lessons.File, validation: lessons.File | None
) -> dict[str, Any]:
    """What `training.json` says from the beginning; `identity` is what may not change."""
    from medgemma_cli.identity import digest

    data = {
        "train": {"sha256": train.hash, "examples": len(train.examples)},
        "validation": validation
        and {"sha256": validation.hash, "examples": len(validation.examples)},
    }
    named = {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint}
    return {
        "identity": digest([_FORMAT, settings.plain(), base.fingerprint, data]),
        "state": "training",
        "settings": settings.plain(),
        "base": named,
        "data": data,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


class Tuning:
    """One pass over a folder that is not done."""

    def __init__(
        self,
        asked: Asked,
        base: "Checkpoint",
        start: "Adapter | None",
        book: "Book",
        told: dict[str, Any],
        reporter: "Reporter",
    ) -> None:
        self._asked = asked
        self._base = base
        self._start = start
        self._book = book
        self._told = told
        self._reporter = reporter

    def execute(
        self, train: lessons.File, validation: lessons.File | None, stopper: "Stopper"
    ) -> str:
        """Train if anything is left of it, then put the adapter in place; the closing words."""
        from medgemma_cli.tuning.settings import course

        engine = self._engine()
        split = lessons.split(engine, train, validation, self._asked.settings)
        self._told["examples"] = {
            "train": len(split.train),
            "validation": len(split.validation),
            "too_long": split.skipped,
            "tokens": sum(len(lesson.ids) for lesson in split.train),
        }
        last, way = self._book.last(), course(self._asked.settings, len(split.train))
        losses = self._losses(last)
        if last is None or not (last >= way.total or losses.exhausted(self._patience)):
            if last is not None:
                self._reporter.note(f"goes on from step {last} of {way.total}")
            self._train(engine, split, losses, stopper)
            last = self._book.last()
            losses = self._losses(last)
        if last is None or not (last >= way.total or losses.exhausted(self._patience)):
            return f"stopped at step {last or 0} of {way.total}; the same command goes on"
        # All is done, whatever signal came in its last step.
        stopper.code = None
        return self._finish(losses, last, split)

    @property
    def _patience(self) -> int:
        return self._asked.settings.patience

    def _engine(self) -> "LocalEngine":
        from medgemma_cli.engines.local import LocalEngine, LocalOptions

        settings = self._asked.settings
        options = LocalOptions(
            precision=settings.precision,
            device=self._asked.device,
            double_quant=settings.double_quant,
        )
        return LocalEngine(self._base, options, step=self._reporter.step)

    def _losses(self, last: int | None) -> "Curve":
        from medgemma_cli.tuning import curve

        return curve.of_log(self._book.history(last)) if last is not None else curve.Curve()

    def _write(self, losses: "Curve") -> None:
        self._book.write(self._told, losses)

    def _train(
        self, engine: "LocalEngine", split: lessons.Split, losses: "Curve", stopper: "Stopper"
    ) -> None:
        from medgemma_cli.engines.tuning import training, watching
        from medgemma_cli.tuning.pictures import look
        from medgemma_cli.tuning.settings import course

        settings = self._asked.settings
        loaded = engine.loaded()
        self._told["loaded"] = {"precision": loaded.precision, "device": loaded.device}
        watch = watching.Watch(
            self._book, self._reporter, self._write, stopper.keep_going, settings.patience
        )
        data = training.Data(split.train, split.validation, look)
        way = course(settings, len(split.train))
        image = engine.encoder().image_id
        training.train(
            loaded,
            image,
            data,
            settings,
            way,
            self._book,
            watch,
            # Now, or an adapter that does not fit would leave a folder that is nobody's.
            lambda: self._write(losses),
            start=self._start,
        )

    def _finish(self, losses: "Curve", last: int, split: lessons.Split) -> str:
        from medgemma_cli.engines.tuning.finishing import put_in_place

        step = losses.best[0] if losses.best else last
        put_in_place(self._book, step, self._base)
        self._told |= {"state": "done", "steps": last, "best": step}
        self._write(losses)
        self._book.clear()
        words = [f"done: {last} steps on {len(split.train)} examples"]
        words += [f"loss {losses.train[-1][1]:.4g}"] if losses.train else []
        if losses.best:
            words.append(f"validation loss {losses.best[1]:.4g} at step {step}, which is kept")
        words += [f"{split.skipped} too long, left out"] if split.skipped else []
        return ", ".join(words)
