"""Fault 95: what documents say and are called is in no log and in no file but the results."""

import json
from pathlib import Path
from typing import Any

import pytest
from house import BOTH, ECHO, NAME, TEXT, Done, House, check_streams, hits
from papers import ARGS, CODES, template

from medgemma_cli.errors import FAULTS

RUN = f"run {ARGS} -o out -t own.md --question {TEXT} --system {TEXT} {ECHO}"

# Each of these ends the n-th document with the n-th code, before the answer or as the answer.
_EVERY_CODE = """
import os
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.errors import FAULTS, DocumentError
from medgemma_cli.records import Generation

def number(prompt):
    text = [p.text for m in prompt.messages for p in m.parts if p.kind == "document"][0]
    return int(text.split()[-1])

codes, place = sorted(FAULTS), os.environ["PLACE"]

def raises(self, prompt):
    raise DocumentError(codes[number(prompt)])

def answers(self, prompt):
    return Generation(
        id=prompt.id, text=prompt.document, finish_reason="error", error=codes[number(prompt)]
    )

if place == "count":
    EchoEngine.count = raises
else:
    EchoEngine._answer = answers
main()
"""


def current(house: House) -> list[dict[str, Any]]:
    """The lines of the ledger."""
    return [json.loads(line) for line in (house.out / "records.jsonl").read_bytes().splitlines()]


def test_the_search_finds() -> None:
    """A canary is found whole or in part, and as UTF-16, hexadecimal or base64."""
    import base64

    for said in (f"a {TEXT}.", f"a {TEXT[:9]}", f"{NAME[-8:].upper()}"):
        assert hits(said.encode()) and hits(said.encode("utf-16")) and hits(repr(said).encode())
    for shift in range(6):
        assert hits(base64.b64encode(b"x" * shift + TEXT.encode() + b"yy"))
    assert not hits(b"Quill feather, Night in grove 12345") and hits(TEXT.encode().hex().encode())


def test_a_leak_is_found(house: House, papers: Path) -> None:
    """The house finds what a program writes where nobody should look."""
    wrote = "import os, pathlib; pathlib.Path(os.environ['TMPDIR'], 'x').write_text('{}')"
    for word in BOTH:
        house.run("", python=("-c", wrote.format(word)))
        assert house.traces() == ["tmp/x"]
    house.run(f"run in -o out --json {ECHO}")
    assert hits((house.out / "records.jsonl").read_bytes())


def test_every_natural_failure(house: House, papers: Path) -> None:
    """Names, texts, metadata, template and question of failing documents, again and again."""
    for more in ("", "--retry-failed", "--max-time 0.001s --fresh"):
        done = house.run(f"{RUN} {more}")
        assert done.code == (75 if "max-time" in more else 3), done.told
        assert more or b" at read: encoding" in done.stderr
        house.assert_clean(done)
        if not more:
            found = {line["error"]["code"] for line in current(house) if line["error"]}
            assert found >= CODES


def test_every_image_is_read_in_silence(house: House, papers: Path) -> None:
    """Libraries find fault with metadata; what they find is not told in their words."""
    done = house.run(f"run in -o out -t any.md {ECHO}")
    house.assert_clean(done)
    lines = {line["source"]: line for line in current(house)}
    read = [name for name, line in lines.items() if line["status"] == "ok" and line["media_type"]]
    assert len([name for name in read if name.endswith((".png", ".jpg", ".tif", ".webp"))]) >= 8


@pytest.mark.parametrize("place", ["count", "answer"])
def test_every_code(house: House, place: str) -> None:
    """Every code of `FAULTS`, at the engine's door and out of it."""
    for number in range(len(FAULTS)):
        house.put(f"in/{NAME} {number}.md", f"Patient {TEXT} in bed {number}")
    house.put("any.md", template("text"))
    args = f"run in -o out -t any.md {ECHO}"
    for more in ("", "--retry-failed"):
        done = house.run(f"{args} {more}", python=("-c", _EVERY_CODE), env={"PLACE": place})
        assert done.code == 3, done.told
        house.assert_clean(done)
    assert {line["error"]["code"] for line in current(house)} == set(FAULTS)
    assert all(code.encode() in done.stderr for code in FAULTS if FAULTS[code].status == "failed")


_READERS: list[tuple[str, int, tuple[str, ...]]] = [
    ("status out", 0, BOTH),
    ("status out --failed", 0, (TEXT,)),
    ("status out --json", 0, ()),
    (f"plan in -o out -t own.md {ECHO}", 0, (TEXT,)),
    (f"plan in -o out -t own.md --json {ECHO}", 0, (TEXT,)),
    (f"plan in -o out -t any.md --force {ECHO}", 0, (TEXT,)),
    (f"{RUN} --dry-run", 0, (TEXT,)),
    (f"{RUN} --dry-run --json --force", 0, (TEXT,)),
    (f"{RUN} --json", 3, ()),
    ("verify out", 4, (TEXT,)),
    ("verify out --json", 4, (TEXT,)),
    ("verify out --repair --quiet", 0, (TEXT,)),
    (f"{RUN} --fail-on failed", 4, BOTH),
    (f"{RUN} --fail-on flagged", 4, BOTH),
    (f"{RUN} --fail-on {TEXT}", 2, BOTH),
    ("templates", 0, BOTH),
    ("schema", 0, BOTH),
    ("rules", 0, BOTH),
    ("HF_HUB_OFFLINE=1 doctor --device cpu --model nobody/nothing", 69, BOTH),
]


