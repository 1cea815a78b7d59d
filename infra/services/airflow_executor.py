"""What KubernetesExecutor may do: make task pods beside Airflow, and nothing else there. Specifications; pure.

The scheduler makes them, as a ServiceAccount of its own. DAG code runs in them, as Airflow's, which has rights in the
teams' namespaces only: none to enter another pod of the platform, nor to start one. What it could still do is ask the
scheduler for another pod than the usual (`executor_config`), so the API server looks at what the scheduler makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra import naming

NAMESPACE = naming.PLATFORM_NAMESPACE
POLICY = "tidepool-task-pods"

EXECUTOR_RULES = {"pods": ["create", "get", "list", "watch", "patch", "delete"]}
"""Of the scheduler. Source: KubernetesExecutor and its watcher; no exec, no logs, no Secrets."""

READER_RULES = {"pods": ["get", "list"], "pods/log": ["get"]}
"""Of the API server, which shows the log of a running task (KubernetesExecutor.get_task_log)."""


def rules(allowed: dict[str, list[str]]) -> list[dict[str, Any]]:
    """As a Role has them."""
    return [{"apiGroups": [""], "resources": [resource], "verbs": verbs} for resource, verbs in allowed.items()]


def admission_policy(secrets: Sequence[str]) -> dict[str, Any]:
    """Specification of the ValidatingAdmissionPolicy on what the scheduler makes and changes.

    secrets: those that the chart's pod template reads; a task pod may read no other.
    """
    scheduler = f"system:serviceaccount:{NAMESPACE}:{naming.AIRFLOW_SCHEDULER_SERVICE_ACCOUNT}"
    names = ", ".join(f"'{name}'" for name in secrets)
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}
            ]
        },
        "matchConditions": [{"name": "by-the-scheduler", "expression": f"request.userInfo.username == '{scheduler}'"}],
        "variables": [
            {
                "name": "containers",
                "expression": "object.spec.containers + "
                "(has(object.spec.initContainers) ? object.spec.initContainers : [])",
            }
        ],
        "validations": [
            _demand(
                f"object.spec.serviceAccountName == '{naming.AIRFLOW_SERVICE_ACCOUNT}'",
                f"a task pod runs as the ServiceAccount {naming.AIRFLOW_SERVICE_ACCOUNT}",
            ),
            _demand(
                "!has(object.spec.volumes) || object.spec.volumes.all(it, has(it.emptyDir) || has(it.configMap) || "
                "has(it.downwardAPI) || "
                "(has(it.projected) && it.projected.sources.all(source, !has(source.secret))))",
                "a task pod has no volume with a Secret, and none of another service",
            ),
            _demand(
                "variables.containers.all(it, !has(it.envFrom) || it.envFrom.all(from, !has(from.secretRef)))",
                "a task pod takes no whole Secret as its environment",
            ),
            _demand(
                "variables.containers.all(it, !has(it.env) || it.env.all(one, !has(one.valueFrom) || "
                f"!has(one.valueFrom.secretKeyRef) || one.valueFrom.secretKeyRef.name in [{names}]))",
                f"a task pod reads no other Secret than {' and '.join(secrets)}",
            ),
        ],
    }


def admission_binding() -> dict[str, Any]:
    """Specification of the ValidatingAdmissionPolicyBinding: in the platform's namespace."""
    return {
        "policyName": POLICY,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}},
    }


def _demand(expression: str, message: str) -> dict[str, str]:
    return {"expression": expression, "message": f"{message}; what a job needs belongs in the job's own pod"}
