"""What nobody foresaw in one document costs that document; what concerns all ends the run."""

import logging
import re

import pytest

from medgemma_cli.errors import (
    FAULTS,
    ConfigError,
    DocumentError,
    ModelUnavailableError,
    RunAgainError,
    StorageError,
    one_document,
)


class Panic(BaseException):
    """As a library in Rust raises it: no `Exception`."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CANARY"),
        ValueError("CANARY"),
        RecursionError(),
        MemoryError(),
        AssertionError(),
        OSError(5, "CANARY"),
        UnicodeDecodeError("utf-8", b"CANARY", 0, 1, "bad"),
        StopIteration("CANARY"),
        Panic("CANARY"),
        ExceptionGroup("CANARY", [ValueError("CANARY")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_unforeseen(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """It is `internal`, with nothing of the message, its cause or its context behind it."""
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(DocumentError) as caught,
        one_document(),
    ):
        raise error
    assert caught.value.code == "internal"
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert "CANARY" not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    "error",
    [
        DocumentError("too_long"),
        StorageError("", ""),
        ModelUnavailableError("", ""),
        RunAgainError("", ""),
        ConfigError("", ""),
        ImportError(),
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_with_a_meaning_of_its_own(error: BaseException) -> None:
    """A document's own code, what ends the run, and what stops it pass unchanged."""
    with pytest.raises(type(error)) as caught, one_document():
        raise error
    assert caught.value is error


def test_nothing_wrong() -> None:
    """It gets in nobody's way."""
    with one_document():
        value = 7
    assert value == 7


@pytest.mark.parametrize("code", FAULTS)
def test_codes_say_what_to_do(code: str) -> None:
    """Each has a next step, one sentence or two, without a place for a value."""
    fault = DocumentError(code).fault
    assert re.fullmatch(r"[a-z_]+", code)
    assert fault.hint.endswith(".") and "{" not in fault.hint and len(fault.hint) < 200
