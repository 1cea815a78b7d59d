"""The DaemonSets that run on every job machine, and what they take of it before a job gets anything.

A test compares those of our own charts with the values that infra/services gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.contract.scheduling import Amount
from infra.settings.model import AwsCloud, Settings

MIB = 1024**2


@dataclass(frozen=True)
class Daemon:
    """One DaemonSet's pod. amount: its requests, as its chart or EKS addon sets them."""

    name: str
    amount: Amount


# As their EKS addons request it: the network addon is the CNI and its policy agent, 25m each; the CSI driver's pod has
# three containers of 10m and 40Mi.
ADDONS = (
    Daemon("aws-node", Amount(cpu_millis=50)),
    Daemon("kube-proxy", Amount(cpu_millis=100)),
    Daemon("ebs-csi-node", Amount(cpu_millis=30, memory_bytes=120 * MIB)),
    Daemon("eks-pod-identity-agent", Amount()),
)
TERMINATION_HANDLER = Daemon("node-termination-handler", Amount(cpu_millis=50, memory_bytes=64 * MIB))
DEVICE_PLUGIN = Daemon("nvidia-device-plugin", Amount(cpu_millis=20, memory_bytes=64 * MIB))


def on_machine(settings: Settings, gpus: int) -> tuple[Daemon, ...]:
    """The DaemonSets that a job machine with so many GPUs runs. Of an existing cluster's own nothing is known."""
    there = (*ADDONS, TERMINATION_HANDLER) if isinstance(settings.cloud, AwsCloud) else ()
    return (*there, DEVICE_PLUGIN) if gpus else there


def total(daemons: tuple[Daemon, ...]) -> Amount:
    """What they take together."""
    return sum((each.amount for each in daemons), Amount())
