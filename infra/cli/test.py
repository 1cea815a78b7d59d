"""`tidepool test`: all tests, on the real local cloud too where it can run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from infra.local import cloud, paths, preflight
from infra.local.errors import LocalError
from infra.local.progress import Progress


def test(
    arguments: Annotated[list[str] | None, typer.Argument(help="More arguments for pytest.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Without the local cloud, in less than a minute.")] = False,
) -> None:
    """Run ruff, mypy and the tests. Tests on the local cloud need root; where it can't run, that is said.

    \b
    Examples:
      tidepool test
      tidepool test --fast
      tidepool test -- -k sizing
    """
    python = [sys.executable, "-m"]
    marker: list[str] = ["-m", "not local_cloud"] if fast else []
    if not fast and (found := preflight.problems()):
        typer.secho("WITHOUT THE TESTS ON THE LOCAL CLOUD, which can't run here:", fg="red", bold=True, err=True)
        for problem in found:
            typer.secho(f"- {problem}", err=True)
        if os.environ.get("CI"):
            typer.echo("and CI must run them: this is a failure", err=True)
            raise typer.Exit(1)
        marker = ["-m", "not local_cloud"]
    if not marker:
        try:
            cloud.prepare(Progress())  # minutes on a new machine: more than a test's limit
        except LocalError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
    for command in (
        [*python, "ruff", "check"],
        [*python, "ruff", "format", "--check"],
        [*python, "mypy"],
        [*python, "pytest", *marker, *(arguments or [])],
    ):
        done = subprocess.run(command, cwd=paths.REPOSITORY)
        if done.returncode:
            raise typer.Exit(done.returncode)
