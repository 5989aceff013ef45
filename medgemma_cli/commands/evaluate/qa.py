"""`medgemma eval qa FILE`: multiple-choice questions, asked of a model in three ways."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands.evaluate import options as shared
from medgemma_cli.commands.run import DEFAULT_MODEL
from medgemma_cli.errors import DOCUMENTS_FAILED, OK, RUN_AGAIN

if TYPE_CHECKING:
    from medgemma_cli.evaluating.quiz import Answered, Quiz
    from medgemma_cli.records import ModelInfo


def qa(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines like MedQA, MedMCQA, PubMedQA, MMLU, or our own.")
    ],
    out: Annotated[
        Path | None,
        o.option("--out", "-o", envvar=None, help="Keep the answers here, and go on from them."),
    ] = None,
    cop_base: Annotated[
        int | None,
        typer.Option("--cop-base", min=0, max=1, help="MedMCQA's cop counts from 0 or from 1."),
    ] = None,
    as_json: shared.Json = False,
    bootstrap_seed: shared.Seed = 0,
    model: o.Model = DEFAULT_MODEL,
    precision: o.PrecisionOption = o.PrecisionChoice.auto,
    double_quant: o.DoubleQuant = True,
    device: o.Device = "auto",
    batch_size: shared.BatchSize = "auto",
    batch_tokens: shared.BatchTokens = None,
    deterministic: shared.Deterministic = False,
    adapter: o.Adapter = None,
    revision: o.Revision = None,
    offline: o.Offline = False,
    engine: o.Engine = o.EngineChoice.local,
    echo_delay: o.EchoDelay = 0.0,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Of the answer that is free to write.")
    ] = 64,
    quiet: o.Quiet = False,
) -> None:
    """Ask a model multiple-choice questions; accuracy by likelihood and by what it writes."""
    from medgemma_cli.commands import wiring
    from medgemma_cli.commands.evaluate import inputs
    from medgemma_cli.evaluating.questions import questions
    from medgemma_cli.evaluating.quiz import Quiz
    from medgemma_cli.progress import reporter_for
    from medgemma_cli.records import Limits

    asked = questions(inputs.lines(file, "The file of questions"), cop_base)
    reporter = reporter_for(quiet=quiet, verbose=False)
    made = wiring.make_engine(
        engine,
        model=model,
        revision=revision,
        adapter=adapter,
        offline=offline,
        precision=precision,
        double_quant=double_quant,
        device=device,
        batching=wiring.make_batching(batch_size, batch_tokens, deterministic),
        echo_delay=echo_delay,
        grammar=True,
        max_attempts=1,
        reporter=reporter,
    )
    quiz = Quiz(asked, made, Limits(max_new_tokens=max_new_tokens))
    try:
        answered, stopped = _ask(quiz, out, quiet=quiet)
    finally:
        reporter.end()
    if answered:
        _show(answered, len(asked), made.info, bootstrap_seed, as_json=as_json)
    if stopped is not None and (stopped != RUN_AGAIN or len(answered) < len(asked)):
        raise typer.Exit(stopped)
    raise typer.Exit(DOCUMENTS_FAILED if any(pair.answer.errors for pair in answered) else OK)


def _ask(quiz: "Quiz", out: Path | None, *, quiet: bool) -> "tuple[list[Answered], int | None]":
    """What was answered, now or earlier, in the order of the file; and the code of a signal."""
    from medgemma_cli.evaluating.book import AnswerBook
    from medgemma_cli.progress import emit
    from medgemma_cli.signals import Stopper

    stopper = Stopper()
    with stopper.watching(), AnswerBook(out) as book:
        kept = sum(key in book.known for key in quiz.keys.values())
        for answer in quiz.answers(dict(book.known), stopper.keep_going):
            book.put(answer)
        answered = quiz.answered(book.known)
    if not quiet:
        new = len(answered) - kept
        emit(f"medgemma: {len(answered)} questions: {new} asked, {kept} kept", sys.stderr)
    return answered, stopper.code


def _show(
    answered: "list[Answered]", asked: int, model: "ModelInfo", seed: int, *, as_json: bool
) -> None:
    from medgemma_cli.commands.evaluate import showing
    from medgemma_cli.evaluating import bootstrap, caveats, quiz
    from medgemma_cli.evaluating.page import Report

    # In an order of their own: no interval depends on the file's.
    ordered = sorted(answered, key=lambda pair: pair.question.id)
    figures = []
    sets = sorted({question.data for question, _ in ordered})
    for name in sets:
        of = [pair for pair in ordered if pair.question.data == name]
        for figure in bootstrap.figures(quiz.measures(of), len(of), seed):
            label = f"{name}: {figure.label}"
            figures.append(figure._replace(name=f"{name}.{figure.name}", label=label))
    facts: dict[str, str | int] = {"model": model.id}
    facts |= {"adapter": model.adapter.name} if model.adapter else {}
    facts |= {"questions": asked, "answered": len(answered)}
    facts |= quiz.tally(ordered)
    report = Report("qa", facts, figures, (*caveats.ANSWERS, *caveats.intervals(figures)))
    showing.show(report, as_json=as_json)
