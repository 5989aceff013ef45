"""`medgemma eval`: streams, exit codes, JSON, pages; no document text in what is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import (
    MEDMCQA,
    MEDQA,
    MMLU,
    OWN,
    PUBMEDQA,
    failed,
    flag,
    jsonl,
    ledger,
    record,
    screened,
)

Cli = Callable[..., Any]
CANARY = "CANARY7Q"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of four records: good, flagged, failed, and one whose output has no summary."""
    return ledger(
        tmp_path / "out",
        [
            record("a.md"),
            record("ward/b.md", status="flagged", flags=(flag("number_mismatch"),)),
            failed("c.md"),
            record("d.md", output={"answer": CANARY}),
        ],
    )


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """References of all four and of one that is not there."""
    return jsonl(
        tmp_path / "ref.jsonl",
        {"source": "a.md", "reference": "Dry cough."},
        {"id": "b", "reference": f"{CANARY} night sweats"},
        {"sha256": "sha of c.md", "reference": "No fever."},
        {"source": "d.md", "reference": "Rash."},
        {"source": "gone.md", "reference": "Rash."},
    )


def told(result: Any, code: int = 0) -> dict[str, Any]:
    """The one JSON line of a command."""
    assert result.returncode == code, result.stderr
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    assert value["schema"] == "medgemma.eval/1"
    return value


