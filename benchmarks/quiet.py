"""Was the machine ours alone? The CPU time that others took while something was measured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil


class _Clock(NamedTuple):
    """Seconds: on the wall, of all CPUs at work, of this process and its children."""

    wall: float
    all: float
    own: float


def _now() -> _Clock:
    times = psutil.cpu_times()
    # What a hypervisor gave to its other guests (steal) was taken from us, too.
    parts = ("user", "nice", "system", "irq", "softirq", "steal")
    busy = sum(getattr(times, part, 0.0) for part in parts)
    me = psutil.Process()
    # Of each: user and system time, and that of its children that have ended.
    own = sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))
    return _Clock(time.perf_counter(), busy, own)


@contextmanager
def others(shares: list[float]) -> Iterator[None]:
    """Append the share of all CPUs, 0 to 1, that was others' within."""
    before = _now()
    yield
    after = _now()
    taken = (after.all - before.all) - (after.own - before.own)
    # Accounts are kept in hundredths of a second: a short time may seem to be less than none.
    shares.append(max(0.0, taken / ((after.wall - before.wall) * (psutil.cpu_count() or 1))))
