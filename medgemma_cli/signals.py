"""The first SIGINT or SIGTERM drains, the second leaves at once; SIGTERM has a deadline.

A thread reads the signals from a pipe that Python's C handler fills, so that a long prefill,
which keeps the main thread busy in C++, cannot hold them up. Leaving at once is safe: the ledger
is whole after every system call.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

from medgemma_cli.errors import INTERRUPTED, RUN_AGAIN

TERM_DEADLINE = 20.0
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: RUN_AGAIN}


class Stopper:
    """Says whether to go on: until a signal came or the time was up.

    Attributes:
        code: the exit code to leave with (130, 75), or None while nothing came.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self.code: int | None = None
        self._ends = time.monotonic() + max_seconds if max_seconds is not None else None

    def keep_going(self) -> bool:
        """Whether to take another document or batch."""
        if self.code is None and self._ends is not None and time.monotonic() > self._ends:
            self.code = RUN_AGAIN
        return self.code is None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch signals while inside; only in the main thread."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        # A shell starts background jobs with SIGINT ignored; that is left so.
        watched = [n for n in _CODES if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, lambda *_: None) for number in watched}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            writer.close()

    def _watch(self, reader: socket.socket) -> None:
        deadline: float | None = None
        signalled = False  # the time may have been up before
        while True:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([reader], [], [], wait)[0]:
                _leave(RUN_AGAIN)
            got = reader.recv(1)
            if not got:
                reader.close()
                return
            number = got[0]
            if number not in _CODES:
                continue
            if signalled:
                _leave(_CODES[signal.Signals(number)])
            signalled = True
            self.code = _CODES[signal.Signals(number)]
            if number == signal.SIGTERM:
                deadline = time.monotonic() + TERM_DEADLINE


def _leave(code: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the cursor a live display hid
    os._exit(code)