def by_name(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures by name."""
    return {figure["name"]: figure for figure in value["figures"]}


# -- summaries ----------------------------------------------------------------------------------


def test_summaries_as_json(here: Cli, out: Path, references: Path) -> None:
    """Overlap over what can be compared, the checks over all, and how they were matched."""
    value = told(here("eval", "summaries", out, "--references", references, "--json"))
    facts, figures = value["facts"], by_name(value)
    assert (facts["documents"], facts["with a reference"]) == (4, 3)
    assert (facts["references of no document"], facts["without that field"]) == (1, 1)
    assert facts["bleu"].startswith("nrefs:1|")
    # One whole match, one miss, one that failed: the last counts as a miss, too.
    assert figures["rougeL"]["n"] == 3
    assert figures["rougeL"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert figures["failed"]["value"] == 0.25 and figures["flagged"]["n"] == 3
    assert figures["flag_number_mismatch"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert value["flags"] == {"number_mismatch": 1}


def test_summaries_for_people(cli: Cli, out: Path, references: Path) -> None:
    """A table, and in words what it does not tell; no document text."""
    result = cli("eval", "summaries", out, "--references", references)
    assert result.returncode == 0 and result.stderr == ""
    assert "ICC 0.36" in result.stdout and "not correctness" in result.stdout.replace("\n", " ")
    assert "ROUGE-Lsum" in result.stdout and "chrF" in result.stdout
    assert CANARY not in result.stdout and "sweats" not in result.stdout


def test_summaries_repeat(here: Cli, out: Path, references: Path, tmp_path: Path) -> None:
    """The same bytes again, and with the lines of ledger and references in another order."""
    args = ("--references", references, "--json")
    first = here("eval", "summaries", out, *args).stdout
    for path in (out / "records.jsonl", references):
        lines = path.read_text("utf-8").splitlines(keepends=True)
        path.write_text("".join(reversed(lines)), "utf-8")
    assert here("eval", "summaries", out, *args).stdout == first


def test_summaries_without_references(cli: Cli, out: Path) -> None:
    """What the checks found; the packages for overlap are not even imported."""
    block = "import sys; sys.modules['rouge_score'] = sys.modules['sacrebleu'] = None; "
    main = "from medgemma_cli.cli import main; main()"
    value = told(cli("eval", "summaries", out, "--json", python=("-c", block + main)))
    assert set(by_name(value)) >= {"failed", "flagged", "quotes", "omissions"}
    assert "rougeL" not in by_name(value)


def test_missing_packages_are_69(cli: Cli, out: Path, references: Path) -> None:
    """Said with the command that installs them, before anything is read."""
    block = "import sys; sys.modules['rouge_score'] = None; "
    main = "from medgemma_cli.cli import main; main()"
    args = ("eval", "summaries", out, "--references", references)
    result = cli(*args, python=("-c", block + main))
    assert result.returncode == 69 and result.stdout == ""
    assert "pip install 'medgemma-cli[eval]'" in result.stderr


def test_only_current_records_count(here: Cli, out: Path) -> None:
    """A document's last line is what it came to."""
    with (out / "records.jsonl").open("a") as file:
        file.write(record("c.md").model_dump_json(by_alias=True) + "\n")
    assert by_name(told(here("eval", "summaries", out, "--json")))["failed"]["value"] == 0


def test_another_field(here: Cli, out: Path, references: Path) -> None:
    """--field; one that nothing has is 2 with the fields that there are, and no text."""
    args = ("eval", "summaries", out, "--references", references, "--json", "--field")
    assert told(here(*args, "answer"))["facts"]["with a reference"] == 2
    result = here(*args, "findings")
    assert result.returncode == 2 and "answer, summary" in result.stderr
    assert CANARY not in result.stderr


def test_page_of_summaries(here: Cli, out: Path, references: Path, tmp_path: Path) -> None:
    """Written 0600, again over itself, and over nothing else."""
    page = tmp_path / "page.html"
    args = ("eval", "summaries", out, "--references", references, "--html", page)
    assert here(*args).returncode == here(*args).returncode == 0
    text = page.read_text("utf-8")
    assert page.stat().st_mode & 0o777 == 0o600
    assert "ROUGE-Lsum" in text and "ICC 0.36" in text and "<svg" in text and CANARY not in text
    for other in (out / "records.jsonl", references, tmp_path):
        before = other.read_bytes() if other.is_file() else b""
        result = here(*args[:-1], other)
        assert result.returncode == 2 and result.stdout == ""
        assert other.is_dir() or other.read_bytes() == before


def test_a_bad_line_is_2(cli: Cli, out: Path, tmp_path: Path) -> None:
    """Named by its number; its text is not quoted."""
    path = jsonl(tmp_path / "bad.jsonl", {"source": "a.md", "reference": "x"}, f'{{"{CANARY}": 1')
    result = cli("eval", "summaries", out, "--references", path)
    assert result.returncode == 2 and "Line 2" in result.stderr and CANARY not in result.stderr


@pytest.mark.parametrize("command", ["summaries", "compare"])
def test_no_ledger_is_78(here: Cli, tmp_path: Path, command: str) -> None:
    """A folder that no run wrote."""
    folders = [tmp_path] * (2 if command == "compare" else 1)
    assert here("eval", command, *folders).returncode == 78


def test_an_empty_ledger_is_66(here: Cli, tmp_path: Path) -> None:
    """No record: nothing to measure."""
    assert here("eval", "summaries", ledger(tmp_path / "none", [])).returncode == 66


def test_references_that_are_not_there_are_66(here: Cli, out: Path, tmp_path: Path) -> None:
    """A path that does not exist, and a file without a line; neither is named."""
    for path in (tmp_path / CANARY, jsonl(tmp_path / "empty.jsonl")):
        result = here("eval", "summaries", out, "--references", path)
        assert result.returncode == 66 and CANARY not in result.stderr


# -- compare ------------------------------------------------------------------------------------


@pytest.fixture
def better(tmp_path: Path) -> Path:
    """The same documents as `out`, after a change: c is done, b lost its flag, a is flagged."""
    return ledger(
        tmp_path / "better",
        [
            record("a.md", status="flagged", flags=(flag("laterality_flip"),)),
            record("ward/b.md", output={"summary": "Night sweats."}),
            record("c.md", output={"summary": "No fever."}),
            record("d.md", output={"answer": "x"}),
        ],
    )


def test_compare_as_json(here: Cli, out: Path, better: Path, references: Path) -> None:
    """Both sides, the difference, its interval; and what changed in each document."""
    value = told(here("eval", "compare", out, better, "--references", references, "--json"))
    deltas = {row["name"]: row for row in value["deltas"]}
    one = deltas["rouge1"]
    assert (one["before"], one["n"]) == (pytest.approx(1 / 3, abs=1e-6), 3)
    assert one["change"] == pytest.approx(one["after"] - one["before"], abs=2e-6)
    assert one["low"] <= one["change"] <= one["high"] and one["better"] == "higher"
    assert deltas["failed"]["change"] == -0.25 and deltas["failed"]["better"] == "lower"
    changes = {row["source"]: row for row in value["changes"]}
    assert sorted(changes) == ["a.md", "c.md", "ward/b.md"]
    assert changes["a.md"]["gained"] == ["laterality_flip"]
    assert (changes["c.md"]["before"], changes["c.md"]["after"]) == ("failed", "ok")
    assert changes["c.md"]["deltas"]["rougeL"] == 1


def test_compare_for_people(here: Cli, out: Path, better: Path, references: Path) -> None:
    """Differences with their sign, documents by name, on standard output; no document text."""
    result = here("eval", "compare", out, better, "--references", references)
    assert result.returncode == 0 and result.stderr == ""
    assert "failed → ok" in result.stdout and "+laterality_flip" in result.stdout
    assert "-number_mismatch" in result.stdout and "-0.250" in result.stdout
    assert CANARY not in result.stdout and "sweats" not in result.stdout


def test_a_folder_and_itself(here: Cli, out: Path) -> None:
    """Nothing changed, and no gate closes."""
    result = here("eval", "compare", out, out, "--fail-if-worse", "flagged")
    assert result.returncode == 0 and "no document changed" in result.stdout


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        (["failed"], 0),
        (["flag_laterality_flip"], 4),
        (["flag_laterality_flip:0.25"], 0),
        (["flag_laterality_flip:0.2"], 4),
        (["flag_negation_flip"], 0),
        (["failed", "flag_laterality_flip"], 4),
        (["rougeL"], 0),
        (["exact_match:0.1"], 0),
        (["quotes:1"], 4),  # neither side has a finding: it cannot be told
    ],
)
def test_the_gate(
    here: Cli, out: Path, better: Path, references: Path, gates: list[str], code: int
) -> None:
    """4 where B is worse than A by more than the margin; which measure, on standard error."""
    asked = [part for gate in gates for part in ("--fail-if-worse", gate)]
    result = here("eval", "compare", out, better, "--references", references, *asked)
    assert result.returncode == code
    assert (gates[-1].partition(":")[0] in result.stderr) is (code == 4)


