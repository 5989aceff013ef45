"""What answers about parts say together: agreed, still to be asked, or put side by side. Pure.

What has evidence is never written again: of several findings where one is wanted the model picks
a number. Only what has no quote (a summary, a grade) is written anew by the model, which sees the
answers, and only where the parts do not agree.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from medgemma_cli.longdocs.answers import LABEL, Answer
from medgemma_cli.longdocs.forms import Node, fields_of, has_quote, is_list, narrowed, words
from medgemma_cli.longdocs.lists import mark_of
from medgemma_cli.records import Contract, LeftOut

_UNDECIDED = ("not stated", "unknown", "uncertain", "unclear")


class Settled(NamedTuple):
    """Fields that are known without the model, and what it is still to be asked.

    Attributes:
        picks: of fields whose finding is picked by number: option → the answer it is in.
    """

    fields: dict[str, Any]
    asked: Contract | None
    picks: dict[str, dict[str, Answer]]


def settle(contract: Contract, answers: Sequence[Answer]) -> Settled:
    """What is known of the whole from the answers alone, but for its lists."""
    if contract.kind == "text":
        return Settled({}, contract, {})
    fields: dict[str, Any] = {}
    asked: dict[str, list[str]] = {}
    picks: dict[str, dict[str, Answer]] = {}
    for name, node in fields_of(contract):
        if is_list(node):
            continue
        if has_quote(contract, node):
            found = _candidates(name, node, answers)
            values = [answer.fields[name] for answer in found.values()] or words(node)
            if len(found) > 1:
                picks[name], asked[name] = found, list(found)
        else:
            values = _agreed(name, node, answers)
            if len(values) != 1:
                asked[name] = []
        if name not in asked and values:
            fields[name] = values[0]
    return Settled(fields, narrowed(contract, asked) if asked else None, picks)


def _candidates(name: str, node: Node, answers: Sequence[Answer]) -> dict[str, Answer]:
    """The answers that have a finding here, by the number they are shown under; repeats once."""
    known, seen, found = words(node), set[str](), dict[str, Answer]()
    for i, answer in enumerate(answers, 1):
        value = answer.fields.get(name)
        if not answer.quotable or value is None or value in known:
            continue
        mark = mark_of(value)
        if mark not in seen:
            found[f"{LABEL} {i}"] = answer
        seen.add(mark)
    return found


def _agreed(name: str, node: Node, answers: Sequence[Answer]) -> list[Any]:
    """The one value, if all say the same, or all but one "not stated" or the like; else more.

    A choice that is decided by its probabilities is always asked anew, or it would have none.
    """
    if "x-decide" in node:
        return []
    known = words(node) if len(node.get("anyOf", [node])) > 1 else []
    values = {json.dumps(answer.fields[name]): answer.fields[name] for answer in answers}
    told = [value for value in values.values() if value not in known]
    return told if told else list(values.values())


# -- where the model cannot be asked ------------------------------------------------------------


def side_by_side(
    contract: Contract, settled: Settled, answers: Sequence[Answer]
) -> tuple[dict[str, Any], tuple[LeftOut, ...]]:
    """What stands in for what the model was asked: the parts' own values, nothing made up.

    Texts follow each other as far as the field has room. A grade that the parts do not agree on
    is "unknown" or the like, where the template has such a word, else what most parts say.
    """
    if contract.kind == "text":
        return {"answer": "\n\n".join(answer.fields["answer"] for answer in answers)}, ()
    assert settled.asked is not None
    nodes = dict(fields_of(contract))
    fields: dict[str, Any] = {}
    left: list[LeftOut] = []
    for name, asked in fields_of(settled.asked):
        if name in settled.picks:
            fields[name] = next(iter(settled.picks[name]))
            continue
        given = [answer.fields[name] for answer in answers]
        told = [value for value in given if value not in words(nodes[name])] or given
        if "enum" in asked:
            undecided = [word for word in _UNDECIDED if word in asked["enum"]]
            fields[name] = (undecided or _by_count(told))[0]
        elif _is_text(asked):
            fields[name], dropped = _in_a_row(told, _longest(asked))
            left += [LeftOut(where=name, said=dropped)] if dropped else []
        else:
            fields[name] = _by_count(told)[0]
    return fields, tuple(left)


def _is_text(node: Node) -> bool:
    return any("maxLength" in option for option in node.get("anyOf", [node]))


def _longest(node: Node) -> int:
    return max(int(option.get("maxLength", 0)) for option in node.get("anyOf", [node]))


def _by_count(values: list[Any]) -> list[Any]:
    """The most frequent first; of those as frequent, the earliest."""
    count = Counter(map(json.dumps, values))
    return [json.loads(text) for text, _ in count.most_common()]


def _in_a_row(values: list[str], most: int) -> tuple[str, tuple[str, ...]]:
    """Texts one after the other, each once, as far as there is room; and those without it."""
    distinct = list(dict.fromkeys(values))
    made, dropped = distinct[0], []
    for value in distinct[1:]:
        if len(made) + 1 + len(value) <= most:
            made = f"{made} {value}"
        else:
            dropped.append(value)
    return made, tuple(dropped)
