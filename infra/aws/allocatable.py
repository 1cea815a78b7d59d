"""What pods can have of a machine: the kubelet's own arithmetic on EC2's figures.

These numbers stand in the autoscaler's tags, in the capacity document and, on the local cloud, in each kubelet's
reservations, so that a job sized to a machine fits the machine. They never promise more than the machine will have:
tests/infra/test_allocatable.py compares them with nodes that people have published.

Sources: nodeadm's kubelet configuration (awslabs/amazon-eks-ami) for kubeReserved and evictionHard. nodeadm reserves
memory for as many pods as the type's network interfaces could hold, whatever maxPods says
(awslabs/amazon-eks-ami#1698), so the user data says `kube_reserved` itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.aws.instance_types import GIB, InstanceType

MIB = 1024**2

KERNEL_BYTES = 448 * MIB
SMALL_MEMORY_BYTES = 16 * GIB
SMALL_MEMORY_SHARE = 0.075
LARGE_MEMORY_SHARE = 0.05

ROOT_FILESYSTEM_BYTES = 128 * MIB
"""What partitions and XFS take of a root volume; the AMI's own, however large the volume is grown: 76 MiB seen."""

INSTANCE_STORE_SHARE = 0.02
"""Part of the instance store that RAID0 and XFS take; an estimate on the safe side."""

EVICTION_MEMORY_BYTES = 100 * MIB
EVICTION_STORAGE_SHARE = 0.10
RESERVED_STORAGE_BYTES = 1 * GIB


@dataclass(frozen=True)
class Allocatable:
    """What the node's status says pods can have: CPU in millicores, memory and ephemeral storage in bytes."""

    cpu_millis: int
    memory_bytes: int
    ephemeral_storage_bytes: int
    pods: int


def allocatable(machine: InstanceType, max_pods: int, root_volume_gib: int, nvme: bool = False) -> Allocatable:
    """What pods can have of one machine; with `nvme` they live on the instance store instead of the root volume.

    Memory and storage are rounded down to whole MiB.
    """
    kernel = kernel_bytes(machine.memory_bytes)
    memory = machine.memory_bytes - kernel - reserved_memory_bytes(max_pods) - EVICTION_MEMORY_BYTES
    filesystem = (
        machine.nvme_bytes * (1 - INSTANCE_STORE_SHARE) if nvme else root_volume_gib * GIB - ROOT_FILESYSTEM_BYTES
    )
    storage = filesystem * (1 - EVICTION_STORAGE_SHARE) - RESERVED_STORAGE_BYTES
    return Allocatable(
        cpu_millis=machine.vcpu * 1000 - reserved_cpu_millis(machine.vcpu),
        memory_bytes=int(memory // MIB) * MIB,
        ephemeral_storage_bytes=int(storage // MIB) * MIB,
        pods=max_pods,
    )


def kernel_bytes(memory_bytes: int) -> float:
    """What firmware and kernel keep of a machine's memory, so that it is not in MemTotal: an estimate on the safe side.

    More than Karpenter's authors measured on any of 134 types of our table. The 7.5 % of everything that Karpenter
    reckons with are too little on a c5.large, and far too much on large machines.
    """
    first = min(memory_bytes, SMALL_MEMORY_BYTES)
    share = SMALL_MEMORY_SHARE * first + LARGE_MEMORY_SHARE * (memory_bytes - first)
    return max(KERNEL_BYTES, share)


def kube_reserved(vcpu: int, max_pods: int) -> dict[str, str]:
    """The kubelet's `kubeReserved` that `allocatable` reckons with."""
    return {
        "cpu": f"{reserved_cpu_millis(vcpu)}m",
        "memory": f"{reserved_memory_bytes(max_pods) // MIB}Mi",
        "ephemeral-storage": f"{RESERVED_STORAGE_BYTES // GIB}Gi",
    }


def reserved_cpu_millis(vcpu: int) -> int:
    """kubeReserved CPU: 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest."""
    shares = [60.0, 10.0, 5.0, 5.0] + [2.5] * max(0, vcpu - 4)
    return int(sum(shares[:vcpu]))


def reserved_memory_bytes(max_pods: int) -> int:
    """kubeReserved memory: 255 MiB and 11 MiB for every pod that the machine may hold."""
    return (255 + 11 * max_pods) * MIB
