"""Whether a machine of a pool takes a pod: the scheduler's questions, asked of manifests before there is a machine.

Pods are plain manifests as `kubectl` takes them. Preferences play no part: the autoscaler ignores them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra import scheduling
from infra.contract.topology import Topology
from tidepool import requests as reservation
from tidepool.capacity import GPU_RESOURCE, Pool
from tidepool.job import human

NOWHERE = Topology()


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


def refusals(pod: Mapping[str, Any], pool: Pool, daemons: Amount, topology: Topology = NOWHERE) -> list[str]:
    """Why no machine of the pool would ever take the pod; empty where one would.

    daemons: what the DaemonSets take of each machine. topology: where its machines are.
    """
    spec = pod.get("spec") or {}
    untolerated = scheduling.untolerated(spec, pool.taints)
    return [
        *_selector(spec, known_labels(pool, topology), topology),
        *(f"its taint {each.key}={each.value}:{each.effect} is not tolerated" for each in untolerated),
        *_too_large(requests(pod), pool, daemons),
        *([] if pool.max_machines else ["it may have no machines (its max is 0)"]),
    ]


def known_labels(pool: Pool, topology: Topology = NOWHERE) -> dict[str, tuple[str, ...]]:
    """The labels that the pool's machines are known to carry, each with the values that it may have."""
    labels: dict[str, tuple[str, ...]] = {**topology.labels, **scheduling.exactly(pool.labels)}
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


def _selector(spec: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]], topology: Topology) -> Iterator[str]:
    unknown = set(topology.unknown) - labels.keys()
    for key, value in scheduling.unselected(spec, labels):
        if key not in unknown:
            yield f"its node selector wants {key}={value}, and {topology.words.get(key) or _carried(key, labels)}"
    terms = scheduling.terms(spec)
    if terms is None:
        return
    unmet = [scheduling.unmet(term, labels) for term in terms]
    missing = [each and [one for one in each if one["key"] not in unknown] for each in unmet]
    if [] not in missing:
        words = " or ".join(", ".join(_words(one) for one in each) for each in missing if each)
        why = {topology.words[one["key"]]: "" for each in missing for one in each or [] if one["key"] in topology.words}
        yield f"its node affinity wants {'; '.join([words or 'nothing that a node could be', *why])}"


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
