"""The `tidepool` command: one module a verb."""

from __future__ import annotations

import signal

import typer

from infra.cli import benchmarks, hdfs, images, jobs, local, simulate
from infra.cli.check import check
from infra.cli.demo import demo
from infra.cli.estimate import estimate
from infra.cli.explain import explain
from infra.cli.report import report
from infra.cli.test import test
from infra.cli.top import top

app = typer.Typer(
    help="Pools of cheap machines that fill when jobs come in and drain when they leave.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(check)
app.command()(demo)
app.command()(estimate)
app.command()(explain)
app.command()(report)
app.command()(test)
app.command()(top)
app.add_typer(benchmarks.app, name="bench")
app.add_typer(hdfs.app, name="hdfs")
app.add_typer(images.app, name="images")
app.add_typer(jobs.app, name="jobs")
app.add_typer(local.app, name="local")
app.add_typer(simulate.app, name="simulate")


def main() -> None:
    """The entry point of `./tidepool`. SIGTERM ends it as Ctrl-C does, so that what it started is taken down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="tidepool")


if __name__ == "__main__":
    main()
