"""How much of a machine a pod asks for and a node gives: CPU in millicores, memory in bytes. Pure."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Any

Object = dict[str, Any]

_NUMBER = re.compile(r"(\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})(?:[eE]([+-]?\d{1,2}))?([a-zA-Z]{0,2})")
_UNITS = {"": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
_UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
_UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}
_LARGEST = 2**62


def amount(text: object) -> Decimal:
    """A Kubernetes quantity (`1930m`, `16Gi`, `1e3`) as a number; what is none is 0."""
    match = _NUMBER.fullmatch(str(text))
    if match is None or match[3] not in _UNITS:
        return Decimal(0)
    return min(Decimal(match[1]).scaleb(int(match[2] or 0)) * _UNITS[match[3]], Decimal(_LARGEST))


def allocatable(node: Object) -> tuple[int, int]:
    """What a node's pods can have together."""
    return _sizes((node.get("status") or {}).get("allocatable") or {})


def requested(pod: Object) -> tuple[int, int]:
    """What the scheduler sets aside for a pod: all its containers with the sidecars, or the largest of its init
    containers, and its overhead."""
    spec = pod.get("spec") or {}
    running, starting = [0, 0], [0, 0]
    for container in spec.get("initContainers") or []:
        asked = _requests(container)
        sidecar = container.get("restartPolicy") == "Always"
        for each in (0, 1):
            starting[each] = max(starting[each], running[each] + asked[each])
            running[each] += asked[each] if sidecar else 0
    for container in spec.get("containers") or []:
        for each, size in enumerate(_requests(container)):
            running[each] += size
    overhead = _sizes(spec.get("overhead") or {})
    cpu, memory = (
        min(max(run, start) + more, _LARGEST) for run, start, more in zip(running, starting, overhead, strict=True)
    )
    return cpu, memory


def _requests(container: Object) -> tuple[int, int]:
    return _sizes((container.get("resources") or {}).get("requests") or {})


def _sizes(resources: Object) -> tuple[int, int]:
    cpu = amount(resources.get("cpu", 0)) * 1000
    return min(int(cpu.to_integral_value(ROUND_CEILING)), _LARGEST), int(amount(resources.get("memory", 0)))
