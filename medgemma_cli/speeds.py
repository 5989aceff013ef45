"""How fast past runs went on this machine, and what that says of the next one.

`speeds.jsonl` in the cache folder holds a line a run: which weights at which precision on which
device, and counts and seconds. No file name, no text, no prompt. A hint, never needed: where it
cannot be written, read or trusted, there is no estimate.
"""

import contextlib
import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import jsonlines
from pydantic import Field, ValidationError

from medgemma_cli.engines.timing import Timing
from medgemma_cli.files import replace_file
from medgemma_cli.models import cache_folder
from medgemma_cli.records import Frozen

_KEPT = 200  # lines
_NEAREST = 5  # runs that an estimate looks at

_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Setup(NamedTuple):
    """What makes two runs comparable: fingerprint of the weights, precision as loaded, device."""

    model: str
    precision: str
    device: str


class Work(NamedTuple):
    """How much there is to do: documents, tokens in and out of all of them together, images."""

    documents: int
    prompt_tokens: int
    new_tokens: int
    images: int


class Speed(Frozen):
    """One past run. `template` is a hash: answers to one template are about equally long.

    `prompt_tokens` are those of whole prompts, whatever of a beginning that they share was
    computed once, since that is what can be counted beforehand.
    """

    model: str
    precision: str
    device: str
    template: str
    documents: Annotated[int, Field(ge=1)]
    prompt_tokens: _Count
    new_tokens: _Count
    images: _Count
    prefill: _Seconds
    decode: _Seconds
    vision: _Seconds
    date: str


class Estimate(NamedTuple):
    """Seconds of the device, without loading the model, and from how many runs that is known."""

    seconds: float
    runs: int


def note(timing: Timing, setup: Setup, template: str, documents: int, prompt_tokens: int) -> None:
    """Keep what a run's clock says; silent where that is nothing, or cannot be written.

    Args:
        template: the template's hash.
        documents: how many were generated.
        prompt_tokens: of their whole prompts.
    """
    if documents < 1 or not timing.prefill + timing.decode:
        return
    speed = Speed(
        **setup._asdict(),
        template=template,
        documents=documents,
        prompt_tokens=prompt_tokens,
        new_tokens=timing.new_tokens,
        images=timing.images,
        prefill=round(timing.prefill, 3),
        decode=round(timing.decode, 3),
        vision=round(timing.vision, 3),
        date=datetime.now(UTC).date().isoformat(),
    )
    with contextlib.suppress(OSError):
        _append(_path(), speed.model_dump_json().encode())


def _path() -> Path:
    return cache_folder() / "speeds.jsonl"


def _append(path: Path, line: bytes) -> None:
    """Add a line; when there are twice as many as are kept, put the file in place anew.

    Two writers at that very moment may lose a line to each other, but never half of one.
    """
    lines = _lines(path)
    if not lines or len(lines) >= 2 * _KEPT:
        replace_file(path, b"\n".join([*lines[1 - _KEPT :], line, b""]), fsync=False)
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        # In one call, and with a newline before it: the last writer may have been cut short.
        os.write(descriptor, b"\n" + line + b"\n")
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[bytes]:
    try:
        return [line for line in path.read_bytes().split(b"\n") if line]
    except OSError:
        return []


def past(setup: Setup) -> list[Speed]:
    """The runs with these weights at this precision on this device, the newest first."""
    found = []
    for line in jsonlines.Reader(_lines(_path())[-_KEPT:]).iter(type=dict, skip_invalid=True):
        with contextlib.suppress(ValidationError):
            speed = Speed.model_validate(line)
            if setup == (speed.model, speed.precision, speed.device):
                found.append(speed)
    return found[::-1]


def answer_tokens(runs: Iterable[Speed], template: str) -> float | None:
    """New tokens a document, on average over the runs with a template; None if there is none."""
    same = [run for run in runs if run.template == template]
    documents = sum(run.documents for run in same)
    return sum(run.new_tokens for run in same) / documents if documents else None


def estimate(runs: Sequence[Speed], work: Work) -> Estimate | None:
    """How long the work takes by the median rates of the past runs most like it in size.

    In size, since a batch of one takes several times as long a token as a full one. None where a
    rate that is needed is not known: no runs, or images now and none then.
    """
    if not runs or not work.documents:
        return None
    # A sort is stable: of two runs that are equally near, the newer comes first.
    near = sorted(runs, key=lambda run: abs(math.log(run.documents / work.documents)))
    known = [
        _rate(near, lambda run: (run.prefill, run.prompt_tokens)),
        _rate(near, lambda run: (run.decode, run.new_tokens)),
        _rate(near, lambda run: (run.vision, run.images)),
    ]
    seconds = 0.0
    for rate, amount in zip(known, work[1:], strict=True):
        if amount and rate is None:
            return None
        seconds += amount * (rate or 0.0)
    return Estimate(seconds, min(len(runs), _NEAREST))


def _rate(near: list[Speed], part: Callable[[Speed], tuple[float, int]]) -> float | None:
    """Median seconds for one of what is counted, over the nearest runs that had any of it."""
    parts = [(seconds, count) for seconds, count in map(part, near) if count][:_NEAREST]
    return statistics.median(seconds / count for seconds, count in parts) if parts else None
