"""The node termination handler: drains a spot machine when EC2 gives the two minutes' notice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import charts, naming
from infra.services import agents
from infra.services.placement import EVERYWHERE
from tidepool.capacity import POOL_LABEL

NAMESPACE = "kube-system"


class TerminationHandler(pulumi.ComponentResource):
    """The Release, which runs on every job machine. chart_sources: mirrors by chart."""

    def __init__(self, name: str, chart_sources: Mapping[str, str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:TerminationHandler", name, {}, opts)
        kubernetes.helm.v3.Release(
            f"{name}-release",
            kubernetes.helm.v3.ReleaseArgs(
                **charts.release(
                    charts.NODE_TERMINATION_HANDLER, namespace=NAMESPACE, values=values(), sources=chart_sources
                )
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def values() -> dict[str, Any]:
    """The chart's values."""
    return {
        "fullnameOverride": "node-termination-handler",
        "enableSqsTerminationDraining": False,  # reads the notice from the machine itself: no queue to pay and secure
        "useHostNetwork": True,  # pods of their own network do not reach the machine's metadata (hop limit 1)
        "enableSpotInterruptionDraining": True,
        "enableScheduledEventDraining": True,
        "enableRebalanceMonitoring": False,  # a recommendation often comes to nothing, and a drain kills the job for it
        "enableRebalanceDraining": False,
        "ignoreDaemonSets": True,
        "deleteLocalData": True,  # every job has an emptyDir, and it dies with the machine anyway
        "podTerminationGracePeriod": -1,  # the pod's own
        "nodeTerminationGracePeriod": 120,
        "taintNode": True,  # the reason stays on the node for whoever asks why a job ended
        "emitKubernetesEvents": True,
        "rbac": {"pspEnabled": False},  # Kubernetes has no PodSecurityPolicy since 1.25
        "tolerations": EVERYWHERE,
        "affinity": job_machines(),
        "resources": agents.TERMINATION_HANDLER.resources(memory_limit="128Mi"),
    }


def job_machines() -> dict[str, Any]:
    """Affinity for pools' machines but the system's: managed node groups drain theirs themselves."""
    expressions = [
        {"key": POOL_LABEL, "operator": "Exists"},
        {"key": POOL_LABEL, "operator": "NotIn", "values": [naming.SYSTEM_POOL]},
    ]
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
        }
    }
