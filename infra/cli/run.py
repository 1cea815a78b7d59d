"""`tidepool local run`: one DAG on the local cloud that is up, and the report of what it bought."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.cli import dag_run, report_view
from infra.cli.dag_run import Finished
from infra.cli.options import JsonOption
from infra.cli.told import told
from infra.local import addresses, cloud, lake
from infra.local.airflow import PASSWORDS, USER
from infra.local.airflow_api import AirflowApi
from infra.local.progress import Progress
from infra.local.state import Cloud
from tidepool import capacity
from tidepool.ledger import tail
from tidepool.report import timeline
from tidepool.report.document import document
from tidepool.report.timeline import Report

AIRFLOW_SECONDS = 120.0


def run(
    dag_id: Annotated[str, typer.Argument(help="The DAG's id, such as flights_daily.")],
    as_json: JsonOption = False,
) -> None:
    """Run one DAG on the local cloud that is up, show it while it runs, and report what was bought for it.

    Exits with 0 only if the DAG run succeeded and every machine for jobs was given back.

    \b
    Examples:
      tidepool local run flights_daily
    """
    progress = Progress()
    with told("local run"):
        there = cloud.attach()
        cloud.warn_if_stale(there, progress)
        finished, report = run_dag(there, dag_id, progress)
    if as_json:
        print(json.dumps(summary(finished, report), indent=2))
    else:
        report_view.show(report, Console(highlight=False))
    raise typer.Exit(0 if finished.succeeded else 1)


def run_dag(there: Cloud, dag: str, progress: Progress) -> tuple[Finished, Report]:
    """Run the DAG in the cloud's Airflow, which is started if it is not; what failed is explained on stderr."""
    there.start_airflow()
    lake.fill(there, progress)  # while Airflow starts
    with progress.step("Airflow"):
        api = AirflowApi.of(there.state / "airflow")
        api.wait_ready(AIRFLOW_SECONDS)
    progress.say(f"Airflow: {addresses.AIRFLOW}, user {USER}, password in {there.state}/airflow/{PASSWORDS}")
    try:
        pools = capacity.load(there.capacity)
        names = [pool.name for pool in pools.pools.values() if pool.jobs]
        finished = dag_run.execute(api, dag, there.events, names, progress.console)
        dag_run.explain_failures(api, finished, progress.console)
    finally:
        api.close()
    report = timeline.report(tail.read(there.events), pools, time.time(), since=finished.started)
    return finished, report


def summary(finished: Finished, report: Report) -> dict[str, Any]:
    """The run and its report as plain data."""
    return {
        "dag": finished.dag,
        "run": finished.run,
        "state": finished.state,
        "succeeded": finished.succeeded,
        "machines_left": [machine.id for machine in finished.left],
        "report": document(report),
    }
