"""What an attempt's pod says of whose it is, and where its program leaves what it has done for the next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubernetes.client import V1EnvVar, V1Pod

from tidepool import capacity as capacity_document
from tidepool import pod as pods
from tidepool.labels import LEASE, LEASE_SECONDS
from tidepool.operators import lease, reattach

if TYPE_CHECKING:
    from tidepool.operators.job_pod import JobPodOperator


def mark(pod: V1Pod, operator: JobPodOperator, context: Any) -> None:
    """Put owner, lease, deadline and checkpoint folder on the pod, and the name that follows from its owner."""
    ti = context["ti"]
    labels, annotations = pods.owner(ti.dag_id, ti.task_id, context["run_id"], ti.try_number, operator.team)
    pod.metadata.labels |= labels
    pod.metadata.annotations = {**pod.metadata.annotations, **annotations, LEASE: lease.until(LEASE_SECONDS)}
    if operator.has_deadline:
        from tidepool.operators import deadline_market  # which few DAG files need

        pod.metadata.annotations |= deadline_market.annotation(context, operator.get_dag(), operator.deadline)
    _add_checkpoint(pod, operator.base_container_name, context)
    if operator.random_name_suffix:
        base = pod.metadata.name.rpartition("-")[0]
        owner = (ti.dag_id, ti.task_id, context["run_id"], ti.map_index, ti.try_number)
        pod.metadata.name = reattach.pod_name(base, *owner)


def _add_checkpoint(pod: V1Pod, name: str, context: Any) -> None:
    """Tell the program where it finds what an earlier attempt has done, and leaves it for the next. name: of its
    container.
    """
    lake, ti = capacity_document.load().lake, context["ti"]
    if lake is None:
        return
    folder = pods.checkpoint_folder(lake.uri, ti.dag_id, ti.task_id, context["run_id"], ti.map_index)
    for container in pod.spec.containers:
        given = container.env or []
        if container.name == name and pods.CHECKPOINT_VARIABLE not in [each.name for each in given]:
            container.env = [*given, V1EnvVar(name=pods.CHECKPOINT_VARIABLE, value=folder)]
