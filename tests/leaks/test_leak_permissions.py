"""Fault 96: what is written is for its owner alone, whatever the umask."""

import os
import stat
from pathlib import Path

import pytest
from house import ECHO, NAME, TEXT, House

UMASKS = [0o022, 0o000]


def assert_private(top: Path) -> list[Path]:
    """A folder and all below it: files 0600, folders 0700."""
    found = [top, *top.rglob("*")]
    wrong = {}
    for path in found:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (0o700 if path.is_dir() else 0o600):
            wrong[str(path)] = oct(mode)
    assert wrong == {}
    return found


_KILLED = """
import os, signal
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
from pathlib import Path

real, replace = EchoEngine._answer, os.replace

def dies(self, prompt):
    if "second" in prompt.document:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, prompt)

def dies_too(old, new, *args, **settings):
    if Path(new).name.startswith("a"):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(old, new, *args, **settings)

if os.environ["AT"] == "answer":
    EchoEngine._answer = dies
else:
    os.replace = dies_too
main()
"""


@pytest.mark.parametrize("umask", UMASKS, ids=oct)
def test_outputs_are_for_their_owner(house: House, umask: int) -> None:
    """Fault 96: a run, repair, quarantine, a question, kills, temporary files: all private."""
    house.put("in/a.md", f"{TEXT} slept well.\n")
    house.put(f"in/{NAME}/b.md", f"{TEXT} ate, second.\n")
    house.put("in/c.md", "")
    args = f"run in -o deep/out {ECHO}"
    out = house.work / "deep" / "out"
    for at in ("answer", "rename"):
        house.run(args, python=("-c", _KILLED), env={"AT": at}, umask=umask)
        assert_private(house.work / "deep")
    house.run(args, umask=umask)
    with (out / "records.jsonl").open("ab") as file:
        file.write(b"junk\n{")
    (out / "a.md").unlink()
    house.run(args, umask=umask)
    house.run(f"{args} --force", umask=umask)
    house.run(f"{args} --fresh", umask=umask)
    house.run(f"ask What? -f in/a.md -o deep/out {ECHO}", umask=umask)
    house.run(f"ask What? -f in/a.md -o asked/out {ECHO}", umask=umask)
    found = assert_private(house.work / "deep")
    assert len([path for path in found if "quarantine" in path.parts]) >= 6
    assert_private(house.work / "asked")


@pytest.mark.parametrize("umask", UMASKS, ids=oct)
def test_a_folder_that_was_there_stays_as_it_is(house: House, umask: int) -> None:
    """OUT itself, and folders in it, belong to whoever made them; what is new is private."""
    house.put("in/ward/a.md", f"{TEXT} slept well.\n")
    house.put("in/new/b.md", f"{TEXT} ate well.\n")
    (house.out / "ward").mkdir(parents=True)
    for folder in (house.out, house.out / "ward"):
        folder.chmod(0o755)
    house.run(f"run in -o out {ECHO}", umask=umask)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (house.out, house.out / "ward")] == [0o755] * 2
    assert_private(house.out / "new")
    files = [path for path in house.out.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_cache_is_for_its_owner(house: House, checkpoint: Path) -> None:
    """File hashes and speeds, in the user's cache or where MEDGEMMA_CACHE says."""
    house.put("in/a.md", "Slept well.\n")
    model = f"--model {checkpoint} --device cpu --precision fp32 --max-new-tokens 8"
    house.run(
        f"run in -o out -t general --question Why? {model}",
        umask=0,
        env={"MEDGEMMA_CACHE": str(house.root / "own" / "cache")},
    )
    found = assert_private(house.root / "own")
    assert {path.name for path in found if path.is_file()} == {"hashes.jsonl", "speeds.jsonl"}
    assert not any((house.root / "cache").iterdir())


def test_a_converted_model_is_for_its_owner(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo model's files, which transformers writes."""
    from medgemma_cli import demo

    def convert(work: Path, step: object) -> None:
        (work / "config.json").write_text("{}")
        (work / "deep").mkdir()
        (work / "deep" / "x.json").write_text("{}")

    monkeypatch.setenv("MEDGEMMA_CACHE", str(house.root / "own"))
    monkeypatch.setattr(demo, "installed", lambda: True)
    monkeypatch.setattr(demo, "_convert", convert)
    before = os.umask(0o022)
    try:
        demo.convert(lambda text, done, total: None)
    finally:
        os.umask(before)
    assert_private(house.root / "own")
