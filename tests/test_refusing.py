"""`ask`: a typed emergency or wish for advice meets fixed words, never a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli.records import Record
from medgemma_cli.safety.framing import ADVICE_ANSWER, EMERGENCY_ANSWER

Cli = Callable[..., Any]
CANARY = "CANARY7Q"
CASES = [
    ("I have crushing chest pain", "emergency", EMERGENCY_ANSWER),
    ("Can I stop my warfarin?", "personal_advice", ADVICE_ANSWER),
]
HEAVY = {"torch", "transformers", "PIL", "numpy", "accelerate", "huggingface_hub", "jinja2"}

# Runs the command and writes what was imported to a file.
_TELL = """
import atexit, json, os, sys
from medgemma_cli.cli import main
atexit.register(lambda: json.dump(sorted(sys.modules), open(os.environ["MODULES"], "w")))
main()
"""


@pytest.mark.parametrize(("question", "rule", "answer"), CASES)
def test_the_fixed_answer_and_0(cli: Cli, question: str, rule: str, answer: str) -> None:
    """Standard output has the fixed words alone, standard error the flag and the notice."""
    done = cli("ask", question, "--offline")
    assert (done.returncode, done.stdout) == (0, f"{answer}\n")
    assert f"stop: {rule}: " in done.stderr and "does not diagnose" in done.stderr


@pytest.mark.parametrize(("question", "rule", "answer"), CASES)
def test_the_flag_is_in_the_record(cli: Cli, question: str, rule: str, answer: str) -> None:
    """`--json` gives a whole record: flagged, by no engine, with the fixed answer."""
    done = cli("ask", question, "--json")
    assert done.returncode == 0
    record = Record.model_validate_json(done.stdout)
    assert [(flag.rule, flag.severity) for flag in record.flags] == [(rule, "stop")]
    assert (record.status, record.model.engine, record.error) == ("flagged", "none", None)
    assert record.output == {"answer": answer} and record.raw_text == answer


@pytest.mark.parametrize("question", [case[0] for case in CASES])
def test_no_model_and_no_torch(cli: Cli, tmp_path: Path, question: str) -> None:
    """Nothing heavy is imported, and a model that is not there is not looked for."""
    told = tmp_path / "modules.json"
    done = cli("ask", question, python=("-c", _TELL), env={"MODULES": str(told)})
    assert done.returncode == 0
    assert HEAVY.isdisjoint(name.partition(".")[0] for name in json.loads(told.read_text()))


@pytest.mark.parametrize("question", [case[0] for case in CASES])
def test_nothing_stands_in_the_way(cli: Cli, question: str) -> None:
    """A missing file, template or model, or a folder that is no ledger, is not even noticed."""
    args = ("-f", "gone.md", "-t", "none", "--model", "no/such", "-o", "/proc/x", "--offline")
    done = cli("ask", question, *args)
    assert done.returncode == 0 and "medgemma: note: nothing was asked" in done.stderr


def test_quiet_still_answers(cli: Cli) -> None:
    """`-q` takes the flag and the notice away, never the answer."""
    done = cli("ask", "my husband is not breathing", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{EMERGENCY_ANSWER}\n", "")


def test_only_the_typed_question_is_triaged(cli: Cli, tmp_path: Path) -> None:
    """A document with an emergency and a patient's question is answered about, with notes."""
    note = "PC: crushing chest pain since 08:00.\nPatient: should I stop my aspirin?\n"
    (tmp_path / "n.md").write_text(note, "utf-8")
    args = ("ask", "What is reported?", "-f", "n.md", "--engine", "echo", "--json")
    record = Record.model_validate_json(cli(*args).stdout)
    notes = {flag.rule: flag.severity for flag in record.flags}
    assert notes == {"emergency": "note", "personal_advice": "note"}
    assert (record.status, record.model.engine) == ("ok", "echo")


def test_a_question_about_the_document_is_asked(cli: Cli, tmp_path: Path) -> None:
    """Chest pain in a question about a note is no emergency."""
    (tmp_path / "n.md").write_text("Chest pain for two days, resolved.\n", "utf-8")
    question = "Summarise the chest pain history in this note"
    done = cli("ask", question, "-f", "n.md", "--engine", "echo")
    assert done.stdout.startswith("Chest pain for two days")


@pytest.mark.parametrize("question", [case[0] for case in CASES])
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_a_refused_question_leaves_no_trace(
    cli: Cli, tmp_path: Path, question: str, more: tuple[str, ...]
) -> None:
    """Fault 95: neither the question nor a file's name is in the answer, the log or a file."""
    asked = f"{question} I am {CANARY}"
    (tmp_path / f"{CANARY}.md").write_text(f"{CANARY}\n", "utf-8")
    before = sorted(tmp_path.rglob("*"))
    done = cli("ask", asked, "-f", f"{CANARY}.md", "-o", "out", *more)
    assert done.returncode == 0 and CANARY not in done.stdout + done.stderr
    assert sorted(tmp_path.rglob("*")) == before


_FAULTY = """
import importlib, os
from medgemma_cli.cli import main
module, _, name = os.environ["PLACE"].partition(":")
owner = importlib.import_module(f"medgemma_cli.{module}")

def raises(*args, **settings):
    raise KeyError(f"CANARY7Q {args} {settings}")

setattr(owner, name, raises)
main()
"""


@pytest.mark.parametrize("command", ["ask", "run"])
@pytest.mark.parametrize(
    "place",
    [
        "safety.triage:find_emergency",
        "safety.triage:find_request",
        "safety.emergency:is_happening",
        "safety.verdict:triage",
        "safety.verdict:triage_output",
        "refusing:fixed_answer",
    ],
)
def test_a_failing_check_leaves_no_trace(
    cli: Cli, tmp_path: Path, place: str, command: str
) -> None:
    """Fault 95: an exception in triage that quotes what it was given is not quoted."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text(f"{CANARY} has chest pain. Should I stop it?\n")
    asked = f"I am {CANARY}, I have chest pain"
    if "verdict" in place:
        asked = f"Who is {CANARY}?"
    args: tuple[object, ...] = ("ask", asked, "-f", "in/a.md", "--engine", "echo")
    if command == "run":
        args = ("run", "in", "-o", "out", "--question", asked, "--engine", "echo", "-v")
    done = cli(*args, python=("-c", _FAULTY), env={"PLACE": place})
    assert CANARY not in done.stderr and "Traceback" not in done.stderr
