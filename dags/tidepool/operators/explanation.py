"""A job's figures from its operator, and from a DAG file: what `tidepool explain` asks for. Runs the files, as Airflow.

    python -m tidepool.operators.explanation DAGS DAG TASK OUTPUT

writes {"figures": …} or {"error": …}, described by `explain_task`.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tidepool import ladder, overrides
from tidepool.capacity import Market, Pool
from tidepool.deadlines import placement, policies, priors
from tidepool.deadlines.placement import History
from tidepool.explain import Figures
from tidepool.overrides import Override

if TYPE_CHECKING:
    from tidepool.operators.job_pod import JobPodOperator

OVERRIDES_VARIABLE = "TIDEPOOL_OVERRIDES"

RUNS = 10
"""So many past runs of one length are supposed where the figures say what a deadline would make of them."""

STEPS = 60
"""In so many steps the longest runtime on spot is looked for at first: a much longer one, late on either market, may be
on spot again."""


def before_any_run(operator: JobPodOperator) -> Figures:
    """The figures as nothing was ever seen: no run of the task, no pool without machines."""
    rungs = ladder.rungs(operator.placement.pools, {}, [], time.time())
    return operator.figures(rungs) | {"deadline": _deadline(operator)}


def _deadline(operator: JobPodOperator) -> Figures | None:
    """What a deadline's policy goes by; None without one."""
    seconds, of_what = operator.deadline.total_seconds() if operator.deadline else 0.0, "task"
    dag = operator.get_dag()
    if not seconds and getattr(dag, "deadline", None):
        from tidepool.operators.deadline_alert import due

        now = datetime.now(UTC)
        by = due(dag, SimpleNamespace(run_after=now, start_date=now, logical_date=now))
        seconds, of_what = (by - now).total_seconds() if by else 0.0, "DAG"
    if not seconds:
        return None
    firsts: dict[Market, Pool] = {}
    for pool in operator.placement.pools:
        firsts.setdefault(pool.market, pool)
    decides = "the author's `market` does" if operator.market else ""
    if not decides and len(firsts) == 1:
        decides = f"all its pools are {next(iter(firsts))}"
    found: Figures = {"seconds": seconds, "of": of_what, "target": policies.TARGET, "decides": decides}
    if decides:
        return found
    prices = firsts["spot"].usd_per_hour, firsts["on-demand"].usd_per_hour
    every = operator.checkpoint_every.total_seconds() if operator.checkpoint_every is not None else math.inf
    expected = operator.expected.total_seconds() if operator.expected is not None else None
    first = _market(History(), seconds, *prices, every, expected)
    return found | {
        "restart_seconds": policies.RESTART_SECONDS,
        "reclaims_per_hour": priors.UNKNOWN_PER_HOUR,
        "checkpoint_every_seconds": every if math.isfinite(every) else None,
        "expected_seconds": expected,
        "spot_usd_per_hour": prices[0],
        "on_demand_usd_per_hour": prices[1],
        "first_run": first,
        "longest_on_spot_seconds": longest_on_spot(seconds, *prices, every),
    }


def longest_on_spot(
    seconds: float, spot_price: float, on_demand_price: float, checkpoint_every: float = math.inf
) -> float | None:
    """The runtime, in whole minutes, up to which an attempt goes on spot that has `seconds` left."""

    def goes(minutes: int) -> bool:
        history = History(runtimes=(60.0 * minutes,) * RUNS)
        return _market(history, seconds, spot_price, on_demand_price, checkpoint_every) == "spot"

    high = max(0, int(seconds // 60)) + 1
    steps = sorted({max(1, round(high * step / STEPS)) for step in range(1, STEPS + 1)})
    low, high = 0, next((minutes for minutes in steps if not goes(minutes)), high)
    low = max((minutes for minutes in steps if minutes < high), default=0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if goes(middle) else (low, middle)
    return 60.0 * low if low else None


def _market(
    history: History,
    seconds: float,
    spot_price: float,
    on_demand_price: float,
    checkpoint_every: float,
    expected: float | None = None,
) -> Market | None:
    """Where an attempt goes as its run is queued, with so many seconds left."""
    return placement.market(
        history,
        seconds,
        0.0,
        allotted=seconds,
        spot_price=spot_price,
        on_demand_price=on_demand_price,
        checkpoint_every=checkpoint_every,
        expected=expected,
    ).market


def explain_task(folder: Path, dag_id: str, task_id: str) -> dict[str, Any]:
    """The figures of one task of a folder's DAG files.

    {"figures": …}, or {"error": …} with `what` is not there or can't be, the names that are there (`dags`, `tasks`),
    and `files` that could not be imported, with their messages.
    """
    from airflow.dag_processing.dagbag import BundleDagBag

    from tidepool.operators import size_overrides
    from tidepool.operators.job_pod import JobPodOperator
    from tidepool.operators.manifests import UnknownPodError, operator_of

    bag = BundleDagBag(folder, bundle_path=folder)
    files = {Path(file).name: text.strip().splitlines()[-1] for file, text in bag.import_errors.items()}
    dag = bag.dags.get(dag_id)
    if dag is None:
        return {"error": {"what": "dag", "dags": sorted(bag.dags), "files": files}}
    if not dag.has_task(task_id):
        return {"error": {"what": "task", "tasks": sorted(dag.task_ids), "files": files}}
    try:
        operator = operator_of(dag.get_task(task_id))
    except UnknownPodError as error:
        return {"error": {"what": "mapped", "message": str(error), "files": files}}
    if not isinstance(operator, JobPodOperator):
        jobs = [each.task_id for each in dag.tasks if _is_job(each, JobPodOperator)]
        return {"error": {"what": "no-job", "kind": dag.get_task(task_id).task_type, "tasks": jobs, "files": files}}
    override = _override(operator.asked[2].tenant.namespace, dag_id, task_id)
    unused = size_overrides.planned(operator, override) if override is not None else ""
    figures = {"dag": dag_id, **before_any_run(operator)}
    if override is not None and unused:
        figures["override_unused"] = {"words": override.words, "why": unused}
    return {"figures": figures}


def _override(namespace: str, dag: str, task: str) -> Override | None:
    """The task's, of the file that OVERRIDES_VARIABLE names: the data of the teams' ConfigMaps, by namespace."""
    file = os.environ.get(OVERRIDES_VARIABLE)
    if not file:
        return None
    data = json.loads(Path(file).read_text(encoding="utf-8")).get(namespace) or {}
    return overrides.load(data.get(overrides.key(dag, task), ""))


def _is_job(task: Any, kind: type) -> bool:
    found = getattr(task, "operator_class", type(task))
    return isinstance(found, type) and issubclass(found, kind)


def main(arguments: list[str]) -> int:
    """Write the answer, as JSON."""
    folder, dag_id, task_id, output = arguments
    Path(output).write_text(json.dumps(explain_task(Path(folder), dag_id, task_id)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
