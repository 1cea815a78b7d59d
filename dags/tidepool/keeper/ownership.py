"""Whose a pod or a claim is, and what else the reaper's rules read from objects. Pure: the API server's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from tidepool.capacity import Tenant
from tidepool.cluster import ROLE_LABEL
from tidepool.labels import HOLDER, OWNER_NAMES
from tidepool.objects import Object, condition
from tidepool.pod import label_value

_LAST = 253_402_300_800.0  # the end of the year 9999


class Word(StrEnum):
    """What Airflow says of a task instance."""

    LIVES = "lives"  # somebody works on it, or will go on with its pod
    OVER = "over"  # nobody will
    UNHEARD = "unheard"  # Airflow knows none such; it may be another Airflow's, or a test's
    SILENT = "silent"  # there is no clear answer


@dataclass(frozen=True)
class Owner:
    """The task instance that a pod is of. holder: the attempt that holds it, its maker or one that took it over."""

    team: str
    dag: str
    task: str
    run: str
    attempt: int
    holder: int
    map_index: int = -1

    @property
    def job(self) -> tuple[str, ...]:
        """What all pods and claims of the task have in common, members' too: those know no map index."""
        return self.team, self.dag, self.task, self.run


def owner_of(thing: Object, tenants: Mapping[str, Tenant]) -> Owner | None:
    """Whose a pod or claim is; None unless it is tidepool's beyond doubt."""
    metadata = thing["metadata"]
    labels, said = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if not all(said.get(name) and labels.get(name) == label_value(said[name]) for name in OWNER_NAMES):
        return None
    dag, task, run, attempt, team = (said[name] for name in OWNER_NAMES)
    tenant, mapped = tenants.get(team), labels.get("map_index", "-1")
    if tenant is None or tenant.namespace != metadata.get("namespace") or not _is_number(attempt):
        return None
    if mapped != "-1" and not _is_number(mapped):
        return None
    held = said.get(HOLDER, "")
    return Owner(team, dag, task, run, int(attempt), int(held) if _is_number(held) else int(attempt), int(mapped))


def stamp(text: object) -> float | None:
    """Unix seconds of an RFC 3339 time; None for what is none."""
    try:
        found = datetime.fromisoformat(str(text))
        moment = found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if 0 <= moment < _LAST else None


def claim_names(pod: Object) -> Iterator[str]:
    """The PersistentVolumeClaims that a pod mounts."""
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            yield str(name)
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume.get('name')}"


def main_reference(pod: Object) -> Object | None:
    """The owner reference of a member to its main pod."""
    references = pod["metadata"].get("ownerReferences") or []
    return next((each for each in references if each.get("kind") == "Pod"), None)


def is_main(pod: Object) -> bool:
    """Whether Airflow follows the pod, so that it lives as long as its task; members live as long as it does."""
    return main_reference(pod) is None and not (pod["metadata"].get("labels") or {}).get(ROLE_LABEL)


def ended_at(pod: Object) -> float | None:
    """When the last of its containers ended, as far as that is told."""
    states = [each.get("state") or {} for each in (pod.get("status") or {}).get("containerStatuses") or []]
    ends = [stamp((state.get("terminated") or {}).get("finishedAt")) for state in states]
    return max((end for end in ends if end is not None), default=None)


def node_name(pod: Object) -> str:
    """The node that the pod is bound to; empty before it has one."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def ready(node: Object) -> str:
    """The Ready condition: True, False (its kubelet says so) or Unknown (its kubelet says nothing)."""
    return str(condition(node, "Ready").get("status") or "Unknown")


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10
