"""What the scheduler sets aside for a pod, from its manifest or its object. Pure.

Amounts are whole numbers by a resource's name: `cpu` in millicores, memory and storage in bytes, others in their base
unit, such as GPUs; fractions are rounded up, as the scheduler does. Source: k8s.io/component-helpers,
resource/helpers.go (PodRequests).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from tidepool import quantity

Read = Callable[[object], Decimal]


def requested(pod: Mapping[str, Any], read: Read = quantity.parse) -> dict[str, int]:
    """Its containers and sidecars together, or what its init containers need one after the other, if that is more;
    and its overhead.

    A sidecar, an init container that goes on running, counts beside the init containers after it, not those before.
    read: a quantity; the default raises ValueError for what is none.
    """
    spec = pod.get("spec") or {}
    running: dict[str, Decimal] = {}
    starting: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or []:
        asked = _asked(container, read)
        together = _sum(running, asked)
        starting = _most(starting, together)
        if container.get("restartPolicy") == "Always":
            running = together
    for container in spec.get("containers") or []:
        running = _sum(running, _asked(container, read))
    return _whole(_sum(_most(running, starting), _numbers(spec.get("overhead"), read)))


def amounts(resources: Mapping[str, Any] | None, read: Read = quantity.parse) -> dict[str, int]:
    """Requests, limits or what a node offers."""
    return _whole(_numbers(resources, read))


def amount(text: object, resource: str) -> int:
    """One quantity of a resource; raises ValueError for what is none."""
    return amounts({resource: text})[resource]


def _asked(container: Mapping[str, Any], read: Read) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return _numbers({**limits, **requests}, read)  # a limit is a request too


def _numbers(resources: Mapping[str, Any] | None, read: Read) -> dict[str, Decimal]:
    return {name: read(text) for name, text in (resources or {}).items() if text is not None}


def _sum(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {name: one.get(name, Decimal(0)) + other.get(name, Decimal(0)) for name in {**one, **other}}


def _most(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in {**one, **other}}


def _whole(resources: Mapping[str, Decimal]) -> dict[str, int]:
    return {
        name: int((size * 1000 if name == "cpu" else size).to_integral_value(ROUND_CEILING))
        for name, size in resources.items()
    }
