"""A line that is done → its `Generation`."""

from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.work import Line
from medgemma_cli.engines.writing import Answer
from medgemma_cli.records import Generation, Usage


def generation(line: Line, encoder: Encoder, stop: list[int]) -> Generation:
    """What the line says, how it ended, and what was degraded on the way.

    Args:
        stop: the ids that end an answer.
    """
    answer, work = line.answer, line.work
    ended = next((i for i, token in enumerate(answer.ids) if token in stop), None)
    written = answer.ids[:ended]
    text, thinking = encoder.text(written)
    error = _error(answer, text, thinking)
    complete = ended is not None or answer.complete
    return Generation(
        id=work.prompt.id,
        text=text,
        raw=encoder.raw(answer.ids),
        finish_reason="error" if error else "stop" if complete else "length",
        usage=Usage(
            prompt_tokens=len(work.encoded.ids),
            completion_tokens=len(written),
            images=len(work.pictures),
        ),
        degraded=(
            *work.notes,
            *(("shortened",) if answer.shortened else ()),
            *(f"ended_at_repeat:{place}" for place in answer.repeated),
        ),
        error=error,
        seconds=line.seconds,
        choices=answer.scores,
        tokens=_measured(encoder, answer, written, text),
    )


def _error(answer: Answer, text: str, thinking: bool) -> str | None:
    if answer.bad:
        return "bad_logits"
    if answer.broken:
        return "engine"
    if answer.refused:
        return "budget"
    if thinking:
        return "unclosed_thought"
    return None if text.strip() else "empty_output"


def _measured(
    encoder: Encoder, answer: Answer, ids: list[int], text: str
) -> tuple[tuple[int, float], ...]:
    """The end in the text, in characters, and the log-probability of each chosen token."""
    ends = encoder.ends(ids)
    if not ends or ends[-1] != len(text):
        return ()  # thoughts were taken out: the places are not the text's
    pairs = zip(ends, answer.logs, strict=False)
    return tuple((end, log) for end, log in pairs if log is not None)
