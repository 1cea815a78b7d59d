"""The kubeflow Spark operator, for those who describe jobs as SparkApplications. One-pod jobs do without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import charts, naming
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD, Placement, resources
from tidepool.capacity import DRIVER_SERVICE_ACCOUNT

NAMESPACE = "spark-operator"


class SparkOperator(pulumi.ComponentResource):
    """Namespace and Release. namespaces: where SparkApplications are heeded; they must be there before."""

    def __init__(
        self,
        name: str,
        namespaces: Sequence[str],
        placement: Placement,
        chart_sources: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("tidepool:services:SparkOperator", name, {}, opts)
        # Of its own: in the platform's namespace no connection from outside is let in, and the API server is outside.
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "labels": naming.pod_security_labels("restricted")},
            opts=pulumi.ResourceOptions(parent=self),
        )
        kubernetes.helm.v3.Release(
            f"{name}-release",
            kubernetes.helm.v3.ReleaseArgs(
                **charts.release(
                    charts.SPARK_OPERATOR,
                    namespace=NAMESPACE,
                    values=values(namespaces, placement),
                    sources=chart_sources,
                )
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
        )
        self.register_outputs({})


def values(namespaces: Sequence[str], placement: Placement) -> dict[str, Any]:
    """The chart's values. Raises ValueError without a namespace: the chart takes that for all of them."""
    if not namespaces:
        raise ValueError("spark-operator: no tenant's namespace to watch; without one it would watch them all")
    system = placement.values(naming.PLATFORM_PRIORITY_CLASS)
    part = {
        **system,
        "replicas": 1,
        "podSecurityContext": {**RESTRICTED_POD, "fsGroup": 185},
        "securityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True, "runAsNonRoot": True},
    }
    return {
        "controller": {**part, "resources": resources("300m", "512Mi", "1Gi"), "uiIngress": {"enable": False}},
        # On: tolerations, volumes and security contexts of a SparkApplication reach its pods only through it. It is
        # asked about SparkApplications and the pods of theirs alone, so that no other pod waits for it.
        "webhook": {**part, "enable": True, "failurePolicy": "Fail", "resources": resources("100m", "256Mi", "512Mi")},
        "spark": {
            "jobNamespaces": list(namespaces),
            # Tenants makes it, and its rights: the one account of drivers, whoever starts them.
            "serviceAccount": {"create": False, "name": DRIVER_SERVICE_ACCOUNT},
            "rbac": {"create": False},
        },
        # Helm never upgrades CRDs by itself.
        "hook": {
            "upgradeCrd": True,
            "nodeSelector": system["nodeSelector"],
            "tolerations": system["tolerations"],
        },
        "prometheus": {"metrics": {"enable": True}, "podMonitor": {"create": False}},
    }
