"""PDF files through the command: each ends as it must, and the good ones beside them are done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pdfs
from outcomes import Outcome, Run

GOOD = pdfs.pdf([pdfs.text("Dry cough since Monday. No fever.")])
# The engine without a model, and without eyes.
_BLIND = """
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
EchoEngine.reads_images = False
main()
"""


def refused(run: Run, folder: Path, data: bytes, *args: str) -> str:
    """How a PDF ends; a good one beside it is done, and the exit code is 3."""
    (folder / "bad.pdf").write_bytes(data)
    (folder / "good.pdf").write_bytes(GOOD)
    done = run(folder, *args)
    assert (done.code, done.ended("good.pdf")) == (3, "ok")
    assert "1 generated" in done.stderr  # nothing was asked about the bad one
    return done.ended("bad.pdf")


def only(run: Run, folder: Path, data: bytes, *args: str, blind: bool = False) -> Outcome:
    """The run over one PDF."""
    (folder / "a.pdf").write_bytes(data)
    return run(folder, *args, **({"python": ("-c", _BLIND)} if blind else {}))


def test_password(run: Run, folder: Path) -> None:
    """Fault 52: a PDF that opens with a password only is rejected: pdf_encrypted."""
    data = pdfs.pdf([pdfs.text("Dry cough.")], user=b"secret")
    assert refused(run, folder, data) == "rejected/pdf_encrypted"


def test_owners_password(run: Run, folder: Path) -> None:
    """Fault 53: a PDF with an owner's password only is read, its text and all."""
    done = only(run, folder, pdfs.pdf([pdfs.text("Dry cough since Monday.")], user=b""))
    assert (done.code, done.ended("a.pdf")) == (0, "ok")
    assert done.records["a.pdf"]["quotes"][0]["text"] == "Dry cough since Monday."


def test_truncated(run: Run, folder: Path) -> None:
    """Fault 54: wherever a PDF is cut, it is rejected: pdf_corrupt."""
    shares = (0.05, 0.4, 0.7, 0.95)
    for share in shares:
        (folder / f"{share}.pdf").write_bytes(GOOD[: int(len(GOOD) * share)])
    done = run(folder)
    assert done.code == 3
    assert {done.ended(f"{share}.pdf") for share in shares} == {"rejected/pdf_corrupt"}


def test_no_text_and_no_vision(run: Run, folder: Path) -> None:
    """Fault 55: a scan, and a model that reads text only, rejected: no_text_layer; nobody asked."""
    done = only(run, folder, pdfs.pdf([pdfs.scan(), pdfs.scan()]), blind=True)
    assert (done.code, done.ended("a.pdf")) == (3, "rejected/no_text_layer")
    assert "0 generated" in done.stderr and done.records["a.pdf"]["raw_text"] is None


def test_bomb(run: Run, folder: Path) -> None:
    """Fault 56: 220 kB that unpack to 200 MB of drawing, rejected: limit."""
    data = pdfs.swelling(200)
    assert len(data) < 300_000
    limits = ("--max-bytes", "1000000", "--max-pixels", "1200000")
    assert refused(run, folder, data, *limits) == "rejected/limit"


def test_many_pages(run: Run, folder: Path) -> None:
    """Fault 57: 20,000 pages are over --max-pages, rejected: limit."""
    assert refused(run, folder, pdfs.same_page(20_000)) == "rejected/limit"


def test_pages_over_the_limit_asked_for(run: Run, folder: Path) -> None:
    """Another --max-pages is another key: what was refused is read."""
    data = pdfs.pdf([pdfs.text(f"Day {day}: slept well.") for day in (1, 2)])
    assert only(run, folder, data, "--max-pages", "1").ended("a.pdf") == "rejected/limit"
    assert only(run, folder, data, "--max-pages", "2").ended("a.pdf") == "ok"


def test_mixed_pages_without_vision(run: Run, folder: Path) -> None:
    """The text is read, the scan is counted as not read, and the document is flagged."""
    data = pdfs.pdf([pdfs.text("Dry cough since Monday."), pdfs.scan(), pdfs.text("No fever.")])
    for blind, args in ((True, ()), (False, ("-t", "handoff"))):
        done = only(run, folder, data, *args, blind=blind)
        record = done.records["a.pdf"]
        assert (done.code, record["status"]) == (0, "flagged")
        assert record["coverage"] == {"pages": [2, 3]} and record["usage"]["images"] == 0
        assert "image_pages_not_read:2" in record["degraded"]
        assert "partial_coverage" in [flag["rule"] for flag in record["flags"]]


def test_quotes_have_their_page(run: Run, folder: Path, tmp_path: Path) -> None:
    """In the record and in the summary; `verify` finds them again."""
    data = pdfs.pdf(
        [pdfs.scan(), pdfs.text("Dry cough since Monday."), pdfs.text("No fever at all.")]
    )
    done = only(run, folder, data)
    record = done.records["a.pdf"]
    assert (record["status"], record["coverage"]) == ("ok", {"pages": [3, 3]})
    assert record["degraded"] == ["pages_as_images:1"] and record["usage"]["images"] == 1
    assert {quote["text"]: quote["page"] for quote in record["quotes"]} == {
        "Dry cough since Monday.": 2,
        "No fever at all.": 3,
    }
    page = (tmp_path / "out" / "a.pdf.md").read_text("utf-8")
    assert "page 2: “Dry cough since Monday.”" in page and "page 3: “No fever at all.”" in page
    assert "3 pages of 3" in page


def test_verify_reads_it_again(run: Run, folder: Path, cli: Callable[..., Any]) -> None:
    """Nothing differs between the ledger and a PDF with a scan in it."""
    only(run, folder, pdfs.pdf([pdfs.scan(), pdfs.text("Dry cough since Monday.")]))
    done = cli("verify", "out")
    assert (done.returncode, done.stdout) == (0, "")


def test_asked_about_directly(cli: Callable[..., Any], tmp_path: Path) -> None:
    """`ask` sees text and scan; a template of text alone leaves the scan, and says so."""
    (tmp_path / "a.pdf").write_bytes(pdfs.pdf([pdfs.scan(), pdfs.text("Dry cough today.")]))
    ask = ("ask", "What is it?", "-f", "a.pdf", "--json", "--engine", "echo")
    record = json.loads(cli(*ask).stdout)
    assert record["degraded"] == ["pages_as_images:1"] and record["usage"]["images"] == 1
    record = json.loads(cli(*ask, "-t", "handoff").stdout)
    assert "image_pages_not_read:1" in record["degraded"] and record["usage"]["images"] == 0
    assert {quote["page"] for quote in record["quotes"]} == {2}


def test_a_plan_counts_pages(cli: Callable[..., Any], folder: Path) -> None:
    """`plan` says what `run` does: pictures of pages, and pages left out."""
    (folder / "a.pdf").write_bytes(pdfs.pdf([pdfs.scan(), pdfs.text("Dry cough today.")]))
    plan = ("plan", folder, "--engine", "echo", "--json")
    (seen,) = json.loads(cli(*plan).stdout)["documents"]
    (left,) = json.loads(cli(*plan, "-t", "handoff").stdout)["documents"]
    assert (seen["images"], left["images"]) == (1, 0)
    assert left["degraded"] == ["image_pages_not_read:1"]
