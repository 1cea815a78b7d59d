"""How HDFS is named and how large its quorums are: what its servers and clients are told, and settings check. Pure."""

from __future__ import annotations

from infra import naming

NAMENODE = "hdfs-namenode"
"""Its StatefulSet, and the headless Service of the same name."""

NAMENODE_PORTS = {"rpc": 8020, "http": 9870}

NAMESERVICE = naming.PROJECT
QUORUM = 3
"""With high availability: JournalNodes as well as ZooKeeper nodes."""

LAKE_FOLDER = "/lake"
"""What jobs may write."""


def service_host(service: str) -> str:
    """The DNS name of a headless Service: all of its pods."""
    return f"{service}.{naming.PLATFORM_NAMESPACE}.svc.cluster.local"


def uri(high_availability: bool) -> str:
    """How clients name the file system. With high availability Hadoop's settings must say where that is."""
    return f"hdfs://{NAMESERVICE}" if high_availability else f"hdfs://{service_host(NAMENODE)}:{NAMENODE_PORTS['rpc']}"
