"""What decoding inside a grammar costs, and what the forced tokens save.

    python benchmarks/constrained.py [--model demo] [--repeats 3] [--json]

Two pairs of arms, in turn, on the notes of raw/notes:

steps      A batch of 16, `summarize` inside its grammar against the same prompts as free text.
           Tokens a second over those steps in which the whole batch is writing, so that neither
           arm is helped by answers that end early; prefill is not counted.
documents  One document at a time, `labs` inside its grammar against free text of exactly as many
           tokens. Seconds a document, all of it; decoding passes a token written (the prompt's
           own pass and those that score choices are in the seconds, not in the passes).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from medgemma_cli import models, readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.records import Contract, Document, Limits, Prompt

NOTES = Path(__file__).parent.parent / "raw" / "notes"


class Clock:
    """Notes when each decoding step begins and how many tokens it takes."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []

    def __call__(self, tokens: int) -> None:
        """Called by the engine before each forward pass."""
        self.steps.append((time.perf_counter(), tokens))

    def rate(self, lines: int) -> float:
        """Tokens a second, by the median step in which all lines write."""
        pairs = zip(self.steps, self.steps[1:], strict=False)
        taken = [(after - at) / (n / lines) for (at, n), (after, _) in pairs if n % lines == 0]
        return lines / statistics.median(taken)


def documents(count: int) -> Iterator[Document]:
    """The first notes, as read."""
    limits = readers.ReadLimits()
    sources = Discovery([str(NOTES)], readers.SUFFIXES, limit=count)
    for source in sources:
        yield readers.decode(source, readers.load(source, limits), limits)


def prompts(name: str, count: int, limits: Limits) -> list[Prompt]:
    """The notes in a template."""
    template = templates.load(name)
    return [
        templates.render(template, document, f"{i:064}", limits)
        for i, document in enumerate(documents(count))
    ]


def free(prompt: Prompt, tokens: int) -> Prompt:
    """The same question, with exactly so many tokens of free text as its answer."""
    limits = Limits(max_new_tokens=tokens, min_new_tokens=tokens)
    return prompt.model_copy(update={"contract": Contract(kind="text"), "limits": limits})


def steps(checkpoint: models.Checkpoint, repeats: int, lines: int, tokens: int) -> dict[str, float]:
    """Tokens a second of full batches, constrained and not."""
    clock = Clock()
    engine = LocalEngine(checkpoint, LocalOptions(batch_size=lines), tokens=clock)
    bound = prompts("summarize", lines, Limits(max_new_tokens=tokens))
    arms = {"constrained": bound, "free": [free(prompt, tokens) for prompt in bound]}
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats + 1):
        for name, batch in arms.items():
            clock.steps.clear()
            list(engine.generate(batch))
            if repeat:  # the first warms up
                rates[name].append(clock.rate(lines))
                print(f"  {name}: {rates[name][-1]:.1f} tokens/s", file=sys.stderr)
    inside, outside = (statistics.median(rates[name]) for name in arms)
    return {
        "constrained_tokens_s": inside,
        "free_tokens_s": outside,
        "ratio": inside / outside,
        "worst_ratio": min(a / b for a, b in zip(*rates.values(), strict=True)),
    }


def one_by_one(checkpoint: models.Checkpoint, repeats: int, count: int) -> dict[str, float]:
    """Seconds a document at a batch of one, against free text as long."""
    clock = Clock()
    engine = LocalEngine(checkpoint, LocalOptions(batch_size=1), tokens=clock)
    bound = prompts("labs", count, Limits(max_new_tokens=200))
    list(engine.generate(bound[:1]))
    ratios, passes, written = [], 0, 0
    for _ in range(repeats):
        for prompt in bound:
            clock.steps.clear()
            started = time.perf_counter()
            (answer,) = engine.generate([prompt])
            inside = time.perf_counter() - started
            passes += len(clock.steps)
            written += answer.usage.completion_tokens
            started = time.perf_counter()
            list(engine.generate([free(prompt, answer.usage.completion_tokens)]))
            ratios.append(inside / (time.perf_counter() - started))
            print(f"  document: {ratios[-1]:.2f}", file=sys.stderr)
    return {"seconds_ratio": statistics.median(ratios), "passes_a_token": passes / written}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lines", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    checkpoint = models.resolve(options.model)
    batch = steps(checkpoint, options.repeats, options.lines, options.tokens)
    single = one_by_one(checkpoint, options.repeats, 3)
    if options.json:
        print(json.dumps({"steps": batch, "documents": single}))
        return
    print(
        f"batch of {options.lines}: {batch['constrained_tokens_s']:.1f} tokens/s constrained, "
        f"{batch['free_tokens_s']:.1f} free: {batch['ratio']:.2f} (worst pair "
        f"{batch['worst_ratio']:.2f})"
    )
    print(
        f"one at a time: {single['seconds_ratio']:.2f} of the seconds of free text as long; "
        f"{single['passes_a_token']:.2f} decoding passes a token"
    )


if __name__ == "__main__":
    main()
