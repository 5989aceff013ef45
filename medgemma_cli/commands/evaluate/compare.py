"""`medgemma eval compare A B`: the same documents, two runs; what became better or worse."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_cli.commands.evaluate import options as o
from medgemma_cli.errors import GATE, OK, NoInputError, UsageError

if TYPE_CHECKING:
    from medgemma_cli.evaluating.comparing import Change, Delta, Gate, Group, Paired


# Of a document alone; --json has all.
_SHOWN = ("rougeLsum", "token_f1", "quotes", "omissions", "facts_contradicted", "facts_not_checked")


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="The -o of the run before.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The -o of the run after.")],
    references: o.References = None,
    field: o.Field = "summary",
    fail_if_worse: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if-worse",
            metavar="METRIC[:MARGIN]",
            help="Exit 4 if B is worse than A by more than MARGIN (default 0), in the metric's "
            "own unit. The difference itself decides, not its interval. Repeatable; an unknown "
            "METRIC prints the list.",
        ),
    ] = None,
    as_json: o.Json = False,
    seed: o.Seed = 0,
) -> None:
    """Compare two runs over the same documents; exit 4 if --fail-if-worse says so."""
    from medgemma_cli.commands.evaluate import inputs
    from medgemma_cli.evaluating import comparing
    from medgemma_cli.progress import emit

    gates = [_gate(text, with_references=references is not None) for text in fail_if_worse or []]
    paired = comparing.pair(inputs.records(before), inputs.records(after))
    if not paired.before:
        raise NoInputError(
            "The folders have no document in common.", "Give the -o of two runs over one input."
        )
    facts = {
        "documents in both": len(paired.before),
        "of other bytes": paired.other,
        "in one folder only": paired.alone,
    }
    groups = [_checks(paired, gates)]
    if references is not None:
        groups.insert(0, _overlaps(paired, references, field))
        facts["with a reference"] = len(groups[0].places)
    deltas = [delta for group in groups for delta in comparing.deltas(group, seed)]
    by_name = {delta.change.name: delta for delta in deltas}
    worse = [gate for gate in gates if comparing.is_worse(gate, by_name.get(gate.measure))]
    changes = comparing.changes(paired, groups)
    if as_json:
        _show_json(facts, deltas, changes, worse)
    else:
        _show(facts, deltas, changes)
    for gate in worse:
        emit(f"medgemma: worse by more than {gate.margin:g}: {gate.measure}", sys.stderr)
    raise typer.Exit(GATE if worse else OK)


def _gate(text: str, *, with_references: bool) -> "Gate":
    from medgemma_cli.evaluating import checked, comparing, overlap
    from medgemma_cli.safety.rulebook import names as rules

    flags = [f"{checked.FLAG}{rule}" for rule in sorted(rules())]
    gate = comparing.gate(text, [*overlap.NAMES, *checked.NAMES, *flags])
    if gate.measure in overlap.NAMES and not with_references:
        raise UsageError("That measure of --fail-if-worse needs --references.", "Give them.")
    return gate


def _checks(paired: "Paired", gates: "list[Gate]") -> "Group":
    """What the checks found, over all pairs; rules of one side are counted in both."""
    from medgemma_cli.evaluating import checked
    from medgemma_cli.evaluating.comparing import Group

    asked = [gate.measure for gate in gates if gate.measure.startswith(checked.FLAG)]
    rules = {name.removeprefix(checked.FLAG) for name in asked}
    rules |= checked.rules(paired.before) | checked.rules(paired.after)
    old, new = (checked.measures(side, rules) for side in (paired.before, paired.after))
    return Group(old, new, list(range(len(paired.before))))


def _overlaps(paired: "Paired", path: Path, field: str) -> "Group":
    """Words in common, over the pairs of which both sides can be compared with a reference."""
    from medgemma_cli.commands.evaluate import inputs
    from medgemma_cli.evaluating import overlap, references
    from medgemma_cli.evaluating.comparing import Group

    overlap.require()
    lines = inputs.lines(path, "The file of --references", references.need_reference)
    values = references.match(paired.after, lines, "reference").values
    texts = []
    for side in (paired.before, paired.after):
        references.check_field(side, field)
        texts.append([references.compared(record, field) for record in side])
    triples = enumerate(zip(*texts, values, strict=True))
    kept = [(place, *triple) for place, triple in triples if None not in triple]
    places, old, new, right = map(list, zip(*kept, strict=True)) if kept else ([], [], [], [])
    return Group(overlap.measures(old, right), overlap.measures(new, right), places)


def _show_json(
    facts: dict[str, int], deltas: "list[Delta]", changes: "list[Change]", worse: "list[Gate]"
) -> None:
    from medgemma_cli.commands.evaluate import showing
    from medgemma_cli.evaluating import caveats

    rows = []
    for delta in deltas:
        figure = delta.change._asdict()
        sides = {"before": delta.before, "after": delta.after, "change": figure.pop("value")}
        rows.append({**figure, **sides, "better": delta.better})
    value: dict[str, Any] = {
        "kind": "compare",
        "facts": facts,
        "deltas": rows,
        "changes": [change._asdict() for change in changes],
        "worse": [gate._asdict() for gate in worse],
        "notes": [*caveats.DIFFERENCES, caveats.INTERVALS],
    }
    showing.show_json(value)


def _show(facts: dict[str, int], deltas: "list[Delta]", changes: "list[Change]") -> None:
    from medgemma_cli.commands import tables
    from medgemma_cli.commands.evaluate import showing
    from medgemma_cli.evaluating import caveats
    from medgemma_cli.progress import emit

    showing.show_facts(facts)
    head = ("measure", "A", "B", "B less A", "95 % from", "to", "n")
    tables.show(head, [_row(delta) for delta in deltas], head[1:])
    emit("")
    if changes:
        rows = [_changed(change) for change in changes]
        tables.show(("document", "status", "flags", "B less A"), rows)
    else:
        emit("no document changed")
    showing.show_notes((*caveats.DIFFERENCES, caveats.INTERVALS))


def _row(delta: "Delta") -> tuple[str, ...]:
    from medgemma_cli.commands.evaluate.showing import number
    from medgemma_cli.display import visible

    change = delta.change
    moved = (number(value, sign=True) for value in (change.value, change.low, change.high))
    sides = number(delta.before), number(delta.after)
    return visible(change.label), *sides, *moved, f"{change.n:,}"


def _changed(change: "Change") -> tuple[str, ...]:
    from medgemma_cli.commands.evaluate.showing import number
    from medgemma_cli.display import visible

    same = change.before == change.after
    status = change.after if same else f"{change.before} → {change.after}"
    flags = [f"+{rule}" for rule in change.gained] + [f"-{rule}" for rule in change.lost]
    shown = ((name, change.deltas.get(name)) for name in _SHOWN)
    moved = [f"{name} {number(value, sign=True)}" for name, value in shown if value]
    return visible(change.source), status, visible(" ".join(flags)), ", ".join(moved)
