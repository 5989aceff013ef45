"""How sure a model was of its words, and what that decides. Pure.

None of these numbers is a clinical certainty: they say how likely the model was to write this,
not how likely it is to be true.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from medgemma_cli.records import Flag, Generation

UNCERTAIN = "uncertain"


class Span(Protocol):
    """A piece of a generation's text, in characters."""

    @property
    def start(self) -> int:
        """Where it begins."""

    @property
    def end(self) -> int:
        """Where it ends."""


def normalised(log_probabilities: list[float]) -> list[float]:
    """Probabilities over these options alone, which sum to 1."""
    top = max(log_probabilities)
    if math.isinf(top):  # none is possible at all: nothing tells them apart
        return [1 / len(log_probabilities)] * len(log_probabilities)
    weights = [math.exp(value - top) for value in log_probabilities]
    return [weight / sum(weights) for weight in weights]


def pick(options: dict[str, float], rule: dict[str, Any] | None) -> str:
    """The option to write: the likeliest; with a rule, by its threshold among its two.

    An option outside the rule's two (an abstention such as ``cannot tell``) wins by being the
    likeliest of all.
    """
    best = max(options, key=lambda option: options[option])
    if rule is None or best not in (rule["positive"], rule["negative"]):
        return best
    above = _positive(options, rule) >= rule.get("threshold", 0.5)
    chosen: str = rule["positive"] if above else rule["negative"]
    return chosen


def decide(where: str, options: dict[str, float], rule: dict[str, Any]) -> tuple[str, Flag | None]:
    """The value to record, and a flag when the positive's share lies inside the band of doubt."""
    chosen = pick(options, rule)
    low, high = rule.get("uncertain", [0.5, 0.5])
    share = _positive(options, rule)
    if chosen not in (rule["positive"], rule["negative"]) or not low < share < high:
        return chosen, None
    why = f"The model's share for the positive option lies between {low} and {high}; look yourself."
    value = f"{share:.3f}"
    return UNCERTAIN, Flag(rule=UNCERTAIN, severity="note", where=where, value=value, why=why)


def _positive(options: dict[str, float], rule: dict[str, Any]) -> float:
    """The positive's share of what the two options have; both may have underflowed to nothing."""
    positive, negative = options[rule["positive"]], options[rule["negative"]]
    return positive / (positive + negative) if positive + negative else 0.5


def of_choice(options: dict[str, float], written: str) -> dict[str, Any]:
    """The confidence of a choice: each option's probability, from the model's own logits."""
    return {
        "method": "choice_probability",
        "value": options.get(written, 0.0),
        "options": dict(options),
    }


def of_text(generation: Generation, span: Span) -> dict[str, Any] | None:
    """The confidence of a text: mean and least probability of its tokens, unconstrained.

    None where no token of the span was chosen by the model.
    """
    chosen = [p for p in generation.tokens if span.start < p[0] <= span.end]
    if not chosen:
        return None
    probabilities = [math.exp(log) for _, log in chosen]
    mean = sum(probabilities) / len(probabilities)
    return {
        "method": "token_probability",
        "value": round(mean, 6),
        "mean": round(mean, 6),
        "minimum": round(min(probabilities), 6),
    }


def confidence(fields: Mapping[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    """A record's `confidence`: the first field's, if it is a choice, else the texts' mean."""
    known = {name: field for name, field in fields.items() if field}
    if not known:
        return None
    first = next(iter(known.values()))
    if first["method"] != "choice_probability":
        texts = [f["value"] for f in known.values() if f["method"] == "token_probability"]
        first = {"method": "token_probability", "value": round(sum(texts) / len(texts), 6)}
    return {"value": first["value"], "method": first["method"], "fields": known}
