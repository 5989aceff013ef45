"""Whatever the server's own OpenAPI allows, and what it does not: no 500."""

import os

import pytest
from serving import Serving

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402

# More of them with `make torture`.
EXAMPLES = 20 * int(os.environ.get("MEDGEMMA_TORTURE", "1"))
PATHS = ["/infer", "/predict", "/v1/run", "/v1/chat/completions"]


@pytest.mark.parametrize("path", PATHS)
def test_no_request_makes_a_server_error(echo: Serving, path: str) -> None:
    """Requests that fit the schema, and requests that do not; then it still serves."""
    described = schemathesis.openapi.from_url(f"{echo.url}/openapi.json")
    operation = described[path]["POST"]
    seen: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: object) -> None:
        made = case.call(timeout=300)  # type: ignore[attr-defined]
        case.validate_response(made, checks=[not_a_server_error])  # type: ignore[attr-defined]
        seen.add(made.status_code)

    for mode in schemathesis.GenerationMode:
        from hypothesis import given

        given(case=operation.as_strategy(generation_mode=mode))(ask)()
    assert seen and max(seen) < 500
    assert echo.alive()


def test_the_openapi_names_every_door(echo: Serving) -> None:
    """What the documentation promises is there."""
    described = echo.get("/openapi.json").json()
    assert {*PATHS, "/health", "/", "/v1/models"} <= set(described["paths"])
