"""Kubernetes objects by server-side apply, over one connection to the local API server.

Plain HTTP on urllib3, because the kubernetes package takes two seconds of a start to import.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3
import yaml

from infra.local.addresses import NotLocalError, require_local
from infra.local.world_engine import HELM_RELEASE, Kind, Made, WorldError
from infra.local.world_monitor import Registration
from infra.local.world_state import Entry

FIELD_MANAGER = "tidepool"
POLL_SECONDS = 0.1
_GONE_SECONDS = 60.0
_INVALID = 422
_IMMUTABLE = ("immutable", "updates to statefulset spec", "cannot change roleRef", "may not change once set")
CLUSTER_KEYS = ("server", "certificate-authority-data")
USER_KEYS = ("client-certificate-data", "client-key-data")

KINDS = {
    ("v1", "Namespace"): ("namespaces", False),
    ("v1", "ConfigMap"): ("configmaps", True),
    ("v1", "LimitRange"): ("limitranges", True),
    ("v1", "PersistentVolume"): ("persistentvolumes", False),
    ("v1", "PersistentVolumeClaim"): ("persistentvolumeclaims", True),
    ("v1", "ResourceQuota"): ("resourcequotas", True),
    ("v1", "Secret"): ("secrets", True),
    ("v1", "Service"): ("services", True),
    ("v1", "ServiceAccount"): ("serviceaccounts", True),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"): ("validatingadmissionpolicies", False),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"): (
        "validatingadmissionpolicybindings",
        False,
    ),
    ("apps/v1", "DaemonSet"): ("daemonsets", True),
    ("apps/v1", "Deployment"): ("deployments", True),
    ("apps/v1", "StatefulSet"): ("statefulsets", True),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): ("horizontalpodautoscalers", True),
    ("batch/v1", "CronJob"): ("cronjobs", True),
    ("batch/v1", "Job"): ("jobs", True),
    ("networking.k8s.io/v1", "Ingress"): ("ingresses", True),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("networkpolicies", True),
    ("policy/v1", "PodDisruptionBudget"): ("poddisruptionbudgets", True),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): ("clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): ("clusterrolebindings", False),
    ("rbac.authorization.k8s.io/v1", "Role"): ("roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): ("rolebindings", True),
    ("scheduling.k8s.io/v1", "PriorityClass"): ("priorityclasses", False),
    ("storage.k8s.io/v1", "StorageClass"): ("storageclasses", False),
}
"""What can be applied: its name in URLs, and whether it lives in a namespace."""


class ApiServer:
    """The API server of a kubeconfig with a client certificate; both may still be starting when this is made.

    Waits `seconds` at most until the file is there, its address is one of this machine, and the server is ready.
    A Side of world_engine. Objects are applied, not waited for: whether pods run is for `tidepool local up` to see.
    """

    name = "kubernetes"

    def __init__(self, kubeconfig: Path, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        cluster, user = _wait(lambda: _read(kubeconfig), deadline, f"{kubeconfig} is not there")
        self.url: str = cluster["server"]
        self.certificate_authority: str = cluster["certificate-authority-data"]
        _wait(lambda: require_local(self.url), deadline, f"the address of {self.url} is not up")
        self._pool = urllib3.PoolManager(ssl_context=_tls(self.certificate_authority, user), retries=False, maxsize=8)
        self.identity: str = _wait(self._ready, deadline, f"the API server at {self.url} is not ready")

    def apply(self, manifest: dict[str, Any], dry_run: bool = False) -> str:
        """Create or update one object; its id as Pulumi writes it, `namespace/name`.

        One that is there and can't be changed to this is deleted first. dry_run: the API server only checks it.
        """
        path = path_of(manifest)
        answer = self._apply(path, manifest, dry_run)
        if answer.status == _INVALID and not dry_run and any(each in _reason(answer) for each in _IMMUTABLE):
            self.delete(manifest)
            _wait(lambda: self._require_gone(path), time.monotonic() + _GONE_SECONDS, f"{path} does not go")
            answer = self._apply(path, manifest, dry_run)
        if answer.status not in (200, 201):
            raise WorldError(f"the API server refused {path}: {_reason(answer)}")
        metadata = manifest["metadata"]
        return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))

    def delete(self, manifest: dict[str, Any]) -> None:
        """Delete one object and what belongs to it; one that is gone is no error. Returns before all of it is gone."""
        path = path_of(manifest)
        answer = self._request("DELETE", f"{path}?propagationPolicy=Background")
        if answer.status not in (200, 202, 404):
            raise WorldError(f"the API server did not delete {path}: {_reason(answer)}")

    def get(self, path: str) -> dict[str, Any] | None:
        """What is at a URL path; None if nothing is."""
        answer = self._request("GET", path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise WorldError(f"the API server does not show {path}: {_reason(answer)}")
        return dict(json.loads(answer.data))

    def version(self) -> str:
        """Kubernetes' minor version, `1.36`."""
        said = self.get("/version") or {}
        return f"{said['major']}.{said['minor']}"

    def kind(self, type_: str) -> Kind | None:
        """How objects are made, whatever their kind; world_engine.Side."""
        return Kind(self._make, self._change, self._delete) if type_.startswith("kubernetes:") else None

    def call(self, token: str, arguments: Mapping[str, Any]) -> None:
        """There is nothing to look up; world_engine.Side."""

    def lacks(self, asked: Registration) -> str | None:
        """Why an object can't be had here; None if it can. world_engine.Side."""
        if asked.type == HELM_RELEASE:
            return "charts can't be fetched here"
        group = asked.inputs.get("apiVersion", "").partition("/")[0]
        if asked.type.startswith("kubernetes:") and "." in group and not group.endswith(".k8s.io"):
            return f"{group} comes with a chart, and charts can't be fetched here"
        return None

    def lacks_parts(self, asked: Registration) -> Mapping[str, str]:
        """All of an object is here; world_engine.Side."""
        return {}

    def _make(self, inputs: dict[str, Any], taken: frozenset[str]) -> Made:
        return Made(self.apply(_with_data(inputs)), inputs)

    def _change(self, old: Entry, inputs: dict[str, Any]) -> Made | None:
        return self._make(inputs, frozenset()) if path_of(old.inputs) == path_of(inputs) else None

    def _delete(self, old: Entry) -> None:
        self.delete(old.inputs)

    def _apply(self, path: str, manifest: dict[str, Any], dry_run: bool) -> urllib3.BaseHTTPResponse:
        options = f"fieldManager={FIELD_MANAGER}&force=true" + ("&dryRun=All" if dry_run else "")
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self._request("PATCH", f"{path}?{options}", body=json.dumps(manifest), headers=headers)

    def _request(self, method: str, path: str, **more: Any) -> urllib3.BaseHTTPResponse:
        answer: urllib3.BaseHTTPResponse = self._pool.request(method, self.url + path, timeout=30, **more)
        return answer

    def _require_gone(self, path: str) -> None:
        if self.get(path) is not None:
            raise WorldError("it is still there")

    def _ready(self) -> str:
        for path in ("/readyz", "/api/v1/namespaces/kube-system"):  # the namespace comes a moment after readiness
            answer = self._pool.request("GET", self.url + path, timeout=5)
            if answer.status != 200:
                raise WorldError(f"{path} says {answer.status}")
        return str(json.loads(answer.data)["metadata"]["uid"])


