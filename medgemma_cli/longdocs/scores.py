"""The probabilities of what the model wrote, moved to where it stands in the joined answer."""

from medgemma_cli.jsonplaces import leaves
from medgemma_cli.records import ChoiceScore, Generation


def scored(made: Generation, written: Generation) -> Generation:
    """The joined answer with those of every value that stands in it as it was written."""
    now = {leaf.path: leaf for leaf in leaves(made.text)}
    choices: list[ChoiceScore] = []
    tokens: list[tuple[int, float]] = []
    for leaf in leaves(written.text):
        new = now.get(leaf.path)
        raw = written.text[leaf.start : leaf.end]
        if new is None or made.text[new.start : new.end] != raw:
            continue
        by = new.start - leaf.start
        choices += [
            score.model_copy(update={"at": new.start})
            for score in written.choices
            if score.at == leaf.start
        ]
        tokens += [(at + by, log) for at, log in written.tokens if leaf.start < at <= leaf.end]
    return made.model_copy(update={"choices": tuple(choices), "tokens": tuple(sorted(tokens))})
