"""What the kill tests share: a folder in memory, and the driver."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kit import HERE, Drive, merged


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where that is to be had: thousands of syncs are cheap there."""
    if os.access("/dev/shm", os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix="medgemma-kill-", dir="/dev/shm"))
    else:
        folder = tmp_path_factory.mktemp("kill")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def drive(memory: Path) -> Drive:
    """Do a task with the driver, in so many processes: `drive(shards=2, states=["torn"])`."""
    count = 0

    def run(
        script: str = "driver.py", shards: int = 1, within: Sequence[str] = (), **task: Any
    ) -> dict[str, Any]:
        nonlocal count
        running = []
        for shard in range(shards):
            count += 1
            place = {"root": str(memory / str(count)), "shard": shard, "shards": shards}
            command = [sys.executable, str(HERE / script), json.dumps({**place, **task})]
            running.append(subprocess.Popen([*within, *command], stdout=subprocess.PIPE, text=True))
        told = [process.communicate()[0] for process in running]
        assert [process.returncode for process in running] == [0] * shards
        return merged([json.loads(text) for text in told])

    return run
