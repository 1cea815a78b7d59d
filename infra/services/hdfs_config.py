"""What HDFS's servers and clients are told: names, ports, heap sizes and the *-site.xml files. Pure.

hdfs-default.xml of Hadoop 3.4 has what is not said here; what is said differs from it for a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

from infra import hdfs_names
from infra.hdfs_names import LAKE_FOLDER, NAMESERVICE, service_host
from infra.hdfs_names import NAMENODE as NAMENODE
from infra.hdfs_names import NAMENODE_PORTS as NAMENODE_PORTS
from infra.hdfs_names import QUORUM as QUORUM
from infra.settings.model import Hdfs

DATANODE, JOURNALNODE, ZOOKEEPER = "hdfs-datanode", "hdfs-journalnode", "hdfs-zookeeper"
"""StatefulSets, and the headless Services of the same names."""

DATANODE_PORTS = {"data": 9866, "http": 9864, "ipc": 9867}
JOURNALNODE_PORTS = {"rpc": 8485, "http": 8480}
ZOOKEEPER_PORTS = {"client": 2181, "peer": 2888, "election": 3888}
ZKFC_PORT = 8019

HIGH_AVAILABILITY = "HDFS_HIGH_AVAILABILITY"
"""The variable that tells the image's scripts of it."""

NAMENODES = 2
"""With high availability."""

USER, USER_ID = "hdfs", 186
"""Who the servers run as, and so HDFS's superuser."""

JOBS_USER = "spark"
DIRECTORIES = {
    LAKE_FOLDER: (f"{JOBS_USER}:{JOBS_USER}", "755"),
    "/spark-events": (f"{JOBS_USER}:{JOBS_USER}", "770"),
    "/tmp": (f"{USER}:{USER}", "1777"),  # noqa: S108 - a folder of HDFS
}
"""What is there from the start: owner and mode by path."""

AVERAGE_BLOCK_MIB = 32  # many files are smaller than a block of 128 MiB
BLOCKS_PER_HEAP_MIB = 1000  # a GiB of heap for a million blocks, on either kind of server
SMALLEST_HEAP_MIB = 512
TOOL_MIB = 256  # of a JVM such as fsck, which runs beside the NameNode
_MIB_PER_GIB = 1024


def host(service: str, ordinal: int) -> str:
    """The DNS name of a StatefulSet's pod."""
    return f"{service}-{ordinal}.{service_host(service)}"


def uri(hdfs: Hdfs) -> str:
    """How clients name this file system. With high availability it needs `client_settings` to be found."""
    return hdfs_names.uri(hdfs.high_availability)


def namenode_hosts(hdfs: Hdfs) -> list[str]:
    """Where NameNodes are asked over HTTP."""
    if hdfs.high_availability:
        return [host(NAMENODE, ordinal) for ordinal in range(NAMENODES)]
    return [service_host(NAMENODE)]


def client_settings(hdfs: Hdfs) -> dict[str, str]:
    """Hadoop's settings of every client, such as a Spark job (there with the prefix `spark.hadoop.`)."""
    settings = {
        "fs.defaultFS": uri(hdfs),
        # Not the NameNode's to decide: a client that is not told writes three replicas.
        "dfs.replication": str(hdfs.replication),
        # A NameNode that is restarted is waited for: 15 times 2 s, then 30 times 10 s. Default: the client fails.
        "dfs.client.retry.policy.enabled": "true",
        "dfs.client.retry.policy.spec": "2000,15,10000,30",
        # A pod's address is never given to its successor: connecting to it can only time out (default 20 s, 60 s).
        "ipc.client.connect.timeout": "5000",
        "dfs.client.socket-timeout": "20000",
        # With as many DataNodes as replicas there is none to take a failed one's place; writing goes on without it.
        "dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
    }
    if not hdfs.high_availability:
        return settings
    provider = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
    return {
        **settings,
        "dfs.nameservices": NAMESERVICE,
        f"dfs.client.failover.proxy.provider.{NAMESERVICE}": provider,
        f"dfs.ha.namenodes.{NAMESERVICE}": ",".join(f"nn{ordinal}" for ordinal in range(NAMENODES)),
        **_namenode_addresses("rpc"),
    }


def core_site(hdfs: Hdfs) -> dict[str, str]:
    """core-site.xml of the servers."""
    settings = {
        "fs.defaultFS": uri(hdfs),
        "hadoop.prometheus.endpoint.enabled": "true",  # metrics for Prometheus at /prom
    }
    if hdfs.high_availability:
        nodes = (f"{host(ZOOKEEPER, ordinal)}:{ZOOKEEPER_PORTS['client']}" for ordinal in range(QUORUM))
        settings["ha.zookeeper.quorum"] = ",".join(nodes)
    return settings


