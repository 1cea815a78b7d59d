"""Whose pods go first where there is not room for all: the PriorityClasses."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from infra import naming
from tidepool.capacity import JOB_PRIORITY_CLASS


@dataclass(frozen=True)
class Class:
    """One PriorityClass. preempts: its pods may put out pods of lower classes to get their place."""

    name: str
    value: int
    preempts: bool
    description: str


CLASSES = (
    Class(
        naming.PLATFORM_PRIORITY_CLASS, 1_000_000, True, "tidepool's own services: no job puts them out, whatever it is"
    ),
    Class(f"{JOB_PRIORITY_CLASS}-high", 2000, True, "jobs that may put out low jobs, and no others, for their place"),
    Class(JOB_PRIORITY_CLASS, 2000, False, "jobs: what tidepool's operators give every pod; waits for a machine"),
    Class(f"{JOB_PRIORITY_CLASS}-low", 1000, False, "jobs that high ones may put out"),
)
"""High jobs have the value of ordinary ones: preemption goes by the value alone, and must not reach those. That high
jobs come first is Airflow's to see to (tidepool.queues.WEIGHTS).
All are above 0, which pods without a class have: an agent's DaemonSet does not put out a job. And all are above the
cluster-autoscaler's --expendable-pods-priority-cutoff (-10), below which no machine is bought for a pod.
None is the cluster's default: pods that are not tidepool's are none of its business."""


class PriorityClasses(pulumi.ComponentResource):
    """The PriorityClasses of CLASSES. A changed value replaces the class; pods that are there keep theirs."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:PriorityClasses", name, {}, opts)
        for each in CLASSES:
            kubernetes.scheduling.v1.PriorityClass(
                f"{name}-{each.name}",
                metadata={"name": each.name},
                value=each.value,
                preemption_policy="PreemptLowerPriority" if each.preempts else "Never",
                global_default=False,
                description=each.description,
                opts=pulumi.ResourceOptions(
                    parent=self, replace_on_changes=["value", "preemptionPolicy"], delete_before_replace=True
                ),
            )
        self.register_outputs({})
