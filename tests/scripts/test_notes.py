"""The invented notes: seeded, distinct, varied, and answered as the tool itself would accept."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from medgemma_cli.commands.lessons import read
from scripts.build_demo import golds, notes, telling
from scripts.build_demo.facts import patient, review

ROOT = Path(__file__).parents[2]
COUNT = 150


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    """As many examples as show what there is."""
    return list(notes.examples(11, COUNT))


def test_the_same_seed_is_the_same_notes(made: list[dict[str, Any]]) -> None:
    """To the byte, and a smaller count is the beginning of a larger one."""
    assert list(notes.examples(11, 20)) == made[:20]


def test_other_seeds_are_other_notes(made: list[dict[str, Any]]) -> None:
    """No document of one stands in another."""
    other = {example["document"] for example in notes.examples(12, 50)}
    assert not other & {example["document"] for example in made}


def test_no_document_twice(made: list[dict[str, Any]]) -> None:
    """Tens of thousands are to be had: among a few there is none twice."""
    assert len({example["document"] for example in made}) == COUNT


def test_every_template_is_taught(made: list[dict[str, Any]]) -> None:
    """All that read text; summaries most."""
    count = Counter(example["template"] for example in made)
    assert set(count) == {"summarize", "handoff", "labs", "general", "screen"}
    assert count["summarize"] > COUNT / 2


def test_tune_takes_them(made: list[dict[str, Any]], tmp_path: Path) -> None:
    """Quotes stand word for word, outputs fit: none is refused."""
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(example) + "\n" for example in made), "utf-8")
    assert len(read(path, "The file").examples) == COUNT


def test_a_gold_that_the_checks_flag_is_thrown_away() -> None:
    """A drug that the document does not name."""
    document = "Doctor: What do you take?\nPatient: I take ramipril 5 mg once daily."
    good = {"template": "general", "document": document, "output": "Ramipril 5 mg once daily."}
    assert notes._passes(good)
    assert not notes._passes(good | {"output": "Warfarin 3 mg once daily."})
    assert not notes._passes(good | {"output": "Ramipril 10 mg once daily."})


def test_summaries_say_no_more_than_the_document(made: list[dict[str, Any]]) -> None:
    """Every number of a summary stands in its document; age and sex are left out."""
    for example in made:
        if example["template"] != "summarize":
            continue
        summary, document = example["output"]["summary"], example["document"].lower()
        for number in re.findall(r"\d+(?:[./]\d+)?", summary):
            assert number in document
        assert not re.search(r"\b(She|He|woman|man|years old|-year-old)\b", summary)
        assert not re.search(r"\bdenies\b", summary)


def test_levels_of_risk_are_not_guessed(made: list[dict[str, Any]]) -> None:
    """A level has a reason that names it; without one it is unknown."""
    levels = Counter()
    for example in made:
        if example["template"] != "summarize":
            continue
        output = example["output"]
        levels[output["risk_level"]] += 1
        if output["risk_level"] == "unknown":
            assert output["risk_reason"] == "not stated"
        else:
            assert output["risk_level"] in output["risk_reason"]["quote"].lower()
    assert len(levels) >= 3


@pytest.mark.parametrize("style", ["conversation", "narrative", "sections", "shorthand", "letter"])
def test_every_style_tells_its_facts(style: str) -> None:
    """What is told of a fact is one line's text, word for word; the sex is told where it says."""
    for seed in range(30):
        draw = Random(seed)
        who = patient(draw)
        document = getattr(telling, style)(draw, who, list(who.facts))
        assert [one.fact for one in document.told] == list(who.facts)
        for one in document.told:
            assert any(one.quote in line for line in document.text.splitlines())
        if document.age:
            assert str(who.age) in document.text
        assert "{S}" not in document.text


def test_summaries_have_room() -> None:
    """Never over the contract's length, whatever a patient has."""
    for seed in range(100):
        draw = Random(seed)
        who = patient(draw)
        document = telling.tell(draw, who, list(who.facts))
        assert 0 < len(golds.summary(document)) <= 500


def test_of_answers_alone_little_is_told() -> None:
    """Where all is asked and answered with a word, nothing is made up: one finding, no list."""
    draw = Random(5)
    who = patient(draw)
    document = telling.conversation(draw, who, review(draw, woman=who.woman))
    output = golds.summarize(draw, document).output
    assert output["summary"] == golds.NOTHING
    assert [one["statement"] for one in output["key_findings"]] == [golds.NOTHING]
    assert output["key_findings"][0]["quote"] in document.text
    assert not output["medications"] + output["allergies"] + output["recommendations"]


def test_laboratory_rows() -> None:
    """Value, range and flag are those of the line; a flag only where the line marks it."""
    for seed in range(60):
        text, asked = golds.labs(Random(seed))
        for row in asked.output["results"]:
            line = next(
                line for line in text.splitlines() if row["quote"] == " ".join(line.split())
            )
            assert row["analyte"] in line and row["value"] in line and row["unit"] in line
            marked = re.search(r"(?:\s|\|)(H|L|HIGH|LOW)$", line)
            assert (row["flag"] != "not stated") == bool(marked)


def test_the_command(tmp_path: Path) -> None:
    """Writes as many lines as asked for."""
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "scripts.build_demo.notes", "--seed", "3", "--count", "4"]
    subprocess.run([*command, "-o", str(path)], cwd=ROOT, check=True)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(lines) == 4 and lines == list(notes.examples(3, 4))
