"""Options that more than one verb takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AutoscalerOption = Annotated[
    Path | None,
    typer.Option(
        "--autoscaler",
        metavar="PATH",
        help="A cluster-autoscaler binary to run; else the official one, else the stand-in.",
        exists=True,
        dir_okay=False,
        resolve_path=True,
    ),
]
ContextOption = Annotated[str | None, typer.Option("--context", help="Of the kubeconfig; else its current one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines.")]
DagsOption = Annotated[
    Path,
    typer.Option(
        "--dags",
        metavar="DIR",
        help="The folder of the DAG files.",
        exists=True,
        file_okay=False,
        show_default="dags of this repository",
    ),
]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="WHEN", help="90m, 24h, 7d, 2026-11-01 or 2026-11-01T08:30 (UTC).")
]
StackOption = Annotated[
    str, typer.Option("--stack", metavar="STACK", help="An environment such as dev, or a stack file.")
]


def no_cluster(error: Exception) -> str:
    """What to say where the client for Kubernetes found no configuration."""
    return f"no cluster: {str(error).rstrip('.')}. Name its kubeconfig with --kubeconfig"
