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
JsonOption = Annotated[bool, typer.Option("--json", help="For machines.")]
