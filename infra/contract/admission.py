"""What a team's namespace does to a pod before it is scheduled: the LimitRange's defaults, and the quota.

Source of the defaults' order: https://kubernetes.io/docs/concepts/policy/limit-range/
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.contract.scheduling import Amount, amount, requests
from infra.settings.model import Tenant
from infra.team_namespaces import DEFAULT_LIMITS, DEFAULT_REQUESTS
from tidepool import quantity
from tidepool.job import human

GIB = 1024**3


def with_defaults(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The pod as its namespace admits it: what a container does not say is what the LimitRange says."""
    admitted = copy.deepcopy(dict(pod))
    spec = admitted.setdefault("spec", {})
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        resources = container.get("resources") or {}
        asked, limited = resources.get("requests") or {}, resources.get("limits") or {}
        # A limit that the author gave is the request too; one that the LimitRange gives isn't.
        container["resources"] = {
            "requests": {**DEFAULT_REQUESTS, **limited, **asked},
            "limits": {**DEFAULT_LIMITS, **limited},
        }
    return admitted


def contradictions(admitted: Mapping[str, Any]) -> Iterator[str]:
    """Containers that request more than they are limited to, which the API server refuses."""
    for container in _containers(admitted):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        for name, limit in limits.items():
            if name in requests and quantity.parse(requests[name]) > quantity.parse(limit):
                yield (
                    f"container {container.get('name')} requests {requests[name]} of {name}, and is limited to {limit}"
                )


def over_quota(admitted: Sequence[tuple[Mapping[str, Any], int]], tenant: Tenant) -> Iterator[tuple[str, str]]:
    """Each of the tenant's keys that not even this one job alone keeps to, with how much that would be.

    admitted: its kinds of pods, and how many of each it has at once.
    """
    asked, limited, pods = Amount(), Amount(), sum(count for _, count in admitted)
    for pod, count in admitted:
        asked += requests(pod).times(count)
        for each in _containers(pod):
            limited += amount(each["resources"]["limits"]).times(count)
    memory = max(asked.memory_bytes, limited.memory_bytes)
    together = "its pod takes" if pods == 1 else f"together its {pods} pods take"
    for key, much, most, words in (
        ("cpu", asked.cpu_millis, tenant.cpu * 1000, f"{together} {asked.cpu_millis / 1000:g} CPUs"),
        ("memory_gib", memory, tenant.memory_gib * GIB, f"{together} {human(memory)} of memory"),
        ("gpus", asked.gpus, tenant.gpus, f"{together} {'1 GPU' if asked.gpus == 1 else f'{asked.gpus} GPUs'}"),
        ("pods", pods, tenant.pods, "it has one pod" if pods == 1 else f"it has {pods} pods"),
    ):
        if much > most:
            yield key, words


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
