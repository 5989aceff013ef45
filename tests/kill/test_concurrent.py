"""Many starts on one folder, and folders without room."""

import subprocess
from pathlib import Path

import pytest
from kit import Drive

_MOUNTED = 'mount -t tmpfs -o size=1m,mode=700 none "$0" && exec "$@"'


def test_one_holds_the_folder(drive: Drive) -> None:
    """Faults 16 and 17: of 8 starts at once one works, the others leave with 75, 30 times over."""
    report = drive("races.py", starts=8, rounds=30)
    assert report["violations"] == []
    assert report["codes"]["0"] >= 20
    assert report["codes"]["75"] >= 60
    assert report["codes"]["-9"] >= 5


def test_file_too_large(drive: Drive) -> None:
    """Fault 10: whichever write meets the limit, 74, a whole folder, and it goes on with room."""
    report = drive("full.py", how="limit")
    assert report["violations"] == []
    assert report["codes"]["74"] >= 20


def test_disk_full(drive: Drive, tmp_path: Path) -> None:
    """Faults 8 and 9: whichever write meets the end of the disk, the same."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c", _MOUNTED, str(place)]
    try:
        subprocess.run([*mounted, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    report = drive("full.py", within=mounted, root=str(place), how="disk")
    assert report["violations"] == []
    assert report["codes"]["74"] >= 10