def hdfs_site(hdfs: Hdfs) -> dict[str, str]:
    """hdfs-site.xml of the servers, and of the tools beside them."""
    client = {key: value for key, value in client_settings(hdfs).items() if key.startswith("dfs.")}
    return {
        **client,
        "dfs.namenode.name.dir": "file:///data/name",
        "dfs.namenode.checkpoint.dir": "file:///data/checkpoint",
        "dfs.datanode.data.dir": "file:///data/blocks",
        "dfs.hosts.exclude": "/data/excluded",
        "dfs.permissions.superusergroup": USER,
        # A pod's address has no name in reverse DNS, so the default would refuse every DataNode.
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        # A pod listens at its own address, whatever its name resolves to at that moment.
        "dfs.namenode.rpc-bind-host": "0.0.0.0",  # noqa: S104
        "dfs.namenode.http-bind-host": "0.0.0.0",  # noqa: S104
        # A DataNode that was not heard of for 30 s is asked last; it counts as dead only after ten minutes, in which
        # its pod is back on the same volume, and nothing had to be copied.
        "dfs.namenode.avoid.read.stale.datanode": "true",
        "dfs.namenode.avoid.write.stale.datanode": "true",
        "dfs.namenode.safemode.extension": "5000",
        "dfs.namenode.decommission.interval": "5",
        # The rest of a volume is for what is not blocks: logs, and blocks that are being written.
        "dfs.datanode.du.reserved": str(hdfs.volume_gib * 1024**3 // 20),
        **(_shared_edits() if hdfs.high_availability else _one_namenode()),
    }


def zoo_cfg() -> str:
    """ZooKeeper's configuration."""
    client, peer, election = (ZOOKEEPER_PORTS[name] for name in ("client", "peer", "election"))
    servers = "".join(
        f"server.{ordinal + 1}={host(ZOOKEEPER, ordinal)}:{peer}:{election}\n" for ordinal in range(QUORUM)
    )
    return (
        f"dataDir=/data/zookeeper\nclientPort={client}\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n"
        "autopurge.snapRetainCount=3\nautopurge.purgeInterval=24\nadmin.enableServer=false\n"
        # A pod is in its peers' DNS only a moment after it starts, and its own name may not resolve until then.
        f"quorumListenOnAllIPs=true\n{servers}"
    )


def files(hdfs: Hdfs) -> dict[str, str]:
    """The configuration folder."""
    written = {"core-site.xml": site_xml(core_site(hdfs)), "hdfs-site.xml": site_xml(hdfs_site(hdfs))}
    return {**written, "zoo.cfg": zoo_cfg()} if hdfs.high_availability else written


def site_xml(settings: Mapping[str, str]) -> str:
    """Hadoop's configuration format."""
    lines = (
        f"  <property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in sorted(settings.items())
    )
    return f'<?xml version="1.0"?>\n<configuration>\n{"".join(lines)}</configuration>\n'


def namenode_heap_mib(hdfs: Hdfs) -> int:
    """For all the blocks that fit: it keeps every one of them in memory."""
    blocks = hdfs.datanodes * hdfs.volume_gib * _MIB_PER_GIB // hdfs.replication // AVERAGE_BLOCK_MIB
    return SMALLEST_HEAP_MIB + blocks // BLOCKS_PER_HEAP_MIB


def datanode_heap_mib(hdfs: Hdfs) -> int:
    """For all the replicas that fit on one."""
    return SMALLEST_HEAP_MIB + hdfs.volume_gib * _MIB_PER_GIB // AVERAGE_BLOCK_MIB // BLOCKS_PER_HEAP_MIB


def memory_mib(heap_mib: int) -> int:
    """What a JVM takes with this heap: a quarter more for its buffers, and what it takes at any size."""
    return heap_mib + heap_mib // 4 + 256


def _one_namenode() -> dict[str, str]:
    name = service_host(NAMENODE)
    return {f"dfs.namenode.{kind}-address": f"{name}:{port}" for kind, port in NAMENODE_PORTS.items()}


def _shared_edits() -> dict[str, str]:
    journals = ";".join(f"{host(JOURNALNODE, ordinal)}:{JOURNALNODE_PORTS['rpc']}" for ordinal in range(QUORUM))
    return {
        **_namenode_addresses("http"),
        # A NameNode would find out which one it is by resolving its own name; the image's `hdfs` knows it by then.
        "dfs.ha.namenode.id": "${env.HDFS_NAMENODE_ID:-none}",
        "dfs.namenode.shared.edits.dir": f"qjournal://{journals}/{NAMESERVICE}",
        "dfs.journalnode.edits.dir": "/data/journal",
        "dfs.ha.automatic-failover.enabled": "true",
        # The journal takes edits from one writer only, so the loser of a failover needs no killing.
        "dfs.ha.fencing.methods": "shell(/bin/true)",
    }


def _namenode_addresses(kind: str) -> dict[str, str]:
    return {
        f"dfs.namenode.{kind}-address.{NAMESERVICE}.nn{ordinal}": f"{host(NAMENODE, ordinal)}:{NAMENODE_PORTS[kind]}"
        for ordinal in range(NAMENODES)
    }
