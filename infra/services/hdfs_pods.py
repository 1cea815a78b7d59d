"""HDFS's Kubernetes objects as plain data: StatefulSets, Services, disruption budgets, and the Job that makes folders.

All as `kubectl apply` takes them, within the Pod Security level "restricted". Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra import naming
from infra.services import hdfs_config as config
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD, Placement, resources
from infra.settings.model import Hdfs

CONFIG_MAP = "hdfs-config"
DIRECTORIES_JOB = "hdfs-directories"
SERVICE_ACCOUNT = "hdfs"
SMALL_HEAP_MIB = 192  # of JournalNode, ZooKeeper and failover controller: they keep no blocks in memory
SMALL_VOLUME_GIB = 2

Image = Any  # text, or an output of Pulumi that is only passed on


@dataclass(frozen=True)
class Container:
    """One server. probes: as Kubernetes has them, by name. mounts: whether it has the pod's volume."""

    server: str
    heap_mib: int
    memory_mib: int
    cpu: str
    ports: Mapping[str, int]
    probes: Mapping[str, Any] = field(default_factory=dict)
    mounts: bool = True


@dataclass(frozen=True)
class Server:
    """A StatefulSet. grace_seconds: for a pod to stop. apart: no two of its pods on one machine."""

    name: str
    replicas: int
    containers: tuple[Container, ...]
    volume_gib: int
    grace_seconds: int
    apart: bool


def servers(hdfs: Hdfs) -> list[Server]:
    """The StatefulSets that these settings ask for."""
    namenode, datanode = config.namenode_heap_mib(hdfs), config.datanode_heap_mib(hdfs)
    small = config.memory_mib(SMALL_HEAP_MIB)
    main = Container(
        "namenode",
        namenode,
        config.memory_mib(namenode) + config.TOOL_MIB,
        "250m",
        config.NAMENODE_PORTS,
        _probes("namenode", config.NAMENODE_PORTS["rpc"], start_seconds=3600),
    )
    beside = (
        Container("zkfc", SMALL_HEAP_MIB, small, "50m", {"zkfc": config.ZKFC_PORT}, mounts=False)
        if hdfs.high_availability
        # A standby NameNode makes checkpoints; without one the journal would grow until a start takes hours.
        else Container("checkpointer", namenode, config.memory_mib(namenode), "50m", {})
    )
    blocks = Container(
        "datanode",
        datanode,
        config.memory_mib(datanode),
        "250m",
        config.DATANODE_PORTS,
        _probes("datanode", config.DATANODE_PORTS["ipc"], start_seconds=600),
    )
    pair = config.NAMENODES if hdfs.high_availability else 1
    asked = [
        Server(config.NAMENODE, pair, (main, beside), hdfs.namenode_volume_gib, 60, hdfs.high_availability),
        Server(config.DATANODE, hdfs.datanodes, (blocks,), hdfs.volume_gib, 60, True),
    ]
    if not hdfs.high_availability:
        return asked
    journal = Container(
        "journalnode",
        SMALL_HEAP_MIB,
        small,
        "100m",
        config.JOURNALNODE_PORTS,
        _probes("", config.JOURNALNODE_PORTS["rpc"], start_seconds=300),
    )
    zookeeper = Container(
        "zookeeper",
        SMALL_HEAP_MIB,
        small,
        "100m",
        config.ZOOKEEPER_PORTS,
        _probes("", config.ZOOKEEPER_PORTS["client"], start_seconds=300),
    )
    return [
        *asked,
        Server(config.JOURNALNODE, config.QUORUM, (journal,), SMALL_VOLUME_GIB, 30, True),
        Server(config.ZOOKEEPER, config.QUORUM, (zookeeper,), SMALL_VOLUME_GIB, 30, True),
    ]


def labels(name: str) -> dict[str, str]:
    """What a server's pods carry, and its Service and disruption budget select."""
    return {"app.kubernetes.io/name": "hdfs", "app.kubernetes.io/component": name.removeprefix("hdfs-")}


def stateful_set(server: Server, hdfs: Hdfs, image: Image, placement: Placement, storage_class: str) -> Any:
    """The specification of a StatefulSet. Its volumes outlive it, and the pods that a scale-in takes away.

    storage_class: of its volumes; empty for the cluster's default.
    """
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{server.volume_gib}Gi"}},
    }
    if storage_class:
        claim["storageClassName"] = storage_class
    pod = _pod(
        [_container(each, image) for each in server.containers],
        placement,
        {
            "serviceAccountName": SERVICE_ACCOUNT,
            "terminationGracePeriodSeconds": server.grace_seconds,
            **(_apart(server.name) if server.apart else {}),
        },
    )
    if hdfs.high_availability:
        for container in pod["containers"]:
            container["env"].append({"name": config.HIGH_AVAILABILITY, "value": "true"})
    return {
        "serviceName": server.name,
        "replicas": server.replicas,
        # Side by side: no server waits for another of its kind, and all wait for what they need.
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels(server.name)},
        "template": {
            "metadata": {
                "labels": labels(server.name),
                "annotations": {
                    "tidepool.dev/config": _digest(hdfs),  # servers read their files once
                    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                },
            },
            "spec": pod,
        },
        "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": labels(server.name)}, "spec": claim}],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }


