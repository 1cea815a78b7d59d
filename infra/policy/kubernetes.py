"""Rules about Kubernetes objects and Helm releases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.policy import pod_security
from infra.policy.rule import Resource, Rule, StackRule, is_true, leaves, listed

POD = "kubernetes:core/v1:Pod"
TEMPLATES = {
    POD: (),
    "kubernetes:apps/v1:Deployment": ("spec", "template"),
    "kubernetes:apps/v1:StatefulSet": ("spec", "template"),
    "kubernetes:apps/v1:DaemonSet": ("spec", "template"),
    "kubernetes:batch/v1:Job": ("spec", "template"),
    "kubernetes:batch/v1:CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where the pod is in each kind of workload."""

RELEASE = "kubernetes:helm.sh/v3:Release"
NAMESPACE = "kubernetes:core/v1:Namespace"
NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"

TEAM_NAMESPACE = re.compile(r"tidepool-.+")
POOL_LABEL, SYSTEM_POOL = "tidepool.dev/pool", "system"
SYSTEM_TAINT = "CriticalAddonsOnly"
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
WATCH_JOBS = {"airflow": ("scheduler", "triggerer")}
"""By chart, the parts that watch jobs, and that the chart itself lets the autoscaler end."""

ENFORCE = "pod-security.kubernetes.io/enforce"
INTERNAL = "service.beta.kubernetes.io/aws-load-balancer-scheme"

SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|PRIVATE_KEY|ACCESS_KEY|CREDENTIALS?)(_ID)?$", re.IGNORECASE)
SECRET_IN_URL = re.compile(r"://[^/\s:@]+:[^/\s:@{$]+@")
FIXED_IMAGE = re.compile(r".+(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})")


def pod_of(resource: Resource) -> Mapping[str, Any]:
    """The pod, or the template of the pods, that a workload makes."""
    found: Any = resource.inputs
    for key in TEMPLATES[resource.type]:
        found = found.get(key) or {}
    return found  # type: ignore[no-any-return]


def _containers(resource: Resource) -> list[Mapping[str, Any]]:
    spec = pod_of(resource).get("spec") or {}
    return [*listed(spec.get("initContainers")), *listed(spec.get("containers"))]


