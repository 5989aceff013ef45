"""Fixed prompts through two models: how far are their log-probabilities apart?

The prompts and pictures are invented. Log-probabilities are taken at the last positions of the
prompt and the reference's own greedy answer, of the tokens that the reference finds likeliest
there: of what it never says, a difference says nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from medgemma_cli.engines import vision
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.exporting.agreement import Agreement, Difference
from medgemma_cli.records import Contract, Image, Limits, Message, Part, Prompt

if TYPE_CHECKING:
    import torch

_TEXTS = (
    "Seen in clinic today. Dry cough since Monday, no fever. Takes 5 mg of ramipril daily. "
    "Chest clear. Plan: stop ramipril, losartan 50 mg instead, review in two weeks.",
    "Haemoglobin 9.1 g/dL, ferritin 8 ng/mL, creatinine 0.9 mg/dL. No known allergies.",
    "Left knee swollen after a fall. Radiograph without a fracture. Rest, ice, ibuprofen 400 mg.",
)
_QUESTION = "\n\nSummarise the note in one sentence."
_SIDE = 32
_ANSWER = 16
_BEFORE = 32
_LIKELIEST = 10


class Probe(NamedTuple):
    """A prompt's ids, and its picture's pixels where it has one."""

    ids: list[int]
    pixels: "torch.Tensor | None"


class Seen(NamedTuple):
    """What a model made of a probe.

    Attributes:
        answer: its greedy answer's ids.
        tokens: int64 of shape (positions, likeliest).
        logs: their log-probabilities, fp32, of the same shape.
    """

    answer: list[int]
    tokens: "torch.Tensor"
    logs: "torch.Tensor"


def probes(encoder: Encoder) -> list[Probe]:
    """The fixed prompts, as a run would show them; with a picture where the model can see."""
    made = [
        Probe(encoder.encode(_prompt(str(number), text, ())).ids, None)
        for number, text in enumerate(_TEXTS)
    ]
    if encoder.processor is not None:
        picture = _picture()
        shown = encoder.encode(_prompt("picture", "", (picture,)))
        made.append(Probe(shown.ids, vision.pixels(encoder.processor, picture)))
    return made


def _prompt(name: str, text: str, images: tuple[Image, ...]) -> Prompt:
    shown = [Part(kind="image") for _ in images] or [Part(kind="document", text=text)]
    parts = (*shown, Part(kind="text", text=_QUESTION))
    return Prompt(
        id=name,
        messages=(Message(role="user", parts=parts),),
        images=images,
        contract=Contract(kind="text"),
        limits=Limits(max_new_tokens=_ANSWER),
    )


def _picture() -> Image:
    """Shades from corner to corner."""
    rgb = bytes(
        (x + y * colour) * 4 % 256
        for y in range(_SIDE)
        for x in range(_SIDE)
        for colour in (1, 2, 3)
    )
    return Image(width=_SIDE, height=_SIDE, rgb=rgb)


def look(model: Any, shown: Sequence[Probe], image: int) -> list[Seen]:
    """The reference's answers, and the likeliest tokens at the positions that are compared.

    Args:
        image: the id that stands for a piece of an image.
    """
    found = []
    for probe in shown:
        answer = _greedy(model, probe, image)
        logs = _logs(model, probe, answer, image)
        best = logs.topk(_LIKELIEST, dim=-1)
        found.append(Seen(answer, best.indices.cpu(), best.values.cpu()))
    return found


def again(model: Any, shown: Sequence[Probe], seen: Sequence[Seen], image: int) -> list[Seen]:
    """What another model makes of the same tokens; its answer is its choice at each of theirs."""
    found = []
    for probe, one in zip(shown, seen, strict=True):
        logs = _logs(model, probe, one.answer, image).cpu()
        # The logits before each token of the answer: one row earlier.
        chosen = logs[-len(one.answer) - 1 : -1].argmax(dim=-1).tolist()
        found.append(Seen(chosen, one.tokens, logs.gather(-1, one.tokens)))
    return found


def agreement(seen: Sequence[Seen], merged: Sequence[Seen], base: Sequence[Seen]) -> Agreement:
    """The figures: of the merged model, and of the base alone, against the reference."""
    pairs = [
        ours == theirs
        for one, other in zip(seen, merged, strict=True)
        for ours, theirs in zip(one.answer, other.answer, strict=True)
    ]
    return Agreement(
        _difference(seen, merged),
        _difference(seen, base),
        (sum(pairs), len(pairs)),
        len(seen),
        sum(one.logs.numel() for one in seen),
    )


def _difference(seen: Sequence[Seen], other: Sequence[Seen]) -> Difference:
    import torch

    apart = [(one.logs - two.logs).abs().flatten() for one, two in zip(seen, other, strict=True)]
    joined = torch.cat(apart)
    return Difference(float(joined.max()), float(joined.mean()))


def _inputs(model: Any, probe: Probe, ids: list[int], image: int) -> dict[str, Any]:
    import torch

    rows = torch.tensor([ids], device=model.device)
    made: dict[str, Any] = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
    if hasattr(model.config, "vision_config"):
        # What marks the pieces of an image, which see each other both ways.
        made["token_type_ids"] = (rows == image).long()
    if probe.pixels is not None:
        made["pixel_values"] = probe.pixels[None].to(model.device, model.dtype)
    return made


def _greedy(model: Any, probe: Probe, image: int) -> list[int]:
    import torch

    inputs = _inputs(model, probe, probe.ids, image)
    with torch.inference_mode():
        made = model.generate(
            **inputs, max_new_tokens=_ANSWER, do_sample=False, repetition_penalty=1.0
        )
    answer: list[int] = made[0, len(probe.ids) :].tolist()
    return answer


def _logs(model: Any, probe: Probe, answer: list[int], image: int) -> "torch.Tensor":
    """Log-probabilities of shape (positions, vocabulary), fp32: the last ones, with the answer."""
    import torch

    ids = [*probe.ids, *answer]
    kept = min(len(ids), _BEFORE + len(answer))
    with torch.inference_mode():
        logits = model(**_inputs(model, probe, ids, image), logits_to_keep=kept).logits
    logs: torch.Tensor = logits[0].float().log_softmax(dim=-1)
    return logs
