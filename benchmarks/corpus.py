"""What the throughput benchmark reads: made-up notes and pictures, the same for every arm.

Nothing here is anybody's record: lines are drawn by a seeded generator from the phrases below.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from medgemma_cli import templates
from medgemma_cli.records import Contract, Document, Image, Limits, Message, Part, Prompt, Source

Measure = Callable[[str], int]
Ids = Callable[[Prompt], list[int]]

_DRUGS = "amlodipine ramipril metformin bisoprolol atorvastatin omeprazole sertraline apixaban"
_SIGNS = "chest pain;shortness of breath;dizziness;ankle swelling;dry cough;night sweats;low mood"
_PARTS = "left knee;right shoulder;lower back;left hip;right wrist;neck;left ankle;right calf"
_TESTS = "full blood count;renal profile;liver profile;HbA1c;chest X-ray;ECG;echocardiogram"
_PLANS = "continue;stop;halve;double;restart;review at the next visit;take with food"
_LINE = 25  # tokens of a line, about
_PHRASES = (
    "BP {a}/{b} mmHg, pulse {b} regular, temperature 36.{d}, saturation 9{d}% on room air.",
    "Reports {sign} for {d} days, worse on exertion and better at rest. No {sign2} reported.",
    "Continues {drug} {c} mg once daily; tolerates it well and has not missed any doses.",
    "{test} on {d} March: sodium 13{d}, potassium 4.{d}, creatinine {b}, haemoglobin 1{d}{c}.",
    "Examination of the {part}: tender over the joint line, full range of movement, no effusion.",
    "Past history of hypertension since 20{c}, and an operation on the {part} in 19{b}.",
    "Allergic to penicillin (rash as a child). No other drug allergies are documented.",
    "Lives with a partner, independent in all activities, walks {d}00 m with one stick.",
    "Plan: {plan} {drug}, repeat {test} in {d} weeks, and return sooner if {sign} comes back.",
    "Denies {sign} and {sign2}. Appetite is normal and weight is steady at {b} kg.",
    "Smoked {c} a day until {d} years ago; drinks about {d} units of alcohol a week.",
    "The patient asked about {drug}; risks and benefits were explained and questions answered.",
)
_STYLE = (
    "Name the drug, the dose and how often it is taken, in this order.",
    "Write dates as they stand in the document, and keep the units of every result.",
    "Name the side, left or right, of every finding that has one.",
    "Do not repeat a result that an earlier line has already given.",
    "Leave out greetings, names, addresses and numbers of telephones.",
)


@dataclass(frozen=True)
class Mix:
    """Which documents.

    Attributes:
        documents: how many; the images are among them.
        tokens: new tokens of every answer, forced.
        prompt_tokens: about how long a whole prompt is; its documents vary so that prompts are
            between 85% and 115% of it.
        span: instead, the shortest and the longest document in tokens.
        images: how many of the documents are a picture instead of a text.
        shared: tokens that the head of every text prompt is filled up to.
        layout: ``head``, the template's question comes before the document, so that it is shared;
            ``template``, prompts just as the template makes them.
    """

    documents: int = 32
    tokens: int = 96
    prompt_tokens: int = 870
    span: tuple[int, int] | None = None
    images: int = 0
    image_side: int = 896
    shared: int = 356
    layout: str = "head"
    seed: int = 4


def note(rng: random.Random, tokens: int, measure: Measure) -> str:
    """A note of about so many tokens, in whole lines."""
    lines = [f"Clinic note {rng.randrange(1000, 9999)}."]
    length = measure(lines[0])
    while length < tokens - _LINE / 2:
        lines.append(_line(rng))
        length += measure("\n" + lines[-1])
    return "\n".join(lines)


def _line(rng: random.Random) -> str:
    return rng.choice(_PHRASES).format(
        a=rng.randrange(98, 170),
        b=rng.randrange(52, 99),
        c=rng.randrange(5, 25),
        d=rng.randrange(2, 9),
        drug=rng.choice(_DRUGS.split()),
        sign=rng.choice(_SIGNS.split(";")),
        sign2=rng.choice(_SIGNS.split(";")),
        part=rng.choice(_PARTS.split(";")),
        test=rng.choice(_TESTS.split(";")),
        plan=rng.choice(_PLANS.split(";")),
    )


def picture(rng: random.Random, side: int) -> Image:
    """A gradient under noise: no two are alike."""
    import numpy

    noise = numpy.frombuffer(rng.randbytes(3 * side * side), numpy.uint8).reshape(side, side, 3)
    ramp = numpy.linspace(0, 255 - rng.randrange(100), side)
    mixed = ramp[None, :, None] / 2 + ramp[:, None, None] / 4 + noise / 4
    return Image(width=side, height=side, rgb=mixed.astype(numpy.uint8).tobytes())


def build(mix: Mix, measure: Measure, ids: Ids) -> list[Prompt]:
    """The prompts, in no order of length, pictures spread evenly among them."""
    template = templates.load(str(templates.packaged_folder() / "summarize.md"))
    limits = Limits(max_new_tokens=mix.tokens, min_new_tokens=mix.tokens)
    rng = random.Random(mix.seed)

    def render(name: str, text: str, filler: str, images: tuple[Image, ...] = ()) -> Prompt:
        made = templates.render(template, _document(name, text, images), name, limits)
        return _free(made, filler, first=mix.layout == "head" and not images)

    filler = ""
    while mix.layout == "head" and _head(render, filler, ids) < mix.shared:
        filler += _STYLE[filler.count("\n") % len(_STYLE)] + "\n"
    fixed = len(ids(render("empty", ".", filler)))
    pictures = {int((i + 0.5) * mix.documents / mix.images) for i in range(mix.images)}
    return [
        render(f"document{i:04}", "", filler, (picture(rng, mix.image_side),))
        if i in pictures
        else render(f"document{i:04}", note(rng, length, measure), filler)
        for i, length in enumerate(_lengths(mix, fixed, rng))
    ]


def _document(name: str, text: str, images: tuple[Image, ...]) -> Document:
    return Document(
        source=Source(place=name, relative=name, origin=name),
        sha256="",
        bytes=1,
        media_type="image/png" if images else "text/plain",
        text=text,
        images=images,
        coverage={},
    )


def _head(render: Callable[[str, str, str], Prompt], filler: str, ids: Ids) -> int:
    """Tokens before the document."""
    two = [render(name, text, filler) for name, text in (("some", "1."), ("other", "2."))]
    return shared([ids(prompt) for prompt in marked(two, 0)])


def _lengths(mix: Mix, fixed: int, rng: random.Random) -> list[int]:
    """Document lengths, evenly from the shortest to the longest, then shuffled."""
    low, high = mix.span or (
        max(16, round(0.85 * mix.prompt_tokens) - fixed),
        max(16, round(1.15 * mix.prompt_tokens) - fixed),
    )
    steps = [low + (high - low) * (i + 0.5) / mix.documents for i in range(mix.documents)]
    rng.shuffle(steps)
    return [round(step) for step in steps]


def _free(prompt: Prompt, filler: str, *, first: bool) -> Prompt:
    """The same question as free text; `first` puts it before the document.

    Rules of style, as many as fill the head up to what is to be shared, follow the system text.
    """
    system, user = prompt.messages
    text = f"{system.parts[0].text}\n{filler}".strip()
    parts = user.parts
    if first:
        question = "\n\n".join(part.text.strip() for part in parts if part.kind == "text")
        others = (part for part in parts if part.kind != "text")
        parts = (Part(kind="text", text=question + "\n\n"), *others)
    messages = (
        Message(role="system", parts=(Part(kind="text", text=text),)),
        Message(role="user", parts=parts),
    )
    return prompt.model_copy(update={"messages": messages, "contract": Contract(kind="text")})


def marked(prompts: list[Prompt], number: int) -> Iterator[Prompt]:
    """The prompts for one pass: no cache of an earlier pass helps, whoever keeps it.

    The pass's number is in the name, at the very beginning of the system text, and in one pixel
    of each picture.
    """
    for prompt in prompts:
        system, *rest = prompt.messages
        begin = Part(kind="text", text=f"Pass {number:04}. ")
        messages = (Message(role="system", parts=(begin, *system.parts)), *rest)
        pixel = bytes([number % 256, number // 256, 7])
        images = tuple(
            image.model_copy(update={"rgb": pixel + image.rgb[3:]}) for image in prompt.images
        )
        yield prompt.model_copy(
            update={"id": f"{number}-{prompt.id}", "messages": messages, "images": images}
        )


def sample(prompts: list[Prompt], size: int, ids: Ids) -> list[Prompt]:
    """So many of them, evenly by length; all where that is fewer."""
    if size >= len(prompts):
        return prompts
    ordered = sorted(prompts, key=lambda prompt: len(ids(prompt)))
    return [ordered[int((i + 0.5) * len(ordered) / size)] for i in range(size)]


def shared(ids: list[list[int]]) -> int:
    """How many first tokens they all have in common."""
    return next((i for i, row in enumerate(zip(*ids, strict=False)) if len(set(row)) > 1), 0)
