"""The command itself, killed from outside at random moments."""

import subprocess
import sys

from kit import HERE


def test_kills_from_outside(clean_env: dict[str, str]) -> None:
    """300 documents and 6 kills: a record for each, and summaries that say what they say."""
    command = [sys.executable, str(HERE / "outside.py"), "--documents", "300", "--kills", "6"]
    command += ["--echo-delay", "0.005"]
    done = subprocess.run(
        command, env=clean_env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("300 documents, 6 kills: 0 violations\n")
