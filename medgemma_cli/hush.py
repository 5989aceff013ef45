"""What libraries say in passing may quote a document: it is not shown, but with `--debug`.

Covers warnings, log messages of libraries, errors in threads and in finalisers, and core dumps
(which hold the memory, and the documents in it). Does not cover what native code writes to the
standard error itself. Imports nothing local.
"""

import contextlib
import os
import resource
import sys
import threading
import warnings
from typing import Any


def hush() -> None:
    """Keep quiet from now on; each message is asked for by `--debug` when it comes."""
    import logging

    logging.raiseExceptions = False
    # In place of Python's last resort, which prints warnings on standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    shown = warnings.showwarning

    def showwarning(*args: Any, **settings: Any) -> None:
        if _debugging():
            shown(*args, **settings)

    warnings.showwarning = showwarning
    threading.excepthook = _in_thread
    sys.unraisablehook = _in_finaliser
    if not _debugging():
        forbid_core_dumps()


def _debugging() -> bool:
    return bool(os.environ.get("MEDGEMMA_DEBUG"))


def _in_thread(args: Any) -> None:
    if _debugging():
        threading.__excepthook__(args)
    else:
        _say(f"an error in a thread: {args.exc_type.__name__}")


def _in_finaliser(args: Any) -> None:
    if _debugging():
        sys.__unraisablehook__(args)
    else:
        _say(f"an error while cleaning up: {args.exc_type.__name__}")


def _say(text: str) -> None:
    # At the very end there may be no standard error any more.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(f"medgemma: {text}\n")


def forbid_core_dumps() -> None:
    """From now on this process leaves no image of its memory, nor do those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # Linux does not hold a limit of 0 against a program that takes dumps; it does one of 1.
    most = 0 if hard == 0 else 1
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))
