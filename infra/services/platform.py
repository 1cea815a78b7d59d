"""The platform's own namespace: the capacity document, and the identity under which Airflow launches jobs."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes

from infra import naming


class Platform(pulumi.ComponentResource):
    """Namespace, capacity ConfigMap and Airflow's ServiceAccount. `capacity`: the document's text."""

    def __init__(self, name: str, capacity: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:Platform", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": naming.PLATFORM_NAMESPACE, "labels": {naming.POD_SECURITY_LABEL: "restricted"}},
            opts=inside,
        )
        kubernetes.core.v1.ServiceAccount(
            f"{name}-airflow",
            metadata={"name": naming.AIRFLOW_SERVICE_ACCOUNT, "namespace": namespace.metadata.name},
            opts=inside,
        )
        kubernetes.core.v1.ConfigMap(
            f"{name}-capacity",
            metadata={"name": naming.CAPACITY_CONFIG_MAP, "namespace": namespace.metadata.name},
            data={naming.CAPACITY_KEY: capacity},
            opts=inside,
        )
        self.register_outputs({})
