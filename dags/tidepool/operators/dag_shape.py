"""A DAG's tasks with the pods that its jobs would have: what `tidepool estimate` asks for. Runs the files, as Airflow.

    python -m tidepool.operators.dag_shape DAGS DAG OUTPUT

writes {"shapes": […]}, each as tidepool.estimate.Shape, or {"error": …} as tidepool.operators.explanation does.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidepool import ladder
from tidepool.budget import share
from tidepool.capacity import Pool
from tidepool.estimate import Pods, Shape
from tidepool.operators.job_pod import JobPodOperator
from tidepool.operators.manifests import UnknownPodError, operator_of
from tidepool.sizing import Placement


def shapes(folder: Path, dag_id: str) -> dict[str, Any]:
    """The shapes of one DAG of a folder's DAG files, or what is wrong."""
    from airflow.dag_processing.dagbag import BundleDagBag

    bag = BundleDagBag(folder, bundle_path=folder)
    files = {Path(file).name: text.strip().splitlines()[-1] for file, text in bag.import_errors.items()}
    dag = bag.dags.get(dag_id)
    if dag is None:
        return {"error": {"what": "dag", "dags": sorted(bag.dags), "files": files}}
    return {"shapes": [dataclasses.asdict(_shape(task)) for task in dag.tasks]}


def _shape(task: Any) -> Shape:
    after = tuple(sorted(task.downstream_task_ids))
    try:
        operator = operator_of(task)
    except UnknownPodError as error:
        return Shape(task.task_id, downstream=after, unknown=f"{error}: it is not counted")
    if not isinstance(operator, JobPodOperator):
        return Shape(task.task_id, downstream=after)
    limit = operator.execution_timeout
    rungs = ladder.rungs(operator.placement.pools, {}, [], time.time())
    first = rungs[0].pools[0]
    pods = [_pods(operator.placement, first, 1)]
    pods += [_pods(each, each.pools[0], count) for each, count in operator.sizes[1:]]
    return Shape(
        task=task.task_id,
        team=operator.team,
        downstream=after,
        pods=tuple(pods),
        copies=_copies(task),
        limit_seconds=limit.total_seconds() if isinstance(limit, timedelta) else None,
    )


def _pods(placement: Placement, pool: Pool, count: int) -> Pods:
    return Pods(
        count=count,
        cpu_millis=placement.cpu_millis,
        memory_bytes=placement.memory_bytes,
        part=share(placement, pool),
        pool=pool.name,
        market=pool.market,
        usd_per_hour=pool.usd_per_hour,
    )


def _copies(task: Any) -> int:
    """How many instances a mapped task has, as far as its file lists what it is mapped over."""
    if not hasattr(task, "_get_specified_expand_input"):
        return 1
    value = task._get_specified_expand_input().value
    if not isinstance(value, dict):
        return max(1, len(value)) if isinstance(value, (list, tuple)) else 1
    count = 1
    for each in value.values():
        count *= len(each) if isinstance(each, (list, tuple, dict)) else 1
    return max(1, count)


def main(arguments: list[str]) -> int:
    """Write the answer, as JSON."""
    folder, dag_id, output = arguments
    Path(output).write_text(json.dumps(shapes(Path(folder), dag_id)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
