"""How well does the grounding check do? By kind on perturbed notes, and on human notes.

    python benchmarks/checking.py [--data ../shared/data] [--list]

Prints recall by kind of corruption and false positives of the controls, the pairs a second, and
the share of sentences of human notes flagged at `review` or above against their transcripts. With
`--list`, each miss and each flag by id and rule, without any text.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonlines

from medgemma_cli.safety.grounding import check
from medgemma_cli.safety.grounding.analysis import analyse


def serious(findings: Any) -> list[Any]:
    """The flags at review or above."""
    return [flag for flag in findings.flags if flag.severity != "note"]


def perturbed(path: Path, listed: bool) -> None:
    """Recall by kind, false positives, speed."""
    total: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    extra: Counter[str] = Counter()
    rows = list(jsonlines.open(path))
    check("warm", "up")
    start = time.perf_counter()
    results = [check(row["source"], row["output"]) for row in rows]
    seconds = time.perf_counter() - start
    for row, result in zip(rows, results, strict=True):
        rules = {flag.rule for flag in serious(result)}
        kind = row["kind"]
        total[kind] += 1
        wrong = bool(rules) if row["faithful"] else not set(row["expect"]) & rules
        hit[kind] += not wrong
        extra[kind] += bool(rules - set(row["expect"]))
        if wrong and listed:
            print(f"  {row['id']}: {', '.join(sorted(rules)) or 'nothing'}")
    print(f"{'kind':22} {'n':>4} {'right':>6}  other rules")
    for kind in total:
        print(f"{kind:22} {total[kind]:4} {hit[kind] / total[kind]:6.3f}  {extra[kind]}")
    analyse.cache_clear()
    print(f"{len(rows) / seconds:.0f} pairs a second (sources repeat and are cached)")
    start = time.perf_counter()
    for row in rows:
        analyse.cache_clear()
        check(row["source"], row["output"])
    print(
        f"{len(rows) / (time.perf_counter() - start):.0f} pairs a second (every source read anew)"
    )


def human(path: Path, listed: bool) -> None:
    """Sentences of human notes flagged against their transcripts."""
    flagged: Counter[str] = Counter()
    sentences = marked = 0
    for row in jsonlines.open(path):
        result = check(row["source"], row["reference"])
        note = analyse(row["reference"])
        own = [s for s in note.sentences if s.last - s.first > 2]
        sentences += len(own)
        places = set()
        for fact in result.facts:
            if not fact.rule:
                continue
            at = note.sentence_at(fact.span[0])
            places.add(at)
            flagged[fact.rule] += 1
            if listed:
                print(f"  {row['id']} sentence {at}: {fact.rule} ({fact.kind})")
        marked += len(places)
    print(f"human notes: {marked} of {sentences} sentences flagged, {marked / sentences:.3f}")
    print(", ".join(f"{rule} {count}" for rule, count in flagged.most_common()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--list", action="store_true", help="each miss and flag, by id and rule")
    args = parser.parse_args()
    for measure, name in (
        (perturbed, "perturbed_notes/pairs.jsonl"),
        (human, "aci-bench/valid.jsonl"),
    ):
        if (args.data / name).is_file():
            measure(args.data / name, args.list)
        else:
            print(f"{name} is not there and is left out", file=sys.stderr)


if __name__ == "__main__":
    main()