@pytest.mark.parametrize(
    ("gate", "words"),
    [("rouge", "rougeLsum"), ("flag_nothing", "flag_number_mismatch"), ("bleu:x", "margin")],
)
def test_a_gate_that_makes_no_sense_is_2(here: Cli, out: Path, gate: str, words: str) -> None:
    """With the list of measures."""
    args = ("eval", "compare", out, out, "--fail-if-worse", gate)
    result = here(*args)
    assert result.returncode == 2 and words in result.stderr and result.stdout == ""


def test_a_gate_on_overlap_needs_references(here: Cli, out: Path) -> None:
    """Without them it would always be open."""
    result = here("eval", "compare", out, out, "--fail-if-worse", "rougeL")
    assert result.returncode == 2 and "--references" in result.stderr


def test_nothing_in_common_is_66(here: Cli, out: Path, tmp_path: Path) -> None:
    """Two runs over two inputs cannot be compared."""
    other = ledger(tmp_path / "other", [record("z.md"), record("a.md", sha256="other")])
    assert here("eval", "compare", out, other).returncode == 66


def test_help_says_what_decides(here: Cli) -> None:
    """The difference, not its interval."""
    words = " ".join(here("eval", "compare", "--help").stdout.split())
    assert "The difference itself decides, not its interval" in words


# -- screen -------------------------------------------------------------------------------------


def scores(path: Path, n: int) -> Path:
    """`n` items whose scores are mostly right."""
    rows = [{"score": i / n, "label": int(i % 7 != 0 and i > n / 2)} for i in range(n)]
    return jsonl(path, *rows)


def test_screen_of_a_file(here: Cli, tmp_path: Path) -> None:
    """100 items and more: values, intervals, bins, and a verdict in words."""
    path = scores(tmp_path / "s.jsonl", 120)
    value = told(here("eval", "screen", path, "--threshold", "0.6", "--json"))
    figures = by_name(value)
    assert list(figures) == [
        "auroc",
        "sensitivity",
        "specificity",
        "brier",
        "ece",
        "ece_adaptive",
    ]
    assert figures["auroc"]["low"] <= figures["auroc"]["value"] <= figures["auroc"]["high"]
    assert "better than chance" in value["facts"]["verdict"]
    assert sum(one["n"] for one in value["bins"]) == 120 and len(value["bins"]) == 15


