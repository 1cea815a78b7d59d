"""`tidepool simulate`: what would happen, without a machine being bought."""

from __future__ import annotations

import typer

from infra.cli.deadlines import deadlines

app = typer.Typer(help="What would happen: simulations that buy nothing.", no_args_is_help=True)
app.command()(deadlines)


@app.callback()
def _simulate() -> None:
    """Simulations that buy nothing."""  # a callback keeps the sub-command's name while there is only one
