"""`medgemma eval`: how good were they, and how sure is that."""

import typer

from medgemma_cli.commands.evaluate.compare import compare
from medgemma_cli.commands.evaluate.qa import qa
from medgemma_cli.commands.evaluate.screen import screen
from medgemma_cli.commands.evaluate.summaries import summaries

app = typer.Typer(
    help="Measure summaries, answers and screening against references; compare two runs.",
    no_args_is_help=True,
)
app.command("summaries", no_args_is_help=True)(summaries)
app.command("qa", no_args_is_help=True)(qa)
app.command("screen", no_args_is_help=True)(screen)
app.command("compare", no_args_is_help=True)(compare)
