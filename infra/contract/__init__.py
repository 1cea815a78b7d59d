"""The contract between an environment and its jobs: can every job be scheduled, and is there room and time for it?

`check` runs in `pulumi preview` and fails it with everything that is wrong at once; `tidepool check` shows the same,
and looks at the real pods of the DAG files besides. Pure but for reading the DAG files; needs neither a cluster nor
credentials nor Airflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from infra import capacity_document
from infra.contract import dag_source, environment, jobs
from infra.contract.problem import ContractError as ContractError
from infra.contract.problem import Problem as Problem
from infra.contract.problem import by_place
from infra.contract.template import Template as Template
from infra.settings.model import Settings
from infra.settings.services import OWN_IMAGES
from tidepool.capacity import Capacity


def planned(settings: Settings) -> Capacity:
    """The capacity document before anything is deployed: names that only the cloud gives have stand-ins."""
    built = {name: f"tidepool.invalid/{name}:built" for name in OWN_IMAGES} if settings.images.build else {}
    lake = settings.lake.uri or "s3a://lake"
    return capacity_document.build(settings, lake=lake, images={**built, **settings.images.references})


def check(settings: Settings, capacity: Capacity, dags: Path) -> list[str]:
    """Raise ContractError with every problem of an environment and of the DAG files in a folder.

    Returns the jobs that the files' text says too little of to be checked, each with the reason.
    """
    reading = dag_source.read(dags, capacity)
    if found := by_place([*problems(settings, capacity, reading.templates), *reading.problems]):
        raise ContractError(settings.environment, found)
    return reading.unread


def problems(settings: Settings, capacity: Capacity, templates: Iterable[Template]) -> list[Problem]:
    """Every problem of an environment with these jobs, by place; empty where all is well."""
    found = environment.problems(settings, capacity)
    for template in templates:
        found += jobs.problems(template, settings, capacity)
    return by_place(found)
