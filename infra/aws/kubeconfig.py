"""How the cluster is reached: its address and certificate authority, and a kubeconfig that holds no secret."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class ApiServer:
    """endpoint: `https://…`; certificate_authority: PEM in base64."""

    endpoint: str
    certificate_authority: str


def parse(text: str) -> ApiServer:
    """Where a kubeconfig of one cluster (JSON) points to. Raises ValueError if it doesn't say."""
    try:
        cluster = json.loads(text)["clusters"][0]["cluster"]
        return ApiServer(endpoint=cluster["server"], certificate_authority=cluster["certificate-authority-data"])
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            "the cluster's kubeconfig has no server or no certificate-authority-data; did pulumi-eks change its format?"
        ) from error


def render(name: str, region: str, server: ApiServer) -> str:
    """A kubeconfig that asks the AWS CLI for a token at each use, as JSON."""
    login = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"],
        "interactiveMode": "Never",
    }
    reached = {"server": server.endpoint, "certificate-authority-data": server.certificate_authority}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": reached}],
        "users": [{"name": name, "user": {"exec": login}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(document)
