"""`tidepool bench parse`: what a DAG file of tidepool's operators costs the DAG processor."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from infra import contract, settings
from infra.cli import dag_pods
from infra.cli.check import stack_file
from infra.cli.options import JsonOption, StackOption
from infra.cli.ratios import ratio
from infra.cli.view import plain_table
from infra.local.airflow_process import PRELOADED
from infra.local.progress import Progress
from tidepool import capacity
from tidepool.capacity import Capacity

TARGET = 1.3
"""Times what as many KubernetesPodOperators take: what the project promises itself."""

PLAIN = "KubernetesPodOperator"
_FILE = """\
from airflow.sdk import DAG
from {home} import {kind}

with DAG("{kind}", schedule=None):
    for number in range({operators}):
        {kind}(task_id=f"task_{{number}}", {arguments})
"""
_KINDS = {
    PLAIN: ("airflow.providers.cncf.kubernetes.operators.pod", 'image="spark", arguments=["true"]'),
    "JobPodOperator": ("tidepool", 'image="spark", arguments=["true"]'),
    "SparkPodOperator": ("tidepool", 'application="flights_clean.py", memory="3Gi"'),
}
"""The operators in turn: where a DAG file has each from, and its arguments."""

Figures = dict[str, list[float]]


def parse(
    operators: Annotated[int, typer.Option("--operators", min=1, help="How many in one DAG file.")] = 1000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each file is parsed.")] = 7,
    stack: StackOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Measure the CPU time in which Airflow's DAG processor parses and serializes a file of many operators.

    Against as many KubernetesPodOperators: in turns, each parse in a process of its own, forked from one that has
    imported what the DAG processor has. Exits with 1 if the median of
    an operator of tidepool's is over 1.3 times the other's.

    \b
    Examples:
      tidepool bench parse
      tidepool bench parse --operators 100 --rounds 3
    """
    file = stack_file(stack, "--stack")
    progress = Progress()
    try:
        with progress.step(f"parsing {operators} operators, {rounds} x {len(_KINDS)} times"):
            figures = measure(contract.planned(settings.load(file)), operators, rounds)
    except settings.SettingsError as error:
        raise typer.BadParameter("\n".join([f"{file}:", *error.problems]), param_hint="--stack") from None
    except dag_pods.DagPodsError as error:
        typer.echo(f"tidepool bench parse: {error}", err=True)
        raise typer.Exit(1) from None
    ratios = {kind: ratio(seconds, figures[PLAIN]) for kind, seconds in figures.items()}
    if as_json:
        told = {kind: {"cpu_seconds": figures[kind], "ratio": ratios[kind].medians} for kind in figures}
        typer.echo(json.dumps({"operators": operators, "target": TARGET, "kinds": told}, indent=2))
    else:
        table = plain_table(f"{operators} of", "CPU s", "min", "max", "times", right=("CPU s", "min", "max", "times"))
        for kind, seconds in figures.items():
            spread = (statistics.median(seconds), min(seconds), max(seconds))
            table.add_row(kind, *(f"{each:.2f}" for each in spread), "" if kind == PLAIN else str(ratios[kind]))
        Console(highlight=False).print(table)
    raise typer.Exit(1 if any(each.medians > TARGET for each in ratios.values()) else 0)


def measure(document: Capacity, operators: int, rounds: int) -> Figures:
    """CPU seconds of each parse, by operator. Raises DagPodsError where a file does not parse."""
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name:
        home = Path(name)
        dags, output, pools = home / "dags", home / "told.json", home / "capacity.json"
        dags.mkdir()
        pools.write_text(capacity.dumps(document), encoding="utf-8")
        for kind, (source, arguments) in _KINDS.items():
            text = _FILE.format(home=source, kind=kind, operators=operators, arguments=arguments)
            (dags / f"{kind}.py").write_text(text, encoding="utf-8")
        variables = {capacity.PATH_VARIABLE: str(pools)}
        given = [str(rounds), str(output), *PRELOADED]
        dag_pods.run_airflow("tidepool.operators.parse_time", dags, given, home, variables)
        told: dict[str, list[dict[str, Any]]] = json.loads(output.read_text(encoding="utf-8"))
    for kind, parses in told.items():
        for each in parses:
            if each["errors"] or each["tasks"] != operators:
                errors = "\n".join(each["errors"].values())
                raise dag_pods.DagPodsError(f"{each['tasks']} of {operators} of {kind} were parsed. {errors}")
    return {kind: [each["cpu_seconds"] for each in told[kind]] for kind in _KINDS}
