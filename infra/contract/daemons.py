"""The DaemonSets that run on every job machine, and what they take of it before a job gets anything."""

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


AWS_DAEMONS = (
    Daemon("aws-node", Amount(cpu_millis=50)),  # vpc-cni: the CNI itself and its network policy agent, 25m each
    Daemon("kube-proxy", Amount(cpu_millis=100)),
    Daemon("ebs-csi-node", Amount(cpu_millis=30, memory_bytes=120 * MIB)),  # three containers
    Daemon("eks-pod-identity-agent", Amount()),
    Daemon("aws-node-termination-handler", Amount()),
)
MONITORING_DAEMON = Daemon("node-exporter", Amount())
GPU_DAEMON = Daemon("nvidia-device-plugin", Amount())


def on_machine(settings: Settings, gpus: int) -> tuple[Daemon, ...]:
    """The DaemonSets that a job machine with so many GPUs runs. Of an existing cluster's own nothing is known."""
    there = AWS_DAEMONS if isinstance(settings.cloud, AwsCloud) else ()
    if settings.services.monitoring is not None:
        there += (MONITORING_DAEMON,)
    return (*there, GPU_DAEMON) if gpus else there


def total(daemons: tuple[Daemon, ...]) -> Amount:
    """What they take together."""
    return sum((each.amount for each in daemons), Amount())
