"""Documents at which a reader process crashes, hangs, swells or talks; put in from outside.

A `sitecustomize.py` on the PYTHONPATH of a command, or of a pool, takes the place of the readers
in their processes: a document of a word with an exclamation mark does as it says.
"""

from pathlib import Path

_SITE = """
import os, signal, sys, time
from medgemma_cli import readers
from medgemma_cli.readers.limits import Content

honest = readers.content

def content(kind, data, limits):
    if not data.startswith(b"!"):
        return honest(kind, data, limits)
    word, *rest = data.decode().split()
    def say(text):
        return Content(text=text, coverage={"characters": (len(text), len(text))})
    if word == "!segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "!abort":
        os.abort()
    elif word == "!exit":
        sys.exit(0)
    elif word == "!kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "!loop":
        while True:
            pass
    elif word == "!sleep":
        time.sleep(600)
    elif word == "!bomb":
        return say(b"x" * 10**11)
    elif word == "!deep":
        def deeper():
            return deeper() + 1
        deeper()
    elif word == "!raise":
        print("CANARY", flush=True)
        print("CANARY", file=sys.stderr, flush=True)
        os.write(2, b"CANARY")
        raise RuntimeError("CANARY")
    elif word == "!once":
        if not os.path.exists(rest[0]):
            open(rest[0], "w").close()
            os.abort()
    elif word == "!pid":
        return say(str(os.getpid()))
    elif word == "!environment":
        return say("\\n".join(f"{k}={v}" for k, v in os.environ.items()))
    return say("honest")

readers.content = content
"""


def plant(folder: Path, *, slow: float = 0.0) -> str:
    """Make the folder; what PYTHONPATH is to be. Reader processes start `slow` seconds later."""
    folder.mkdir()
    late = (
        f"import sys, time\nif 'medgemma_cli.readers.worker' in sys.orig_argv: time.sleep({slow})\n"
    )
    (folder / "sitecustomize.py").write_text(late + _SITE, "utf-8")
    return str(folder)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waited for has, too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"
