"""`tidepool bench keeper`: what the keeper needs, and how late it knows, among many nodes and pods."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.cli.options import JsonOption
from infra.cli.tables import FittedTable, figure, name
from infra.cli.told import told
from infra.local import keeper_scale
from infra.local.keeper_scale import Figures, Scale
from infra.local.progress import Progress

MOST_MIB = 512
MOST_SECONDS = 2.0
"""Of memory at its peak, and of lag for 99 of 100 changes: what the project promises itself."""


def keeper(
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="How many nodes kwok plays.")] = 1000,
    pods: Annotated[int, typer.Option("--pods", min=1, help="How many pods are there at once.")] = 10_000,
    per_second: Annotated[float, typer.Option(min=1, help="Pods made, ended and deleted in a second.")] = 50.0,
    as_json: JsonOption = False,
) -> None:
    """Measure the keeper among nodes and pods that kwok plays on a real kube-apiserver of their own.

    Its memory, and the time from each change to its event in the ledger, a restart in between. Exits with 1 if a figure
    misses its target or an event is missing. Takes about 15 minutes as it is; the first time it builds kwok too.

    \b
    Examples:
      tidepool bench keeper
      tidepool bench keeper --nodes 100 --pods 1000 --json
    """
    given = tempfile.TemporaryDirectory(prefix="tidepool-bench-", ignore_cleanup_errors=True)
    with told("bench keeper"), given as folder:
        figures = keeper_scale.measure(Scale(nodes, pods, per_second), Path(folder), Progress())
    if as_json:
        typer.echo(json.dumps(figures.as_dict(), indent=2))
    else:
        _show(figures)
    missed = problems(figures)
    for problem in missed:
        typer.secho(problem, fg="red", err=True)
    raise typer.Exit(1 if missed else 0)


def problems(figures: Figures) -> list[str]:
    """What is not as promised, a line each."""
    measured = figures.as_dict()
    found = [
        f"{kind}: 99 of 100 within {lag['p99']:.2f} s; promised are {MOST_SECONDS:g} s"
        for kind, lag in measured["lag_seconds"].items()
        if lag["p99"] > MOST_SECONDS
    ]
    if max(measured["peak_mib"]) > MOST_MIB:
        found.append(f"memory: {max(measured['peak_mib'])} MiB at its peak; promised are {MOST_MIB}")
    if figures.missing or figures.doubled:
        found.append(f"the ledger: {figures.missing} events are missing, {figures.doubled} are there twice")
    return found


def _show(figures: Figures) -> None:
    measured = figures.as_dict()
    table = FittedTable(name("seconds from the change to its event"), *map(figure, ("median", "p99", "max")))
    for kind, lag in measured["lag_seconds"].items():
        table.add_row(kind, *(f"{lag[column]:.2f}" for column in ("median", "p99", "max")))
    console = Console(highlight=False)
    console.print(table)
    scale, (first, again), cpu = figures.scale, measured["peak_mib"], sum(measured["cpu_seconds"])
    console.print(f"memory at its peak: {first} MiB; restarted among {scale.pods} pods: {again} MiB")
    console.print(
        f"in step again {measured['restart_seconds']:.1f} s after its start; {measured['events']:,} events; "
        f"CPU {cpu:.0f} s"
    )
