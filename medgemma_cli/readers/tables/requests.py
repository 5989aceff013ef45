"""Files of chat requests, a JSON object a line: `{custom_id, method, url, body}`.

The shape is that of OpenAI's batch files, which `vllm run-batch` takes, too.
"""

from collections.abc import Container, Iterator
from itertools import islice

from medgemma_cli.readers import request
from medgemma_cli.readers.tables.cells import Cells, Columns
from medgemma_cli.readers.tables.jsonrows import objects

_URL = "/v1/chat/completions"
_LOOKED_AT = 100  # lines; the first ones may be broken
_LONGEST_ID = 10_000


def recognised(path: str, columns: Columns) -> bool:
    """Whether one of the first lines is a request, sound or not.

    Raises:
        DocumentError: ``encoding``. OSError: it cannot be opened or read.
    """
    first = (fields for _, fields in islice(objects(path, columns), _LOOKED_AT))
    return any(isinstance(f, dict) and "body" in f and "custom_id" in f for f in first)


def rows(path: str, columns: Columns, models: Container[str] | None) -> Iterator[Cells]:
    """A row a line, its text the canonical body; blank lines count and are no rows.

    Args:
        models: names that a request may ask for; None: any.

    A row's error is ``row_broken`` (no JSON object), ``too_large``, ``encoding``,
    ``no_custom_id``, ``request_url`` (or method), ``request_body`` or ``request_model``.

    Raises:
        DocumentError: ``encoding``, of the whole file. OSError: it cannot be opened or read.
    """
    for number, fields in objects(path, columns):
        if isinstance(fields, str):
            yield Cells(number, error=fields, numbered=True)
        else:
            yield _cells(number, fields, models)


def _cells(number: int, fields: dict[str, object], models: Container[str] | None) -> Cells:
    identity = fields.get("custom_id")
    if not isinstance(identity, str) or not identity.strip() or len(identity) > _LONGEST_ID:
        return Cells(number, error="no_custom_id", numbered=True)
    made = Cells(number, id=identity)
    if fields.get("method") != "POST" or fields.get("url") != _URL:
        return made._replace(error="request_url")
    body = fields.get("body")
    if not isinstance(body, dict):
        return made._replace(error="request_body")
    model = body.get("model")
    made = made._replace(text=request.canonical(body))
    if model is None or models is None:
        return made
    named = isinstance(model, str) and model in models
    return made if named else made._replace(error="request_model")
