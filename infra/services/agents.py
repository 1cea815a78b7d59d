"""What our DaemonSets request on job machines, for their charts and for whoever reckons what is left to jobs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.services.placement import resources


@dataclass(frozen=True)
class Agent:
    """A DaemonSet's pod: its requests."""

    name: str
    cpu_millis: int
    memory_mib: int

    def resources(self, memory_limit: str) -> dict[str, Any]:
        """As a container has them."""
        return resources(f"{self.cpu_millis}m", f"{self.memory_mib}Mi", memory_limit)


TERMINATION_HANDLER = Agent("node-termination-handler", cpu_millis=50, memory_mib=64)
"""On all of EC2's."""

DEVICE_PLUGIN = Agent("nvidia-device-plugin", cpu_millis=20, memory_mib=64)
"""On those with GPUs."""
