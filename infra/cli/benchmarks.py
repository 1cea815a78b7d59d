"""`tidepool bench`: what tidepool costs against doing without it, measured on this machine."""

from __future__ import annotations

import typer

from infra.cli.bench_keeper import keeper
from infra.cli.bench_parse import parse
from infra.cli.bench_tpch import bench_tpch

app = typer.Typer(no_args_is_help=True, help="Measure tidepool against doing without it, on this machine.")
app.command()(keeper)
app.command()(parse)
app.command("tpch")(bench_tpch)


@app.callback()
def main() -> None:
    """Measure tidepool against doing without it, on this machine. (`tidepool local bench` measures the local cloud.)"""
