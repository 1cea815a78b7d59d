"""NVIDIA's device plugin: a machine's GPUs become a resource that pods can ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import charts
from infra.services import agents
from infra.services.placement import EVERYWHERE, on_any

NAMESPACE = "kube-system"


class DevicePlugin(pulumi.ComponentResource):
    """The Release. nodes: labels of the machines with GPUs, one mapping for each pool."""

    def __init__(
        self,
        name: str,
        nodes: Sequence[Mapping[str, str]],
        chart_sources: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("tidepool:services:DevicePlugin", name, {}, opts)
        kubernetes.helm.v3.Release(
            f"{name}-release",
            kubernetes.helm.v3.ReleaseArgs(
                **charts.release(
                    charts.NVIDIA_DEVICE_PLUGIN, namespace=NAMESPACE, values=values(nodes), sources=chart_sources
                )
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def values(nodes: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The chart's values. The chart's own affinity waits for labels of node-feature-discovery, which we do without."""
    return {
        "affinity": on_any(nodes),
        "tolerations": EVERYWHERE,
        "priorityClassName": "system-node-critical",
        "gfd": {"enabled": False},
        "resources": agents.DEVICE_PLUGIN.resources(memory_limit="128Mi"),
    }
