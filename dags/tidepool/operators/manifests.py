"""The pods that DAG files would launch, as JSON: what `tidepool check` looks at. Runs the files, as Airflow does.

    python -m tidepool.operators.manifests DAGS DOCUMENT=OUTPUT …

For each capacity document one output: {"errors": […], "tasks": […], "unread": […]}, described by `collect`. While a
file is imported, OUTPUT.importing has its path: a file may end the process.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.operators.spark_kubernetes import SparkKubernetesOperator
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.exceptions import AirflowNotFoundException
from kubernetes.client import ApiClient

from tidepool import capacity, cluster
from tidepool.capacity import PATH_VARIABLE
from tidepool.operators.job_pod import JobPodOperator


class UnknownPodError(Exception):
    """Only a run tells what this task's pod is."""


def main(arguments: list[str]) -> int:
    """Read the DAG folder once for each document, each time in a process of its own: modules keep what they read."""
    folder, *pairs = arguments
    failed = 0
    for pair in pairs:
        document, _, output = pair.partition("=")
        child = os.fork()  # Airflow is imported by now, which is most of the work
        if not child:
            os.environ[PATH_VARIABLE] = document
            try:
                found = collect(Path(folder), Path(f"{output}.importing"))
                Path(output).write_text(json.dumps(found), encoding="utf-8")
            except BaseException as error:  # noqa: BLE001 - nothing of the parent's may run in here
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        failed |= os.waitpid(child, 0)[1] or not Path(output).is_file()
    return 1 if failed else 0


class _Bag(BundleDagBag):
    """Writes down which file it imports, until all are imported."""

    def __init__(self, folder: Path, note: Path) -> None:
        self._note = note
        super().__init__(folder, bundle_path=folder)
        note.unlink(missing_ok=True)

    def process_file(self, filepath: Any, only_if_updated: bool = True, safe_mode: bool = True) -> Any:
        self._note.write_text(str(filepath), encoding="utf-8")
        return super().process_file(filepath, only_if_updated, safe_mode)  # type: ignore[no-untyped-call]


def collect(folder: Path, note: Path) -> dict[str, list[Any]]:
    """Everything that the DAG files of a folder would launch. note: a file for the path of what is being imported.

    errors: files that could not be imported and pods that could not be built, with file, line, task and message; those
    that have no line or task have None. tasks: file, dag, task, the pod as a manifest, its timeouts in seconds, and
    members: each other kind of the job's pods, with its name, how many it needs at once, and one as a manifest.
    unread: tasks whose pod can't be known before they run, each with the reason.
    """
    bag = _Bag(folder, note)
    found: dict[str, list[Any]] = {"errors": [], "tasks": [], "unread": []}
    for file, text in bag.import_errors.items():
        found["errors"].append(_import_error(folder, Path(file), text))
    for dag in bag.dags.values():
        for task in dag.tasks:
            file = str(Path(dag.fileloc))
            try:
                operator = operator_of(task)
                if isinstance(operator, KubernetesPodOperator):
                    found["tasks"].append({"file": file, "dag": dag.dag_id, **_pod(operator)})
            except (
                UnknownPodError,
                AirflowNotFoundException,
                OSError,
            ) as error:  # what is not here may be where Airflow runs
                found["unread"].append(f"{Path(file).name}: {dag.dag_id}.{task.task_id}: {error}")
            except Exception as error:  # noqa: BLE001 - whatever the operator raises, it will raise when it runs
                message = f"{type(error).__name__}: {error}"
                found["errors"].append({"file": file, "line": None, "task": task.task_id, "message": message})
    return found


def operator_of(task: Any) -> BaseOperator:
    """The task's operator; of a mapped task the first of its operators, where the DAG file itself lists them."""
    if not isinstance(task, MappedOperator):
        return task  # type: ignore[no-any-return]
    if not issubclass(task.operator_class, KubernetesPodOperator):
        return BaseOperator(task_id=task.task_id)
    return task.unmap(_first(task._get_specified_expand_input().value))


def _first(expand: Any) -> dict[str, Any]:
    """The arguments of a mapped task's first operator."""
    if isinstance(expand, dict):
        values = {
            name: list(each)[:1] if isinstance(each, (list, tuple, dict)) else [] for name, each in expand.items()
        }
        if not all(values.values()):
            unknown = ", ".join(name for name, each in values.items() if not each)
            raise UnknownPodError(f"mapped over {unknown}, which only a run knows")
        return {name: each[0] for name, each in values.items()}
    if isinstance(expand, (list, tuple)) and expand and isinstance(expand[0], dict):
        return dict(expand[0])
    raise UnknownPodError("mapped over what only a run knows")


def _pod(operator: KubernetesPodOperator) -> dict[str, Any]:
    if isinstance(operator, SparkKubernetesOperator):
        raise UnknownPodError("a SparkApplication, whose pods the spark-operator makes")
    pod: dict[str, Any] = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True))
    limit = operator.execution_timeout
    return {
        "task": operator.task_id,
        "pod": pod,
        "members": _members(operator) if isinstance(operator, JobPodOperator) else [],
        "schedule_timeout_seconds": operator.schedule_timeout_seconds,
        "execution_timeout_seconds": limit.total_seconds() if isinstance(limit, timedelta) else None,
    }


def _members(operator: JobPodOperator) -> list[dict[str, Any]]:
    """The pods that a job has besides its main one, a kind of them each."""
    kinds = list(zip(operator.parts(), operator.sizes, strict=True))[1:]
    if not kinds:
        return []
    main = ApiClient().sanitize_for_serialization(JobPodOperator.build_pod_request_obj(operator, dry_run=True))
    document = capacity.load()
    return [
        {"name": part.name, "count": count, "pod": cluster.member(main, placement, document, part.name)}
        for part, (placement, count) in kinds
    ]


def _import_error(folder: Path, file: Path, text: str) -> dict[str, Any]:
    """File, line and message of what Airflow keeps as a traceback: the last line of it that is in a DAG file."""
    file = file if file.is_absolute() else folder / file
    lines = list(_lines(text, file))
    message = next((line for line in reversed(text.splitlines()) if line.strip()), "it could not be imported")
    return {"file": str(file), "line": lines[-1] if lines else 1, "task": None, "message": message.strip()}


def _lines(text: str, file: Path) -> Iterator[int]:
    for match in re.finditer(r'File "([^"]+)", line (\d+)', text):
        if Path(match[1]) == file:
            yield int(match[2])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
