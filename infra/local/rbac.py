"""The cluster roles of the local cloud's own processes, as Kubernetes objects; the table is rbac.yaml beside this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_API = "rbac.authorization.k8s.io/v1"


def manifests() -> list[dict[str, Any]]:
    """A ClusterRole and its binding for each row of the table."""
    rows = yaml.safe_load(Path(__file__).with_name("rbac.yaml").read_text(encoding="utf-8"))
    return [manifest for row in rows for manifest in (_role(row), _binding(row))]


def _role(row: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _API, "kind": "ClusterRole", "metadata": {"name": row["name"]}, "rules": row["rules"]}


def _binding(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": _API,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": row["name"]},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": row["name"]},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": row["user"]}],
    }
