"""Servers that several modules ask."""

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from serving import Serving, serving

from medgemma_cli.engines.echo import EchoEngine


@pytest.fixture(scope="module")
def echo() -> Iterator[Serving]:
    """A server with the echo engine."""
    with serving(EchoEngine()) as made:
        yield made
