"""Every packaged template over real documents, through the installed command."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonlines
import pytest

from medgemma_cli import contracts, decoding, models, readers, templates
from medgemma_cli.choices import UNCERTAIN
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pairing import Pairs, rule
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.records import Contract, Document, Generation, Limits, Record
from medgemma_cli.summaries import render

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
RAW = Path(__file__).parents[2] / "raw"
NAMES = sorted(
    path.stem
    for path in templates.packaged_folder().glob("[!_]*.md")
    if not templates.load(path.stem).pairs
)
KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


@pytest.fixture(scope="session")
def real_documents(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few real documents of each kind, outside the repository."""
    folder = tmp_path_factory.mktemp("real")
    sources = {
        "aci-bench/valid.jsonl": ("reference", "source"),
        "mts-dialog/validation.jsonl": ("source", "reference"),
        "primock57/consultations.jsonl": ("source",),
        "meqsum/meqsum_1000.jsonl": ("source",),
    }
    for name, fields in sources.items():
        with jsonlines.open(real_data / name) as lines:
            for i, line in zip(range(3), lines, strict=False):
                for field in fields:
                    path = folder / f"{name.partition('/')[0]}-{field}-{i}.txt"
                    path.write_text(line[field], "utf-8")
    for kind in ("cxr", "histology", "blood", "other"):
        for image in sorted((real_data / "images" / kind).iterdir())[:2]:
            shutil.copy(image, folder)
    return folder


