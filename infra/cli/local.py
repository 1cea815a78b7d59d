"""`tidepool local …`: the local cloud, by hand."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.cli import local_view
from infra.cli.bench import bench
from infra.cli.options import AutoscalerOption, JsonOption
from infra.cli.run import run
from infra.cli.told import told
from infra.local import addresses, cloud, lake, paths, reclaim, status
from infra.local.airflow import PASSWORDS, USER
from infra.local.progress import Progress

app = typer.Typer(
    help="A real Kubernetes, the AWS API and machines that come and go, on this one machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def up(
    autoscaler: AutoscalerOption = None,
    airflow: Annotated[bool, typer.Option("--airflow", help="Start Airflow too (its port: 8088).")] = False,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Machines have this one of images/ too, such as dask or h2o.")
    ] = None,
) -> None:
    """Start the local cloud; the first time it builds what it runs, which takes minutes. Needs root.

    \b
    Examples:
      tidepool local up
      tidepool local up --airflow
      tidepool local up --image dask --image h2o
    """
    progress = Progress()
    start = time.monotonic()
    with told("local up"):
        there = cloud.up(progress, autoscaler, image or ())
        if airflow:
            there.start_airflow()
        lake.fill(there, progress)
    for line in local_view.releases_told(status.not_here(there)):
        progress.say(line)
    progress.say(f"ready after {time.monotonic() - start:.1f} s")
    typer.echo(f"export KUBECONFIG={there.kubeconfig}")
    typer.echo(f"export TIDEPOOL_CAPACITY={there.capacity}")
    if airflow:
        typer.echo(f"# Airflow: {addresses.AIRFLOW}, user {USER}, password in {there.state}/airflow/{PASSWORDS}")


app.command()(run)


@app.command()
def down() -> None:
    """Take the local cloud down; nothing of it stays on this machine but logs and events, as files.

    \b
    Examples:
      tidepool local down
    """
    with told("local down"):
        cloud.down(Progress())


@app.command("status")
def show_status(as_json: JsonOption = False) -> None:
    """Show processes, pools, machines, HDFS, pods, and releases that are not deployed here.

    Exits with 1 if the cloud is not up or not well.

    \b
    Examples:
      tidepool local status
      tidepool local status --json
    """
    with told("local status"):
        found = status.read(cloud.attach())
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        local_view.show(found, Console(highlight=False))
    for problem in found.problems:
        typer.secho(problem, fg="red", err=True)
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def logs(
    process: Annotated[str, typer.Argument(help="hypervisor, <instance>-kubelet …; none: the names.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 100,
) -> None:
    """Show the log of one of the cloud's processes, also after `down`.

    \b
    Examples:
      tidepool local logs
      tidepool local logs hypervisor -f
    """
    folder = _log_folder()
    known = {file.stem: file for file in sorted(folder.glob("*.log"))}
    if not process:
        typer.echo("\n".join(known) or f"no logs in {folder}: the local cloud was not up yet")
        return
    if process not in known:
        typer.echo(f"no log of {process!r}; there are\n{chr(10).join(known) or 'none'}", err=True)
        raise typer.Exit(1)
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(known[process])]
    raise typer.Exit(subprocess.run(command).returncode)


@app.command("reclaim")
def take_back(
    machine: Annotated[str, typer.Argument(help="Instance id; none: the spot machine that runs a job longest.")] = "",
    notice: Annotated[
        float, typer.Option("--notice", min=0, help="Seconds between notice and end; EC2 gives 120. 0: no notice.")
    ] = 120.0,
) -> None:
    """Take a spot machine back as EC2 does: notice (cordon, taint, evict), then gone; with --notice 0 just gone.

    \b
    Examples:
      tidepool local reclaim
      tidepool local reclaim i-0abc --notice 0
    """
    with told("local reclaim"):
        gone = reclaim.reclaim(cloud.attach(), machine, notice, Progress(), is_announced=True)
    typer.echo(gone)


app.command()(bench)


def _log_folder() -> Path:
    """Where the logs are, whether the cloud is up or not."""
    return cloud.Cloud(paths.state()).state / "log"
