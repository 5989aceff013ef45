"""Fault 95: a run that is ended from outside, or dies, leaves no text behind but results."""

import os
import resource
import signal
import time

import pytest
from house import ECHO, NAME, TEXT, Done, House, hits

# Ends the process while a document is being answered; `HOW` says how.
_DIES = """
import ctypes, faulthandler, os, signal, sys, time
from medgemma_cli import signals
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine

how = os.environ["HOW"]
signals.TERM_DEADLINE = 0.2

def dies(self, prompt):
    text = prompt.document
    print("here", file=sys.stdout, flush=True)
    if how == "abort":
        os.abort()
    if how == "fault":
        ctypes.string_at(0)
    if how == "faulthandler":
        faulthandler.enable()
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

EchoEngine._answer = dies
main()
"""


def write(house: House) -> None:
    """Two documents."""
    for number in range(2):
        house.put(f"in/{NAME} {number}.md", f"Patient {TEXT} in bed {number}.\n")


def allow_core_dumps() -> None:
    """As far as this user may."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


RUN, ASK = "run in -o out", f"ask {TEXT}? -f 'in/{NAME} 0.md' -o out"


@pytest.mark.parametrize(
    ("command", "how", "code"),
    [
        (RUN, "abort", -signal.SIGABRT),
        (RUN, "fault", -signal.SIGSEGV),
        (RUN, "faulthandler", -signal.SIGABRT),
        (RUN, "kill", -signal.SIGKILL),
        (ASK, "abort", -signal.SIGABRT),
    ],
)
def test_a_crash(house: House, command: str, how: str, code: int) -> None:
    """A crash leaves no core dump, no words, and nothing in the next run's log or journal."""
    write(house)
    args = f"{command} {ECHO}"
    env = {"HOW": how}
    done = house.run(args, python=("-c", _DIES), env=env, preexec_fn=allow_core_dumps)
    assert done.code == code, done.told
    assert hits(done.stderr + done.stdout) == [], done.told
    assert house.traces() == []
    again = house.run(args)
    assert again.code == 0, again.told
    house.assert_clean(again, stdout=(NAME,))


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((signal.SIGTERM,), 75),
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGTERM), 75),
        ((signal.SIGHUP,), -signal.SIGHUP),
        ((signal.SIGQUIT,), -signal.SIGQUIT),
    ],
)
def test_a_signal(house: House, numbers: tuple[int, ...], code: int) -> None:
    """Told to stop in the middle, at once or with a deadline."""
    write(house)
    args = f"run in -o out {ECHO}"
    process = house.start(
        args, python=("-c", _DIES), env={"HOW": "sleep"}, preexec_fn=allow_core_dumps
    )
    assert process.stdout is not None and process.stdout.readline() == b"here\n"
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    stdout, stderr = process.communicate(timeout=60)
    done = Done(process.returncode, stdout, stderr)
    assert done.code == code, done.told
    house.assert_clean(done)


@pytest.mark.parametrize("args", ["run in -o out --json", f"ask Who? -f 'in/{NAME} 0.md'"])
def test_a_broken_pipe(house: House, args: str) -> None:
    """The reader of the results went away."""
    write(house)
    read, write_end = os.pipe()
    os.close(read)
    done = house.run(f"{args} {ECHO}", stdout=write_end)
    os.close(write_end)
    assert done.code in (0, 1), done.told
    house.assert_clean(done)


def test_no_room(house: House) -> None:
    """A disk that is full in the middle of a record."""
    house.put(f"in/{NAME}.md", f"{TEXT} slept well. " * 500)

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = house.run(f"run in -o out {ECHO}", preexec_fn=little)
    assert done.code in (73, 74), done.told
    house.assert_clean(done)


def test_another_run_holds_the_folder(house: House) -> None:
    """75: and a file in the folder's place is 73."""
    write(house)
    process = house.start(f"run in -o out {ECHO}", python=("-c", _DIES), env={"HOW": "sleep"})
    assert process.stdout is not None and process.stdout.readline() == b"here\n"
    second = house.run(f"run in -o out {ECHO}")
    process.kill()
    process.communicate()
    assert second.code == 75, second.told
    house.assert_clean(second)
    house.put("file", TEXT)
    third = house.run(f"run in -o file {ECHO}")
    assert third.code == 73, third.told
    house.assert_clean(third)
