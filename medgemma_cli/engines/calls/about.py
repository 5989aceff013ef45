"""What servers say of the model that they serve: all that is known of their weights."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from medgemma_cli.engines.calls.replies import Again
from medgemma_cli.errors import ConfigError, UsageError

# `meta` is llama.cpp's: sizes of the model, which tell one quantisation from another.
_SAID = ("id", "root", "parent", "owned_by", "meta")
_META = ("vocab_type", "n_vocab", "n_ctx_train", "n_embd", "n_params", "size")
_WINDOWS = ("max_model_len", "context_length", "context_window", "max_context_length")
_LONGEST = 300
UNKNOWN_WINDOW = 2**31


class Served(NamedTuple):
    """The model of a server.

    Attributes:
        says: what it says of the model, as far as that does not change from day to day; empty
            where it does not list the model.
        maker: what the server calls itself (``vllm``, ``sglang``, ``llamacpp``), or whose model
            it is.
        window: `UNKNOWN_WINDOW` where it does not say.
    """

    name: str
    says: dict[str, Any]
    maker: str = ""
    window: int = UNKNOWN_WINDOW


def served(value: dict[str, Any], wanted: str | None) -> Served:
    """The model asked for, or the only one, of an answer to ``GET /models``.

    Raises:
        Again: it is no such answer.
        UsageError: 2, several models are served, or none is listed, and none is asked for.
    """
    data = value.get("data")
    if not isinstance(data, list):
        raise Again("fault")
    models = [entry for entry in data if isinstance(entry, dict) and _text(entry.get("id"))]
    if wanted is None and len(models) != 1:
        names = ", ".join(sorted(_text(entry["id"]) for entry in models)[:20])
        raise UsageError(
            f"The server lists {len(models)} models{': ' + names if names else ''}.",
            "Say which with --served-model.",
        )
    entry = next((one for one in models if wanted in (None, one["id"])), None)
    name = wanted if wanted is not None else _text(models[0]["id"])
    if entry is None:
        return Served(name, {})
    return Served(name, _said(entry), _text(entry.get("owned_by")).lower(), _window(entry))


def _text(value: Any) -> str:
    """A name of its, safe to show: printable and not long."""
    text = value if isinstance(value, str) else ""
    return "".join(one for one in text if one.isprintable())[:_LONGEST]


def _said(entry: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for key in _SAID:
        value = entry.get(key)
        if isinstance(value, str) and value:
            said[key] = _text(value)
        elif key == "meta" and isinstance(value, dict):
            said |= {name: value[name] for name in _META if _whole(value.get(name))}
    return said


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _window(entry: dict[str, Any]) -> int:
    meta = entry.get("meta")
    # `n_ctx` is what a llama.cpp server was started with; what it was trained on is no promise.
    places = [entry.get(name) for name in _WINDOWS]
    places.append(meta.get("n_ctx") if isinstance(meta, dict) else None)
    found = [value for value in places if isinstance(value, int) and 0 < value < UNKNOWN_WINDOW]
    return min(found, default=UNKNOWN_WINDOW)


def agreed(every: Sequence[Served]) -> Served:
    """What all servers say, with the smallest window of them.

    Raises:
        ConfigError: 78, they serve different models: which one answered would be chance.
    """
    first = every[0]
    if any((other.name, other.says) != (first.name, first.says) for other in every):
        raise ConfigError(
            "The servers of --base-url say different things of their models.",
            "Serve the same model under the same name everywhere, or name one server.",
        )
    return first._replace(window=min(one.window for one in every))
