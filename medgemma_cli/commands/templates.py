"""`medgemma templates`: which there are, and what one says."""

from typing import Annotated

import typer

app = typer.Typer(help="List the prompt templates, or show one.")


@app.callback(invoke_without_command=True)
def templates(context: typer.Context) -> None:
    """List the prompt templates, or show one."""
    if context.invoked_subcommand is None:
        list_templates()


@app.command("list")
def list_templates() -> None:
    """Name, kinds accepted and description of every template found."""
    from medgemma_cli import templates as found
    from medgemma_cli.progress import emit

    for path in found.available():
        template = found.load(str(path))
        kinds = ",".join(template.accepts)
        emit(f"{path.stem:12} {kinds:16} {template.description}")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A template's name, or a path.")]) -> None:
    """Where a template is, and its text as it stands."""
    import sys

    from medgemma_cli import templates as found
    from medgemma_cli.progress import emit

    template = found.load(name)
    emit(f"{template.path} (hash {template.hash[:12]})", sys.stderr)
    emit(found.find(name).read_text("utf-8").rstrip("\n"))
