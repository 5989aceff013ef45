"""Texts that are no plain UTF-8: what is read is read right, what is not is refused by name."""

import codecs
from pathlib import Path

import pytest
from outcomes import Run

NOTE = "Señora Pérez takes 5 mg of ramipril.\n"


def refused(run: Run, folder: Path, data: bytes) -> str:
    """How a note of these bytes ends; a good one beside it is done, and the exit code is 3."""
    (folder / "bad.md").write_bytes(data)
    (folder / "good.md").write_text(NOTE, "utf-8")
    done = run(folder)
    assert done.code == 3
    assert done.ended("good.md") == "ok"
    assert "1 generated" in done.stderr  # nothing was asked about the bad one
    return done.ended("bad.md")


def test_no_bytes(run: Run, folder: Path) -> None:
    """Fault 43: 0 bytes are rejected: empty."""
    assert refused(run, folder, b"") == "rejected/empty"


def test_white_space(run: Run, folder: Path) -> None:
    """Fault 44: white space of any kind is rejected: no_text."""
    assert refused(run, folder, " \n\t\u00a0\u2003\n".encode()) == "rejected/no_text"


def test_binary(run: Run, folder: Path) -> None:
    """Fault 45: a program called `.md` is rejected: not_text."""
    assert refused(run, folder, b"\x7fELF\2\1\1\0\0\0") == "rejected/not_text"


def test_byte_order_mark(run: Run, folder: Path) -> None:
    """Fault 46: the mark is no part of what was read, asked or written."""
    (folder / "a.md").write_bytes(codecs.BOM_UTF8 + NOTE.encode())
    done = run(folder, "-t", "general")
    assert (done.code, done.ended("a.md")) == (0, "ok")
    record = done.records["a.md"]
    assert record["coverage"]["characters"] == [len(NOTE), len(NOTE)]
    assert record["raw_text"] == NOTE.strip()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16(run: Run, folder: Path, encoding: str) -> None:
    """Fault 47: UTF-16 with its mark is read as what it is."""
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}[encoding]
    (folder / "a.md").write_bytes(mark + NOTE.encode(encoding))
    done = run(folder, "-t", "general")
    assert (done.code, done.ended("a.md")) == (0, "ok")
    assert done.records["a.md"]["raw_text"] == NOTE.strip()


def test_other_encodings(run: Run, folder: Path) -> None:
    """Fault 48: Latin-1 is rejected: encoding, and read where `--encoding` names it."""
    data = NOTE.encode("latin-1")
    assert refused(run, folder, data) == "rejected/encoding"
    done = run(folder / "bad.md", "-t", "general", "--encoding", "latin-1")
    assert (done.code, done.ended("bad.md")) == (0, "ok")
    assert done.records["bad.md"]["raw_text"] == NOTE.strip()


def test_too_large(run: Run, folder: Path) -> None:
    """Fault 49: 100 MB are rejected: too_large, before a byte of them is read."""
    with (folder / "big.md").open("wb") as file:
        file.truncate(100_000_000)
    done = run(folder)
    assert (done.code, done.ended("big.md")) == (3, "rejected/too_large")
    assert done.records["big.md"]["sha256"] is None


def test_longer_than_the_window(run: Run, folder: Path) -> None:
    """Fault 50: one word over the window is rejected: too_long; nothing is cut and asked."""
    (folder / "a.md").write_text("a " * 1_000_000)
    done = run(folder, "--on-long", "fail")
    assert (done.code, done.ended("a.md")) == (3, "rejected/too_long")
    record = done.records["a.md"]
    assert record["output"] is None and record["degraded"] == []


_NAN = """
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
real = EchoEngine._answer

def answer(self, prompt):
    made = real(self, prompt)
    return made.model_copy(update={"text": '{"summary": NaN}'}) if self.asked_nan(prompt) else made

EchoEngine.asked_nan = lambda self, prompt: "NaN" in prompt.document
EchoEngine._answer = answer
main()
"""


def test_one_valid_line(run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 51: U+2028 in a note and NaN in an answer: a line a record, all of it JSON."""
    (folder / "a.md").write_text("Dry\u2028cough\u0085and\u2029fever.\n", "utf-8")
    (folder / "b.md").write_text("The result was NaN.\n")
    done = run(folder, "-t", "summarize", python=("-c", _NAN))
    assert done.code == 3
    assert (done.ended("a.md"), done.ended("b.md")) == ("ok", "failed/invalid_output")
    text = (tmp_path / "out" / "records.jsonl").read_text("utf-8")
    assert len(text.splitlines()) == text.count("\n") == 2
