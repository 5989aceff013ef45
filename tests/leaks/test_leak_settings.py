"""Fault 95: settings, templates, lists and ledgers that are at fault are not quoted."""

import json
from typing import Any, NamedTuple

import pytest
from house import BOTH, ECHO, NAME, TEXT, House, check_streams

RUN = f"run in -o out {ECHO}"
OWN = f"{RUN} -t own.md"
Files = dict[str, str | bytes]


class Case(NamedTuple):
    """A command that ends with a code, among files; what its standard output must not hold."""

    code: int
    args: str
    files: Files = {}  # noqa: RUF012 - never changed
    banned: tuple[str, ...] = BOTH


def check(house: House, cases: list[Case]) -> None:
    """Each with files of its own, all in one process."""
    commands = []
    for number, case in enumerate(cases):
        for name, data in {f"in/{NAME}.md": f"{TEXT} slept.\n", **case.files}.items():
            house.put(f"{number}/{name}", data)
        commands.append(f"AT={number} {case.args}")
    done = house.several(*commands, script="def prepare(): os.chdir(os.environ['AT'])")
    for one, case in zip(done, cases, strict=True):
        assert one.code == case.code, (case.args, one.told)
        check_streams(one, case.banned)
    results = ("out/records.jsonl", "out/quarantine/", ".md")
    assert [t for t in house.traces() if not any(result in t for result in results)] == []


def own(front: str, body: str = "{{ document.text }}", **more: str | bytes) -> Files:
    """A template, and what lies beside it."""
    return {"own.md": f"---\n{front}\n---\n{body}\n", **more}


def test_templates_at_fault(house: House) -> None:
    """78: the file and the line, not the words around the fault."""
    said = f"description: for {TEXT}\nsystem: think of {TEXT}"
    schema = json.dumps({"title": TEXT, "type": "object", "properties": {"a": {"oneOf": [TEXT]}}})
    check(
        house,
        [
            Case(78, OWN, {"own.md": f"{TEXT}\n"}),
            Case(78, OWN, {"own.md": f"---\n{TEXT}\n---\n"}),
            Case(78, OWN, {"own.md": f"---\nname: a\n---\n{TEXT}\xff".encode("latin-1")}),
            Case(78, OWN, own(f"name: [{TEXT}")),
            Case(78, OWN, own(f'name: "{TEXT}')),
            Case(78, OWN, own(f"name: &{TEXT} a\nb: *{TEXT}x")),
            Case(78, OWN, own(f"name: !{TEXT} a\n\tb: {TEXT}")),
            Case(78, OWN, own(f"name: [{TEXT}]")),
            Case(78, OWN, own(f"{said}\naccepts: {TEXT}")),
            Case(78, OWN, own(f"{said}\naccepts: [{TEXT}]")),
            Case(78, OWN, own(f"{said}\ncovers: [{TEXT}]")),
            Case(78, OWN, own(f"{said}\nmax_new_tokens: {TEXT}")),
            Case(78, OWN, own(f"{said}\noutput: {{a: no-such}}")),
            Case(78, OWN, own(f"{said}\noutput: own.json", **{"own.json": f'{{"{TEXT}": '})),
            Case(78, OWN, own(f"{said}\noutput: own.json", **{"own.json": schema})),
            Case(78, OWN, own(f"{said}\noutput: [[[[{TEXT}]]]]")),
            Case(78, OWN, own(said, f"{TEXT}\n{{{{ no_such }}}} {TEXT}")),
            Case(78, OWN, own(said, f"{TEXT}\n{{% no_such %}} {TEXT}")),
            Case(78, OWN, own(said, f"{TEXT}\n{{% if %}} {TEXT}")),
            Case(78, OWN, own(said, f"{TEXT}\n{{{{ document.text | upper }}}} {TEXT}")),
            Case(78, OWN, own(said, f"{TEXT} {{{{ document }}}}")),
            Case(78, OWN, own(said, f"{{{{ '{TEXT}' + 1 }}}}")),
            Case(78, OWN, own(said, f"{{{{ '{TEXT}'.x.y }}}}")),
            Case(78, OWN, own(said, f"{{{{ '{TEXT}' % 5 }}}}")),
            Case(78, OWN, own(said, f"{{{{ {{'{TEXT}': 1}}[question] }}}}")),
            Case(78, OWN, own(said, f"{{% set a = '{TEXT}' %}}{{{{ a.no_such }}}}")),
            Case(78, OWN, own(said, f"{{{{ document.text }} {TEXT}")),
            Case(78, f"ask Who? {ECHO} -t own.md", own(said, f"{TEXT} {{{{ no_such }}}}")),
            Case(78, f"plan in {ECHO} -t own.md", own(said, f"{TEXT} {{{{ no_such }}}}")),
            Case(78, "templates show ./own.md", own(said, f"{TEXT} {{{{ no_such }}}}")),
            Case(78, "templates", {"prompts/own.md": f"---\n{TEXT}\n---\n"}),
            Case(0, "templates", {"prompts/own.md": own(said)["own.md"]}, (NAME,)),
        ],
    )


