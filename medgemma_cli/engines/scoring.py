"""The probability of each option of a choice, as a whole, beside what the lines hold.

Whole means with the mark that closes it, whatever token that mark is a part of: see
`Compiler.endings`.
All options of a line go through the model in one pass, one behind the other; each sees what its
line holds and its own tokens, nothing of the other options. Nothing is written into the cache.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines.attention import Seen
from medgemma_cli.engines.store import SLIDING, Aside, Store
from medgemma_cli.engines.work import Choice, Line

if TYPE_CHECKING:
    import torch

Endings = Callable[[int], list[int]]
# Tokens at once: each takes its own logits over the whole vocabulary.
_AT_ONCE = 64


def score(
    text: Any,
    logits: Callable[["torch.Tensor"], "torch.Tensor"],
    store: Store,
    lines: list[Line],
    waiting: list[int],
    endings: Endings,
) -> None:
    """Settle the choices of the lines in the rows `waiting`.

    Args:
        text: the text model; `logits` makes logits of its hidden states.
        endings: of an option's last token, all that close it.
    """
    widest = max(_tokens(lines[row].choice) for row in waiting)
    size = max(1, _AT_ONCE // widest)
    for start in range(0, len(waiting), size):
        rows = waiting[start : start + size]
        _score(text, logits, store, [(row, lines[row]) for row in rows], endings)
        # At once: if a later part fails, these must not be counted again.
        for row in rows:
            lines[row].settle()


def _tokens(choice: Choice | None) -> int:
    assert choice is not None
    return sum(len(way) - 1 for _, way in choice.ways)


def _score(
    text: Any,
    logits: Callable[["torch.Tensor"], "torch.Tensor"],
    store: Store,
    lines: list[tuple[int, Line]],
    endings: Endings,
) -> None:
    import torch

    choices = [line.choice for _, line in lines if line.choice is not None]
    device = store.device
    rows = torch.tensor([row for row, _ in lines], device=device)
    held = torch.tensor([line.length for _, line in lines], device=device)
    laid = [_laid(choice) for choice in choices]
    width = max(len(row) for row in laid)
    # (token, the one that should follow, how far behind the line, which way of an option)
    filled = torch.tensor(
        [row + [(0, 0, 0, -1)] * (width - len(row)) for row in laid], device=device
    )
    ids, following, depth, option = filled.unbind(dim=-1)
    made = text(
        input_ids=ids,
        attention_mask=_masks(store, held, depth, option),
        position_ids=held[:, None] + depth,
        past_key_values=Aside(store, rows, int(held.max())),
        use_cache=False,
    )
    found = logits(made.last_hidden_state.flatten(0, 1))
    logs = found.gather(-1, following.reshape(-1, 1))[:, 0]
    for last, places in _last(choices, laid, width).items():
        logs[places] = closed(found[places], endings(last))
    logs = logs - found.logsumexp(dim=-1)
    for choice, options, values in zip(choices, laid, logs.view(ids.shape).tolist(), strict=True):
        for (_, _, _, which), value in zip(options, values, strict=False):
            choice.logs[which] += value


def closed(logits: "torch.Tensor", ends: list[int]) -> "torch.Tensor":
    """Of logits (…, vocabulary), those of any of some tokens: (…)."""
    return logits[..., ends].logsumexp(dim=-1)


def _last(
    choices: list[Choice], laid: list[list[tuple[int, int, int, int]]], width: int
) -> dict[int, list[int]]:
    """Last tokens of options → the places, in all rows one behind the other, that foretell them."""
    found: dict[int, list[int]] = {}
    for row, (choice, places) in enumerate(zip(choices, laid, strict=True)):
        for at, (_, following, depth, which) in enumerate(places):
            if depth == len(choice.ways[which][1]) - 2:
                found.setdefault(following, []).append(row * width + at)
    return found


def _laid(choice: Choice) -> list[tuple[int, int, int, int]]:
    return [
        (way[at], way[at + 1], at, which)
        for which, (_, way) in enumerate(choice.ways)
        for at in range(len(way) - 1)
    ]


def _masks(
    store: Store, held: "torch.Tensor", depth: "torch.Tensor", option: "torch.Tensor"
) -> dict[str, Any]:
    """What the line holds, from where each token stands; then the option's own tokens so far."""
    import torch

    own = (option[:, :, None] == option[:, None, :]) & (depth[:, None, :] <= depth[:, :, None])
    masks = {}
    for kind, seen in store.beside(held, depth).items():
        near = own
        if kind == SLIDING:
            near = own & (depth[:, None, :] > depth[:, :, None] - store.window)
        masks[kind] = Seen(torch.cat([seen.mask, near[:, None]], dim=-1))
    return masks
