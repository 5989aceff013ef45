"""`medgemma check` and `medgemma rules`: streams, exit codes, pairs by the line, no torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli.safety.grounding.rules import rules

Cli = Callable[..., Any]


@pytest.fixture
def cli(forked: Cli) -> Cli:
    """Most here does not depend on how Python starts."""
    return forked


SOURCE = "Right knee pain. Takes lisinopril 20 mg daily.\n"
GOOD, BAD = "Pain in the right knee.\n", "Pain in the left knee.\n"
CANARY = "CANARY7Q"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a source and two outputs."""
    for name, text in (("source.txt", SOURCE), ("good.txt", GOOD), ("bad.txt", BAD)):
        (tmp_path / name).write_text(text)
    return tmp_path


def pairs(*rows: object) -> str:
    """Rows as JSON Lines."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_a_faithful_output_is_0(cli: Cli, folder: Path) -> None:
    """Nothing found: exit 0, the counts on standard output, nothing else anywhere."""
    done = cli("check", "source.txt", "good.txt")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines()[-1] == "2 facts supported, 0 contradicted, 0 not checked"


def test_a_flag_is_4(cli: Cli, folder: Path) -> None:
    """Something at review or above: exit 4, and what, in plain words."""
    done = cli("check", "source.txt", "bad.txt")
    assert done.returncode == 4
    assert done.stdout.startswith("stop: laterality_flip: left: ")


@pytest.mark.parametrize(
    ("names", "text"), [(("-", "bad.txt"), SOURCE), (("source.txt", "-"), BAD)]
)
def test_either_text_may_be_piped(
    cli: Cli, folder: Path, names: tuple[str, str], text: str
) -> None:
    """- is standard input, for one of the two."""
    assert cli("check", *names, input=text).returncode == 4


def test_json_is_one_line(cli: Cli, folder: Path) -> None:
    """--json: flags, counts and omissions, the offsets in the source."""
    done = cli("check", "source.txt", "bad.txt", "--json")
    found = json.loads(done.stdout)
    flag = found["flags"][0]
    assert set(flag) == {"rule", "severity", "where", "value", "why", "span", "document"}
    assert SOURCE[slice(*flag["span"])] == "Right"
    assert found["facts"]["contradicted"] == 1
    assert found["omissions"] == ["medication: lisinopril"]


def test_fields_of_a_json_file(cli: Cli, folder: Path) -> None:
    """An output named .json is a record's fields; a flag says which."""
    (folder / "out.json").write_text(json.dumps({"summary": GOOD, "more": [BAD]}))
    done = cli("check", "source.txt", "out.json", "--json")
    assert [flag["where"] for flag in json.loads(done.stdout)["flags"]] == ["more[0]"]


@pytest.mark.parametrize("place", ["-", "pairs.jsonl"])
def test_pairs_by_the_line(cli: Cli, folder: Path, place: str) -> None:
    """--jsonl: a line out for each line in, with its id; 4 if any has a flag."""
    text = pairs(
        {"id": "a", "source": SOURCE, "output": GOOD},
        {"id": 2, "source": SOURCE, "output": BAD},
        {"id": "c", "source": SOURCE, "output": {"summary": GOOD}},
    )
    (folder / "pairs.jsonl").write_text(text)
    done = cli("check", "--jsonl", place, input=text)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 4
    assert [(line["id"], len(line["flags"])) for line in found] == [("a", 0), (2, 1), ("c", 0)]


@pytest.mark.parametrize(
    "line",
    [
        f"{CANARY} is no JSON",
        f'["{CANARY}"]',
        f'{{"id": 1, "source": "{CANARY}"}}',
        f'{{"id": 1, "source": 2, "output": "{CANARY}"}}',
        f'{{"id": [1], "source": "{CANARY}", "output": ""}}',
    ],
)
def test_a_bad_line_is_told_by_its_number(cli: Cli, folder: Path, line: str) -> None:
    """Exit 2 names the line and none of its text; the other lines are checked all the same."""
    good = pairs({"id": "a", "source": SOURCE, "output": GOOD})
    done = cli("check", "--jsonl", "-", input=f"{good}{line}\n\n{good}")
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 2
    assert "line 2" in done.stderr and CANARY not in done.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("source.txt",), 2),
        (("-", "-"), 2),
        (("source.txt", "--jsonl", "good.txt"), 2),
        (("source.txt", "missing.txt"), 66),
        (("--jsonl", "missing.jsonl"), 66),
        (("source.txt", "latin.txt"), 2),
        (("source.txt", "list.json"), 2),
    ],
)
def test_what_cannot_be_checked(cli: Cli, folder: Path, args: tuple[str, ...], code: int) -> None:
    """Too few texts, missing files, other encodings: an exit code and a next step, no text."""
    (folder / "latin.txt").write_bytes(f"{CANARY} \xe9".encode("latin-1"))
    (folder / "list.json").write_text(f'["{CANARY}"]')
    done = cli("check", *args)
    assert done.returncode == code and done.stdout == ""
    assert "Traceback" not in done.stderr and CANARY not in done.stderr


def test_many_outputs_of_one_note(cli: Cli) -> None:
    """A line each, in order, from one reading of the note (benchmarks/checking.py times it)."""
    note = (SOURCE + "He denies fever, chills and chest pain. Follow up in 2 weeks.\n") * 15
    rows = [{"id": i, "source": note, "output": f"Lisinopril {i} mg daily."} for i in range(1000)]
    script = (
        "import sys\nfrom medgemma_cli.cli import main\n"
        "from medgemma_cli.safety.grounding.analysis import analyse\n"
        "sys.argv = ['medgemma', 'check', '--jsonl', '-']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(analyse.cache_info().hits, file=sys.stderr)"
    )
    done = cli(python=("-c", script), input=pairs(*rows))
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == list(range(1000))
    assert int(done.stderr.split()[-1]) >= 999


def test_it_loads_nothing_heavy(cli: Cli, folder: Path) -> None:
    """Neither torch nor anything that decodes images or numbers."""
    script = (
        "import sys\nfrom medgemma_cli.safety.grounding import check\n"
        "check('Right knee pain.', 'Left knee 5 mg.')\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'PIL'} & {*sys.modules}))"
    )
    assert cli(python=("-c", script)).stdout.strip() == "[]"


def test_rules_are_listed(cli: Cli) -> None:
    """Every rule with its severity, source and an example; --json has them whole."""
    told = cli("rules")
    assert told.returncode == 0 and all(f"{rule} (" in told.stdout for rule in rules())
    assert "truncated (" in told.stdout and "emergency" in told.stdout
    listed = json.loads(cli("rules", "--json").stdout)
    assert {rule["id"] for rule in listed} > set(rules())
    assert all(rule["source"] and rule["flags"] and rule["passes"] for rule in listed)
