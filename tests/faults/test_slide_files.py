"""Slides through the command: patches in the prompt, places in the record, never a name."""

import json
from pathlib import Path

import pytest
from outcomes import Outcome, Run, contents
from slide_kit import aperio, glass

# The engine answers with the kinds and words of the prompt's parts, in order.
_SEEING = """
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
real = EchoEngine._answer

def answer(self, prompt):
    user = prompt.messages[-1].parts
    text = " | ".join(part.text.strip() or part.kind for part in user)
    return real(self, prompt).model_copy(update={"text": text})

EchoEngine._answer = answer
main()
"""
SECRETS = "|Filename = QUILLFEATHER77319|Patient = QUILLFEATHER77319|Barcode = QUILLFEATHER77319"
SPECIMEN = aperio(glass(900, 1792, (0, 0, 900, 1700)), mpp=1.0, power=10, more=SECRETS)
ONE = ("--max-pixels", str(896 * 896))


def shown(run: Run, folder: Path, *args: str) -> Outcome:
    """The run of a template with free text, by an engine that says what it is asked."""
    return run(folder, "-t", "general", *args, python=("-c", _SEEING))


@pytest.fixture
def specimen(folder: Path) -> None:
    """The folder has a slide."""
    (folder / "a.svs").write_bytes(SPECIMEN)


@pytest.mark.usefixtures("specimen")
def test_the_prompt(run: Run, folder: Path) -> None:
    """What it is first, then the patches with their numbers, the template's question last."""
    done = shown(run, folder, *ONE, "--keep-views")
    assert done.code == 0
    record = done.records["a.svs"]
    parts = record["raw_text"].split(" | ")
    assert parts[0].startswith("1 of 2 patches with tissue of one whole-slide")
    assert parts[1:3] == ["image", "PATCH 1"] and len(parts) == 4
    assert record["usage"]["images"] == 1
    assert record["coverage"] == {"patches": [1, 2]}
    assert "partial_coverage" in {flag["rule"] for flag in record["flags"]}
    assert record["slide"]["seed"] == 0 and len(record["slide"]["places"]) == 1
    assert record["views"] == "a.svs.views.jpg"


@pytest.mark.usefixtures("specimen")
def test_no_name_of_the_header(run: Run, folder: Path, tmp_path: Path) -> None:
    """In no file of OUT, and on no stream."""
    done = shown(run, folder, "--keep-views", "-v", "--json")
    assert done.code == 0
    for data in [*contents(tmp_path / "out").values(), done.stdout.encode(), done.stderr.encode()]:
        assert b"quillfeather" not in data.lower()


@pytest.mark.usefixtures("specimen")
def test_seeds(run: Run, folder: Path) -> None:
    """Nothing is done again for the same seed; another seed is another question."""
    for seed, line in ((0, 1), (0, 1), (3, 2)):
        done = run(folder, "-t", "radiology", *ONE, "--seed", str(seed))
        assert len(done.lines) == line
    assert [line["slide"]["seed"] for line in done.lines] == [0, 3]


def test_slides_that_are_none(run: Run, folder: Path) -> None:
    """Each is a clear failure of its own, and the good one beside them is done: 3."""
    blank = aperio(glass(900, 900))
    (folder / "blank.svs").write_bytes(blank)
    (folder / "cut.svs").write_bytes(SPECIMEN[:50_000])
    (folder / "words.ndpi").write_text("just words")
    (folder / "good.tif").write_bytes(SPECIMEN)
    (folder / "large.svs").write_bytes(SPECIMEN + bytes(100))
    size = str(len(SPECIMEN))
    done = run(folder, "-t", "radiology", "--max-slide-bytes", size, "--max-bytes", "1000")
    assert done.code == 3
    assert {name: done.ended(name) for name in done.records} == {
        "blank.svs": "rejected/no_tissue",
        "cut.svs": "rejected/slide_corrupt",
        "words.ndpi": "rejected/slide_corrupt",
        "good.tif": "ok",
        "large.svs": "rejected/slide_too_large",
    }


def test_a_magnification_that_is_not_stated(run: Run, folder: Path) -> None:
    """What was assumed is flagged: a person must look."""
    (folder / "a.svs").write_bytes(aperio(glass(900, 900, (0, 0, 900, 900)), mpp="", power=""))
    record = run(folder, "-t", "radiology").records["a.svs"]
    assert record["status"] == "flagged"
    assert "magnification_assumed" in {flag["rule"] for flag in record["flags"]}
    assert json.dumps(record).count("magnification_assumed:20x") == 1
