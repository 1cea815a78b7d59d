"""The cluster-autoscaler: buys a machine for a pod that waits, in the pools' own order, and gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

from infra import charts, naming, versions
from infra.autoscaler_flags import FLAGS
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD, Placement, resources


@dataclass(frozen=True)
class AutoscalerRelease:
    """values: of the chart, from the cloud (`AutoscalerAccess.values`). identity: annotations of the ServiceAccount."""

    values: Mapping[str, pulumi.Input[object]]
    placement: Placement
    identity: Mapping[str, str]
    chart_sources: Mapping[str, str]


class Autoscaler(pulumi.ComponentResource):
    """The priority expander's ConfigMap, and the Release.

    priorities: the higher first, by name of a node group.
    """

    def __init__(
        self,
        name: str,
        priorities: Mapping[str, int],
        release: AutoscalerRelease,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("tidepool:services:Autoscaler", name, {}, opts)
        order = kubernetes.core.v1.ConfigMap(
            f"{name}-priorities",
            metadata={"name": naming.PRIORITY_CONFIG_MAP, "namespace": naming.AUTOSCALER_NAMESPACE},
            data={"priorities": priority_list(priorities)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        kubernetes.helm.v3.Release(
            f"{name}-release",
            kubernetes.helm.v3.ReleaseArgs(
                **charts.release(
                    charts.CLUSTER_AUTOSCALER,
                    namespace=naming.AUTOSCALER_NAMESPACE,
                    values=values(release.values, release.placement, release.identity),
                    sources=release.chart_sources,
                )
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[order]),
        )
        self.register_outputs({})


def values(cloud: Mapping[str, Any], placement: Placement, identity: Mapping[str, str]) -> dict[str, Any]:
    """The chart's values. cloud: its part of them. Raises ValueError where both set the same."""
    ours = {
        "fullnameOverride": "cluster-autoscaler",
        "image": {"tag": f"v{versions.CLUSTER_AUTOSCALER}"},  # of the cluster's minor version; the chart is behind
        "rbac": {"serviceAccount": {"name": naming.AUTOSCALER_SERVICE_ACCOUNT, "annotations": dict(identity)}},
        "extraArgs": FLAGS,
        "resources": resources("100m", "400Mi", "1Gi"),
        "securityContext": {**RESTRICTED_POD, "runAsUser": 65534, "runAsGroup": 65534},
        "containerSecurityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True},
        **placement.values("system-cluster-critical"),
    }
    if both := sorted(ours.keys() & cloud.keys()):
        raise ValueError(f"values of the cluster-autoscaler's chart: the cloud sets {', '.join(both)}, which are ours")
    return {**ours, **cloud}


def priority_list(priorities: Mapping[str, int]) -> str:
    """Groups by priority, as the expander reads them: a YAML map from number to patterns of group names."""
    by_number: dict[int, list[str]] = {}
    for group, number in priorities.items():
        by_number.setdefault(number, []).append(f"^{group}$")
    return yaml.safe_dump(
        {number: sorted(by_number[number]) for number in sorted(by_number, reverse=True)}, sort_keys=False
    )