def _metadata(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    return holder.get("metadata") or {}


def _namespace(resource: Resource) -> str:
    return str(_metadata(resource.inputs).get("namespace") or "default")


def _images(resource: Resource) -> Iterator[str]:
    for container in _containers(resource):
        image = str(container.get("image") or "")
        if not FIXED_IMAGE.fullmatch(image.rpartition("/")[2]):
            yield f"image {image!r} has no fixed tag: what runs changes without a deployment"


def _release_images(resource: Resource) -> Iterator[str]:
    for path, value in leaves(resource.inputs.get("values") or {}):
        if path[-1:] == ("tag",) and value == "latest":
            yield f"{'.'.join(path)} is latest: what runs changes without a deployment"
        if path[-1:] == ("image",) and str(value).endswith(":latest"):
            yield f"{'.'.join(path)} is {value}: what runs changes without a deployment"
    if not resource.inputs.get("version"):
        yield "its chart has no version: the newest is taken, whatever that is"


def _rights(resource: Resource) -> Iterator[str]:
    yield from pod_security.violations(pod_of(resource), "restricted")


def _plain_secrets(resource: Resource) -> Iterator[str]:
    for container in _containers(resource):
        yield from _environment(listed(container.get("env")))


def _release_secrets(resource: Resource) -> Iterator[str]:
    values = resource.inputs.get("values") or {}
    for entries in _lists(values, "env"):
        yield from _environment(entries)
    for path, value in leaves(values):
        if isinstance(value, str) and SECRET_IN_URL.search(value):
            yield f"{'.'.join(path)} carries a password in a URL; put it in a Secret"


def _config_secrets(resource: Resource) -> Iterator[str]:
    for path, value in leaves(resource.inputs.get("data") or {}):
        if isinstance(value, str) and SECRET_IN_URL.search(value):
            yield f"{'.'.join(path)} carries a password in a URL; put it in a Secret"


def _environment(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if not isinstance(entry, Mapping) or not entry.get("value"):
            continue
        if SECRET_NAME.search(str(entry.get("name"))) or SECRET_IN_URL.search(str(entry.get("value"))):
            yield f"variable {entry.get('name')} carries a secret in plain text; take it from a Secret (valueFrom)"


def _lists(value: Any, name: str) -> Iterator[list[Any]]:
    """Every list under a key of this name, however deep."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == name and isinstance(item, Sequence) and not isinstance(item, str):
                yield list(item)
            yield from _lists(item, name)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _lists(item, name)


def _job_pods(resource: Resource) -> Iterator[str]:
    """Pods in a team's namespace: the autoscaler leaves them alone, and they leave the services' machines alone."""
    if not TEAM_NAMESPACE.fullmatch(_namespace(resource)):
        return
    pod = pod_of(resource)
    spec = pod.get("spec") or {}
    if (_metadata(pod).get("annotations") or {}).get(SAFE_TO_EVICT) != "false":
        yield f"the autoscaler may end the job to save its machine: annotation {SAFE_TO_EVICT} is not false"
    if (spec.get("nodeSelector") or {}).get(POOL_LABEL) == SYSTEM_POOL:
        yield "it selects the machines of services"
    for toleration in listed(spec.get("tolerations")):
        every = toleration.get("operator") == "Exists" and not toleration.get("key")
        if every or toleration.get("key") == SYSTEM_TAINT:
            yield f"it tolerates {SYSTEM_TAINT}, the taint that keeps jobs off the machines of services"


def _kept(resource: Resource) -> Iterator[str]:
    """What keeps data or watches jobs: the autoscaler does not end it to save a machine."""
    if resource.type == RELEASE:
        values = resource.inputs.get("values") or {}
        for path, value in leaves(values):
            if (path[-1:] == ("safeToEvict",) and is_true(value)) or (
                path[-1:] == (SAFE_TO_EVICT,) and value != "false"
            ):
                yield f"{'.'.join(path)} is {value}: the autoscaler may end it to save a machine"
        for part in WATCH_JOBS.get(str(resource.inputs.get("chart") or "").rpartition("/")[2], ()):
            if (values.get(part) or {}).get("safeToEvict") is None:
                yield f"{part}.safeToEvict is not false, which the chart takes for true: jobs lose who watches them"
    elif (_metadata(pod_of(resource)).get("annotations") or {}).get(SAFE_TO_EVICT) != "false":
        yield f"the autoscaler may end a server with its data: annotation {SAFE_TO_EVICT} is not false"


def _accounts(resource: Resource) -> Iterator[str]:
    if (
        TEAM_NAMESPACE.fullmatch(_namespace(resource))
        and resource.inputs.get("automountServiceAccountToken") is not False
    ):
        yield "every job gets a token for the API server: automountServiceAccountToken is not false"


def _namespaces(resource: Resource) -> Iterator[str]:
    if (_metadata(resource.inputs).get("labels") or {}).get(ENFORCE) not in pod_security.LEVELS:
        yield f"it enforces no Pod Security level ({ENFORCE})"


def _services(resource: Resource) -> Iterator[str]:
    spec = resource.inputs.get("spec") or {}
    scheme = (_metadata(resource.inputs).get("annotations") or {}).get(INTERNAL)
    if spec.get("type") == "NodePort" or (spec.get("type") == "LoadBalancer" and scheme != "internal"):
        yield f"a Service of type {spec.get('type')} opens a way in from outside"


def _volumes(resource: Resource) -> Iterator[str]:
    parameters = resource.inputs.get("parameters") or {}
    if resource.inputs.get("provisioner") == "ebs.csi.aws.com" and not is_true(parameters.get("encrypted")):
        yield "its volumes are not encrypted"


def _cluster_rights(resource: Resource) -> Iterator[str]:
    for rule in listed(resource.inputs.get("rules")):
        for key in ("verbs", "resources", "apiGroups"):
            if "*" in listed(rule.get(key)):
                yield f"its {key} are a wildcard; name them"
    if (resource.inputs.get("roleRef") or {}).get("name") == "cluster-admin":
        yield "it makes somebody cluster-admin"


def _default_deny(resources: Sequence[Resource]) -> Iterator[tuple[Resource, str]]:
    """Every namespace of a team starts with a policy that lets nothing in and nothing out."""
    denied: dict[str, set[str]] = {}
    for policy in resources:
        if policy.type == NETWORK_POLICY:
            spec = policy.inputs.get("spec") or {}
            if not (spec.get("podSelector") or {}):
                denied.setdefault(_namespace(policy), set()).update(
                    kind for kind in listed(spec.get("policyTypes")) if not listed(spec.get(kind.lower()))
                )
    for namespace in resources:
        name = str(_metadata(namespace.inputs).get("name"))
        if namespace.type == NAMESPACE and TEAM_NAMESPACE.fullmatch(name):
            missing = {"Ingress", "Egress"} - denied.get(name, set())
            if missing:
                yield namespace, f"no NetworkPolicy denies all {' and '.join(sorted(missing)).lower()} by default"


WORKLOADS = frozenset(TEMPLATES)
RBAC = frozenset(
    f"kubernetes:rbac.authorization.k8s.io/v1:{kind}"
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
)

RULES = (
    Rule("fixed-images", "Images have a fixed tag.", WORKLOADS, _images),
    Rule("fixed-charts", "Charts and the images in their values have a fixed version.", {RELEASE}, _release_images),
    Rule("restricted-pods", "Pods keep to Pod Security's level restricted.", WORKLOADS, _rights),
    Rule("no-plain-secrets", "No variable carries a secret in plain text.", WORKLOADS, _plain_secrets),
    Rule("no-plain-secrets-in-charts", "No chart's value carries a secret.", {RELEASE}, _release_secrets),
    Rule(
        "no-plain-secrets-in-config",
        "No ConfigMap carries a secret.",
        {"kubernetes:core/v1:ConfigMap"},
        _config_secrets,
    ),
    Rule("job-pods", "Jobs are not evicted, and stay off the machines of services.", WORKLOADS, _job_pods),
    Rule(
        "kept-pods",
        "The autoscaler ends no server that keeps data or watches jobs.",
        {"kubernetes:apps/v1:StatefulSet", RELEASE},
        _kept,
    ),
    Rule("no-tokens-for-jobs", "Jobs get no token.", {"kubernetes:core/v1:ServiceAccount"}, _accounts),
    Rule("namespaces", "Namespaces enforce a Pod Security level.", {NAMESPACE}, _namespaces),
    Rule("no-public-services", "No Service opens a way in from outside.", {"kubernetes:core/v1:Service"}, _services),
    Rule("encrypted-volumes", "Volumes are encrypted.", {"kubernetes:storage.k8s.io/v1:StorageClass"}, _volumes),
    Rule("no-wildcard-rbac", "Roles name what they allow.", RBAC, _cluster_rights),
)

STACK_RULES = (StackRule("default-deny", "Namespaces of teams deny all connections by default.", _default_deny),)
