"""docs/cron.md and docs/makefile.md are true: their lines are run, with the echo engine."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CRON = (ROOT / "docs" / "cron.md").read_text("utf-8")
MAKE = (ROOT / "docs" / "makefile.md").read_text("utf-8")


def blocks(language: str, text: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


class Machine:
    """A folder that stands for /data, and a shell in it with a `medgemma` on its path.

    The command is this checkout's, whatever is installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "raw").mkdir()
        (folder / "raw" / "a.md").write_text("Dry cough since Monday.\n")
        (folder / "raw" / "b.md").write_text("Left knee swollen after a fall.\n")
        (folder / "bin").mkdir()
        command = folder / "bin" / "medgemma"
        command.write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m medgemma_cli "$@"\n'
        )
        command.chmod(0o755)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """With hardly any environment, as from cron."""
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "MEDGEMMA_ENGINE": "echo",
        }
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def line(self, text: str) -> "subprocess.CompletedProcess[str]":
        """A line of the page, about this folder."""
        text = text.replace("/data/", f"{self.folder}/").replace("/usr/local/bin/", "")
        return self.run("/bin/sh", "-c", text)

    def summaries(self) -> list[str]:
        """Names of what was made."""
        return sorted(path.name for path in (self.folder / "summaries").glob("*.md"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Two notes, nothing made yet."""
    return Machine(tmp_path)


def crontab() -> tuple[dict[str, str], str]:
    """The settings and the command of the page's crontab."""
    settings, command = {}, ""
    (text,) = blocks("crontab", CRON)
    for line in text.splitlines():
        if found := re.fullmatch(r"(?:[\d*]+ ){5}(.*)", line):
            command = found[1]
        else:
            name, _, value = line.partition("=")
            settings[name] = value
    return settings, command


def test_the_crontab_line_runs(machine: Machine) -> None:
    """Twice: summaries, then nothing to do; the log has a line each, and no name of a note."""
    settings, command = crontab()
    assert "%" not in command
    before = " ".join(f"{name}={value}" for name, value in settings.items())
    for _ in range(2):
        done = machine.line(f"{before} {command}")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.summaries() == ["a.md", "b.md"]
    log = (machine.folder / "medgemma.log").read_text()
    assert len(log.splitlines()) == 2 and "nothing to do" in log and "a.md" not in log


def test_two_at_once_need_no_flock(machine: Machine) -> None:
    """While one run holds the folder, the line leaves at once with 75 and changes nothing."""
    _, command = crontab()
    script = f"""
medgemma run {machine.folder}/raw -o {machine.folder}/summaries --echo-delay 8 -q &
while [ ! -s {machine.folder}/summaries/attempts.jsonl ]; do sleep 0.1; done
{command}
echo "second $?"
wait $!
echo "first $?"
"""
    assert machine.line(script).stdout.split() == ["second", "75", "first", "0"]
    assert machine.summaries() == ["a.md", "b.md"]


def test_the_line_that_tells(machine: Machine) -> None:
    """It is quiet about success and about 75, and speaks where a document was rejected."""
    (line,) = blocks("sh", CRON)
    assert machine.line(line).stdout == ""
    (machine.folder / "raw" / "c.md").write_text("")
    assert machine.line(line).stdout == "medgemma needs a look\n"


def test_the_units_command_runs(machine: Machine) -> None:
    """ExecStart as it stands; the unit writes where it may and takes 75 for success."""
    service, timer = blocks("ini", CRON)
    (command,) = re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)
    assert machine.line(command).returncode == 0
    assert machine.summaries() == ["a.md", "b.md"]
    assert "SuccessExitStatus=75" in service and "ReadWritePaths=/data/summaries" in service
    stop = int(re.findall(r"TimeoutStopSec=(\d+)", service)[0])
    from medgemma_cli.signals import TERM_DEADLINE

    assert stop > TERM_DEADLINE
    assert "OnCalendar=" in timer


def test_systemd_reads_the_units(machine: Machine) -> None:
    """`systemd-analyze verify` has nothing to say, where there is one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    for name, text in zip(("medgemma.service", "medgemma.timer"), blocks("ini", CRON), strict=True):
        text = text.replace("/usr/local/bin/medgemma", str(machine.folder / "bin" / "medgemma"))
        (machine.folder / name).write_text(text)
    done = machine.run("systemd-analyze", "verify", str(machine.folder / "medgemma.timer"))
    assert "medgemma" not in done.stderr, done.stderr


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


@needs_make
def test_the_pattern_rule(machine: Machine) -> None:
    """It makes each summary, nothing the second time, one that is gone, and one whose note
    changed; a note saved anew with the same bytes is up to date afterwards."""
    (machine.folder / "Makefile").write_text(blocks("makefile", MAKE)[0])
    assert machine.run("make").returncode == 0
    assert machine.summaries() == ["a.md", "b.md"]
    assert "Nothing to be done" in machine.run("make", "all").stdout
    (machine.folder / "summaries" / "a.md").unlink()
    done = machine.run("make")
    assert done.stdout.count("medgemma run") == 1 and machine.summaries() == ["a.md", "b.md"]
    later = time.time() + 60
    note = machine.folder / "raw" / "b.md"
    note.write_text("Right knee swollen after a fall.\n")
    import os

    os.utime(note, (later, later))
    assert "raw/b.md" in machine.run("make").stdout
    assert "Right knee" in (machine.folder / "summaries" / "b.md").read_text()


@needs_make
def test_the_one_line(machine: Machine) -> None:
    """The whole folder by one command."""
    (machine.folder / "Makefile").write_text(blocks("make", MAKE)[0])
    assert machine.run("make", "summaries").returncode == 0
    assert machine.summaries() == ["a.md", "b.md"]


@needs_make
def test_a_rejected_note_stops_make(machine: Machine) -> None:
    """Its code becomes make's error; -k makes the others."""
    (machine.folder / "Makefile").write_text(blocks("makefile", MAKE)[0])
    (machine.folder / "raw" / "a.md").write_text("")
    done = machine.run("make", "-k")
    assert done.returncode == 2 and "Error 3" in done.stderr
    assert "b.md" in machine.summaries()
