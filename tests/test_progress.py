"""What each reporter says, and what it keeps to itself."""

import io
import sys

import pytest

from medgemma_cli import progress
from medgemma_cli.errors import StorageError
from medgemma_cli.progress import PlainReporter, RichReporter, SilentReporter, emit, reporter_for
from medgemma_cli.records import ErrorInfo, ModelInfo, Record, TemplateInfo


def record(status: str = "ok", source: str = "Jane Roe.md") -> Record:
    """A record of that status."""
    error = ErrorInfo(code="empty", stage="read", hint="h") if status == "rejected" else None
    return Record(
        key="k" * 64,
        source=source,
        origin="/x",
        summary="x.md",
        sha256="5" * 64,
        template=TemplateInfo(name="t", hash="h"),
        model=ModelInfo(id="m", engine="echo"),
        status=status,  # type: ignore[arg-type]
        error=error,
        created="now",
        notice="n",
    )


def test_plain_lines_name_a_failure_by_hash_stage_and_code() -> None:
    """No file name in a log."""
    stream = io.StringIO()
    PlainReporter(stream).document(record("rejected"))
    assert stream.getvalue() == "medgemma: rejected: 555555555555 at read: empty\n"


def test_plain_lines_with_verbose_name_every_document() -> None:
    """-v: the name, its controls made visible."""
    stream = io.StringIO()
    PlainReporter(stream, verbose=True).document(record(source="a\x1b[2J\n.md"))
    assert stream.getvalue() == "medgemma: ok: a\\x1b[2J\\x0a.md\n"


def test_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one a document, and with the speed."""
    clock = iter([0.0, 0.0, 30.0, 61.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    reporter.begin(None)
    reporter.tokens(100)
    reporter.tokens(510)
    reporter.tokens(10)
    assert stream.getvalue() == "medgemma: 0 documents so far, 10 tokens/s\n"


def test_steps_are_said_once() -> None:
    """The same step again is no new line."""
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    for done in range(3):
        reporter.step("loading", done, 3)
    assert stream.getvalue() == "medgemma: loading\n"


def test_a_terminal_shows_counts_and_markup_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 92: `[/mg]` in a name is shown, not parsed; the name is on the second line."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    reporter = RichReporter()
    reporter.step("loading the model")
    reporter.begin(3)
    reporter.document(record("flagged", source="[/mg] a.md"))
    reporter.note("warning: [/mg]")
    reporter.tokens(5)
    reporter.end()
    shown = capsys.readouterr().err
    assert "[/mg] a.md" in shown
    assert "1 flagged, 0 failed" in shown
    assert "warning: [/mg]" in shown
    assert "1/3" in shown


def test_the_reporter_follows_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quiet is silent; no terminal, lines; none at all is no crash."""
    assert isinstance(reporter_for(quiet=True, verbose=True), SilentReporter)
    assert isinstance(reporter_for(quiet=False, verbose=False), PlainReporter)
    monkeypatch.setattr(sys, "stderr", None)
    reporter_for(quiet=False, verbose=False).note("nobody hears")


class Full(io.StringIO):
    """A stream whose disk is full."""

    def write(self, text: str) -> int:
        """Fail."""
        raise OSError(28, "No space left on device")


def test_results_that_cannot_be_written_are_74(monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard output that is an error; a log that cannot be written is not."""
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(StorageError):
        emit("result")
    emit("a log line", Full())