def test_options_at_fault(house: House) -> None:
    """2, 66, 69, 78: values are not quoted, be they typed, in the environment or in `.env`."""
    cases = [
        Case(2, TEXT),
        Case(2, f"{RUN} --{TEXT}"),
        Case(2, f"{RUN} --max-byte={TEXT}"),
        Case(2, f"{RUN} -{TEXT}"),
        Case(2, f"ask Who is {TEXT}"),
        Case(2, f"status out {TEXT}"),
        Case(2, f"rules {NAME}"),
        Case(2, f"templates {TEXT}"),
        Case(2, f"ask '' --system {TEXT} -f in/{NAME}.md {ECHO}"),
        Case(2, f"{RUN} --max-time {TEXT}"),
        Case(2, f"{RUN} --encoding {TEXT}"),
        Case(2, f"{RUN} --encoding 'a\0{TEXT}'".replace("\0", "\x01")),
        Case(2, f"{RUN} --fail-on {TEXT}"),
        Case(2, f"{RUN} --batch-size {TEXT} --model . --engine local --offline"),
        Case(2, f"{RUN} --files-from {NAME}.list"),
        Case(2, f"{RUN} --min-new-tokens 9 --max-new-tokens 8 --question {TEXT}"),
        Case(2, f"run in -o in {ECHO} --question {TEXT}"),
        Case(66, f"run {NAME} -o out {ECHO}"),
        Case(66, f"run '{NAME}*.md' -o out {ECHO}"),
        Case(66, f"run in -o out --include {NAME}.txt {ECHO}"),
        Case(66, f"plan {NAME} {ECHO}"),
        Case(66, f"ask Who? -f {NAME} {ECHO}"),
        Case(78, f"{RUN} --system @{NAME}.txt"),
        Case(78, f"{RUN} --system @in", {".env": f"MEDGEMMA_QUESTION={TEXT}"}),
        Case(78, RUN, {".env": f"MEDGEMMA_QUESTION={TEXT}\xff".encode("latin-1")}),
        Case(0, RUN, {".env": f"{TEXT}\n{TEXT} {TEXT}\nMEDGEMMA_SYSTEM='{TEXT}\n={TEXT}\n"}),
        Case(0, RUN, {".env": f"MEDGEMMA_SYSTEM=${{{TEXT}}} {TEXT}\nMEDGEMMA_{TEXT}=1\n"}),
        Case(78, "status", {}),
    ]
    number = ("MAX_BYTES", "MAX_PIXELS", "LIMIT", "SEED", "TEMPERATURE", "TOP_P", "MAX_NEW_TOKENS")
    word = ("PRECISION", "FSYNC", "FORCE", "QUIET", "MAX_TIME", "ENCODING", "FAIL_ON")
    for name in (*number, *word, "ECHO_DELAY", "MAX_ATTEMPTS", "GRAMMAR"):
        cases.append(Case(2, f"MEDGEMMA_{name}={TEXT} {RUN}"))
    cases.append(Case(2, f"MEDGEMMA_ENGINE={TEXT} run in -o out"))
    cases.append(Case(2, RUN, {".env": f"MEDGEMMA_SEED={TEXT}\n"}))
    check(house, cases)


