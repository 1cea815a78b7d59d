"""The example DAG of each job kind, in an environment that has what they need."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

import tidepool
from tidepool import JobPodOperator
from tidepool import capacity as document
from tidepool.capacity import Capacity, Pool

DAGS = Path(__file__).resolve().parents[2] / "dags"
EXAMPLES = DAGS / "examples"
PAGES = DAGS / "docs"
FOLDER = Path("/opt/tidepool/jobs")


@pytest.fixture
def everything(capacity_of: Callable[..., Capacity], pool: Callable[..., Pool], capacity_file: Path) -> None:
    """Images of all kinds, and pools of both markets and with GPUs."""
    large = pool("large", "on-demand", priority=5, memory_bytes=64 * 1024**3)
    small = pool("spot-small"), pool("on-demand-small", "on-demand", priority=10)
    there = capacity_of(*small, large, pool("gpu", gpus=1))
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


def kinds() -> dict[str, list[str]]:
    """The operators of each page, by the table of job kinds."""
    rows = [line.split(" | ") for line in (PAGES / "README.md").read_text().splitlines() if line.startswith("| ")][1:]
    return {re.findall(r"\((\S+\.md)\)", row[2])[0]: re.findall(r"`(\w+)`", row[1]) for row in rows}


def test_every_job_kind_has_a_page_and_every_page_an_example_of_it() -> None:
    assert {name for names in kinds().values() for name in names} == {
        name for name in tidepool.__all__ if name.endswith("Operator")
    }
    for page, operators in kinds().items():
        text = (PAGES / page).read_text()
        examples = re.findall(r"`(dags/[\w/]+\.py)`", text)
        shown = [each for each in examples if "/jobs/" not in each]
        assert shown, page
        source = "".join((DAGS.parent / each).read_text() for each in shown)
        assert [name for name in operators if f"{name}(" not in source] == [], page


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("page", sorted(kinds()))
def test_what_a_page_shows_can_be_run(page: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (PAGES / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    names = {name: getattr(tidepool, name) for name in tidepool.__all__}
    assert blocks
    for number, block in enumerate(blocks):
        for count, statement in enumerate(ast.parse(block).body):
            with DAG(f"shown-{number}-{count}") as dag:
                exec(compile(ast.Module([statement], []), page, "exec"), dict(names))  # noqa: S102 - our own documents
            assert dag.tasks or not isinstance(statement, ast.Expr), block


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
