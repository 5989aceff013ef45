"""What servers say of their model."""

from typing import Any

import pytest

from medgemma_cli.engines.calls import about
from medgemma_cli.engines.calls.replies import Again
from medgemma_cli.errors import ConfigError, UsageError

VLLM = {
    "id": "medgemma",
    "object": "model",
    "created": 1700000000,
    "owned_by": "vllm",
    "root": "/models/medgemma-1.5-4b-it",
    "parent": None,
    "max_model_len": 8192,
    "permission": [{"id": "modelperm-1"}],
}
LLAMA = {
    "id": "medgemma.gguf",
    "owned_by": "llamacpp",
    "meta": {"n_params": 4_300_079_472, "n_ctx_train": 131072, "n_ctx": 4096, "size": 2489757856},
}


def listed(*models: Any) -> dict[str, Any]:
    """An answer to GET /models."""
    return {"object": "list", "data": list(models)}


def test_vllm() -> None:
    """Name, root, maker and window; not what changes at each request."""
    found = about.served(listed(VLLM), None)
    assert (found.name, found.maker, found.window) == ("medgemma", "vllm", 8192)
    assert found.says == {"id": "medgemma", "root": VLLM["root"], "owned_by": "vllm"}
    later = {**VLLM, "created": 1800000000, "permission": [{"id": "modelperm-2"}]}
    assert about.served(listed(later), None) == found


def test_llama_server() -> None:
    """Sizes tell quantisations apart; the window is the one it was started with."""
    found = about.served(listed(LLAMA), None)
    assert found.says["size"] == 2489757856 and found.window == 4096
    other = {**LLAMA, "meta": {**LLAMA["meta"], "size": 1}}
    assert about.served(listed(other), None).says != found.says


def test_a_name_that_is_not_listed() -> None:
    """It is believed, and nothing is said of it."""
    assert about.served(listed(), "demo") == ("demo", {}, "", about.UNKNOWN_WINDOW)
    assert about.served(listed(VLLM), "demo").says == {}


def test_which_of_several() -> None:
    """None listed or several: say which; their names are shown, printable and short."""
    with pytest.raises(UsageError, match="0 models"):
        about.served(listed(), None)
    with pytest.raises(UsageError) as caught:
        about.served(listed(VLLM, {"id": "b\x1b[2J" + "x" * 9000}), None)
    assert "medgemma" in caught.value.message
    assert "\x1b" not in caught.value.message and len(caught.value.message) < 1000
    assert about.served(listed(VLLM, LLAMA), "medgemma").maker == "vllm"


@pytest.mark.parametrize("value", [{}, {"data": None}, {"data": {"id": "x"}}, {"error": "no"}])
def test_no_list(value: dict[str, Any]) -> None:
    """What is no list of models is no answer."""
    with pytest.raises(Again):
        about.served(value, "demo")


def test_odd_entries() -> None:
    """Wrong types are passed over."""
    odd = {"id": "demo", "root": 7, "meta": [1], "max_model_len": "many", "owned_by": None}
    found = about.served(listed(3, None, odd), None)
    assert found == ("demo", {"id": "demo"}, "", about.UNKNOWN_WINDOW)
    wild = {"id": "demo", "meta": {"size": -1, "n_params": True}, "max_model_len": -5}
    assert about.served(listed(wild), None).says == {"id": "demo"}


def test_agreed() -> None:
    """Several servers are one model, or refused; the smallest window counts."""
    one = about.served(listed(VLLM), None)
    short = about.served(listed({**VLLM, "max_model_len": 4096}), None)
    assert about.agreed([one, short]) == one._replace(window=4096)
    other = about.served(listed({**VLLM, "root": "/models/other"}), None)
    with pytest.raises(ConfigError):
        about.agreed([one, other])