def test_lists_at_fault(house: House) -> None:
    """Names of a list that lead nowhere, and an encoding that does not fit."""
    names = f"{NAME}.md\n../{NAME}\n{NAME}\0.md\n/{NAME}/../x\n\xff{NAME}.md\nin/{NAME}.md\n"
    files: Files = {"list": names.encode("latin-1"), f"{NAME}.bin": TEXT}
    args = f"run --files-from list -o out {ECHO}"
    check(
        house,
        [
            Case(3, args, files),
            Case(3, f"{args} --encoding utf-16-le", files),
            Case(3, f"{args} --encoding utf-7", {**files, f"in/{NAME}.md": f"{TEXT} +\xff"}),
            Case(3, f"{args} --encoding idna", {**files, f"in/{NAME}.md": f"{TEXT}." * 30}),
            Case(3, f"{args} --encoding punycode", {**files, f"in/{NAME}.md": f"\xff{TEXT}"}),
            Case(3, f"{args} --encoding unicode_escape", {**files, f"in/{NAME}.md": f"{TEXT}\\x"}),
            Case(2, f"{args} --encoding hex", files),
            Case(2, f"{args} --encoding rot13", files),
            Case(2, f"run --files-from in -o out {ECHO}", files),
        ],
    )


def damaged(line: dict[str, Any]) -> dict[str, bytes]:
    """Ledgers at fault, each with the canary in it: many lines to be passed over, and fatal ones.

    Args:
        line: a whole record.
    """

    def changed(**fields: object) -> bytes:
        return json.dumps({**line, **fields}).encode() + b"\n"

    whole = changed()
    passed_over = [
        f"{TEXT}\n".encode(),
        f"\xff{TEXT}\n".encode("latin-1"),
        b"\0" * 50 + TEXT.encode() + b"\n",
        f'["{TEXT}"]\n'.encode(),
        b'{"a":' * 50_000 + TEXT.encode() + b"\n",
        changed(status=TEXT),
        changed(attempt=TEXT),
        changed(summary=[TEXT]),
        changed(schema=f"{TEXT}/1"),
        whole.replace(b'"attempt": 1', b'"attempt": ' + b"9" * 5000),
    ]
    return {
        "many": b"".join(passed_over) + whole + whole[: len(whole) // 2],
        "outside": changed(summary=f"../{NAME}.md", key="0" * 64),
        "usage": changed(usage={"prompt_tokens": TEXT}),
        "error": changed(error=TEXT, status="failed"),
        "error's code": changed(error={"code": TEXT, "stage": TEXT, "hint": TEXT}),
        "output": changed(output={TEXT: [TEXT] * 3}, flags=[TEXT], quotes=[{TEXT: 1}]),
        "key": changed(key=TEXT, created=TEXT),
        "newer": changed(schema=f"medgemma.record/2 {TEXT}"),
    }


_LEDGER_READERS = [
    f"run in -o OUT --json {ECHO}",
    f"run in -o OUT --retry-failed --fail-on injection {ECHO}",
    f"plan in -o OUT {ECHO}",
    "status OUT --failed",
    "verify OUT",
    "verify OUT --repair",
    f"ask Who? -f in/{NAME}.md -o OUT {ECHO}",
]


@pytest.mark.parametrize("kind", damaged({}))
def test_ledgers_at_fault(house: House, kind: str) -> None:
    """A ledger that is mended, passed over or refused is not quoted."""
    house.put(f"in/{NAME}.md", f"{TEXT} slept.\n")
    house.run(RUN)
    data = damaged(json.loads((house.out / "records.jsonl").read_bytes()))[kind]
    commands = []
    for number, command in enumerate(_LEDGER_READERS):
        house.put(f"o{number}/records.jsonl", data)
        commands.append(command.replace("OUT", f"o{number}"))
    every = house.several(*commands)
    assert kind != "many" or b"damaged" in every[0].stderr
    for done, command in zip(every, commands, strict=True):
        assert done.code in (0, 1, 2, 3, 4, 74, 78), (command, done.told)
        check_streams(done, stdout=())
    assert [trace for trace in house.traces() if "attempts" in trace or "work/" not in trace] == []


def test_summaries_at_fault(house: House) -> None:
    """Summaries that were altered, are not ours or lost their ledger are not quoted."""
    house.put(f"in/{NAME}.md", f"{TEXT} slept.\n")
    house.run(RUN)
    page = house.out / f"{NAME}.md"
    page.write_text(page.read_text() + f"\n{TEXT} is better.\n")
    every = (f"{RUN} --json", "verify out", "status out", "verify out --repair", f"{RUN} --force")
    for done, args in zip(house.several(*every), every, strict=True):
        assert done.code in (0, 3, 4), (args, done.told)
        check_streams(done, stdout=(TEXT,) if args.startswith("verify") else ())
    (house.out / "records.jsonl").unlink()
    page.write_text(page.read_text().replace(TEXT, f"{TEXT} again"))
    house.assert_clean(house.run(RUN))
    house.assert_clean(house.run(f"{RUN} --fresh"))