def service(server: Server) -> Any:
    """The specification of the headless Service that gives a server's pods their names.

    Headless: a Service's own address would hide the DataNodes' from the NameNode. Not ready: a NameNode in safe mode
    must hear the DataNodes to get out of it.
    """
    ports = {name: port for container in server.containers for name, port in container.ports.items()}
    return {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": labels(server.name),
        "ports": [{"name": name, "port": port, "targetPort": name} for name, port in ports.items()],
    }


def disruption_budget(server: Server) -> Any:
    """The specification of a PodDisruptionBudget: machines are drained one server at a time."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": labels(server.name)}}


def directories_job(hdfs: Hdfs, image: Image, placement: Placement) -> Any:
    """The specification of the Job that makes DIRECTORIES as soon as there is a NameNode; safe to repeat."""
    rows = [f"{path} {owner} {mode}" for path, (owner, mode) in config.DIRECTORIES.items()]
    nodes = [f"{name}:{config.NAMENODE_PORTS['http']}" for name in config.namenode_hosts(hdfs)]
    container = {
        "name": "directories",
        "image": image,
        "args": ["hdfs-directories", *rows],
        "env": [{"name": "HDFS_NAMENODES", "value": " ".join(nodes)}],
        "resources": resources("50m", "64Mi"),
        "securityContext": _CONFINED,
    }
    pod = _pod([container], placement, {"serviceAccountName": SERVICE_ACCOUNT, "restartPolicy": "OnFailure"})
    pod.pop("volumes")
    return {
        "backoffLimit": 10,
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "hdfs", "app.kubernetes.io/component": "directories"}},
            "spec": pod,
        },
    }


_CONFINED = {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True}


def _pod(containers: list[dict[str, Any]], placement: Placement, more: dict[str, Any]) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **placement.values(naming.PLATFORM_PRIORITY_CLASS),
        "securityContext": {
            **RESTRICTED_POD,
            "runAsUser": config.USER_ID,
            "runAsGroup": config.USER_ID,
            "fsGroup": config.USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",  # else every start walks through all blocks
        },
        "containers": containers,
        "volumes": [{"name": "config", "configMap": {"name": CONFIG_MAP}}, {"name": "tmp", "emptyDir": {}}],
        **more,
    }


def _container(container: Container, image: Image) -> dict[str, Any]:
    mounts = [
        {"name": "config", "mountPath": "/etc/hadoop", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
    ]
    if container.mounts:
        mounts.append({"name": "data", "mountPath": "/data"})
    return {
        "name": container.server,
        "image": image,
        "args": ["hdfs-server", container.server],
        "env": [{"name": "HDFS_HEAP_MIB", "value": str(container.heap_mib)}],
        "ports": [{"name": name, "containerPort": port} for name, port in container.ports.items()],
        "resources": resources(container.cpu, f"{container.memory_mib}Mi"),
        "securityContext": _CONFINED,
        "volumeMounts": mounts,
        **container.probes,
    }


def _probes(ready: str, port: int, start_seconds: int) -> dict[str, Any]:
    """Started and alive: it listens. Ready: it also does its work, as the image's hdfs-ready finds out."""
    listens = {"tcpSocket": {"port": port}, "timeoutSeconds": 5}
    works: dict[str, Any] = {"exec": {"command": ["hdfs-ready", ready]}, "timeoutSeconds": 5} if ready else listens
    return {
        "startupProbe": {**listens, "periodSeconds": 1, "failureThreshold": start_seconds},
        "livenessProbe": {**listens, "periodSeconds": 10, "failureThreshold": 6},
        "readinessProbe": {**works, "periodSeconds": 5, "failureThreshold": 2},
    }


def _apart(name: str) -> dict[str, Any]:
    """Required: two on one machine are lost with it at once, which is what replicas are there against.

    Zones are wished for only. A pod must come back to the zone where its volume is, whatever stands there by then, and
    nodes of a cluster with one zone need not say which.
    """
    alike = {"labelSelector": {"matchLabels": labels(name)}}
    term = {**alike, "topologyKey": "kubernetes.io/hostname"}
    zones = {
        **alike,
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
    }
    return {
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
        "topologySpreadConstraints": [zones],
    }


def _digest(hdfs: Hdfs) -> str:
    return hashlib.sha256(repr(sorted(config.files(hdfs).items())).encode()).hexdigest()[:12]
