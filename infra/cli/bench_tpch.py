"""`tidepool bench tpch`: Spark in one pod against Spark's own cluster mode, and against no pod at all."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.cli import dag_pods
from infra.cli.options import JsonOption
from infra.cli.ratios import ratio
from infra.cli.tables import FittedTable, figure, figures, name
from infra.cli.told import told
from infra.local import cloud, lake, tpch
from infra.local.progress import Progress
from infra.local.tpch import HOST, MODES, Bench, Run
from tidepool import capacity

_FIGURES: dict[str, Callable[[Run], float]] = {
    "to start": lambda run: run.waited,
    "Spark": lambda run: run.started,
    "22 queries": lambda run: run.querying,
    "whole job": lambda run: run.whole,
}
_COMPARED = ("22 queries", "whole job")


def bench_tpch(
    scale: Annotated[float, typer.Option("--scale", min=0.01, help="TPC-H's scale factor: gigabytes of text.")] = 1.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each mode runs.")] = 3,
    modes: Annotated[str, typer.Option("--modes", help=f"Some of {','.join(MODES)}.")] = ",".join(MODES),
    as_json: JsonOption = False,
) -> None:
    """Run TPC-H's 22 queries on the local cloud in each mode in turn, check every answer, compare the times.

    As much for each mode: 2 task threads, 6 GiB, the same image, the same data in HDFS. `pod`: SparkPodOperator's.
    `executors`: SparkClusterOperator's, a driver and two executors. `host`: the pod's own command without any pod.
    Machines are bought for each run. The right answers are DuckDB's. Starts a local cloud where none is up.

    \b
    Examples:
      tidepool bench tpch
      tidepool bench tpch --scale 0.1 --rounds 1 --modes pod,host
    """
    chosen = [each.strip() for each in modes.split(",")]
    if wrong := [each for each in chosen if each not in MODES]:
        raise typer.BadParameter(f"no mode {', '.join(wrong)}; there are {', '.join(MODES)}", param_hint="--modes")
    with told("bench tpch"):
        runs = _measure(scale, rounds, chosen, Progress())
    if as_json:
        typer.echo(json.dumps({"scale": scale, "rounds": rounds, "modes": _plain(runs)}, indent=2))
    else:
        _show(runs)


def pods(there: capacity.Capacity) -> dict[str, Mapping[str, Any]]:
    """The pods of the modes that have any, as the operators make them. Raises DagPodsError."""
    with tempfile.TemporaryDirectory(prefix="tidepool-tpch-") as folder:
        (Path(folder) / "tpch.py").write_text(tpch.DAG, encoding="utf-8")
        found = dag_pods.read(Path(folder), {"tpch": there})["tpch"]
    if found.problems:
        raise dag_pods.DagPodsError("\n".join(each.what for each in found.problems))
    return {each.subject.removeprefix("task ").strip("'"): each.pod for each in found.templates}


def _measure(scale: float, rounds: int, modes: Sequence[str], progress: Progress) -> dict[str, list[Run]]:
    was_up = cloud.is_up()
    runs: dict[str, list[Run]] = {mode: [] for mode in modes}
    try:
        there = cloud.up(progress)
        lake.fill(there, progress)
        bench = Bench(there, scale, pods(capacity.load(there.capacity)), progress)
        for number in range(rounds):
            turn = number % len(modes)
            for mode in [*modes[turn:], *modes[:turn]]:
                with progress.step(f"round {number + 1} of {rounds}: {MODES[mode]}"):
                    runs[mode].append(bench.run(mode))
                progress.say(", ".join(f"{name} {take(runs[mode][-1]):.1f} s" for name, take in _FIGURES.items()))
    finally:
        if not was_up:
            cloud.down(progress)
    return runs


def _plain(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    return {
        mode: [
            {**{name: round(take(run), 3) for name, take in _FIGURES.items()}, "queries": dict(run.queries)}
            for run in each
        ]
        for mode, each in runs.items()
    }


def _show(runs: Mapping[str, Sequence[Run]]) -> None:
    """Medians in seconds, and for what is compared how many times the host's, or else the first mode's."""
    base = HOST if HOST in runs else next(iter(runs))
    compared = [f"{name}, times" for name in _COMPARED]
    table = FittedTable(name("seconds, median"), *figures(*_FIGURES), *map(figure, compared))
    for mode, each in runs.items():
        medians = [f"{statistics.median(take(run) for run in each):.1f}" for take in _FIGURES.values()]
        times = [
            "" if mode == base else str(ratio(*([take(run) for run in some] for some in (each, runs[base]))))
            for take in (_FIGURES[name] for name in _COMPARED)
        ]
        table.add_row(MODES[mode], *medians, *times)
    Console(highlight=False).print(table)
