"""Stage 2: tower and projector learn the language model's words for what the tower sees.

Next-token loss on the answers of the packaged templates; the language model is frozen. Most steps
are `screen` prompts that end where yes, no and cannot tell part; every fifth is a whole answer.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medgemma_cli.engines.encoding import Encoder
from scripts.build_demo import keeping, pictures, showing
from scripts.build_demo.drawn import CANNOT_TELL, Drawn
from scripts.build_demo.frozen import Reader
from scripts.build_demo.pretraining import eye, pixels_of

MIX = (0.41, 0.41, 0.07, 0.11)
_EVERY_WHOLE = 5
_HELD = 10_000  # added to the seed of pictures that only measure


class Settings(NamedTuple):
    """How long and how fast."""

    steps: int = 240
    batch: int = 16
    whole: int = 4
    rate: float = 1e-3
    tower_rate: float = 5e-5
    seed: int = 1

    def share_at(self, step: int) -> float:
        """Of the rates: a short rise, then a cosine down to nothing."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm + 1)))


class Eye:
    """Tower and projector as one: pictures in, what stands for them out."""

    def __init__(self, tower: Any, projector: Any) -> None:
        self.tower, self.projector = tower, projector

    def features(self, pixels: Any) -> Any:
        """Shape (pictures, tokens, hidden of the language model)."""
        import torch

        with torch.autocast("cpu", torch.bfloat16):
            return self.projector(self.tower(pixel_values=pixels).last_hidden_state)

    def look(self, drawn: list[Drawn]) -> Any:
        """The features of drawn pictures."""
        size = self.tower.config.image_size
        images = [np.asarray(one.image.resize((size, size))) for one in drawn]
        return self.features(pixels_of(np.stack(images)))

    def begin(self, reader: Reader, seed: int) -> None:
        """A random projection whose features are as long as the embeddings of words."""
        import torch

        made = torch.Generator().manual_seed(seed)
        weight = self.projector.mm_input_projection_weight
        words = reader.embed(torch.arange(10, 1000)).float().norm(dim=-1).mean().item()
        with torch.no_grad():
            weight.normal_(0, words / math.sqrt(weight.numel()), generator=made)


def numbers(settings: Settings, step: int, count: int) -> range:
    """The numbers of a step's pictures: no picture comes twice."""
    return range(step * settings.batch, step * settings.batch + count)


