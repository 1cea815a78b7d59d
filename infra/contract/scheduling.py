"""Whether a machine of a pool takes a pod: the scheduler's questions, asked of manifests before there is a machine.

Pods are plain manifests as `kubectl` takes them. Preferences play no part: the autoscaler ignores them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra import scheduling
from tidepool import requests as reservation
from tidepool.capacity import GPU_RESOURCE, Pool
from tidepool.job import human


@dataclass(frozen=True)
class Amount:
    """What pods ask of a machine: CPU in millicores, memory and ephemeral storage in bytes, whole GPUs."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    storage_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(*(own + its for own, its in zip(self._parts(), other._parts(), strict=True)))

    def times(self, count: int) -> Amount:
        """What so many pods ask for together."""
        return Amount(*(own * count for own in self._parts()))

    def _parts(self) -> tuple[int, int, int, int]:
        return self.cpu_millis, self.memory_bytes, self.storage_bytes, self.gpus


def amount(resources: Mapping[str, Any]) -> Amount:
    """Requests or limits as numbers, in any notation of Kubernetes; raises ValueError where one is none."""
    return _amount(reservation.amounts(resources))


def requests(pod: Mapping[str, Any]) -> Amount:
    """What the scheduler reserves for a pod (`tidepool.requests`); raises ValueError for what is no quantity."""
    return _amount(reservation.requested(pod))


def refusals(pod: Mapping[str, Any], pool: Pool, daemons: Amount) -> list[str]:
    """Why no machine of the pool would ever take the pod; empty where one would.

    daemons: what the DaemonSets take of each machine.
    """
    spec = pod.get("spec") or {}
    untolerated = scheduling.untolerated(spec, pool.taints)
    return [
        *_selector(spec, known_labels(pool)),
        *(f"its taint {each.key}={each.value}:{each.effect} is not tolerated" for each in untolerated),
        *_too_large(requests(pod), pool, daemons),
        *([] if pool.max_machines else ["it may have no machines (its max is 0)"]),
    ]


def known_labels(pool: Pool) -> dict[str, tuple[str, ...]]:
    """The labels that the pool's machines are known to carry, each with the values that it may have."""
    labels: dict[str, tuple[str, ...]] = {key: (value,) for key, value in pool.labels.items()}
    labels |= {"kubernetes.io/arch": (pool.architecture,), "kubernetes.io/os": ("linux",)}
    if pool.instance_types:
        labels["node.kubernetes.io/instance-type"] = pool.instance_types
    return labels


def _amount(whole: Mapping[str, int]) -> Amount:
    return Amount(
        cpu_millis=whole.get("cpu", 0),
        memory_bytes=whole.get("memory", 0),
        storage_bytes=whole.get("ephemeral-storage", 0),
        gpus=whole.get(GPU_RESOURCE, 0),
    )


def _selector(spec: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for key, value in scheduling.unselected(spec, labels):
        yield f"its node selector wants {key}={value}, and {_carried(key, labels)}"
    terms = scheduling.terms(spec)
    if terms is None:
        return
    unmet = [scheduling.unmet(term, labels) for term in terms]
    if [] not in unmet:
        words = " or ".join(", ".join(_words(each) for each in missing) for missing in unmet if missing)
        yield f"its node affinity wants {words or 'nothing that a node could be'}"


def _words(expression: Mapping[str, Any]) -> str:
    values = ", ".join(map(str, expression.get("values") or []))
    return f"{expression['key']} {expression.get('operator')}{f' ({values})' if values else ''}"


def _carried(key: str, labels: Mapping[str, tuple[str, ...]]) -> str:
    return f"its machines carry {key}={' or '.join(labels[key])}" if key in labels else "its machines carry no such key"


def _too_large(asked: Amount, pool: Pool, daemons: Amount) -> Iterator[str]:
    cpu, memory = pool.cpu_millis - daemons.cpu_millis, pool.memory_bytes - daemons.memory_bytes
    storage = pool.ephemeral_storage_bytes - daemons.storage_bytes
    if asked.cpu_millis > cpu:
        yield f"it asks for {asked.cpu_millis}m of CPU, and a machine has {cpu}m left for it"
    if asked.memory_bytes > memory:
        yield f"it asks for {human(asked.memory_bytes)} of memory, and a machine has {human(memory)} left for it"
    if asked.storage_bytes > storage:
        yield f"it asks for {human(asked.storage_bytes)} of ephemeral storage, and a machine has {human(storage)}"
    if asked.gpus > pool.gpus:
        yield f"it asks for {asked.gpus} of {GPU_RESOURCE}, and a machine has {pool.gpus or 'none'}"