def path_of(manifest: dict[str, Any]) -> str:
    """The URL path of an object. WorldError where its kind is not in KINDS or its name is missing."""
    version, kind = manifest.get("apiVersion", ""), manifest.get("kind", "")
    metadata = manifest.get("metadata", {})
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if (version, kind) not in KINDS:
        raise WorldError(f"the local cloud can't create {version} {kind}; teach it in infra/local/world_kubernetes.py")
    plural, namespaced = KINDS[version, kind]
    if not name or bool(namespace) != namespaced:
        wanted = "a name and a namespace" if namespaced else "a name and no namespace"
        raise WorldError(f"{version} {kind} {namespace or ''}/{name or ''}: must have {wanted}")
    root = "/apis/" if "/" in version else "/api/"
    scope = f"/namespaces/{namespace}" if namespaced else ""
    return f"{root}{version}{scope}/{plural}/{name}"


def _with_data(manifest: dict[str, Any]) -> dict[str, Any]:
    """A Secret with all its values under `data`: what is written as stringData can't be applied a second time."""
    if "stringData" not in manifest:
        return manifest
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in manifest["stringData"].items()}
    return {**rest, "data": {**manifest.get("data", {}), **encoded}}


def _wait(attempt: Any, deadline: float, what: str) -> Any:
    """What `attempt` returns, as soon as it doesn't fail; WorldError at the deadline."""
    while True:
        try:
            return attempt()
        except (OSError, NotLocalError, WorldError, urllib3.exceptions.HTTPError) as error:
            if time.monotonic() > deadline:
                raise WorldError(f"{what} ({error}); `tidepool local status` shows what is up") from error
            time.sleep(POLL_SECONDS)


def _read(kubeconfig: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cluster and user of the current context."""
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    try:
        contexts, clusters, users = (
            {item["name"]: item[kind] for item in document[f"{kind}s"]} for kind in ("context", "cluster", "user")
        )
        context = contexts[document["current-context"]]
        cluster, user = clusters[context["cluster"]], users[context["user"]]
        for part, keys in ((cluster, CLUSTER_KEYS), (user, USER_KEYS)):
            for key in keys:
                part[key]
    except (KeyError, TypeError) as error:
        raise WorldError(
            f"{kubeconfig}: no complete kubeconfig with a client certificate: {error} is missing"
        ) from error
    return cluster, user


def _tls(certificate_authority: str, user: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=base64.b64decode(certificate_authority).decode())
    with tempfile.NamedTemporaryFile(prefix="tidepool-", suffix=".pem") as file:  # OpenSSL reads keys from files only
        for key in USER_KEYS:
            file.write(base64.b64decode(user[key]) + b"\n")
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _reason(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(json.loads(answer.data)["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status}"
