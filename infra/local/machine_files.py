"""The files a machine of the local cloud starts from, as pure functions: kubelet, containerd, CNI and kube-proxy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import addresses
from infra.local.errors import LocalError

MIB = 1024**2
EVICTION_MEMORY_BYTES = 100 * MIB
EVICTION_STORAGE_BYTES = 1024 * MIB


@dataclass(frozen=True)
class Size:
    """What pods can have of a machine: CPU in millicores, memory and ephemeral storage in bytes."""

    cpu_millis: int
    memory_bytes: int
    storage_bytes: int


class TooSmallError(LocalError):
    """This host has less than the machine is to offer; the message compares them."""


def reservations(host: Size, machine: Size) -> dict[str, str]:
    """The systemReserved that makes a kubelet, which sees the whole host, offer exactly `machine`."""
    cpu = host.cpu_millis - machine.cpu_millis
    memory = host.memory_bytes - machine.memory_bytes - EVICTION_MEMORY_BYTES
    storage = host.storage_bytes - machine.storage_bytes - EVICTION_STORAGE_BYTES
    if min(cpu, memory, storage) < 0:
        raise TooSmallError(
            f"the machine is to offer {_words(machine)}, this host has {_words(host)}: choose a smaller instance type "
            "or root volume for the pool in stacks/Pulumi.local.yaml"
        )
    return {"cpu": f"{cpu}m", "memory": str(memory), "ephemeral-storage": str(storage)}


def kubelet_config(
    node_config: dict[str, Any],
    *,
    folder: Path,
    group: str,
    socket: Path,
    authority: Path,
    certificate: tuple[Path, Path],
    reserved: dict[str, str],
) -> dict[str, Any]:
    """KubeletConfiguration: the user data's own settings, and what only the local cloud needs on top."""
    asked = dict(node_config["spec"]["kubelet"].get("config", {}))
    # Graceful node shutdown listens to systemd-logind, which a network namespace has not: the hypervisor's notice
    # (cordon, evict) stands in for it.
    asked.pop("shutdownGracePeriod", None)
    asked.pop("shutdownGracePeriodCriticalPods", None)
    asked.pop("kubeReserved", None)  # what it keeps from pods is in systemReserved, which makes up for the whole host
    return asked | {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate[0]),
        "tlsPrivateKeyFile": str(certificate[1]),
        "clusterDomain": addresses.CLUSTER_DOMAIN,
        "clusterDNS": [addresses.HOST],
        "enforceNodeAllocatable": ["pods"],
        "systemReserved": reserved,
        "evictionHard": {
            "memory.available": str(EVICTION_MEMORY_BYTES),
            "nodefs.available": str(EVICTION_STORAGE_BYTES),
        },
        "imageGCHighThresholdPercent": 100,  # the images are baked in; a full host disk must not remove them
        "nodeStatusUpdateFrequency": "5s",
        "podLogsDir": str(folder / "pod-logs"),
    }


def kubelet_flags(
    node_config: dict[str, Any], *, binaries: Path, folder: Path, root: Path, instance: str, zone: str, address: str
) -> list[str]:
    """The kubelet's command line: the user data's flags, and who this machine is."""
    return [
        str(binaries / "kubelet"),
        f"--config={folder}/kubelet.json",
        f"--kubeconfig={folder}/kubelet.kubeconfig",
        f"--root-dir={root}",
        f"--hostname-override={instance}",
        f"--node-ip={address}",  # without it the kubelet waits for DNS
        f"--provider-id=aws:///{zone}/{instance}",  # the autoscaler recognises the machine by it
        *node_config["spec"]["kubelet"].get("flags", []),
    ]


def proxy_flags(binaries: Path, instance: str, kubeconfig: Path) -> list[str]:
    """kube-proxy's command line. It leaves the host's connection tracking limits alone."""
    return [
        str(binaries / "kube-proxy"),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={instance}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={addresses.POD_NETWORK}",
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def containerd_config(folder: Path, run: Path, sandbox_image: str) -> str:
    """containerd's configuration (TOML): its own root, state, socket and CNI folder."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{folder}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
  address = "{run}/containerd.sock"
[{cri}]
  sandbox_image = "{sandbox_image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true  # not in /run/netns, where nobody would know them as ours
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [{cri}.containerd]
    snapshotter = "overlayfs"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def cni_config(folder: Path, pod_range: str) -> str:
    """The pods' network on the machine: a bridge, addresses from the machine's own range, routed by the host."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{folder}/cni-addresses",
            "ranges": [[{"subnet": pod_range}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "tidepool", "plugins": [bridge, {"type": "loopback"}]}, indent=1)


def _words(size: Size) -> str:
    gib = 1024**3
    return (
        f"{size.cpu_millis / 1000:g} CPU, {size.memory_bytes / gib:.1f} GiB memory and "
        f"{size.storage_bytes / gib:.0f} GiB storage"
    )
