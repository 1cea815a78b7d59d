"""HDFS's tools in the NameNode's pod: how `tidepool hdfs` runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes
import typer
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError

from infra import naming
from infra.cli.options import no_cluster
from infra.local.errors import LocalError
from infra.services.hdfs_config import DATANODE_PORTS, NAMENODE, NAMENODE_PORTS


class HdfsCommandError(LocalError):
    """A command can't be run or failed; the message says why."""


class NameNode:
    """The NameNode's pod. Raises HdfsCommandError where there is none."""

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        try:
            kubernetes.config.load_kube_config(str(kubeconfig) if kubeconfig else None, context)
            self._api = kubernetes.client.CoreV1Api()
            found = self._api.list_namespaced_pod(
                naming.PLATFORM_NAMESPACE, label_selector="app.kubernetes.io/component=namenode", _request_timeout=20
            ).items
        except kubernetes.config.ConfigException as error:
            raise HdfsCommandError(no_cluster(error)) from error
        except (kubernetes.client.ApiException, HTTPError) as error:
            raise HdfsCommandError(f"the cluster does not answer: {error}") from error
        running = [pod.metadata.name for pod in found if pod.status.phase == "Running"]
        if not running:
            raise HdfsCommandError(f"no pod {NAMENODE}-… runs in namespace {naming.PLATFORM_NAMESPACE}: is HDFS there?")
        self.pods = sorted(running)

    def run(self, *command: str, pod: str = "", echo: bool = True) -> tuple[int, str]:
        """Run a command in a NameNode's container, the first one's by default: its exit code and standard output.

        echo: what it prints is shown as it comes; otherwise only what goes to stderr is.
        """
        # A stream takes its client over, so that it is good for nothing else.
        api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient())
        try:
            session = stream(
                api.connect_get_namespaced_pod_exec,
                pod or self.pods[0],
                naming.PLATFORM_NAMESPACE,
                container="namenode",
                command=list(command),
                stderr=True,
                stdout=True,
                stdin=False,
                tty=False,
                _preload_content=False,
            )
        except kubernetes.client.ApiException as error:
            raise HdfsCommandError(f"{pod or self.pods[0]}: {error.reason}") from error
        printed: list[str] = []
        while session.is_open():
            session.update(timeout=1)
            if session.peek_stdout():
                printed.append(text := session.read_stdout())
                if echo:
                    typer.echo(text, nl=False)
            if session.peek_stderr():
                typer.echo(session.read_stderr(), nl=False, err=True)
        session.close()
        return session.returncode, "".join(printed)

    def must(self, *command: str, pod: str = "") -> str:
        """The standard output of a command that has to succeed."""
        code, text = self.run(*command, pod=pod, echo=False)
        if code:
            raise HdfsCommandError(f"`{' '.join(command)}` ended with {code}: {text.strip()}")
        return text

    def datanodes(self) -> dict[str, str]:
        """The state of every DataNode that is live, by its pod's name: In Service, Decommission In Progress …"""
        return {name.split(".")[0]: node["adminState"] for name, node in self._live().items()}

    def report_blocks(self) -> None:
        """Have every DataNode that is live tell all of its blocks, now."""
        for node in self._live().values():
            address = f"{node['infoAddr'].rpartition(':')[0]}:{DATANODE_PORTS['ipc']}"
            self.must("hdfs", "dfsadmin", "-triggerBlockReport", address)

    def unknown_blocks(self) -> int:
        """How many blocks DataNodes keep that the NameNode does not count; those being written are among them."""
        total = 0
        for node in self._live().values():
            url = f"http://{node['infoAddr']}/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo"
            volumes = json.loads(self._beans(url)[0]["VolumeInfo"])
            total += max(0, sum(volume["numBlocks"] for volume in volumes.values()) - node["numBlocks"])
        return total

    def safe_mode(self, pod: str = "") -> str:
        """Why it is in safe mode; empty if it is not."""
        return self._figures(pod)["Safemode"]

    def _figures(self, pod: str = "") -> dict[str, str]:
        url = f"http://127.0.0.1:{NAMENODE_PORTS['http']}/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo"
        beans = self._beans(url, pod)
        if not beans:
            raise HdfsCommandError("the NameNode is still reading its metadata; try again in a moment")
        return beans[0]

    def _live(self) -> dict[str, dict[str, Any]]:
        """The DataNodes that are live, by host name and port."""
        live: dict[str, dict[str, Any]] = json.loads(self._figures()["LiveNodes"])
        return live

    def _beans(self, url: str, pod: str = "") -> list[dict[str, str]]:
        beans: list[dict[str, str]] = json.loads(self.must("curl", "--silent", "--fail", url, pod=pod))["beans"]
        return beans
