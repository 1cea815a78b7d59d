"""What pods can have of a machine: the kubelet's own arithmetic on EC2's figures.

These numbers stand in the autoscaler's tags, in the capacity document and, on the local cloud, in each kubelet's
reservations, so that a job sized to a machine fits the machine. Sources: nodeadm's kubelet configuration
(awslabs/amazon-eks-ami) for kubeReserved and evictionHard.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.aws.instance_types import GIB, InstanceType

MIB = 1024**2

KERNEL_SHARE = 0.075
"""Part of EC2's memory that firmware and kernel keep, so that it is not in MemTotal. An estimate on the safe side:
Karpenter reckons with the same 7.5 % (VM_MEMORY_OVERHEAD_PERCENT); large machines lose less."""

FILESYSTEM_SHARE = 0.02
"""Part of the root volume that partitions and XFS itself take; an estimate on the safe side."""

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


def allocatable(machine: InstanceType, max_pods: int, root_volume_gib: int) -> Allocatable:
    """What pods can have of one machine. Memory and storage are rounded down to whole MiB."""
    memory = machine.memory_bytes * (1 - KERNEL_SHARE) - reserved_memory_bytes(max_pods) - EVICTION_MEMORY_BYTES
    storage = root_volume_gib * GIB * (1 - FILESYSTEM_SHARE) * (1 - EVICTION_STORAGE_SHARE) - RESERVED_STORAGE_BYTES
    return Allocatable(
        cpu_millis=machine.vcpu * 1000 - reserved_cpu_millis(machine.vcpu),
        memory_bytes=int(memory // MIB) * MIB,
        ephemeral_storage_bytes=int(storage // MIB) * MIB,
        pods=max_pods,
    )


def reserved_cpu_millis(vcpu: int) -> int:
    """kubeReserved CPU: 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest."""
    shares = [60.0, 10.0, 5.0, 5.0] + [2.5] * max(0, vcpu - 4)
    return int(sum(shares[:vcpu]))


def reserved_memory_bytes(max_pods: int) -> int:
    """kubeReserved memory: 255 MiB and 11 MiB for every pod that the machine may hold."""
    return (255 + 11 * max_pods) * MIB
