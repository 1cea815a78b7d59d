"""Whether a pod may be on a node, by its node selector, required node affinity and tolerations: as Kubernetes decides.

Pods are plain manifests as `kubectl` takes them. Preferences play no part. Sources: k8s.io/component-helpers,
scheduling/corev1 (nodeaffinity, helpers.go), and k8s.io/apimachinery, pkg/labels/selector.go. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tidepool.capacity import Taint

KEEPS_OFF = ("NoSchedule", "NoExecute")
"""Effects of taints that keep pods off a node; others are wishes."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")

Expression = Mapping[str, Any]
Labels = Mapping[str, Collection[str]]
"""By key, the values that a node may have: one where the node is there, more where it is yet to come."""


def exactly(labels: Mapping[str, str]) -> dict[str, tuple[str]]:
    """The labels of a node that is there."""
    return {key: (value,) for key, value in labels.items()}


def matches(spec: Mapping[str, Any], labels: Labels, fields: Labels | None = None) -> bool:
    """Whether a pod's node selector and required node affinity accept a node. fields: its name, if it has one."""
    wanted = terms(spec)
    return not any(unselected(spec, labels)) and (
        wanted is None or any(unmet(term, labels, fields) == [] for term in wanted)
    )


def unselected(spec: Mapping[str, Any], labels: Labels) -> Iterator[tuple[str, str]]:
    """The labels that a pod's node selector wants and a node does not have."""
    for key, value in (spec.get("nodeSelector") or {}).items():
        if value not in labels.get(key, ()):
            yield key, value


def terms(spec: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """What a pod's required node affinity accepts, one of them at least; None where it requires nothing."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else list(required.get("nodeSelectorTerms") or [])


def unmet(term: Mapping[str, Any], labels: Labels, fields: Labels | None = None) -> list[Expression] | None:
    """What a node lacks of a term; empty if nothing. None for a term without expressions, which accepts no node."""
    expressions, about = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not about:
        return None
    return [
        *(each for each in expressions if not meets(each, labels)),
        *(each for each in about if not meets(each, fields or {})),
    ]


def meets(expression: Expression, labels: Labels) -> bool:
    """Whether a node meets one expression; one that the API server would refuse is met by none."""
    there, wanted = labels.get(expression["key"], ()), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return any(value in wanted for value in there)
        case "NotIn":
            return bool(wanted) and (not there or any(value not in wanted for value in there))
        case "Exists":
            return bool(there) and not wanted
        case "DoesNotExist":
            return not there and not wanted
        case "Gt" if len(limit := _integers(wanted)) == 1:
            return any(value > limit[0] for value in _integers(there))
        case "Lt" if len(limit := _integers(wanted)) == 1:
            return any(value < limit[0] for value in _integers(there))
    return False


def untolerated(spec: Mapping[str, Any], taints: Iterable[Taint]) -> Iterator[Taint]:
    """The taints that keep a pod off a node."""
    tolerations = spec.get("tolerations") or []
    for taint in taints:
        if taint.effect in KEEPS_OFF and not any(tolerates(each, taint) for each in tolerations):
            yield taint


def tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    """Whether a toleration is for a taint. No effect means every effect, `Exists` without a key every taint."""
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    match toleration.get("operator") or "Equal":
        case "Exists":
            return toleration.get("key") in (None, "", taint.key)
        case "Equal":
            return toleration.get("key") == taint.key and (toleration.get("value") or "") == taint.value
    return False


def _integers(values: Iterable[str]) -> list[int]:
    return [int(value) for value in values if _INTEGER.fullmatch(str(value))]
