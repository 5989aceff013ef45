"""The enumeration notices a ledger broken on purpose; else its silence would mean nothing.

The same scenarios find nothing where nothing is broken: `test_enumerate.py`.
"""

import pytest
from kit import Drive
from mutations import MUTANTS


@pytest.mark.parametrize("name", MUTANTS)
def test_is_noticed(drive: Drive, name: str) -> None:
    """One way to break it, and the violation that it must come to."""
    mutant = MUTANTS[name]
    found = drive(states=mutant.states, mutation=name, stop=mutant.noticed)["violations"]
    assert any(mutant.noticed in violation for violation in found), found