def test_few_items_have_no_value_and_no_verdict(here: Cli, tmp_path: Path) -> None:
    """99 items: n and the intervals, and why."""
    value = told(here("eval", "screen", scores(tmp_path / "s.jsonl", 99), "--json"))
    assert {figure["value"] for figure in value["figures"]} == {None}
    assert all(figure["low"] is not None and figure["n"] for figure in value["figures"])
    assert "verdict" not in value["facts"] and "Under 100 items" in value["notes"][0]


def test_screen_repeats(here: Cli, tmp_path: Path) -> None:
    """The same bytes, in whatever order the lines stand."""
    path = scores(tmp_path / "s.jsonl", 110)
    first = here("eval", "screen", path, "--json").stdout
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert here("eval", "screen", path, "--json").stdout == first


def test_screen_of_a_folder(here: Cli, tmp_path: Path) -> None:
    """The probability of yes among all options, from the records; who has none is counted."""
    records = [screened(f"{i}.md", (i + 0.5) / 120) for i in range(120)]
    out = ledger(tmp_path / "out", [*records, record("plain.md"), failed("bad.md")])
    rows: list[dict[str, Any]] = [{"source": f"{i}.md", "label": int(i >= 60)} for i in range(118)]
    rows += [{"id": "plain", "label": 1}, {"source": "bad.md", "label": 0}, {"id": "x", "label": 0}]
    labels = jsonl(tmp_path / "labels.jsonl", *rows)
    value = told(here("eval", "screen", out, "--labels", labels, "--json"))
    assert by_name(value)["auroc"]["value"] == 1 and value["facts"]["items"] == 118
    assert value["facts"]["labelled documents without a probability"] == 2
    assert value["facts"]["documents without a label"] == 2
    assert value["facts"]["labels of no document"] == 1


def test_another_option_is_positive(here: Cli, tmp_path: Path) -> None:
    """--positive no turns it round."""
    records = [screened(f"{i}.md", (i + 0.5) / 100) for i in range(100)]
    out = ledger(tmp_path / "out", records)
    rows = [{"source": f"{i}.md", "label": int(i >= 50)} for i in range(100)]
    labels = jsonl(tmp_path / "labels.jsonl", *rows)
    value = told(here("eval", "screen", out, "--labels", labels, "--positive", "no", "--json"))
    assert by_name(value)["auroc"]["value"] == 0


def test_a_folder_without_probabilities_is_66(here: Cli, out: Path, tmp_path: Path) -> None:
    """Echo scores nothing; the template may be another."""
    labels = jsonl(tmp_path / "labels.jsonl", {"source": "a.md", "label": 1})
    result = here("eval", "screen", out, "--labels", labels)
    assert result.returncode == 66 and "--positive" in result.stderr


def test_screen_of_what_cannot_be_meant(here: Cli, out: Path, tmp_path: Path) -> None:
    """A folder without labels, labels for a file, a threshold over 1, a label of 2."""
    path = jsonl(tmp_path / "s.jsonl", {"score": 0.5, "label": 1}, {"score": 0.5, "label": 2})
    assert here("eval", "screen", out).returncode == 2
    assert here("eval", "screen", path, "--labels", path).returncode == 2
    assert here("eval", "screen", path, "--threshold", "1.5").returncode == 2
    result = here("eval", "screen", path)
    assert result.returncode == 2 and "Line 2" in result.stderr


def test_page_of_screening(here: Cli, tmp_path: Path) -> None:
    """With the reliability diagram."""
    page = tmp_path / "page.html"
    done = here("eval", "screen", scores(tmp_path / "s.jsonl", 120), "--html", page)
    assert done.returncode == 0 and page.read_text().count("<title>8 items</title>") == 15


# -- qa -----------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A question of each kind."""
    return jsonl(tmp_path / "q.jsonl", OWN, MEDQA, MEDMCQA, PUBMEDQA, MMLU)


def test_qa_with_echo(here: Cli, asked: Path) -> None:
    """Kinds apart; echo has no likelihoods; progress on standard error alone."""
    result = here("eval", "qa", asked, "--engine", "echo", "--json")
    value = told(result)
    figures = by_name(value)
    assert {name.partition(".")[0] for name in figures} == {
        "canonical",
        "medqa",
        "medmcqa",
        "pubmedqa",
        "mmlu",
    }
    assert figures["medqa.letters"]["value"] is None
    assert figures["medqa.chance"]["value"] == 0.25
    assert value["facts"]["answered"] == 5
    assert result.stderr == "medgemma: 5 questions: 5 asked, 0 kept\n"


