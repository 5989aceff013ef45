"""The losses of a tuning: are they still falling, and a drawing of them as SVG. Pure."""

import math
from typing import Any, NamedTuple

Point = tuple[int, float]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 48
_COLOURS = {"train": "#1f6feb", "validation": "#d1242f"}


class Curve(NamedTuple):
    """Losses by step: means over a token of an answer, natural logarithms."""

    train: tuple[Point, ...] = ()
    validation: tuple[Point, ...] = ()

    @property
    def best(self) -> Point | None:
        """The step of the least validation loss, the first of equals."""
        return min(self.validation, key=lambda point: (point[1], point[0]), default=None)

    def exhausted(self, patience: int) -> bool:
        """Whether the last `patience` evaluations were no better than the best before them."""
        if not patience or self.best is None:
            return False
        return sum(step > self.best[0] for step, _ in self.validation) >= patience

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"train": [*map(list, self.train)], "validation": [*map(list, self.validation)]}


def of_log(history: list[dict[str, Any]]) -> Curve:
    """The curve in the log of a `Trainer`, where a step's last word counts."""
    train = {entry["step"]: float(entry["loss"]) for entry in history if "loss" in entry}
    validation = {e["step"]: float(e["eval_loss"]) for e in history if "eval_loss" in e}
    return Curve(tuple(sorted(train.items())), tuple(sorted(validation.items())))


def svg(curve: Curve) -> str:
    """The curve as a drawing that needs nothing else; without points an empty frame."""
    lines = {"train": curve.train, "validation": curve.validation}
    points = [point for line in lines.values() for point in line]
    steps = max((step for step, _ in points), default=1)
    top = _ceiling(max((loss for _, loss in points), default=1.0))
    drawn = [_axes(steps, top)]
    for index, (name, line) in enumerate(lines.items()):
        if line:
            drawn.append(_line(name, line, steps, top))
            drawn.append(_legend(name, index))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="Losses by step">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten."""
    if not math.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _place(step: float, loss: float, steps: int, top: float) -> tuple[float, float]:
    x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / steps
    return x, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - loss / top)


def _axes(steps: int, top: float) -> str:
    drawn = []
    for i in range(5):
        _, y = _place(0, top * i / 4, steps, top)
        drawn.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#d0d7de"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * i / 4:g}</text>'
        )
    for step in sorted({0, round(steps / 2), steps}):
        x, _ = _place(step, 0, steps, top)
        y = _HEIGHT - _BOTTOM + 20
        drawn.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{step}</text>')
    drawn.append(f'<text x="{_WIDTH / 2:g}" y="{_HEIGHT - 8}" text-anchor="middle">step</text>')
    return "\n".join(drawn)


def _line(name: str, line: tuple[Point, ...], steps: int, top: float) -> str:
    places = [_place(step, loss, steps, top) for step, loss in line if math.isfinite(loss)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_COLOURS[name]}"/>'
        for x, y in (places if name == "validation" or len(places) == 1 else [])
    )
    return f'<polyline points="{path}" fill="none" stroke="{_COLOURS[name]}"/>{dots}'


def _legend(name: str, index: int) -> str:
    x = _LEFT + 160 * index
    return (
        f'<path d="M{x} 20h24" stroke="{_COLOURS[name]}" stroke-width="2"/>'
        f'<text x="{x + 32}" y="24">{name} loss</text>'
    )
