"""The cluster-autoscaler's configuration: which pool it tries first."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

from infra import naming


class Autoscaler(pulumi.ComponentResource):
    """The priority expander's ConfigMap. `priorities`: the higher first, by Auto Scaling Group."""

    def __init__(self, name: str, priorities: Mapping[str, int], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:Autoscaler", name, {}, opts)
        kubernetes.core.v1.ConfigMap(
            f"{name}-priorities",
            metadata={"name": naming.PRIORITY_CONFIG_MAP, "namespace": naming.AUTOSCALER_NAMESPACE},
            data={"priorities": priority_list(priorities)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def priority_list(priorities: Mapping[str, int]) -> str:
    """Groups by priority, as the expander reads them: a YAML map from number to patterns of group names."""
    by_number: dict[int, list[str]] = {}
    for group, number in priorities.items():
        by_number.setdefault(number, []).append(f"^{group}$")
    return yaml.safe_dump(
        {number: sorted(by_number[number]) for number in sorted(by_number, reverse=True)}, sort_keys=False
    )
