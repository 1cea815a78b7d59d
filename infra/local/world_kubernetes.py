"""Kubernetes objects by server-side apply, over one connection to the local API server.

Plain HTTP on urllib3, because the kubernetes package takes two seconds of a start to import.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import urllib3
import yaml

from infra.local.addresses import NotLocalError, require_local
from infra.local.world_aws import POLL_SECONDS, WorldError

FIELD_MANAGER = "tidepool"
CLUSTER_KEYS = ("server", "certificate-authority-data")
USER_KEYS = ("client-certificate-data", "client-key-data")

KINDS = {
    ("v1", "Namespace"): ("namespaces", False),
    ("v1", "ServiceAccount"): ("serviceaccounts", True),
    ("v1", "ConfigMap"): ("configmaps", True),
    ("rbac.authorization.k8s.io/v1", "Role"): ("roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): ("rolebindings", True),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): ("clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): ("clusterrolebindings", False),
}
"""What can be applied: its name in URLs, and whether it lives in a namespace."""


class ApiServer:
    """The API server of a kubeconfig with a client certificate; both may still be starting when this is made.

    Waits `seconds` at most until the file is there, its address is one of this machine, and the server is ready.
    """

    def __init__(self, kubeconfig: Path, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        cluster, user = _wait(lambda: _read(kubeconfig), deadline, f"{kubeconfig} is not there")
        self.url: str = cluster["server"]
        self.certificate_authority: str = cluster["certificate-authority-data"]
        _wait(lambda: require_local(self.url), deadline, f"the address of {self.url} is not up")
        self._pool = urllib3.PoolManager(ssl_context=_tls(self.certificate_authority, user), retries=False, maxsize=8)
        _wait(self._ready, deadline, f"the API server at {self.url} is not ready")

    def apply(self, manifest: dict[str, Any]) -> str:
        """Create or update one object; its id as Pulumi writes it, `namespace/name`."""
        path = path_of(manifest)
        url = f"{self.url}{path}?fieldManager={FIELD_MANAGER}&force=true"
        answer = self._pool.request(
            "PATCH",
            url,
            body=json.dumps(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
            timeout=30,
        )
        if answer.status not in (200, 201):
            raise WorldError(f"the API server refused {path}: {_reason(answer)}")
        metadata = manifest["metadata"]
        return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))

    def _ready(self) -> None:
        for path in ("/readyz", "/api/v1/namespaces/kube-system"):  # the namespace comes a moment after readiness
            answer = self._pool.request("GET", self.url + path, timeout=5)
            if answer.status != 200:
                raise WorldError(f"{path} says {answer.status}")


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
