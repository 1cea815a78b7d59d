"""The platform's own namespace: what it may connect to, the capacity document, and who launches jobs."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as kubernetes

from infra import naming
from infra.services import network_policies

NODE_READER = "tidepool-node-reader"


class Platform(pulumi.ComponentResource):
    """Namespace, network policies, capacity ConfigMap and Airflow's ServiceAccount. `capacity`: the document's text.

    annotations: of the ServiceAccount, where the cloud binds identities by them.
    """

    def __init__(
        self,
        name: str,
        capacity: pulumi.Input[str],
        annotations: Mapping[str, str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("tidepool:services:Platform", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": naming.PLATFORM_NAMESPACE, "labels": naming.pod_security_labels("restricted")},
            opts=inside,
        )
        for policy, spec in network_policies.platform().items():
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-{policy}",
                metadata={"name": policy, "namespace": namespace.metadata.name},
                spec=spec,
                opts=inside,
            )
        kubernetes.core.v1.ServiceAccount(
            f"{name}-airflow",
            metadata={
                "name": naming.AIRFLOW_SERVICE_ACCOUNT,
                "namespace": namespace.metadata.name,
                "annotations": dict(annotations or {}),
            },
            opts=inside,
        )
        self._node_reader(name)
        kubernetes.core.v1.ConfigMap(
            f"{name}-capacity",
            metadata={"name": naming.CAPACITY_CONFIG_MAP, "namespace": namespace.metadata.name},
            data={naming.CAPACITY_KEY: capacity},
            opts=inside,
        )
        self.register_outputs({})

    def _node_reader(self, name: str) -> None:
        """Airflow may look at nodes: whether a job's machine is gone is what tells a lost machine from the unknown."""
        inside = pulumi.ResourceOptions(parent=self)
        role = kubernetes.rbac.v1.ClusterRole(
            f"{name}-node-reader",
            metadata={"name": NODE_READER},
            rules=[kubernetes.rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["nodes"], verbs=["get"])],
            opts=inside,
        )
        kubernetes.rbac.v1.ClusterRoleBinding(
            f"{name}-node-reader-airflow",
            metadata={"name": f"{NODE_READER}-airflow"},
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="ClusterRole", name=role.metadata.name
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=naming.AIRFLOW_SERVICE_ACCOUNT, namespace=naming.PLATFORM_NAMESPACE
                )
            ],
            opts=inside,
        )
