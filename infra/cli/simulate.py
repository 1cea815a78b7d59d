"""`tidepool simulate`: what would happen, without a machine being bought."""

from __future__ import annotations

import typer

from infra.cli.deadlines import deadlines
from infra.cli.simulate_costs import costs

app = typer.Typer(invoke_without_command=True)
app.callback()(costs)
app.command()(deadlines)