def test_qa_goes_on(here: Cli, asked: Path, tmp_path: Path) -> None:
    """With -o what is answered is not asked again; a changed question is."""
    args = ("eval", "qa", asked, "--engine", "echo", "-o", tmp_path / "kept")
    assert "5 asked, 0 kept" in here(*args).stderr
    assert "0 asked, 5 kept" in here(*args).stderr
    jsonl(asked, {**OWN, "question": "Other?"}, MEDQA, MEDMCQA, PUBMEDQA, MMLU)
    assert "1 asked, 4 kept" in here(*args).stderr
    lines = (tmp_path / "kept" / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 6 and "secret" not in "".join(lines)


def test_qa_of_a_bad_line_is_2(here: Cli, asked: Path) -> None:
    """Before a model is looked for: none of that name exists."""
    jsonl(asked, OWN, {"question": CANARY})
    result = here("eval", "qa", asked, "--model", "/nowhere")
    assert result.returncode == 2 and "Line 2" in result.stderr and CANARY not in result.stderr


def test_qa_that_needs_the_base(here: Cli, asked: Path) -> None:
    """MedMCQA from which nobody can tell where it counts from."""
    jsonl(asked, {**MEDMCQA, "cop": 2})
    args = ("eval", "qa", asked, "--engine", "echo", "-q")
    assert here(*args).returncode == 2
    done = here(*args, "--cop-base", 1)
    assert done.returncode == 0 and done.stderr == ""


def test_qa_of_what_is_too_long_is_3(here: Cli, asked: Path) -> None:
    """Finished, and a question failed; it counts as wrong, and is asked again."""
    jsonl(asked, OWN, {**OWN, "id": "long", "question": "word " * 1_100_000})
    args = ("eval", "qa", asked, "--engine", "echo", "-o", "kept", "--json")
    value = told(here(*args), 3)
    assert value["facts"]["failed"] == 1
    assert "1 asked, 1 kept" in here(*args).stderr


def test_qa_with_a_real_model(here: Cli, asked: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The tiny checkpoint: every way is scored, by the model's own logits, and repeats."""
    args = ("eval", "qa", asked, "--model", checkpoint, "--device", "cpu", "--precision", "fp32")
    value = told(here(*args, "--max-new-tokens", 8, "-o", "kept", "--json"))
    for name, figure in by_name(value).items():
        assert figure["value"] is not None and figure["n"] == 1, name
    lines = (tmp_path / "kept" / "answers.jsonl").read_text("utf-8").splitlines()
    answers = {line["id"]: line for line in map(json.loads, lines)}
    assert set(answers) == {"own", "line 2", "mc", "21645374", "line 5"}
    for answer in answers.values():
        assert sum(answer["letters"].values()) == pytest.approx(1)
        assert set(answer["texts"]) == set(answer["letters"])
        assert all(log < 0 for log in answer["texts"].values()) and not answer["errors"]
        assert answer["picked"]["letters"] == max(answer["letters"], key=answer["letters"].get)


def test_screen_of_a_real_run(here: Cli, notes: Path, checkpoint: Path, tmp_path: Path) -> None:
    """What `run --template screen` records is what is read: every note has its probability."""
    model = ("--model", checkpoint, "--device", "cpu", "--precision", "fp32")
    done = here("run", notes, "-o", "screened", "-t", "screen", *model, "--max-new-tokens", 60)
    assert done.returncode == 0, done.stderr
    names = ("a.md", "b.txt", "c.md", "ward/d.md")
    rows = [{"source": name, "label": i % 2} for i, name in enumerate(names)]
    labels = jsonl(tmp_path / "labels.jsonl", *rows)
    value = told(here("eval", "screen", "screened", "--labels", labels, "--json"))
    assert value["facts"]["items"] == 4
    assert value["facts"]["labelled documents without a probability"] == 0


def test_eval_lists_its_commands(here: Cli) -> None:
    """Without a command, the help."""
    result = here("eval")
    for name in ("summaries", "qa", "screen", "compare"):
        assert name in result.stdout + result.stderr
