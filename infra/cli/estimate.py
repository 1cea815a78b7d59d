"""`tidepool estimate`: what the next run of a DAG will take and cost."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from infra import contract
from infra.cli import dag_pods, ledgers, moments, stacks
from infra.cli.explain import ExplainError, no_dag
from infra.cli.ledgers import DatabaseOption, EventsOption, LedgerError
from infra.cli.options import DagsOption, JsonOption, StackOption
from infra.cli.tables import FittedTable, figure, name
from infra.cli.told import told
from infra.cli.words import usd
from infra.local import aws
from infra.local.paths import REPOSITORY
from infra.settings.model import AwsCloud, Settings
from tidepool import capacity
from tidepool import estimate as library
from tidepool.capacity import Capacity
from tidepool.estimate import Estimate, Known, Pods, Shape
from tidepool.explain import duration
from tidepool.history import runs
from tidepool.ledger import history
from tidepool.report.costs import plain

STOCK_IDLE_SECONDS = 600.0
"""The autoscaler's own default, for machines of clusters whose settings aren't ours."""


def estimate(
    dag: Annotated[str, typer.Argument(metavar="DAG", help="The DAG's id.")],
    stack: StackOption = "local",
    dags: DagsOption = REPOSITORY / "dags",
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="Past runs that count: 30d, 2026-11-01 …")
    ] = "90d",
    file: EventsOption = None,
    database: DatabaseOption = "",
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same figures.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Estimate time and money of a DAG's next run, before it runs: of each task and of the whole.

    Half of the runs are below P50 and nine of ten below P90. A task with 3 good runs of its present size is estimated
    from its last 20; any other is a cold start: from its size and what similar jobs of the ledger took, or from stated
    priors. The table says which. Pool and price are those that its first attempt goes to in the stack.

    \b
    Examples:
      tidepool estimate flights_daily
      tidepool estimate flights_daily --stack prod --database postgresql+psycopg://keeper@db/tidepool
      tidepool estimate flights_daily --json
    """
    environment = stacks.load(stack)
    begin = moments.parse(since, time.time(), "--since")
    with told("estimate"):
        shapes = read(contract.planned(environment), dags, dag)
        known, overhead, missing = _known(file, database, dag, shapes, begin)
    found = library.estimate(dag, shapes, known, overhead, _idle_seconds(environment), seed)
    if as_json:
        typer.echo(json.dumps(library.document(found), indent=2))
    else:
        _show(found, missing, Console(highlight=False))


def read(document: Capacity, dags: Path, dag: str) -> list[Shape]:
    """The DAG's tasks with a capacity document. Raises ExplainError and DagPodsError."""
    texts = {capacity.PATH_VARIABLE: capacity.dumps(document)}
    answer = dag_pods.ask("tidepool.operators.dag_shape", dags, [dag], texts)
    if "error" in answer:
        raise ExplainError(no_dag(answer["error"], dag, dags))
    return [_shape(body) for body in answer["shapes"]]


def _shape(body: Mapping[str, Any]) -> Shape:
    pods = tuple(Pods(**each) for each in body["pods"])
    return Shape(**{**body, "pods": pods, "downstream": tuple(body["downstream"])})


def _known(
    file: Path | None, database: str, dag: str, shapes: Sequence[Shape], begin: float
) -> tuple[dict[str, Known], float | None, str]:
    """What the ledger has of each task, the overhead of its machines, and why there is nothing where there is none."""
    known: dict[str, Known] = {}
    try:
        with ledgers.opened(file, database) as store:
            for shape in shapes:
                if shape.pods:
                    task = (dag, shape.task)
                    own = runs(history.pods(store, task, begin)).get(task, [])
                    whose, similar = ("", []) if len(own) >= library.LOOKED_AT else _similar(store, task, shape, begin)
                    known[shape.task] = Known(own, similar, whose)
            day = datetime.fromtimestamp(begin, UTC).date().isoformat()
            return known, history.overhead(store, day), ledgers.why_empty(store, file, database)
    except LedgerError as error:
        if file is not None or database:
            raise
        return {}, None, str(error)


def _similar(store: Any, task: tuple[str, str], shape: Shape, begin: float) -> tuple[str, list[Any]]:
    whose, pods = history.similar(store, task, shape.team, begin)
    return {"dag": "the same DAG", "team": f"team {shape.team}", "": "anybody's"}[whose], pods


def _idle_seconds(environment: Settings) -> float:
    cloud = environment.cloud
    if not isinstance(cloud, AwsCloud):
        return STOCK_IDLE_SECONDS
    return max((aws.seconds(pool.unneeded_time) for pool in cloud.pools.values()), default=STOCK_IDLE_SECONDS)


def _show(found: Estimate, missing: str, console: Console) -> None:
    table = FittedTable(
        name("task"),
        figure("P50", 1),
        figure("P90", 3),
        figure("USD P50"),
        figure("USD P90", 2),
        figure("critical", 5),
        name("on", 4, 15),
    )
    reasons: dict[str, list[str]] = {}
    for task in found.tasks:
        reasons.setdefault(f"{task.basis} ({task.why})", []).append(plain(task.task))
        if task.basis in ("no job", "unknown"):
            continue
        times = [duration(each) for each in (task.seconds.p50, task.seconds.p90)]
        money = [usd(each) for each in (task.usd.p50, task.usd.p90)]
        table.add_row(*map(Text, (plain(task.task), *times, *money, f"{task.critical:.0%}", task.pool)))
    console.print(table)
    console.print()
    for reason, tasks in reasons.items():
        console.print(Text(f"{', '.join(tasks)}: {reason}."), soft_wrap=True)
    console.print(
        f"\n{plain(found.dag)}: {duration(found.seconds.p50)} and {usd(found.usd.p50)} USD (P50), "
        f"{duration(found.seconds.p90)} and {usd(found.usd.p90)} USD (P90), in {found.draws:,} draws with seed "
        f"{found.seed}.",
        soft_wrap=True,
    )
    console.print(
        f"Machines cost {found.overhead:.0%} more while they boot and idle ({found.overhead_why}). Attempts on "
        "on-demand machines, where spot has none, cost what those cost.",
        soft_wrap=True,
    )
    if missing:
        console.print(Text(f"All of it is a cold start: {missing}"), soft_wrap=True)
