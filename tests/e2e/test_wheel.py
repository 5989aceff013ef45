"""The built wheel carries all it needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from medgemma_cli.demo import shipped

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without an environment of its own."""
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=120)
    return next(out.glob("*.whl"))


def test_the_wheel_has_prompts_and_types(wheel: Path) -> None:
    """Templates, preamble and the typing marker are inside; no notes, no tests."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("summarize", "general", "screen", "_preamble"):
        assert f"medgemma_cli/prompts/{name}.md" in names
    assert "medgemma_cli/py.typed" in names
    for name in (*shipped.FILES, shipped.MANIFEST, "NOTICE", "MODEL_CARD.md"):
        assert f"medgemma_cli/demo/weights/{name}" in names
    assert not [n for n in names if n.startswith(("tests/", "raw/", "benchmarks/", "scripts/"))]


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, with this environment's libraries: templates, run and ask."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "note.md").write_text("BP 120/80 mmHg. No chest pain.")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        "from medgemma_cli import cli, templates; "
        f"assert templates.__file__.startswith({str(tmp_path)!r}); cli.main()"
    )

    def medgemma(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        return result.stdout

    assert "summarize" in medgemma("templates")
    medgemma("run", "note.md", "-o", "out", "--engine", "echo")
    assert (tmp_path / "out" / "note.md").is_file()
    assert "BP 120/80" in medgemma("ask", "What?", "-f", "note.md", "--engine", "echo")
