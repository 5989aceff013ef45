"""How many documents a second, against the loop that comparable projects use.

    python benchmarks/throughput.py [--documents 32] [--tokens 96] [--batch-sizes 8,16,32,auto]

Every arm answers the same made-up documents with the same number of new tokens, forced, and the
arms take turns within each repeat, since a shared machine's speed drifts:

one    one document at a time through `model.generate`, as comparable projects do
white  the same with a dummy white image for every text (only where the model reads images)
ours   medgemma-cli's engine, at each of the batch sizes
batch  transformers' `generate_batch` (continuous batching)
llama  llama.cpp's server on the same GGUF, where `llama-server` is on PATH (only --model demo)

Tokenising, decoding of images and turning ids into text are in the seconds; loading, warming up
and what an arm sets up before a pass are not. Ratios are of documents a second within one repeat.
A number at the head of every prompt and a pixel in every picture differ from pass to pass, so
that no cache of an earlier pass helps anyone.

On a GPU:

    python benchmarks/throughput.py --shape medgemma-4b --documents 256 --range 300-1500 \\
        --tokens 256 --batch-sizes auto --device cuda --one-documents 8
    (and the same with --images 64: so many of the documents are 896x896 pictures)
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ceiling
import corpus
import quiet
import shapes
from arms import (
    Arm,
    ContinuousBatch,
    LlamaServer,
    OneAtATime,
    Ours,
    Plain,
    UnavailableError,
    Weights,
    WithWhite,
)

from medgemma_cli import models
from medgemma_cli.engines.loading import pick_device, pick_precision
from medgemma_cli.records import Prompt

ARMS = ("one", "white", "ours", "batch", "llama")
# A GPU's passes are short, and its allocator and kernels have to have seen every length.
_WARM_TOKENS = 8
# Share of the CPUs in others' hands from which figures are not to be quoted.
_LOUD = 0.1


@dataclass
class Outcome:
    """What came of an arm.

    Attributes:
        seconds: of each timed pass.
        others: the share of the CPUs that other processes took in each.
        clock: what the arm's own clock gained in all of them.
        failed: why it was not run, or not to the end.
    """

    arm: Arm
    prompts: list[Prompt]
    seconds: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    clock: dict[str, float] = field(default_factory=dict)
    failed: str | None = None

    def docs_s(self) -> list[float]:
        """Documents a second, by pass."""
        return [len(self.prompts) / taken for taken in self.seconds]


class Bench:
    """One run of the benchmark: documents, arms and what came of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = pick_device(options.device)
        self.precision = pick_precision(options.precision, self.device)
        self.checkpoint = _checkpoint(options, self.device)
        assert self.checkpoint.path is not None
        self.plain = Plain(self.checkpoint.path, self.precision, self.device)
        self.prompts = corpus.build(_mix(options), self._measure, self.plain.ids)
        ids = [self.plain.ids(prompt) for prompt in corpus.marked(self.prompts, 0)]
        self.lengths = [len(row) for row in ids]
        texts = [row for row, p in zip(ids, self.prompts, strict=True) if not p.images]
        self.shared = corpus.shared(texts)
        self._check()
        self.outcomes = [
            Outcome(arm, corpus.sample(self.prompts, arm.documents or len(ids), self.plain.ids))
            for arm in self._arms()
        ]
        self._passes = 0
        self.peak: ceiling.Peak | None = None

    def _measure(self, text: str) -> int:
        return len(self.plain.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _check(self) -> None:
        if any(p.images for p in self.prompts) and not self.plain.multimodal:
            raise SystemExit("--images: the model reads no images")
        window = models.window(models.config(self.plain.folder))
        if max(self.lengths) + self.options.tokens > window:
            raise SystemExit(f"the longest prompt and its answer are over the window ({window})")

    def _arms(self) -> list[Arm]:
        options, plain, weights = self.options, self.plain, Weights()
        numbers = [size for size in options.batch_sizes if isinstance(size, int)]
        loading = {"precision": self.precision, "device": self.device}
        work, demo = options.work, self.checkpoint.id == models.DEMO
        made: dict[str, list[Arm]] = {
            "one": [OneAtATime(plain, options.one_documents)],
            "white": [WithWhite(plain, options.one_documents)],
            "ours": [
                Ours(self.checkpoint, loading, size, options.documents, weights)
                for size in options.batch_sizes
            ],
            "batch": [ContinuousBatch(plain, bool(options.images), options.timeout)],
            "llama": [LlamaServer(plain, work, demo, max(numbers, default=16), options.timeout)],
        }
        return [arm for name in options.arms for arm in made[name]]

    # -- running ----------------------------------------------------------------------------

    def run(self) -> None:
        """Measure the device, load and warm up every arm, then let them take turns."""
        if self.precision in ceiling.WIDTHS:
            _say("measuring the device")
            self.peak = ceiling.peak(self.device, self.precision)
        for outcome in self.outcomes:
            self._attempt(outcome, self._warm_up)
        for repeat in range(self.options.repeats):
            # Each repeat begins with another arm, so that none always has the same turn.
            first = repeat % len(self.outcomes)
            for outcome in self.outcomes[first:] + self.outcomes[:first]:
                self._attempt(outcome, self._timed)
            self._save()
        for outcome in self.outcomes:
            outcome.arm.close()
        if self.peak and self.device == "cpu":
            # A shared machine may have been slow at first; a GPU is not, and is full by now.
            self.peak = self.peak.or_better(ceiling.peak(self.device, self.precision))
            self._save()

    def _save(self) -> None:
        if self.options.save:
            self.options.save.write_text(json.dumps(self.report()), "utf-8")

    def _attempt(self, outcome: Outcome, stage: Any) -> None:
        """A failing arm is reported; the others go on."""
        if outcome.failed:
            return
        try:
            stage(outcome)
        except UnavailableError as error:
            outcome.failed = f"not run: {error}"
        except Exception as error:
            if self.options.debug:
                raise
            outcome.failed = f"failed: {type(error).__name__}: {error}"[:300]
        if outcome.failed:
            _say(f"{outcome.arm.name}: {outcome.failed}")

    def _warm_up(self, outcome: Outcome) -> None:
        _say(f"{outcome.arm.name}: loading and warming up")
        outcome.arm.load()
        most = self.options.tokens
        tokens = most if self.device.startswith("cuda") else min(_WARM_TOKENS, most)
        self._pass(outcome.arm, outcome.prompts[: outcome.arm.warm], tokens)

    def _timed(self, outcome: Outcome) -> None:
        before = outcome.arm.timing or {}
        shares: list[float] = []
        with quiet.others(shares):
            taken = self._pass(outcome.arm, outcome.prompts, self.options.tokens)
        outcome.seconds.append(taken)
        outcome.others += shares
        for name, value in (outcome.arm.timing or {}).items():
            outcome.clock[name] = outcome.clock.get(name, 0) + value - before.get(name, 0)
        _say(f"{outcome.arm.name}: {outcome.seconds[-1]:.1f} s, {outcome.docs_s()[-1]:.3f} docs/s")

    def _pass(self, arm: Arm, prompts: list[Prompt], tokens: int) -> float:
        """Seconds of answering them all."""
        self._passes += 1
        limits = {"max_new_tokens": tokens, "min_new_tokens": tokens}
        asked = [
            prompt.model_copy(update={"limits": prompt.limits.model_copy(update=limits)})
            for prompt in corpus.marked(prompts, self._passes)
        ]
        _tidy(self.device)
        # The pass's number may take a token or two more than that of pass 0.
        arm.before(len(asked), max(self.lengths) + 8, tokens)
        try:
            ceiling.synchronise(self.device)
            started = time.perf_counter()
            written = arm.answer(asked, tokens)
            ceiling.synchronise(self.device)
            taken = time.perf_counter() - started
        finally:
            arm.after()
        if written != [tokens] * len(asked):
            raise RuntimeError(f"wrote {sorted(set(written))} tokens, not {tokens} a document")
        return taken

    # -- reporting --------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """One JSON object of everything."""
        options, lengths = self.options, self.lengths
        return {
            "machine": _machine(self.device),
            "model": {
                "id": options.shape or options.model,
                "random_weights": options.shape is not None,
                "weights": models.parameters(self.checkpoint),
                "precision": self.precision,
            },
            "documents": {
                "count": len(lengths),
                "images": options.images,
                "new_tokens": options.tokens,
                "prompt_tokens": {
                    "shortest": min(lengths),
                    "mean": statistics.mean(lengths),
                    "longest": max(lengths),
                },
                "shared_tokens": self.shared,
                "layout": options.layout,
            },
            "repeats": options.repeats,
            "peak": self.peak and {**self.peak._asdict(), "bandwidth": self.peak.bandwidth},
            "arms": [self._figures(outcome) for outcome in self.outcomes],
        }

    def _figures(self, outcome: Outcome) -> dict[str, Any]:
        rates = outcome.docs_s()
        baseline = next((o for o in self.outcomes if type(o.arm) is OneAtATime), None)
        pairs = zip(rates, baseline.docs_s() if baseline else [], strict=False)
        ratios = [rate / base for rate, base in pairs]
        return {
            "name": outcome.arm.name,
            "documents": len(outcome.prompts),
            "failed": outcome.failed,
            "note": outcome.arm.note,
            "remarks": outcome.arm.remarks,
            "seconds": outcome.seconds,
            "others_cpu": outcome.others,
            "docs_s": statistics.median(rates) if rates else None,
            "tokens_s": statistics.median(rates) * self.options.tokens if rates else None,
            "ratio": {"median": statistics.median(ratios), "worst": min(ratios), "all": ratios}
            if ratios
            else None,
            "clock": outcome.clock or None,
            "ceiling": self._ceiling(outcome),
        }

    def _ceiling(self, outcome: Outcome) -> dict[str, Any] | None:
        clock, rounds = outcome.clock, len(outcome.seconds)
        if not clock or self.peak is None:
            return None
        measured = ceiling.Measured(
            rounds=rounds,
            tokens=self.options.tokens,
            prompt_tokens=int(clock["prompt_tokens"]),
            # An answer's first token comes of its prefill.
            written=rounds * len(outcome.prompts) * (self.options.tokens - 1),
            images=int(clock["images"]),
            passes=int(clock["passes"]),
            prefill=clock["prefill"],
            decode=clock["decode"],
            vision=clock["vision"],
            idle=clock["idle"],
            wall=sum(outcome.seconds),
        )
        sizes = ceiling.Sizes.of(self.plain.folder)
        width = ceiling.WIDTHS[self.precision]
        return ceiling.reached(sizes, width, self.peak, self.lengths, measured)


def _checkpoint(options: argparse.Namespace, device: str) -> models.Checkpoint:
    options.work.mkdir(parents=True, exist_ok=True)
    if options.shape is None:
        found = models.resolve(options.model)
        return models.fetch(found, lambda text, done, total: _say(text))
    _say(f"making a checkpoint of the shape {options.shape}, unless it is there")
    path = shapes.folder(options.shape, options.work, device)
    _tidy(device)
    # Without the hash of its weights: nothing is kept that would need one.
    return models.Checkpoint(options.shape, None, path, options.shape)


def _mix(options: argparse.Namespace) -> corpus.Mix:
    return corpus.Mix(
        documents=options.documents,
        tokens=options.tokens,
        prompt_tokens=options.prompt_tokens,
        span=options.range,
        images=options.images,
        shared=options.shared_tokens,
        layout=options.layout,
    )


def _tidy(device: str) -> None:
    """One arm's left-over memory is not the next one's shortage."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def _machine(device: str) -> dict[str, Any]:
    import torch
    import transformers

    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "device": gpu or name or platform.processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


# -- for people -----------------------------------------------------------------------------


def show(report: dict[str, Any]) -> None:
    """Print what a reader wants to know first, and how it was got."""
    machine, model, documents = report["machine"], report["model"], report["documents"]
    lengths = documents["prompt_tokens"]
    print(
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, "
        f"transformers {machine['transformers']}\n"
        f"{model['id']}{' (random weights)' if model['random_weights'] else ''}, "
        f"{model['weights'] / 1e6:.4g}M weights, {model['precision']}\n"
        f"{documents['count']} documents ({documents['images']} of them images), prompts of "
        f"{lengths['shortest']} to {lengths['longest']} tokens (mean {lengths['mean']:.0f}, "
        f"{documents['shared_tokens']} of a text's shared), {documents['new_tokens']} new tokens "
        f"each, forced; {report['repeats']} repeats, medians\n"
    )
    print(f"{'arm':28} {'documents':>9} {'docs/s':>9} {'tokens/s':>9} {'ratio':>7} {'worst':>7}")
    for arm in report["arms"]:
        print(_row(arm))
    print()
    if (most := max((s for arm in report["arms"] for s in arm["others_cpu"]), default=0)) > _LOUD:
        print(f"NOT A QUIET MACHINE: others took up to {100 * most:.0f}% of its CPUs meanwhile")
    if any(arm["documents"] < documents["count"] for arm in report["arms"]):
        print("fewer documents: a subsample, evenly from the documents sorted by length")
    for arm in report["arms"]:
        for text in filter(None, [arm["note"] * bool(arm["docs_s"]), *arm["remarks"]]):
            print(f"{arm['name']}: {text}")
    _show_ceiling(report)


def _row(arm: dict[str, Any]) -> str:
    start = f"{arm['name']:28} {arm['documents']:9}"
    if arm["docs_s"] is None:
        return f"{arm['name']:28} {arm['failed']}"
    rates = f" {arm['docs_s']:9.3f} {arm['tokens_s']:9.1f}"
    ratio = arm["ratio"]
    compared = f" {ratio['median']:6.2f}x {ratio['worst']:6.2f}x" if ratio else ""
    stopped = f"  {arm['failed']} (after {len(arm['seconds'])})" if arm["failed"] else ""
    return start + rates + compared + stopped


def _show_ceiling(report: dict[str, Any]) -> None:
    peak = report["peak"]
    if peak is None:
        return
    sheet = peak["data_sheet"]
    print(
        f"\nthis device, measured: {peak['read'] / 1e9:.1f} GB/s read, {peak['copy'] / 1e9:.1f} "
        f"GB/s copied{f' (data sheet {sheet / 1e9:.0f})' if sheet else ''}, "
        f"{peak['flops'] / 1e12:.3g} TFLOP/s of a matrix product in {report['model']['precision']}"
    )
    for arm in report["arms"]:
        if found := arm["ceiling"]:
            print(f"{arm['name']}:")
            for line in _ceiling_lines(found, sheet, peak["bandwidth"]):
                print(f"  {line}")


def _ceiling_lines(found: dict[str, Any], sheet: float | None, bandwidth: float) -> list[str]:
    shares = ", ".join(f"{name} {100 * share:.1f}%" for name, share in found["shares"].items())
    lines = [f"of its seconds: {shares}"]
    if decode := found.get("decode"):
        lines.append(
            f"decode: {decode['ms_a_pass']:.3g} ms a pass of {decode['lines_a_pass']:.1f} lines, "
            f"{decode['tokens_s']:.1f} tokens/s; the ceiling ({decode['bound_by']}) is "
            f"{decode['ceiling_tokens_s']:.1f}: {100 * decode['share_of_ceiling']:.0f}% of it"
        )
        moved = decode["weight_bytes_a_pass"], decode["cache_bytes_a_pass"]
        memory = decode["share_of_memory_ceiling"]
        quoted = f", {100 * memory * bandwidth / sheet:.0f}% by the data sheet" if sheet else ""
        lines.append(
            f"  bytes a pass: {moved[0] / 1e6:.4g} MB of weights, {moved[1] / 1e6:.4g} MB of keys "
            f"and values: {100 * memory:.0f}% of what memory allows{quoted}"
        )
    if prefill := found.get("prefill"):
        lines.append(
            f"prefill: {prefill['tokens_s']:.0f} tokens/s, {prefill['flops_s'] / 1e12:.3g} "
            f"TFLOP/s: {100 * prefill['share_of_ceiling']:.0f}% of the matrix product's; "
            f"{prefill['tokens_not_computed']} tokens of shared beginnings were not computed"
        )
    return lines


# -- options --------------------------------------------------------------------------------


def _sizes(text: str) -> list[int | str]:
    return [word if word == "auto" else _positive(word) for word in text.split(",")]


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _span(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if _positive(low) > int(high):
        raise ValueError(text)
    return int(low), int(high)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(ARMS):
        raise argparse.ArgumentTypeError(f"no arm {', '.join(sorted(unknown))}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="demo", help="demo, or a checkpoint's folder")
    add("--shape", choices=shapes.NAMES, help="random weights of this shape instead")
    add("--device", default="auto")
    add("--precision", default="auto", choices=["auto", "bf16", "fp16", "fp32"])
    add("--arms", type=_names, default=list(ARMS), help="of " + ",".join(ARMS))
    add("--batch-sizes", type=_sizes, default=_sizes("8,16,32,auto"), help="of ours")
    add("--documents", type=_positive, default=32)
    add("--one-documents", type=_positive, help="for one and white: only so many of them")
    add("--tokens", type=_positive, default=96, help="new tokens of every answer")
    add("--prompt-tokens", type=_positive, default=870, help="whole prompts, within 15%%")
    add("--range", type=_span, metavar="LOW-HIGH", help="document tokens instead")
    add("--images", type=int, default=0, help="so many of the documents are pictures")
    add("--shared-tokens", type=int, default=356, help="fill the prompts' head up to these")
    add(
        "--layout",
        choices=["head", "template"],
        default="head",
        help="template: the question stays behind the document, where it cannot be shared",
    )
    add("--repeats", type=_positive, default=3)
    add("--timeout", type=float, default=900.0, help="seconds for a pass of batch and llama")
    add("--work", type=Path, default=models.cache_folder() / "benchmarks", help="for checkpoints")
    add("--json", action="store_true")
    add("--save", type=Path, help="write the JSON here after every repeat, too")
    add("--debug", action="store_true", help="a failing arm ends it all, with a traceback")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    if options.images > options.documents:
        raise SystemExit("--images: they are some of the --documents")
    bench = Bench(options)
    bench.run()
    report = bench.report()
    if options.json:
        print(json.dumps(report))
    else:
        show(report)


if __name__ == "__main__":
    main()
    if threading.active_count() > 1:
        # A pass that was given up may have left a thread that never ends.
        sys.stdout.flush()
        os._exit(0)
