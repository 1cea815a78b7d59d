"""Where jobs run: for each team a namespace with its quota, its connections, its identity, and who may launch in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import naming
from infra.services import network_policies
from infra.settings.model import Tenant
from infra.team_namespaces import DEFAULT_LIMITS, DEFAULT_REQUESTS, SERVICES_PRIORITY_CLASSES
from tidepool.capacity import (
    BREAKERS_CONFIG_MAP,
    DRIVER_SERVICE_ACCOUNT,
    GPU_RESOURCE,
    OVERRIDES_CONFIG_MAP,
    SPENDING_CONFIG_MAP,
    TEAM_LABEL,
)
from tidepool.spark_application import GROUP, PLURAL

LAUNCH_RULES = {
    "pods": ["create", "get", "list", "watch", "patch", "delete"],
    "pods/log": ["get"],
    "events": ["get", "list", "watch"],
}
"""What KubernetesPodOperator needs to launch, follow and remove pods; no exec: results go to the lake, not to XCom."""

SHARED_CONFIG_MAPS = (BREAKERS_CONFIG_MAP, SPENDING_CONFIG_MAP, OVERRIDES_CONFIG_MAP)
"""What the jobs of a team tell each other, and are told."""

APPLICATION_VERBS = ["create", "get", "list", "watch", "delete"]
"""Of SparkApplications, where there is a spark-operator."""

DRIVER_VERBS = ["create", "get", "list", "watch", "delete", "deletecollection"]
"""Of pods. Spark removes its executors at the end by one deletecollection."""


class Tenants(pulumi.ComponentResource):
    """Each team's namespace: quotas, defaults, network policies, the jobs' ServiceAccount, Airflow's right to launch.

    tenants: by name; a namespace that is no longer among them is deleted with all that is in it.
    annotations: of the jobs' ServiceAccounts, where the cloud binds identities by them.
    applications: whether Airflow may launch SparkApplications too.
    """

    def __init__(
        self,
        name: str,
        tenants: Mapping[str, Tenant],
        annotations: Mapping[str, str] | None = None,
        applications: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("tidepool:services:Tenants", name, {}, opts)
        self._inside = pulumi.ResourceOptions(parent=self)
        for tenant, settings in tenants.items():
            prefix = f"{name}-{tenant}"
            namespace = kubernetes.core.v1.Namespace(
                f"{prefix}-namespace",
                metadata={
                    "name": naming.tenant_namespace(tenant),
                    "labels": {TEAM_LABEL: tenant, **naming.pod_security_labels(settings.pod_security)},
                },
                opts=self._inside,
            )
            self._bounds(prefix, namespace.metadata.name, settings)
            self._connections(prefix, namespace.metadata.name)
            self._identity(prefix, namespace.metadata.name, annotations or {})
            self._driver(prefix, namespace.metadata.name, annotations or {})
            self._shared(prefix, namespace.metadata.name)
            self._launcher(prefix, namespace.metadata.name, applications)
        self.register_outputs({})

    def _bounds(self, prefix: str, namespace: pulumi.Output[str], settings: Tenant) -> None:
        for quota, spec in quotas(settings).items():
            kubernetes.core.v1.ResourceQuota(
                f"{prefix}-{quota}", metadata={"name": quota, "namespace": namespace}, spec=spec, opts=self._inside
            )
        kubernetes.core.v1.LimitRange(
            f"{prefix}-defaults",
            metadata={"name": "defaults", "namespace": namespace},
            spec={
                "limits": [{"type": "Container", "default": DEFAULT_LIMITS, "default_request": DEFAULT_REQUESTS}],
            },
            opts=self._inside,
        )

    def _connections(self, prefix: str, namespace: pulumi.Output[str]) -> None:
        for policy, spec in network_policies.tenant().items():
            kubernetes.networking.v1.NetworkPolicy(
                f"{prefix}-{policy}", metadata={"name": policy, "namespace": namespace}, spec=spec, opts=self._inside
            )

    def _identity(self, prefix: str, namespace: pulumi.Output[str], annotations: Mapping[str, str]) -> None:
        kubernetes.core.v1.ServiceAccount(
            f"{prefix}-account",
            metadata={
                "name": naming.JOB_SERVICE_ACCOUNT,
                "namespace": namespace,
                "annotations": dict(annotations),
            },
            automount_service_account_token=False,
            opts=self._inside,
        )

    def _driver(self, prefix: str, namespace: pulumi.Output[str], annotations: Mapping[str, str]) -> None:
        """Of jobs of several pods: Spark's driver makes and removes its executors. Its token is mounted where asked."""
        name: Any = {"name": DRIVER_SERVICE_ACCOUNT, "namespace": namespace}
        account = kubernetes.core.v1.ServiceAccount(
            f"{prefix}-driver",
            metadata={
                "name": DRIVER_SERVICE_ACCOUNT,
                "namespace": namespace,
                "annotations": dict(annotations),
            },
            automount_service_account_token=False,
            opts=self._inside,
        )
        role = kubernetes.rbac.v1.Role(
            f"{prefix}-driver",
            metadata=name,
            rules=[kubernetes.rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=DRIVER_VERBS)],
            opts=self._inside,
        )
        kubernetes.rbac.v1.RoleBinding(
            f"{prefix}-driver",
            metadata=name,
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(kind="ServiceAccount", name=account.metadata.name, namespace=namespace)
            ],
            opts=self._inside,
        )

    def _shared(self, prefix: str, namespace: pulumi.Output[str]) -> None:
        """Empty, and from then on the jobs' operators' and the keeper's: so that they need no right to create any."""
        for config_map in SHARED_CONFIG_MAPS:
            kubernetes.core.v1.ConfigMap(
                f"{prefix}-{config_map.removeprefix('tidepool-')}",
                metadata={"name": config_map, "namespace": namespace},
                data={},
                opts=pulumi.ResourceOptions(parent=self, ignore_changes=["data"]),
            )
        metadata: Any = {"name": "spending-publisher", "namespace": namespace}
        role = kubernetes.rbac.v1.Role(
            f"{prefix}-spending-publisher",
            metadata=metadata,
            rules=[
                kubernetes.rbac.v1.PolicyRuleArgs(
                    api_groups=[""], resources=["configmaps"], resource_names=[SPENDING_CONFIG_MAP], verbs=["patch"]
                )
            ],
            opts=self._inside,
        )
        kubernetes.rbac.v1.RoleBinding(
            f"{prefix}-spending-publisher",
            metadata=metadata,
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=naming.KEEPER_SERVICE_ACCOUNT, namespace=naming.PLATFORM_NAMESPACE
                )
            ],
            opts=self._inside,
        )

    def _launcher(self, prefix: str, namespace: pulumi.Output[str], applications: bool) -> None:
        spark = kubernetes.rbac.v1.PolicyRuleArgs(api_groups=[GROUP], resources=[PLURAL], verbs=APPLICATION_VERBS)
        role = kubernetes.rbac.v1.Role(
            f"{prefix}-launcher",
            metadata={"name": "job-launcher", "namespace": namespace},
            rules=[
                kubernetes.rbac.v1.PolicyRuleArgs(api_groups=[""], resources=[resource], verbs=verbs)
                for resource, verbs in LAUNCH_RULES.items()
            ]
            + [
                kubernetes.rbac.v1.PolicyRuleArgs(
                    api_groups=[""],
                    resources=["configmaps"],
                    resource_names=list(SHARED_CONFIG_MAPS),
                    verbs=["get", "patch"],
                )
            ]
            + ([spark] if applications else []),
            opts=self._inside,
        )
        kubernetes.rbac.v1.RoleBinding(
            f"{prefix}-launcher-airflow",
            metadata={"name": "job-launcher-airflow", "namespace": namespace},
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=naming.AIRFLOW_SERVICE_ACCOUNT, namespace=naming.PLATFORM_NAMESPACE
                )
            ],
            opts=self._inside,
        )


def quotas(settings: Tenant) -> dict[str, Any]:
    """Specifications of the ResourceQuotas by name: what all pods of a tenant may request, and no foreign priority.

    Memory is limited like it is requested: a container that could take more than it asked for takes somebody else's.
    """
    memory = f"{settings.memory_gib}Gi"
    return {
        "quota": {
            "hard": {
                "pods": str(settings.pods),
                "requests.cpu": str(settings.cpu),
                "requests.memory": memory,
                "limits.memory": memory,
                f"requests.{GPU_RESOURCE}": str(settings.gpus),
            }
        },
        "no-foreign-priority": {
            "hard": {"pods": "0"},
            "scopeSelector": {
                "matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In", "values": list(SERVICES_PRIORITY_CLASSES)}
                ]
            },
        },
    }
