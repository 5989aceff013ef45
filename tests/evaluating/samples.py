"""Records, answers and folders made by hand, for the tests of evaluation."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medgemma_cli.evaluating.lines import Line
from medgemma_cli.records import Flag, ModelInfo, Quote, Record, TemplateInfo


def record(source: str = "a.md", **changes: Any) -> Record:
    """A record of a text that went well, but for the changes."""
    known: dict[str, Any] = {
        "key": f"key of {source}",
        "source": source,
        "origin": f"/in/{source}",
        "summary": source,
        "sha256": f"sha of {source}",
        "template": TemplateInfo(name="summarize", hash="h"),
        "model": ModelInfo(id="echo", engine="echo"),
        "status": "ok",
        "output": {"summary": "Dry cough."},
        "created": "2026-01-01T00:00:00.000000+00:00",
        "notice": "Check it.",
    }
    return Record(**{**known, **changes})


def failed(source: str = "a.md", **changes: Any) -> Record:
    """A record of a document that came to nothing."""
    return record(source, **{"status": "failed", "output": None, **changes})


def flag(rule: str, where: str = "summary") -> Flag:
    """A flag of a rule."""
    return Flag(rule=rule, severity="review", where=where, why="Look.")


def quote(where: str) -> Quote:
    """A quote that was found, of the finding there."""
    return Quote(text="dry cough", start=0, end=9, where=where)


def screened(source: str, yes: float) -> Record:
    """A record of the screen template with a probability of yes."""
    options = {"yes": yes, "no": (1 - yes) / 2, "cannot tell": (1 - yes) / 2}
    field = {"method": "choice_probability", "value": yes, "options": options}
    return record(
        source,
        template=TemplateInfo(name="screen", hash="s"),
        output={"answer": "yes" if yes > 0.5 else "no", "reason": "It says so."},
        confidence={
            "value": yes,
            "method": "choice_probability",
            "fields": {"answer": field, "reason": {"method": "token_probability", "value": 0.9}},
        },
    )


def ledger(out: Path, records: Iterable[Record]) -> Path:
    """A folder with these records."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [record.model_dump_json(by_alias=True) + "\n" for record in records]
    (out / "records.jsonl").write_text("".join(lines), "utf-8")
    return out


def jsonl(path: Path, *rows: object) -> Path:
    """A file with a row a line; a text stands as it is."""
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return path


def lines(*rows: dict[str, Any]) -> list[Line]:
    """Rows as they come of a file."""
    return [Line(number, row) for number, row in enumerate(rows, 1)]


OWN = {"id": "own", "question": "Which?", "options": {"A": "one", "B": "two"}, "answer": "B"}
MEDQA = {
    "question": "Which?",
    "answer": "two",
    "options": {"A": "one", "B": "two", "C": "three", "D": "four"},
    "meta_info": "step1",
    "answer_idx": "B",
}
MEDMCQA = {
    "id": "mc",
    "question": "Which?",
    "opa": "one",
    "opb": "two",
    "opc": "three",
    "opd": "four",
    "cop": 0,
    "choice_type": "single",
    "exp": "Because.",
}
PUBMEDQA = {
    "pubid": 21645374,
    "question": "Does it help?",
    "context": {"contexts": ["It was tried.", "It helped."], "labels": ["METHODS", "RESULTS"]},
    "long_answer": "It does, the secret conclusion says.",
    "final_decision": "yes",
}
MMLU = {"question": "Which?", "subject": "anatomy", "choices": ["one", "two"], "answer": 1}
MMLU_TABLE = {"input": "Which?", "A": "one", "B": "two", "C": "x", "D": "y", "target": "C"}
SHAPES = {
    "canonical": OWN,
    "medqa": MEDQA,
    "medmcqa": MEDMCQA,
    "pubmedqa": PUBMEDQA,
    "mmlu": MMLU,
}
