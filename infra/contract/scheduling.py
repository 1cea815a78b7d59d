"""Whether a machine of a pool takes a pod: the scheduler's questions, asked of manifests before there is a machine.

Pods are plain manifests as `kubectl` takes them. Preferences play no part: the autoscaler ignores them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tidepool.capacity import GPU_RESOURCE, Pool, Taint
from tidepool.job import human

_SUFFIXES = {"": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
_SUFFIXES |= {suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)}
_SUFFIXES |= {
    suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)
}
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


@dataclass(frozen=True)
class Amount:
    """What pods ask of a machine: CPU in millicores, memory and ephemeral storage in bytes, whole GPUs."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    storage_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(*(own + its for own, its in zip(self._parts(), other._parts(), strict=True)))

    def or_more(self, other: Amount) -> Amount:
        """The larger of both, part by part."""
        return Amount(*(max(own, its) for own, its in zip(self._parts(), other._parts(), strict=True)))

    def _parts(self) -> tuple[int, int, int, int]:
        return self.cpu_millis, self.memory_bytes, self.storage_bytes, self.gpus


def quantity(value: Any) -> Decimal:
    """A Kubernetes quantity such as `500m`, `2Gi` or 1.5; raises ValueError where it is none."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is no Kubernetes quantity, such as 500m or 2Gi")
    return Decimal(match.group(1)) * _SUFFIXES[match.group(2) or ""]


def amount(resources: Mapping[str, Any]) -> Amount:
    """Requests or limits as numbers; CPU and memory in any notation of Kubernetes."""
    return Amount(
        cpu_millis=int(quantity(resources.get("cpu") or 0) * 1000),
        memory_bytes=int(quantity(resources.get("memory") or 0)),
        storage_bytes=int(quantity(resources.get("ephemeral-storage") or 0)),
        gpus=int(quantity(resources.get(GPU_RESOURCE) or 0)),
    )


def requests(pod: Mapping[str, Any]) -> Amount:
    """What the scheduler reserves for a pod: its containers together, or its largest init container if that is more."""
    spec = pod.get("spec") or {}
    total = sum((_asked(container) for container in spec.get("containers") or []), Amount())
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":
            total += _asked(container)  # a sidecar runs beside the others
        else:
            total = total.or_more(_asked(container))
    return total + amount(spec.get("overhead") or {})


def refusals(pod: Mapping[str, Any], pool: Pool, daemons: Amount) -> list[str]:
    """Why no machine of the pool would ever take the pod; empty where one would.

    daemons: what the DaemonSets take of each machine.
    """
    spec = pod.get("spec") or {}
    return [
        *_selector(spec, known_labels(pool)),
        *_untolerated(spec.get("tolerations") or [], pool.taints),
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


def _asked(container: Mapping[str, Any]) -> Amount:
    resources = container.get("resources") or {}
    return amount({**(resources.get("limits") or {}), **(resources.get("requests") or {})})  # a limit is a request too


def _selector(spec: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for key, value in (spec.get("nodeSelector") or {}).items():
        if value not in labels.get(key, ()):
            yield f"its node selector wants {key}={value}, and {_carried(key, labels)}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    if terms is None:
        return
    unmet = [[each for each in term.get("matchExpressions") or [] if not _matches(each, labels)] for term in terms]
    # An empty term matches nothing, whatever its list of unmet expressions says.
    if not any(term.get("matchExpressions") and not missing for term, missing in zip(terms, unmet, strict=True)):
        words = " or ".join(", ".join(_words(each) for each in missing) for missing in unmet if missing)
        yield f"its node affinity wants {words or 'nothing that a node could be'}"


def _matches(expression: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> bool:
    there = labels.get(expression["key"], ())
    wanted = expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return any(value in wanted for value in there)
        case "NotIn":
            return not there or any(value not in wanted for value in there)
        case "Exists":
            return bool(there)
        case "DoesNotExist":
            return not there
        case "Gt":
            return any(value.isdigit() and int(value) > int(wanted[0]) for value in there)
        case "Lt":
            return any(value.isdigit() and int(value) < int(wanted[0]) for value in there)
    return False


def _words(expression: Mapping[str, Any]) -> str:
    values = ", ".join(map(str, expression.get("values") or []))
    return f"{expression['key']} {expression.get('operator')}{f' ({values})' if values else ''}"


def _carried(key: str, labels: Mapping[str, tuple[str, ...]]) -> str:
    return f"its machines carry {key}={' or '.join(labels[key])}" if key in labels else "its machines carry no such key"


def _untolerated(tolerations: list[Mapping[str, Any]], taints: tuple[Taint, ...]) -> Iterator[str]:
    for taint in taints:
        if taint.effect != "PreferNoSchedule" and not any(_tolerates(each, taint) for each in tolerations):
            yield f"its taint {taint.key}={taint.value}:{taint.effect} is not tolerated"


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint.key)
    return toleration.get("key") == taint.key and (toleration.get("value") or "") == taint.value


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