def loss(reader: Reader, eye: Eye, settings: Settings, step: int) -> Any:
    """The loss of a step."""
    whole = step % _EVERY_WHOLE == _EVERY_WHOLE - 1
    count = settings.whole if whole else settings.batch
    drawn = [pictures.draw(settings.seed, n, MIX) for n in numbers(settings, step, count)]
    rng = np.random.default_rng([settings.seed, step, 2])
    if not whole:
        asked = [showing.question(one.facts, rng) for one in drawn]
        return _deciding(reader, eye, drawn, asked)
    template = showing.TEMPLATES[step // _EVERY_WHOLE % len(showing.TEMPLATES)]
    return _telling(reader, eye, drawn, template, rng)


def _deciding(reader: Reader, eye: Eye, drawn: list[Drawn], asked: list[str]) -> Any:
    """Cross-entropy of yes, no and cannot tell over the whole vocabulary."""
    import torch

    logs, options = _answers(reader, eye, drawn, asked)
    wanted = torch.tensor(
        [showing.weights(one.facts, words) for one, words in zip(drawn, asked, strict=True)]
    )
    return -(wanted * logs.gather(1, options)).sum(dim=1).mean()


def _answers(reader: Reader, eye: Eye, drawn: list[Drawn], asked: list[str]) -> tuple[Any, Any]:
    """Log-probabilities of what comes at the decision, (rows, vocabulary), and the three ids."""
    import torch

    places = [showing.decision(reader.encoder, words) for words in asked]
    ids = showing.padded([place.rest for place in places])
    hidden = reader.hidden(places[0].head, ids, eye.look(drawn))
    last = torch.tensor([len(place.rest) - 1 for place in places])
    logits = reader.logits(hidden[torch.arange(len(ids)), last])
    return logits.log_softmax(dim=-1), torch.tensor([place.options for place in places])


def _telling(
    reader: Reader, eye: Eye, drawn: list[Drawn], template: str, rng: np.random.Generator
) -> Any:
    """Cross-entropy of whole answers."""
    import torch
    from torch.nn import functional

    made = [showing.shown(reader.encoder, template, one.facts, rng) for one in drawn]
    ids = showing.padded([one.rest for one in made])
    hidden = reader.hidden(made[0].head, ids, eye.look(drawn))
    places = [(row, at) for row, one in enumerate(made) for at in range(one.start, len(one.rest))]
    row, at = (torch.tensor(column) for column in zip(*places, strict=True))
    return functional.cross_entropy(reader.logits(hidden[row, at - 1]), ids[row, at])


def measure(reader: Reader, eye: Eye, seed: int, count: int, batch: int) -> dict[str, float]:
    """Of fresh pictures: mean probability of yes by what is true, and how often it is right."""
    import torch

    of: dict[str, list[float]] = {"yes": [], "no": [], CANNOT_TELL: []}
    right = 0
    for start in range(0, count, batch):
        drawn = [
            pictures.draw(seed + _HELD, n, MIX) for n in range(start, min(start + batch, count))
        ]
        asked = [pictures.question(one, i) for i, one in enumerate(drawn)]
        with torch.inference_mode():
            logs, options = _answers(reader, eye, drawn, asked)
        shares = logs.gather(1, options).softmax(dim=-1)
        for one, words, share in zip(drawn, asked, shares.tolist(), strict=True):
            true = showing.answer(one.facts, words)["answer"]
            of[true].append(share[0])
            right += showing.ANSWERS[share.index(max(share))] == true
    means = {f"yes_of_{name}": sum(v) / len(v) for name, v in of.items() if v}
    return {"right": right / count, **means}


def align(
    base: Path,
    adapter: Path | None,
    tower: Path,
    out: Path,
    settings: Settings,
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """Train against the text model of a folder; `sight.safetensors` in `out` at the end."""
    seeing = Eye(*eye())
    keeping.read_sight(tower, seeing.tower, seeing.projector)
    reader = load(base, adapter)
    seeing.begin(reader, settings.seed)
    told = {"adapter": _mark(adapter), "tower": _mark(tower.parent)}
    train(reader, seeing, out, settings, tell, more=told)


def load(base: Path, adapter: Path | None) -> Reader:
    """The text model of a folder in bf16, with an adapter merged in, if there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    from medgemma_cli.demo import joining, sight

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, local_files_only=True)
    if adapter is not None:
        joining.merge(model, adapter)
    tokenizer = sight.tokenizer(base)
    return Reader(model, Encoder(tokenizer, sight.processor(tokenizer)))


def _mark(folder: Path | None) -> str:
    """What makes two folders of weights the same for a checkpoint."""
    from medgemma_cli.identity import digest
    from medgemma_cli.models import file_hashes

    return digest(file_hashes(sorted(folder.glob("*.safetensors")))) if folder else ""


def train(
    reader: Reader,
    seeing: Eye,
    out: Path,
    settings: Settings,
    tell: Callable[[dict[str, Any]], None],
    *,
    more: dict[str, str] | None = None,
    every: int = 20,
    checked: int = 64,
    stop: int | None = None,
) -> None:
    """Train, from the last checkpoint where there is one.

    Args:
        more: what else a checkpoint must be of.
        stop: end after so many steps, as a kill would; for tests.
    """
    import torch

    modules = {"tower": seeing.tower, "projector": seeing.projector}
    groups = [
        {"params": list(seeing.tower.parameters()), "rate": settings.tower_rate},
        {"params": list(seeing.projector.parameters()), "rate": settings.rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    marks = {**settings._asdict(), **(more or {})}
    state = keeping.kept(out, marks)
    step = state["step"] if state else 0
    if state:
        for name, module in modules.items():
            module.load_state_dict(state[name])
        optimizer.load_state_dict(state["optimizer"])
    recent: list[float] = []
    while step < settings.steps and step != stop:
        made = loss(reader, seeing, settings, step)
        optimizer.zero_grad()
        made.backward()
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            group["lr"] = group["rate"] * settings.share_at(step)
        optimizer.step()
        recent.append(made.item())
        step += 1
        if step % every == 0 or step == settings.steps:
            state = {name: module.state_dict() for name, module in modules.items()}
            kept = {"settings": marks, "step": step, "optimizer": optimizer.state_dict()}
            keeping.keep(out, state | kept)
            figures = measure(reader, seeing, settings.seed, checked, settings.batch)
            tell({"step": step, "of": settings.steps, "loss": sum(recent) / len(recent), **figures})
            recent = []
    if step == settings.steps:
        keeping.write_sight(out / "sight.safetensors", seeing.tower, seeing.projector)
