"""Nothing heavy is imported before it is needed, and no module reaches past its place."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import medgemma_cli

PACKAGE = Path(medgemma_cli.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "transformers", "PIL", "numpy", "bitsandbytes", "llguidance", "accelerate"}
HEAVY |= {"mammoth", "inscriptis", "striprtf", "lxml", "pyarrow"}
HEAVY |= {"pypdfium2", "rouge_score", "sacrebleu", "nltk", "trl", "peft", "datasets", "pydicom"}
HEAVY |= {"openslide"}
HEAVY |= {"fastapi", "starlette", "uvicorn", "python_multipart", "runpod"}
HEAVY |= {"httpx2", "tenacity", "ray"}
LATE = HEAVY | {"jinja2", "yaml", "rich", "huggingface_hub", "dotenv", "psutil", "tokenizers"}

_TELL = """
import atexit, json, os, sys
from medgemma_cli.cli import main

def tell():
    with open(os.environ["MODULES"], "w") as file:
        json.dump(sorted(sys.modules), file)

atexit.register(tell)
main()
"""


def name_of(path: Path) -> str:
    """The dotted name below the package, as `engines.local`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def imports(path: Path, *, top: bool) -> Iterator[str]:
    """Absolute names that a module imports; with `top` only when it is itself imported."""
    stack: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would escape this test"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif top and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            stack.extend(node.orelse)
        else:
            stack.extend(ast.iter_child_nodes(node))


def roots(path: Path, *, top: bool) -> set[str]:
    """The packages that a module imports from."""
    return {name.partition(".")[0] for name in imports(path, top=top)}


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("run", "--help"),
        ("plan", "--help"),
        ("ask", "--help"),
        ("eval", "--help"),
        ("eval", "qa", "--help"),
        ("tune", "--help"),
        ("export", "--help"),
        ("serve", "--help"),
        ("merge", "--help"),
        ("--version",),
        ("templates",),
    ],
    ids=" ".join,
)
def test_help_is_light(cli: Callable[..., Any], tmp_path: Path, args: tuple[str, ...]) -> None:
    """Help, version and the list of templates load nothing heavy."""
    assert loaded(cli, tmp_path, *args).isdisjoint(HEAVY)


def test_nothing_to_do_is_light(cli: Callable[..., Any], notes: Path, tmp_path: Path) -> None:
    """A run over texts, and one with nothing to do, load no torch, no Pillow, no NumPy."""
    for _ in range(2):
        done = loaded(cli, tmp_path, "run", str(notes), "-o", "out", "--engine", "echo")
        assert done.isdisjoint(HEAVY)


def loaded(cli: Callable[..., Any], folder: Path, *args: str) -> set[str]:
    """The packages in memory when the command ends."""
    told = folder / "modules.json"
    done = cli(*args, python=("-c", _TELL), env={"MODULES": str(told)})
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(told.read_text())}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_heavy_at_module_level(path: Path) -> None:
    """Heavy and optional packages are imported inside the function that needs them."""
    assert roots(path, top=True).isdisjoint(LATE)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_engines_know_torch(path: Path) -> None:
    """torch and transformers belong to the engines and to the demo's conversion."""
    name = name_of(path)
    if not name.startswith(("engines.", "demo")):
        assert roots(path, top=False).isdisjoint({"torch", "transformers", "bitsandbytes", "peft"})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_commands_choose_an_engine(path: Path) -> None:
    """The engines themselves are imported by the commands alone."""
    name = name_of(path)
    if name.startswith(("commands.", "engines.")):
        return
    names = ("local", "echo", "ray")
    engines = tuple(f"medgemma_cli.engines.{name}" for name in names)
    wired = [found for found in imports(path, top=False) if found.startswith(engines)]
    loaders = [found for found in imports(path, top=False) if "engines.loading" in found]
    assert wired == [] and loaders == []


@pytest.mark.parametrize("name", ["records", "errors", "display", "files", "hush"])
def test_the_ground_imports_nothing_local(name: str) -> None:
    """Records and errors (and two helpers that say so) stand on nothing of the package."""
    assert "medgemma_cli" not in roots(PACKAGE / f"{name}.py", top=False)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nobody_reaches_into_the_commands(path: Path) -> None:
    """Only the command line knows the commands."""
    if not name_of(path).startswith("commands") and name_of(path) != "cli":
        assert not [i for i in imports(path, top=False) if i.startswith("medgemma_cli.commands")]


@pytest.mark.parametrize("folder", ["readers", "safety"])
def test_stages_know_records_errors_and_themselves(folder: str) -> None:
    """A reader or a check imports records, errors, its own package, and what is pure."""
    allowed = (
        "records",
        "errors",
        "contracts",
        "decoding",
        "quoting",
        "sentences",
        "display",
        "hush",
        folder,
    )
    for path in (PACKAGE / folder).glob("*.py"):
        for found in imports(path, top=False):
            package, _, rest = found.partition(".")
            if package == "medgemma_cli":
                assert rest.split(".")[0] in allowed, f"{name_of(path)} imports {found}"