def problems(value: Any, node: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    """Where a value does not fit a JSON Schema of the kind that pydantic writes."""
    if "$ref" in node:
        node = root["$defs"][node["$ref"].rpartition("/")[2]]
    if "anyOf" in node:
        if all(any(problems(value, option, root)) for option in node["anyOf"]):
            yield f"{value!r} is none of {node['anyOf']}"
        return
    if ("const" in node and value != node["const"]) or value not in node.get("enum", [value]):
        yield f"{value!r} is no option of {node}"
    wanted = KINDS.get(node.get("type", ""), (object,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and int in wanted):
        yield f"{value!r} is no {node['type']}"
    elif isinstance(value, dict):
        known, others = node.get("properties", {}), node.get("additionalProperties", True)
        yield from (f"{name} is missing" for name in node.get("required", []) if name not in value)
        for name, item in value.items():
            if name not in known and others is False:
                yield f"{name} is unknown"
            yield from problems(
                item, known.get(name, others if others not in (True, False) else {}), root
            )
    elif isinstance(value, list):
        first = node.get("prefixItems", [])
        if not node.get("minItems", 0) <= len(value) <= node.get("maxItems", len(value)):
            yield f"{len(value)} items"
        for i, item in enumerate(value):
            yield from problems(item, first[i] if i < len(first) else node.get("items", {}), root)
    elif isinstance(value, str) and not (
        node.get("minLength", 0) <= len(value) <= node.get("maxLength", len(value))
    ):
        yield f"{len(value)} characters"


def test_the_validator_sees_what_is_wrong() -> None:
    """The small validator of these tests is not blind."""
    root = Record.model_json_schema(by_alias=True)
    for bad in (
        {},
        {"schema": "other"},
        {"status": "fine"},
        {"key": 5},
        {"coverage": {"a": ["x"]}},
    ):
        assert list(problems(bad, root, root)), bad


def documents(folder: Path) -> dict[str, Document]:
    """What the command reads in a folder, by the names that its records have."""
    found = {}
    for source in Discovery([str(folder)], readers.SUFFIXES):
        blob = readers.load(source, ReadLimits())
        found[source.relative] = readers.decode(source, blob, ReadLimits())
    return found


def contract_of(template: templates.Template, document: Document) -> Contract:
    """The contract that a document gets."""
    return templates.render(template, document, "k" * 64, Limits()).contract


def check_record(line: dict[str, Any], document: Document, template: templates.Template) -> None:
    """A good record: its output fits, its quotes stand in the source, its evidence is right."""
    contract = contract_of(template, document)
    output = line["output"]
    sure = (line["confidence"] or {}).get("fields", {})
    if contract.kind == "json":
        doubtful = {name: sure[name] for name, said in output.items() if said == UNCERTAIN}
        settled = {name: next(iter(field["options"])) for name, field in doubtful.items()}
        assert (
            decoding.parse(contract, json.dumps({**output, **settled})).fields.keys()
            == output.keys()
        )
    wanted = list(decoding.quotes(contract, output))
    flagged = [flag for flag in line["flags"] if flag["rule"] == "quote_not_in_source"]
    assert len(line["quotes"]) + len(flagged) == len(wanted)
    assert line["evidence"] == ("quotes" if line["quotes"] else "none")
    for quote in line["quotes"]:
        assert document.text[quote["start"] : quote["end"]] == quote["text"]
        assert quote["line"] == document.text.count("\n", 0, quote["start"]) + 1
        assert (quote["where"], " ".join(quote["text"].split())) in [
            (where, " ".join(words.split())) for where, words in wanted
        ]
    if document.images:
        assert line["evidence"] == "none" and "research use" in line["notice"]


def check_page(out: Path, line: dict[str, Any]) -> None:
    """The page is its record's, and its numbers are consecutive and have their evidence."""
    text = (out / line["summary"]).read_text("utf-8")
    assert text == render(Record.model_validate(line))
    numbers = re.findall(r"\\\[(\d+)\\\]", text)
    if line["quotes"]:
        evidence = text.partition("\n## Evidence\n\n")[2].partition("\n\n")[0].splitlines()
        assert [row.partition(".")[0] for row in evidence] == [
            str(i) for i in range(1, len(evidence) + 1)
        ]
        assert set(map(str, range(1, len(evidence) + 1))) <= set(numbers)
        lines = re.findall(r"^\d+\. line (\d+): ", "\n".join(evidence), re.MULTILINE)
        assert sorted(map(int, lines)) == sorted(quote["line"] for quote in line["quotes"])


def run_echo(cli: Cli, folder: Path, out: Path, name: str) -> list[dict[str, Any]]:
    """The records of one template over a folder, each checked against `medgemma schema`."""
    result = cli("run", folder, "-o", out, "--engine", "echo", "--template", name, "--json")
    assert result.returncode in (0, 3), result.stderr
    assert "Traceback" not in result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    schema = json.loads(cli("schema").stdout)
    for line in records:
        assert list(problems(line, schema, schema)) == []
    return records


def check_all(cli: Cli, folder: Path, out: Path, name: str) -> None:
    """Every document of a folder under one template."""
    template, known = templates.load(name), documents(folder)
    records = run_echo(cli, folder, out, name)
    assert {line["source"] for line in records} == set(known) and len(records) == len(known)
    for line in records:
        document = known[line["source"]]
        kind = "image" if document.images else "text"
        if kind not in template.accepts:
            assert (line["status"], line["error"]["code"]) == ("rejected", "not_accepted")
            continue
        assert line["status"] in ("ok", "flagged"), line["error"]
        # Echo says what the document says, but not all of it, and cuts a value short.
        serious = {flag["rule"] for flag in line["flags"] if flag["severity"] != "note"}
        assert serious <= {"prompt_injection", "omitted_allergy", "number_mismatch"}
        quotes = '"format": "quote"' in contract_of(template, document).json_schema
        assert line["evidence"] == ("quotes" if quotes else "none")
        assert line["confidence"] is None and line["template"]["hash"] == template.hash
        check_record(line, document, template)
        check_page(out, line)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_documents(cli: Cli, tmp_path: Path, name: str) -> None:
    """raw/: notes of every kind and three images, each with a record that holds."""
    check_all(cli, RAW, tmp_path / "out", name)


@pytest.mark.parametrize("name", NAMES)
def test_real_documents(cli: Cli, real_documents: Path, tmp_path: Path, name: str) -> None:
    """Visits, dialogues, questions and images of the world, read where they are."""
    check_all(cli, real_documents, tmp_path / "out", name)


# -- with a model ----------------------------------------------------------------------------------

SHORT = {
    "a.md": "# Ward note\n\nChest pain since Monday. No fever.\nRepeat bloods tomorrow.\n",
    "b.txt": "Sodium 128 mmol/L (133-146) low. Potassium 4.1 mmol/L (3.5-5.3).\n",
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two short notes and two images."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in SHORT.items():
        (folder / name).write_text(text, "utf-8")
    for name in ("phantom-chest.png", "he-like-tile.png"):
        shutil.copy(RAW / "images" / name, folder)
    return folder


@pytest.fixture(scope="module")
def engine(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """The tiny checkpoint, loaded once for all templates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGEMMA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield LocalEngine(
            models.resolve(str(checkpoint)),
            LocalOptions(precision="fp32", device="cpu", batch_size=4),
        )


@pytest.mark.parametrize(
    ("name", "accepted"), [("screen", 4), ("radiology", 2), ("labs", 2), ("handoff", 2)]
)
def test_on_a_tiny_model(
    engine: LocalEngine, mixed: Path, tmp_path: Path, name: str, accepted: int
) -> None:
    """Random weights: still the contract's shape, quotes that stand, and measured confidence."""
    out, template, made = tmp_path / "out", templates.load(name), list[Record]()
    job = Job(template=template, limits=Limits(max_new_tokens=160), fsync=False)
    with Ledger(out, fsync=False) as ledger:
        run = Run(job, ledger, engine, SilentReporter(), on_record=made.append)
        run.execute(Discovery([str(mixed)], readers.SUFFIXES, out=out))
    known, schema = documents(mixed), Record.model_json_schema(by_alias=True)
    good = [record for record in made if record.status in ("ok", "flagged")]
    assert len(made) == 4 and len(good) == accepted, [record.error for record in made]
    for record in good:
        line, document = json.loads(record.model_dump_json(by_alias=True)), known[record.source]
        assert list(problems(line, schema, schema)) == []
        check_record(line, document, template)
        check_page(out, line)
        check_confidence(line, contract_of(template, document))


def test_pairs_on_a_tiny_model(engine: LocalEngine, mixed: Path, tmp_path: Path) -> None:
    """Two notes and two images: every quote stands in the document that it must be of."""
    for old, new in (("a.md", "p_1.md"), ("b.txt", "p_2.txt")):
        (mixed / old).rename(mixed / new)
    for i, name in enumerate(("phantom-chest.png", "he-like-tile.png"), 1):
        (mixed / name).rename(mixed / f"p_{i}.png")
    made, found = list[Record](), Discovery([str(mixed)], readers.SUFFIXES)
    pairs = Pairs(found, rule("name:(?P<patient>.+)_(?P<order>.)"))
    # Random weights would end an empty list; a list that needs an item has a quote to check.
    packaged = (templates.packaged_folder() / "compare.md").read_text("utf-8")
    (tmp_path / "compare.md").write_text(packaged.replace("_finding, 0..8]", "_finding, 1..1]"))
    template = templates.load(str(tmp_path / "compare.md"))
    job = Job(template=template, limits=Limits(max_new_tokens=400), fsync=False)
    with Ledger(tmp_path / "out", fsync=False) as ledger:
        Run(job, ledger, engine, SilentReporter(), on_record=made.append).execute(pairs)
    assert [record.status in ("ok", "flagged") for record in made] == [True, True], made
    known = documents(mixed)
    text, image = sorted(made, key=lambda record: record.usage.images if record.usage else 0)
    assert {quote.document for quote in text.quotes} == {"prior", "current"}
    for quote in text.quotes:
        shown = known["p_1.md" if quote.document == "prior" else "p_2.txt"].text
        assert shown[quote.start : quote.end] == quote.text
    assert {"quote_not_in_source"}.isdisjoint(f.rule for r in made for f in r.flags)
    assert image.usage is not None and image.usage.images == 2 and not image.quotes
    assert "research use" in image.notice and image.prior is not None


def check_confidence(line: dict[str, Any], contract: Contract) -> None:
    """A number and how it was measured; a choice has each option's, which sum to 1."""
    sure, root = line["confidence"], json.loads(contract.json_schema)
    assert 0 <= sure["value"] <= 1
    assert sure["method"] in ("choice_probability", "token_probability")
    options = {n: node["enum"] for n, node in root["properties"].items() if "enum" in node}
    assert options.keys() <= sure["fields"].keys()
    for name, field in sure["fields"].items():
        assert 0 <= field["value"] <= 1
        if field["method"] == "choice_probability":
            assert sum(field["options"].values()) == pytest.approx(1, abs=1e-6)
            if name in options:
                assert list(field["options"]) == options[name]
                assert line["output"][name] in [*options[name], UNCERTAIN]
        else:
            assert field["minimum"] <= field["mean"]
    doubts = [flag for flag in line["flags"] if flag["rule"] == UNCERTAIN]
    assert len(doubts) == list(line["output"].values()).count(UNCERTAIN)
    assert "not how likely it is to be true" in render(Record.model_validate(line))


def test_a_text_or_a_word_has_its_confidence() -> None:
    """`text | not stated` is a text of the model's own, and is measured like one."""
    contract = contracts.contract({"a": "text | not stated"})
    generation = Generation(id="a", text='{"a":"Well today."}', tokens=((6, -0.1), (17, -0.2)))
    output = decoding.parse(contract, generation.text)
    _, sure, _ = decoding.settle(contract, generation, output)
    assert sure is not None and sure["method"] == "token_probability"
