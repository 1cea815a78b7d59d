"""What a team's namespace says to a job's pod: its quota, its Pod Security level, and the names that exist there."""

from __future__ import annotations

from collections.abc import Iterator

from infra import naming
from infra.contract import admission
from infra.contract.problem import Problem
from infra.contract.template import Template
from infra.policy import pod_security
from infra.settings.model import Settings, Tenant
from infra.settings.strict import near
from infra.team_namespaces import SERVICES_PRIORITY_CLASSES
from tidepool.capacity import DRIVER_SERVICE_ACCOUNT, JOB_PRIORITY_CLASS, Capacity
from tidepool.pod import SAFE_TO_EVICT


def quota(template: Template, settings: Settings) -> Iterator[Problem]:
    """What all pods of the job together take that the whole quota of their namespace is less than."""
    tenant = _spaces(settings).get(_name(template))
    if tenant is None:
        return
    pods = [(template.pod, 1), *((each.pod, each.count) for each in template.members)]
    for key, words in admission.over_quota(pods, tenant):
        yield template.problem(
            "quota",
            f"{words}, and the whole quota of team {tenant.name} is {key}: {getattr(tenant, key)}",
            f"Ask for less, or raise tenants.{tenant.name}.{key} in the stack file",
        )


def problems(template: Template, settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    """Everything for which the namespace refuses the pod, or lets it in and shouldn't, whatever its quota is."""
    name = _name(template)
    if "{{" in name:
        return
    spec = template.pod.get("spec") or {}
    spaces = _spaces(settings)
    if name not in spaces:
        yield template.problem(
            "namespace",
            f"namespace {name} is no team's{near(name, spaces)}: Airflow may not launch pods there",
            f"Name a team; the teams are {', '.join(sorted(settings.tenants))} (`tenants` in the stack file)",
        )
        return
    tenant = spaces[name]
    if violations := pod_security.violations(template.pod, tenant.pod_security):
        yield template.problem(
            "pod-security",
            f"namespace {name} enforces Pod Security {tenant.pod_security}, and {'; '.join(violations)}",
            "Change the pod; `tenants.<team>.pod_security` would lower the guard for all of the team's jobs",
        )
    account = spec.get("serviceAccountName") or "default"
    accounts = {"default", DRIVER_SERVICE_ACCOUNT}
    accounts |= {each.service_account for each in capacity.tenants.values() if each.namespace == name}
    if account not in accounts:
        yield template.problem(
            "service-account",
            f"namespace {name} has no ServiceAccount {account}",
            f"Use {naming.JOB_SERVICE_ACCOUNT}",
        )
    priority = spec.get("priorityClassName")
    if priority and priority not in (JOB_PRIORITY_CLASS, *SERVICES_PRIORITY_CLASSES):
        yield template.problem(
            "priority-class",
            f"there is no PriorityClass {priority}{near(priority, [JOB_PRIORITY_CLASS])}",
            f"Use {JOB_PRIORITY_CLASS}, or omit it",
        )
    elif priority in SERVICES_PRIORITY_CLASSES:
        yield template.problem(
            "priority-class",
            f"PriorityClass {priority} is for services: no team may use it",
            f"Use {JOB_PRIORITY_CLASS}, or omit it",
        )
    evict = ((template.pod.get("metadata") or {}).get("annotations") or {}).get(SAFE_TO_EVICT)
    if evict == "true":
        yield template.problem(
            "safe-to-evict",
            f"the annotation {SAFE_TO_EVICT} lets the autoscaler end the job when its machine could be saved",
            "Omit it",
        )


def _name(template: Template) -> str:
    return str((template.pod.get("metadata") or {}).get("namespace") or "default")


def _spaces(settings: Settings) -> dict[str, Tenant]:
    return {naming.tenant_namespace(each): tenant for each, tenant in settings.tenants.items()}
