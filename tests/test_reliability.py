"""The table of faults in the documentation: each fault once, each with a test that names it."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"
HEADING = "## The faults"
FAULTS = range(1, 131)
_NUMBERS = re.compile(r"\bfaults? (\d+(?:(?:, | and | to )\d+)*)", re.IGNORECASE)


class Row(NamedTuple):
    """One line of the table."""

    number: int
    fault: str
    outcome: str
    test: str


def rows() -> list[Row]:
    """The table under its heading."""
    section = PAGE.read_text("utf-8").partition(f"{HEADING}\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section.splitlines()
        if re.match(r"\| *\d", line)
    ]
    return [Row(int(n), fault, outcome, test.strip("`")) for n, fault, outcome, test in cells]


def numbers(docstring: str) -> set[int]:
    """The faults a docstring names: `Fault 7`, `Faults 3 and 4`, `Faults 52 to 58`."""
    found: set[int] = set()
    for match in _NUMBERS.finditer(docstring):
        found.update(map(int, re.findall(r"\d+", match[1])))
        for first, last in re.findall(r"(\d+) to (\d+)", match[1]):
            found.update(range(int(first), int(last) + 1))
    return found


def docstring(test: str) -> str | None:
    """What a test says of itself; None where there is no such test."""
    path, _, name = test.partition("::")
    if not (ROOT / path).is_file():
        return None
    for node in ast.parse((ROOT / path).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    return None


def test_each_fault_has_its_row() -> None:
    """Numbers 1 to 130, in order, each with words for the fault and for what it comes to."""
    found = rows()
    assert [row.number for row in found] == list(FAULTS)
    assert all(row.fault and row.outcome for row in found)


@pytest.mark.parametrize("number", FAULTS)
def test_the_test_of_a_row_is_there(number: int) -> None:
    """It exists, can be found by its name, and names the fault."""
    (row,) = [row for row in rows() if row.number == number]
    path, _, name = row.test.partition("::")
    assert path.startswith("tests/") and name.startswith("test_")
    said = docstring(row.test)
    assert said is not None, f"{row.test} is not there"
    assert number in numbers(said), f"{row.test} does not name fault {number}"


def test_numbers_are_read_as_people_write_them() -> None:
    """One, several, and all from one to another."""
    assert numbers("Fault 7: x.") == {7}
    assert numbers("2: usage; fault 97: OUT.") == {97}
    assert numbers("Faults 37, 38 and 39: y.") == {37, 38, 39}
    assert numbers("Faults 1 to 3: z. Defaults 5.") == {1, 2, 3}
