"""Whether a manifest has the shape of a pod, in those parts that the contract reads: a typo is told, and trips nobody.

Source of the shape: the Pod of Kubernetes' API (core/v1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Shape = Any
"""A type, a list with the shape of its items, or a map of the keys' shapes; `*` is any key, `!` marks a needed one."""

_TEXTS = {"*": str}
_QUANTITIES = {"*": object}
_RIGHTS = {
    "capabilities": {"add": [str], "drop": [str]},
    "seccompProfile": {"type": str},
    "appArmorProfile": {"type": str},
    "seLinuxOptions": _TEXTS,
}
_CONTAINER = {
    "name": str,
    "image": str,
    "restartPolicy": str,
    "resources": {"requests": _QUANTITIES, "limits": _QUANTITIES},
    "securityContext": _RIGHTS,
    "ports": [dict],
}
_EXPRESSIONS = [{"key!": str, "operator!": str, "values": [str]}]
_REQUIRED = {"nodeSelectorTerms!": [{"matchExpressions": _EXPRESSIONS, "matchFields": _EXPRESSIONS}]}
_POD = {
    "metadata": {"namespace": str, "labels": _TEXTS, "annotations": _TEXTS},
    "spec": {
        "containers": [_CONTAINER],
        "initContainers": [_CONTAINER],
        "overhead": _QUANTITIES,
        "nodeSelector": _TEXTS,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _REQUIRED}},
        "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
        "volumes": [{"name!": str}],
        "securityContext": {**_RIGHTS, "sysctls": [{"name!": str}]},
        "serviceAccountName": str,
        "priorityClassName": str,
    },
}
_WORDS = {str: "text", dict: "a map"}


def malformed(pod: Mapping[str, Any]) -> list[str]:
    """Where a manifest is not what Kubernetes takes for a pod, each as a phrase; empty where it is."""
    return list(_wrong(pod, _POD, ""))


def _wrong(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if isinstance(shape, dict):
        if not isinstance(value, Mapping):
            yield f"{path} must be a map, not {value!r}"
            return
        for name, inner in shape.items():
            key = name.removesuffix("!")
            for each in value if key == "*" else [key]:
                if value.get(each) is not None:
                    yield from _wrong(value[each], inner, f"{path}.{each}".lstrip("."))
                elif name.endswith("!"):
                    yield f"{path} has no {key}"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{path} must be a list, not {value!r}"
            return
        for index, each in enumerate(value):
            yield from _wrong(each, shape[0], f"{path}[{index}]")
    elif not isinstance(value, shape):
        yield f"{path} must be {_WORDS[shape]}, not {value!r}"
