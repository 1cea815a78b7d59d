"""Clients of the local cloud's API server; the address is checked to be of this machine first."""

from __future__ import annotations

from pathlib import Path

import kubernetes

from infra.local import addresses


def api_client(kubeconfig: Path) -> kubernetes.client.ApiClient:
    """A client for the kubeconfig's server. Raises NotLocalError if that is not on this machine."""
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    addresses.require_local(configuration.host)
    configuration.proxy = None
    return kubernetes.client.ApiClient(configuration)


def core_api(kubeconfig: Path) -> kubernetes.client.CoreV1Api:
    """The core API group of that server."""
    return kubernetes.client.CoreV1Api(api_client(kubeconfig))
