"""Overrides of jobs' sizes, in the ConfigMaps of the cluster that a kubeconfig reaches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import kubernetes
import typer
from urllib3.exceptions import HTTPError

from infra.cli.options import no_cluster
from infra.cli.told import CommandError
from infra.local import cloud, paths
from infra.local.state import Cloud
from tidepool import overrides
from tidepool.capacity import OVERRIDES_CONFIG_MAP
from tidepool.overrides import Override

KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Of the cluster; else $KUBECONFIG, else the local cloud's, else ~/.kube/config.",
        exists=True,
    ),
]
_TIMEOUT = (3, 20)


class ClusterError(CommandError):
    """The cluster does not answer, or does not let it be done; the message says why."""


class Overrides:
    """The overrides of all teams' namespaces. Raises ClusterError."""

    def __init__(self, kubeconfig: Path | None, context: str | None = None) -> None:
        own = Cloud(paths.state()).kubeconfig
        if kubeconfig is None and not os.environ.get("KUBECONFIG") and cloud.is_up():
            kubeconfig = own
        try:
            self._api = kubernetes.client.CoreV1Api(
                kubernetes.config.new_client_from_config(str(kubeconfig) if kubeconfig else None, context)
            )
        except kubernetes.config.ConfigException as error:
            raise ClusterError(no_cluster(error)) from error

    def read(self, namespace: str) -> list[Override]:
        """Those of one namespace, by DAG and task."""
        try:
            found = self._api.read_namespaced_config_map(OVERRIDES_CONFIG_MAP, namespace, _request_timeout=_TIMEOUT)
        except (kubernetes.client.ApiException, HTTPError, OSError) as error:
            raise _told(error, namespace) from error
        loaded = [overrides.load(text) for text in (found.data or {}).values()]
        return sorted((each for each in loaded if each is not None), key=lambda each: (each.dag, each.task))

    def write(self, namespace: str, override: Override) -> None:
        """Put it in place of the task's own."""
        self._patch(namespace, override.dag, override.task, overrides.dump(override))

    def remove(self, namespace: str, dag: str, task: str) -> None:
        """From the next attempt on the task has its author's size."""
        self._patch(namespace, dag, task, None)

    def _patch(self, namespace: str, dag: str, task: str, text: str | None) -> None:
        body = {"data": {overrides.key(dag, task): text}}
        try:
            self._api.patch_namespaced_config_map(OVERRIDES_CONFIG_MAP, namespace, body, _request_timeout=_TIMEOUT)
        except (kubernetes.client.ApiException, HTTPError, OSError) as error:
            raise _told(error, namespace) from error


def _told(error: Exception, namespace: str) -> ClusterError:
    if getattr(error, "status", None) == 404:
        return ClusterError(
            f"there is no ConfigMap {namespace}/{OVERRIDES_CONFIG_MAP}: is this the cluster, and was it deployed by "
            "this version?"
        )
    return ClusterError(f"ConfigMap {namespace}/{OVERRIDES_CONFIG_MAP}: {error}")
