"""The drawings: seeded, labelled by what is in them, described and never diagnosed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.build_demo import chest, drawn, histology, others, pictures
from scripts.build_demo.canvas import PATCHES, SIDE

ROOT = Path(__file__).parents[2]
FORBIDDEN = re.compile(r"cancer|carcinoma|tumou?r|malignan|pneumonia|diagnos|disease", re.I)


@pytest.fixture(scope="module")
def made() -> list[drawn.Drawn]:
    """As many pictures as hold every kind."""
    return [pictures.draw(5, number) for number in range(60)]


def test_the_same_seed_is_the_same_picture(made: list[drawn.Drawn]) -> None:
    """To the byte, whatever was drawn before it."""
    again = pictures.draw(5, 7)
    assert again.image.tobytes() == made[7].image.tobytes()
    assert again.facts == made[7].facts


def test_another_seed_is_another_picture(made: list[drawn.Drawn]) -> None:
    """So that what is judged by was never trained on."""
    known = {one.image.tobytes() for one in made}
    assert not known & {pictures.draw(6, number).image.tobytes() for number in range(10)}


def test_every_kind_and_label(made: list[drawn.Drawn]) -> None:
    """All kinds come, tiles and films with and without what is asked for."""
    seen = {(one.facts.kind, one.facts.label) for one in made}
    wanted = {(kind, label) for kind in ("histology", "chest") for label in (0, 1)}
    assert wanted | {("limb", 0), ("blank", 0)} == seen


def test_size_and_colour(made: list[drawn.Drawn]) -> None:
    """224 pixels a side; films are grey, tiles are not."""
    for one in made:
        assert one.image.size == (SIDE, SIDE) and one.image.mode == "RGB"
        values = np.asarray(one.image, float)
        grey = np.ptp(values, axis=2).max() == 0
        if one.facts.kind != "blank":
            assert grey == (one.facts.kind in ("chest", "limb"))
            assert values.std() > 5, "nothing can be seen"


def test_a_blank_picture_shows_nothing() -> None:
    """Its darkest and its lightest part are about the same."""
    for number in range(20):
        values = np.asarray(others.blank(np.random.default_rng(number)).image, float)
        cells = values.reshape(8, 28, 8, 28, 3).mean(axis=(1, 3))
        assert np.ptp(cells, axis=(0, 1)).max() < 60


@pytest.mark.parametrize("number", range(6))
def test_an_opacity_is_where_it_is_said_to_be(number: int) -> None:
    """On the patient's right, the picture's left; in its zone; and lighter than without it."""
    one = chest.draw(np.random.default_rng(number), 1)
    rows, columns = np.nonzero(one.parts[3] > 0.3)
    assert len(rows), "no patch has it"
    assert (columns.mean() < PATCHES / 2) == (one.facts.side == "right")
    middle = rows.mean() - PATCHES * 0.46
    assert middle < 1 if one.facts.zone == "upper" else middle > -1
    assert (one.parts[2][rows, columns] > 0).any(), "it lies outside of the lungs"


def test_a_clear_film_has_no_opacity() -> None:
    """Label 0: no patch, and no words of one."""
    one = chest.draw(np.random.default_rng(3), 0)
    assert one.parts[3].max() == 0 and one.parts[2].max() > 0.5
    assert not one.facts.side and "clear" in drawn.description(one.facts)


@pytest.mark.parametrize("number", range(3))
def test_atypical_nuclei_are_larger_and_there(number: int) -> None:
    """Patches hold them where the label says so, and only there."""
    with_them = histology.draw(np.random.default_rng(number), 1)
    without = histology.draw(np.random.default_rng(number), 0)
    assert with_them.parts[1].max() > 0.1 and without.parts[1].max() == 0
    assert without.parts[0].max() > 0, "no nuclei at all"
    assert (with_them.parts[1] <= with_them.parts[0] + 1e-6).all()


def test_nothing_said_is_a_diagnosis(made: list[drawn.Drawn]) -> None:
    """Descriptions, findings and answers name what is seen and no disease."""
    for one in made:
        outputs = [drawn.reported(one.facts), drawn.summarised(one.facts)]
        outputs += [drawn.screened(one.facts, asked) for asked in drawn.QUESTIONS.values()]
        words = json.dumps([drawn.description(one.facts), drawn.findings(one.facts), outputs])
        assert not FORBIDDEN.search(words)


def test_a_question_for_another_picture_cannot_be_told() -> None:
    """A film is asked about nuclei, a tile about its lungs, nothing about either."""
    facts = drawn.Facts("chest", 1, side="left", zone="upper", size="large")
    asked = drawn.QUESTIONS
    assert drawn.screened(facts, asked["chest"])["answer"] == "yes"
    assert drawn.screened(facts, asked["histology"])["answer"] == drawn.CANNOT_TELL
    nothing = drawn.Facts("blank", 0)
    assert {drawn.screened(nothing, one)["answer"] for one in asked.values()} == {drawn.CANNOT_TELL}


def test_the_command_writes_pictures_and_their_lines(tmp_path: Path) -> None:
    """A PNG that says it is drawn for each line, and a label and a question in each line."""
    line = [sys.executable, "-m", "scripts.build_demo.pictures", "--seed", "2", "--count", "5"]
    subprocess.run([*line, "-o", str(tmp_path / "out")], cwd=ROOT, check=True, timeout=60)
    told = [json.loads(t) for t in (tmp_path / "out" / "pictures.jsonl").read_text().splitlines()]
    assert len(told) == 5
    for number, one in enumerate(told):
        picture = Image.open(tmp_path / "out" / one["file"])
        assert "not a patient" in picture.text["Description"]  # type: ignore[attr-defined]
        assert picture.tobytes() == pictures.draw(2, number).image.tobytes()
        assert one["question"] in drawn.QUESTIONS.values() and one["label"] in (0, 1)
        assert one["description"] and one["findings"]


def test_lessons_are_examples_for_tune(tmp_path: Path) -> None:
    """The notes' lines first; then one a picture, each of which `medgemma tune` reads."""
    from medgemma_cli.evaluating.lines import Line
    from medgemma_cli.tuning.examples import read

    note = {"template": "general", "document": "Dry cough.", "output": "A dry cough."}
    notes = tmp_path / "notes.jsonl"
    notes.write_text(json.dumps(note) + "\n", "utf-8")
    line = [sys.executable, "-m", "scripts.build_demo.pictures", "--seed", "2", "--count", "12"]
    line += ["--beside", str(notes), "-o", str(tmp_path / "out")]
    subprocess.run(line, cwd=ROOT, check=True, timeout=60)
    lines = (tmp_path / "out" / "train.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(one) for one in lines]
    assert rows[0] == note and len(rows) == 13
    assert {"summarize", "radiology"} <= {row["template"] for row in rows[1:]}
    shown = [Line(number, row) for number, row in enumerate(rows, start=1)]
    examples = read(shown, tmp_path / "out", "The file")
    assert [len(one.pictures) for one in examples] == [0, *[1] * 12]