def test_every_reader_of_results(house: House, papers: Path) -> None:
    """Names are on standard output where results are asked for, and texts where records are."""
    house.run(RUN)
    page = house.out / f"{NAME} good.md"
    page.write_text(page.read_text("utf-8") + f"\n{TEXT} is better.\n", "utf-8")
    house.put(f"in/{NAME} wide.txt", f"{TEXT} slept badly.\n")
    done = house.several(*(args for args, _, _ in _READERS))
    for one, (args, code, banned) in zip(done, _READERS, strict=True):
        assert one.code == code, (args, one.told)
        check_streams(one, banned)
    assert house.traces() == []


_ASKED = [
    (f"-f 'in/{NAME} good.md'", 0),
    (f"-f 'in/{NAME} good.md' -o out", 0),
    (f"-f 'in/{NAME} good.md' -i 'in/{NAME} exif.jpg' --json -o out", 0),
    (f"-f 'in/{NAME} latin.md' -o out", 3),
    (f"-f 'in/{NAME} empty.md'", 3),
    (f"-f 'in/{NAME} other.docx'", 3),
    (f"-i 'in/{NAME} broken.png'", 3),
    (f"-i 'in/{NAME} cut.tif' --json", 3),
    (f"-f 'in/{NAME} large.md' --max-bytes 100", 3),
    (f"-f 'in/{NAME} latin.md' --encoding ascii", 3),
    (f"-f in/{NAME} -o out", 3),
    ("-t own.md", 3),
    (f"-f '{NAME} missing.md'", 66),
    (f"-f 'in/{NAME} good.md' -f '{NAME}\x01.md'", 66),
]


def test_every_way_to_ask(house: House, papers: Path) -> None:
    """A question and its files: the answer is on standard output, and nowhere else."""
    done = house.several(*(f"ask 'Who is {TEXT}?' {ECHO} {args}" for args, _ in _ASKED))
    for one, (args, code) in zip(done, _ASKED, strict=True):
        assert one.code == code, (args, one.told)
        check_streams(one, stdout=() if code == 0 or "--json" in args else BOTH)
    assert house.traces() == []


def test_a_piped_document(house: House, papers: Path) -> None:
    """What is piped in: to a question, to a run, to a check."""
    text = f"{TEXT} takes 5 mg of ramipril.\n".encode()
    house.put("said.md", f"{TEXT} takes 50 mg of ramipril.\n")
    house.put("good.jsonl", json.dumps({"id": 1, "source": TEXT, "output": TEXT}) + f"\n{TEXT}\n")
    asked: list[tuple[str, bytes, int]] = [
        (f"ask What? {ECHO}", text, 0),
        (f"ask What? {ECHO}", text + b"\xff", 3),
        (f"run - -o out {ECHO}", text, 0),
        (f"run - -o out {ECHO}", text + b"\0", 3),
        (f"run --files-from - -o out {ECHO}", f"{NAME}\0\n{NAME}.md\n".encode(), 3),
        ("check - said.md", text, 4),
        ("check said.md -", text + b"\xff", 2),
        ("check --jsonl -", (house.work / "good.jsonl").read_bytes(), 2),
    ]
    for args, given, code in asked:
        done = house.run(args, input=given)
        assert done.code == code, (args, done.told)
        house.assert_clean(done, stdout=() if args.startswith(("ask", "check -")) else BOTH)


_CHECKED_IN_VAIN = [
    (f"'{NAME} missing.md' a.md", 66),
    (f"a.md '{NAME} missing.md'", 66),
    (f"'{NAME} latin.md' a.md", 2),
    (f"a.md '{NAME} broken.json'", 2),
    (f"a.md '{NAME} list.json'", 2),
    (f"a.md '{NAME} deep.json'", 2),
    (f"--jsonl '{NAME} pairs.jsonl'", 2),
    (f"--jsonl '{NAME} missing.jsonl'", 66),
    (f"--jsonl '{NAME} pairs.jsonl' {NAME}", 2),
    (f"{NAME}", 2),
    (f"a.md a.md {NAME}", 2),
]


def test_every_way_to_check_in_vain(house: House) -> None:
    """`check` quotes neither what it cannot read nor its name."""
    house.put("a.md", f"{TEXT} takes 5 mg of ramipril.\n")
    house.put(f"{NAME} latin.md", f"Se\u00f1ora {TEXT}".encode("latin-1"))
    house.put(f"{NAME} broken.json", f'{{"summary": "{TEXT}"')
    house.put(f"{NAME} list.json", f'["{TEXT}"]')
    house.put(f"{NAME} deep.json", "[" * 100_000 + TEXT)
    bad = [f'{{"id": "{TEXT}"}}', TEXT, f'{{"id": 1, "source": 5, "output": "{TEXT}"}}', "\xff"]
    house.put(f"{NAME} pairs.jsonl", "\n".join(bad).encode("latin-1"))
    done = house.several(*(f"check {args}" for args, _ in _CHECKED_IN_VAIN))
    for one, (args, code) in zip(done, _CHECKED_IN_VAIN, strict=True):
        assert one.code == code, (args, one.told)
        check_streams(one)
    assert house.traces() == []


def test_inputs_are_not_touched(house: House, papers: Path) -> None:
    """Documents are read, never written: bytes, times and permissions stay."""

    def state() -> dict[str, tuple[bytes, int, int]]:
        files = [path for path in papers.rglob("*") if path.is_file()]
        return {str(p): (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_mode) for p in files}

    before = state()
    house.run(RUN)
    assert state() == before


def test_verbose_names_documents(house: House, papers: Path) -> None:
    """With `-v` the log has names, by choice, and still no text."""
    done: Done = house.run(f"{RUN} -v")
    assert hits(done.stderr, (NAME,)) and not hits(done.stderr, (TEXT,))
