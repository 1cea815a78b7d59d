"""The example DAG of each job kind, in an environment that has what they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

import tidepool
from tidepool import JobPodOperator
from tidepool import capacity as document
from tidepool.capacity import Capacity, Pool

DAGS = Path(__file__).resolve().parents[2] / "dags"
EXAMPLES = DAGS / "examples"
FOLDER = Path("/opt/tidepool/jobs")


@pytest.fixture
def everything(capacity_of: Callable[..., Capacity], pool: Callable[..., Pool], capacity_file: Path) -> None:
    """Images of all kinds, and pools of both markets and with GPUs."""
    there = capacity_of(pool("spot-small"), pool("on-demand-small", "on-demand", priority=10), pool("gpu", gpus=1))
    there.images.update({name: f"tidepool.local/{name}:1" for name in ("dask", "h2o")})
    capacity_file.write_text(document.dumps(there))


@pytest.mark.usefixtures("everything")
def test_every_example_is_a_dag_by_the_name_of_its_file() -> None:
    bag = DagBag(EXAMPLES, safe_mode=False)
    assert bag.import_errors == {}
    assert {Path(dag.fileloc).stem: dag.dag_id for dag in bag.dags.values()} == {
        file.stem: file.stem for file in EXAMPLES.glob("*.py")
    }


@pytest.mark.usefixtures("everything")
def test_every_job_kind_has_an_example() -> None:
    kinds = {name for name in tidepool.__all__ if name.endswith("Operator")}
    bags = DagBag(EXAMPLES).dags.values(), DagBag(DAGS / "flights_daily.py").dags.values()
    shown = {type(task).__name__ for dags in bags for dag in dags for task in dag.tasks}
    assert shown == kinds


@pytest.mark.usefixtures("everything")
def test_every_program_of_the_examples_is_a_job_of_the_images() -> None:
    words = [
        word
        for dag in DagBag(EXAMPLES).dags.values()
        for task in dag.tasks
        if isinstance(task, JobPodOperator)
        for word in task.arguments
        if word.startswith(f"{FOLDER}/")
    ]
    assert len(words) == 6
    assert [word for word in words if not (DAGS / "jobs" / Path(word).relative_to(FOLDER)).is_file()] == []


@pytest.mark.usefixtures("capacity_file")
def test_an_environment_without_what_the_examples_need_is_not_bothered_by_them() -> None:
    bag = DagBag(DAGS, safe_mode=False)
    assert bag.import_errors == {}
    assert not [dag for dag in bag.dags.values() if Path(dag.fileloc).parent == EXAMPLES]
