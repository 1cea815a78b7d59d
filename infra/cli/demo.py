"""`tidepool demo`: the whole loop on this machine, from nothing to nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.cli import flights, report_view
from infra.cli.options import AutoscalerOption, JsonOption
from infra.cli.run import run_dag, summary
from infra.cli.told import told
from infra.local import cloud
from infra.local.progress import Progress

DAG = "flights_daily"


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the local cloud up at the end.")] = False,
    autoscaler: AutoscalerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring up a local cloud, run the flights_daily DAG on it, show what it found and what was bought, take it down.

    Three Spark jobs over the 336,776 flights that left New York in 2013, each alone on a machine that is bought for
    it and given back after it. Exits with 0 only if all jobs succeeded and no machine for jobs is left.

    \b
    Examples:
      tidepool demo
      tidepool demo --keep
      tidepool demo --autoscaler ./cluster-autoscaler
    """
    progress = Progress()
    keep = keep or cloud.is_up()  # what was up before stays up
    try:
        with told("demo"):
            succeeded = _loop(autoscaler, keep, as_json, progress)
    except KeyboardInterrupt:
        progress.say("interrupted; the local cloud is left up: `tidepool local down`" if keep else "interrupted")
        raise typer.Exit(130) from None
    if keep:
        progress.say("the local cloud is left up: `tidepool local status`, `tidepool local down`")
    raise typer.Exit(0 if succeeded else 1)


def _loop(autoscaler: Path | None, keep: bool, as_json: bool, progress: Progress) -> bool:
    """From a local cloud that comes up to one that is taken down; whether all went well."""
    there = cloud.up(progress, autoscaler=autoscaler)
    try:
        finished, report = run_dag(there, DAG, progress)
        results = flights.read(there) if finished.state == "success" else None
        if as_json:
            typer.echo(json.dumps({"results": results, **summary(finished, report)}, indent=2))
        else:
            out = Console(highlight=False)
            if results is not None:
                flights.show(results, out)
            report_view.show(report, out)
        return finished.succeeded
    finally:
        if not keep:
            cloud.down(progress)
