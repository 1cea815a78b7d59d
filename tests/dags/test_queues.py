from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from tidepool import (
    DaskClusterOperator,
    DaskPodOperator,
    SparkApplicationOperator,
    SparkClusterOperator,
    SparkPodOperator,
    capacity,
    queues,
)
from tidepool.capacity import Capacity, Pool, Tenant
from tidepool.job import Job
from tidepool.sizing import place


@pytest.fixture
def document(capacity_file: Path) -> Capacity:
    return dataclasses.replace(capacity.load(capacity_file), queues=True)


@pytest.fixture
def queued(document: Capacity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Capacity]:
    """Operators see the document with queues, and with these shares of teams."""

    def write(**shares: int) -> Capacity:
        made = shared(document, **shares)
        path = tmp_path / "queued.json"
        path.write_text(capacity.dumps(made))
        monkeypatch.setenv(capacity.PATH_VARIABLE, str(path))
        return made

    write()
    return write


def shared(document: Capacity, **shares: int) -> Capacity:
    tenants = {
        team: dataclasses.replace(each, share_percent=shares.get(team, 0)) for team, each in document.tenants.items()
    }
    return dataclasses.replace(document, tenants=tenants)


def machines_of(pool: Pool, document: Capacity) -> float:
    """How many machines of a pool all its queues together let jobs take."""
    each = -(-pool.cpu_millis // 1000)
    found = queues.queues(document).values()
    return sum(queue.slots for queue in found if queue.name.split(".")[0] == pool.name) / each


def test_a_pool_of_machines_is_an_airflow_pool_with_a_slot_for_each_core_that_it_may_grow_to(
    document: Capacity,
) -> None:
    found = queues.queues(document)
    for pool in document.pools.values():
        assert (pool.name in found) == (pool.jobs and pool.max_machines > 0)
        if pool.name in found:
            assert found[pool.name].slots == pool.max_machines * -(-pool.cpu_millis // 1000)
            assert found[pool.name].description.startswith(queues.MARK)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_shares_no_more_is_let_in_than_the_pools_may_grow_to(document: Capacity, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 (no secrets)
    teams = {f"team-{number}": Tenant(f"tidepool-{number}", "job") for number in range(rng.randint(1, 5))}
    left = 100 if rng.random() < 0.5 else 99
    for team in list(teams)[: len(teams) if left == 100 else -1]:
        percent = rng.randint(0, left)
        teams[team] = dataclasses.replace(teams[team], share_percent=percent)
        left -= percent
    pools = {name: dataclasses.replace(pool, max_machines=rng.randint(6, 50)) for name, pool in document.pools.items()}
    made = dataclasses.replace(document, tenants=teams, pools=pools, default_tenant="team-0")
    for pool in pools.values():
        if pool.jobs:
            # A share of less than a machine is one: else its team's jobs would never start.
            rounded = sum(0 < each.share_percent * pool.max_machines < 100 for each in teams.values())
            assert 0 < machines_of(pool, made) <= pool.max_machines + rounded + (left == 0)


def test_teams_with_a_share_have_queues_of_their_own_and_the_others_what_is_left(document: Capacity) -> None:
    made = shared(document, research=30)
    pool = next(pool for pool in made.pools.values() if pool.jobs)
    made = dataclasses.replace(made, pools={pool.name: dataclasses.replace(pool, max_machines=10)})
    each = -(-pool.cpu_millis // 1000)
    found = queues.queues(made)
    assert {name: queue.slots for name, queue in found.items()} == {
        pool.name: 7 * each,
        f"{pool.name}.research": 3 * each,
    }
    assert "share of team research" in found[f"{pool.name}.research"].description


def test_a_job_takes_the_cores_that_its_pod_holds_of_its_machine(document: Capacity) -> None:
    alone = place(Job("t"), document)
    whole = -(-alone.pools[0].cpu_millis // 1000)
    assert queues.cores(alone) == whole
    assert queues.cores(place(Job("t", cores=1), document)) == whole  # alone there, whatever it uses
    assert queues.cores(place(Job("t", cores=1, exclusive=False), document)) == 1
    memory = f"{alone.memory_bytes}"
    assert queues.cores(place(Job("t", cores=1, memory=memory, exclusive=False), document)) == whole


def test_a_task_waits_for_its_machine_in_the_queue_of_its_pool(queued: Callable[..., Capacity]) -> None:
    with DAG("d", schedule=None):
        task = SparkPodOperator(task_id="t", application="a.py")
        named = SparkPodOperator(task_id="named", application="a.py", pool="on-demand-small")
    pool = task.placement.pools[0]
    assert (task.pool, task.pool_slots) == (pool.name, -(-pool.cpu_millis // 1000))
    assert named.pool == "on-demand-small"


def test_a_team_with_a_share_waits_in_its_own_queue(queued: Callable[..., Capacity]) -> None:
    queued(research=50)
    with DAG("d", schedule=None):
        theirs = SparkPodOperator(task_id="t", application="a.py", team="research")
        others = SparkPodOperator(task_id="o", application="a.py", team="analytics")
    assert theirs.pool == f"{theirs.placement.pools[0].name}.research"
    assert others.pool == others.placement.pools[0].name


def test_what_the_author_says_about_airflows_pool_holds(queued: Callable[..., Capacity]) -> None:
    with DAG("d", schedule=None):
        task = SparkPodOperator(task_id="t", application="a.py", airflow_pool="mine", pool_slots=3, priority_weight=7)
    assert (task.pool, task.pool_slots, task.priority_weight) == ("mine", 3, 7)


def test_without_queues_in_the_document_airflows_pools_are_left_alone(capacity_file: Path) -> None:
    with DAG("d", schedule=None):
        task = SparkPodOperator(task_id="t", application="a.py")
    assert (task.pool, task.pool_slots) == ("default_pool", 1)


def test_a_job_of_several_pods_waits_for_all_machines_of_its_workers(queued: Callable[..., Capacity]) -> None:
    with DAG("d", schedule=None):
        dask = DaskClusterOperator(task_id="dask", application="a.py", workers=2, image="spark")
        spark = SparkClusterOperator(task_id="spark", application="a.py", executors=(1, 400))
        many = SparkClusterOperator(task_id="many", application="a.py", executors=400)
    each = queues.cores(spark.executor_placement)
    assert (dask.pool, dask.pool_slots) == (dask.worker_placement.pools[0].name, 2 * each)
    assert spark.pool_slots == each
    assert many.pool_slots == many.claim.queue.slots  # more than there are would never start


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (SparkPodOperator, {}),
        (SparkPodOperator, {"exclusive": False}),
        (SparkClusterOperator, {"executors": 3}),
        (SparkClusterOperator, {"executors": (2, 9), "market": "spot", "driver_market": "spot"}),
        (SparkApplicationOperator, {}),
        (DaskPodOperator, {"image": "spark"}),
        (DaskClusterOperator, {"workers": 3, "image": "spark"}),
        (DaskClusterOperator, {"image": "spark", "scheduler_market": None, "scheduler_memory": "4Gi"}),
        (DaskClusterOperator, {"workers": 3, "cores": 1, "exclusive": False, "machine": "m5.large", "image": "spark"}),
    ],
)
def test_each_instance_of_a_mapped_task_waits_for_as_much_as_if_it_were_alone(
    queued: Callable[..., Capacity], kind: Any, asked: dict[str, Any]
) -> None:
    with DAG("d", schedule=None) as dag:
        alone = kind(task_id="alone", application="a.py", **asked)
        kind.partial(task_id="many", application="a.py", **asked).expand(application_args=[["1"], ["2"]])
    mapped = dag.get_task("many")
    assert (mapped.pool, mapped.pool_slots) == (alone.pool, alone.pool_slots)
    assert alone.pool_slots > 1 or not asked.get("exclusive", True)


def test_the_tier_of_a_job_is_its_priority_in_airflow_too(queued: Callable[..., Capacity]) -> None:
    with DAG("d", schedule=None):
        weights = [
            SparkPodOperator(
                task_id=f"t{tier}", application="a.py", priority_class_name=f"tidepool-job{tier}"
            ).priority_weight
            for tier in ("-low", "", "-high")
        ]
    assert weights == sorted(set(weights))


def test_the_scheduler_sees_the_queue_of_a_mapped_task_and_its_instances_the_pool_of_machines(
    queued: Callable[..., Capacity],
) -> None:
    queued(research=50)
    with DAG("d", schedule=None) as dag:
        SparkPodOperator.partial(
            task_id="t",
            application="a.py",
            team="research",
            pool="on-demand-small",
            priority_class_name="tidepool-job-high",
        ).expand(application_args=[["1"], ["2"]])
        SparkPodOperator.partial(task_id="none", application="a.py", machine="x9.large").expand(
            application_args=[["1"], ["2"]]
        )
        SparkPodOperator.partial(task_id="free", application="a.py").expand(application_args=[["1"], ["2"]])
    seen = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("t")
    assert (seen.pool, seen.priority_weight) == ("on-demand-small.research", queues.WEIGHTS["tidepool-job-high"])
    mapped = dag.get_task("t").unmap({"application_args": ["1"]})
    assert [pool.name for pool in mapped.placement.pools] == ["on-demand-small"]
    assert seen.pool_slots == queues.cores(mapped.placement)
    assert dag.get_task("none").pool == "default_pool"  # what is wrong is said where its instances are made
    free = dag.get_task("free").unmap({"application_args": ["1"]})
    assert len(free.placement.pools) > 1


def test_the_words_on_a_job_say_what_its_task_waits_for(queued: Callable[..., Capacity]) -> None:
    from tidepool import explain, ladder

    with DAG("d", schedule=None):
        task = SparkPodOperator(task_id="t", application="a.py")
    told = explain.lines(task.figures(ladder.rungs(task.placement.pools, {}, [], 0.0)))
    waits = next(line for line in told if line.startswith("Queue: "))
    assert f"{task.pool_slots} of the {task.claim.queue.slots} slots of Airflow's pool {task.pool}" in waits
