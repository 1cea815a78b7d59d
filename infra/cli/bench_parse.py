"""`tidepool bench parse`: what a DAG file of tidepool's operators costs the DAG processor."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.cli import dag_pods, stacks
from infra.cli.options import JsonOption, StackOption
from infra.cli.ratios import ratio
from infra.cli.tables import FittedTable, figure, name
from infra.cli.told import told
from infra.cli.words import counted
from infra.local.airflow_process import PRELOADED
from infra.local.progress import Progress
from tidepool import capacity, spark_conf
from tidepool.capacity import Capacity
from tidepool.job import Job
from tidepool.sizing import place, spark_memory

TARGET = 1.3
"""Times what as many KubernetesPodOperators take: what the project promises itself."""

_FILE = """\
from airflow.sdk import DAG
from {home} import {operator}

with DAG("{dag}", schedule=None):
    for number in range({operators}):
        {operator}(task_id=f"task_{{number}}", {arguments})
"""
_PROVIDER = "airflow.providers.cncf.kubernetes.operators.pod"
_STOCK = "KubernetesPodOperator"
_PROGRAM = "flights_clean.py"
AGAINST = {"JobPodOperator": "stock, true", "SparkPodOperator": "stock, spark-submit"}
"""What each operator of ours is compared with: as many stock ones that run the same command."""

Figures = dict[str, list[float]]


def parse(
    operators: Annotated[int, typer.Option("--operators", min=1, help="How many in one DAG file.")] = 1000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each file is parsed.")] = 7,
    stack: StackOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Measure the CPU time in which Airflow's DAG processor parses and serializes a file of many operators.

    Against as many KubernetesPodOperators that run the same command: in turns, each parse in a process of its own,
    forked from one that has imported what the DAG processor has. Exits with 1 if the median of an operator of
    tidepool's is over 1.3 times the stock one's.

    \b
    Examples:
      tidepool bench parse
      tidepool bench parse --operators 100 --rounds 3
    """
    document = stacks.planned(stack)
    with told("bench parse"), Progress().step(f"parsing {counted(operators, 'operator')}, {rounds} x 4 times"):
        figures = measure(document, operators, rounds)
    ratios = {kind: ratio(figures[kind], figures[stock]) for kind, stock in AGAINST.items()}
    if as_json:
        medians = {kind: each.medians for kind, each in ratios.items()}
        found = {"operators": operators, "target": TARGET, "ratios": medians, "cpu_seconds": figures}
        typer.echo(json.dumps(found, indent=2))
    else:
        table = FittedTable(name(f"{operators:,} of"), *map(figure, ("CPU s", "min", "max", "times")))
        for kind, seconds in figures.items():
            spread = (statistics.median(seconds), min(seconds), max(seconds))
            table.add_row(kind, *(f"{each:.2f}" for each in spread), str(ratios.get(kind, "")))
        Console(highlight=False).print(table)
    raise typer.Exit(1 if any(each.medians > TARGET for each in ratios.values()) else 0)


def measure(document: Capacity, operators: int, rounds: int) -> Figures:
    """CPU seconds of each parse, by operator. Raises DagPodsError where a file does not parse."""
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name:
        home = Path(name)
        dags, output, pools = home / "dags", home / "told.json", home / "capacity.json"
        dags.mkdir()
        pools.write_text(capacity.dumps(document), encoding="utf-8")
        files = _files(document, operators)
        for number, text in enumerate(files.values()):
            (dags / f"bench_{number}.py").write_text(text, encoding="utf-8")
        variables = {capacity.PATH_VARIABLE: str(pools)}
        given = [str(rounds), str(output), *PRELOADED]
        dag_pods.run_airflow("tidepool.operators.parse_time", dags, given, home, variables)
        answer: dict[str, list[dict[str, Any]]] = json.loads(output.read_text(encoding="utf-8"))
    found: Figures = {}
    for kind, (_, parses) in zip(files, sorted(answer.items()), strict=True):
        for each in parses:
            if each["errors"] or each["tasks"] != operators:
                errors = "\n".join(each["errors"].values())
                raise dag_pods.DagPodsError(f"{each['tasks']} of {operators} of {kind} were parsed. {errors}")
        found[kind] = [each["cpu_seconds"] for each in parses]
    return found


def _files(document: Capacity, operators: int) -> dict[str, str]:
    """The DAG files by what is in them."""
    job = Job(task="bench", memory="3Gi")
    placement = place(job, document)
    cores = placement.cores
    conf = spark_conf.settings(job.task, cores, spark_memory(job.task, placement.memory_bytes, cores), {})
    submit = spark_conf.spark_submit("bench", spark_conf.application_file(job.task, _PROGRAM), [], conf)
    true = 'image="spark", arguments=["true"]'
    kinds = {
        AGAINST["JobPodOperator"]: (_PROVIDER, _STOCK, true),
        "JobPodOperator": ("tidepool", "JobPodOperator", true),
        AGAINST["SparkPodOperator"]: (_PROVIDER, _STOCK, f'image="spark", arguments={submit}'),
        "SparkPodOperator": ("tidepool", "SparkPodOperator", f'application="{_PROGRAM}", memory="{job.memory}"'),
    }
    return {
        kind: _FILE.format(home=home, operator=operator, dag=f"bench_{number}", operators=operators, arguments=given)
        for number, (kind, (home, operator, given)) in enumerate(kinds.items())
    }
