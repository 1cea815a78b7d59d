"""Where jobs run: their namespace, their identity without rights, and who may launch them."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes

from infra import naming

LAUNCH_RULES = {
    "pods": ["create", "get", "list", "watch", "patch", "delete"],
    "pods/log": ["get"],
    "events": ["get", "list", "watch"],
}
"""What KubernetesPodOperator needs to launch, follow and remove pods; no exec: results go to the lake, not to XCom."""


class Jobs(pulumi.ComponentResource):
    """Namespace, ServiceAccount of jobs, and Airflow's right to launch pods in it and nowhere else.

    pod_security: Pod Security level that the namespace enforces: restricted, baseline or privileged.
    """

    def __init__(self, name: str, pod_security: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:Jobs", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": naming.JOBS_NAMESPACE,
                "labels": {naming.POD_SECURITY_LABEL: pod_security},
            },
            opts=inside,
        )
        kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata={"name": naming.JOB_SERVICE_ACCOUNT, "namespace": namespace.metadata.name},
            automount_service_account_token=False,
            opts=inside,
        )
        role = kubernetes.rbac.v1.Role(
            f"{name}-launcher",
            metadata={"name": "job-launcher", "namespace": namespace.metadata.name},
            rules=[
                kubernetes.rbac.v1.PolicyRuleArgs(api_groups=[""], resources=[resource], verbs=verbs)
                for resource, verbs in LAUNCH_RULES.items()
            ],
            opts=inside,
        )
        kubernetes.rbac.v1.RoleBinding(
            f"{name}-launcher-airflow",
            metadata={"name": "job-launcher-airflow", "namespace": namespace.metadata.name},
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=naming.AIRFLOW_SERVICE_ACCOUNT, namespace=naming.PLATFORM_NAMESPACE
                )
            ],
            opts=inside,
        )
        self.register_outputs({})
