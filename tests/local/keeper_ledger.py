"""What a keeper's ledger must have of the pods that there were, whatever died meanwhile."""

from __future__ import annotations

from collections import Counter

from tests.local.account import Pod
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

STAMP_SECONDS = 1.5


def recorded(url: str) -> list[Event]:
    """All events of a database."""
    store = Store.open(url, make=False)
    try:
        return list(store.read())
    finally:
        store.close()


def has(events: list[Event]) -> set[tuple[str, str]]:
    return {(event.kind, event.pod_uid or event.machine) for event in events}


def wanted(pod: Pod) -> set[tuple[str, str]]:
    """What happened to a pod that is gone."""
    came = {"pod.scheduled": pod.bound, "pod.running": pod.running}
    kinds = ["pod.queued", *(kind for kind, moment in came.items() if moment is not None), "pod.ended", "pod.gone"]
    return {(kind, pod.uid) for kind in kinds}


def lost(events: list[Event], seen: dict[str, Pod]) -> set[tuple[str, str]]:
    """What happened and is not there. That a container ran can't be known where its pod came to run and went while
    nobody watched, as the ledger then says of its end."""
    unseen = {event.pod_uid: event for event in events if event.kind == "pod.ended" and event.earliest}
    there, found = has(events), set()
    for uid, pod in seen.items():
        excused = uid in unseen and pod.running is not None and unseen[uid].earliest <= pod.running + STAMP_SECONDS
        found |= {each for each in wanted(pod) - there if not (excused and each[0] == "pod.running")}
    return found


def misplaced(events: list[Event], seen: dict[str, Pod]) -> list[str]:
    """Events whose time is not when it happened; one that was concluded names a time that holds the truth."""
    wrong = []
    for event in events:
        pod = seen.get(event.pod_uid)
        truth = {"pod.scheduled": "bound", "pod.running": "running", "pod.ended": "ended"}.get(event.kind)
        moment = getattr(pod, truth) if pod and truth else None
        if moment is None:
            continue
        first = event.earliest if event.reconstructed and event.earliest else event.time
        if not first - STAMP_SECONDS <= moment <= event.time + STAMP_SECONDS:
            wrong.append(
                f"{event.kind} of {event.pod}: {event.time - moment:+.1f} s (earliest {first - moment:+.1f} s)"
            )
    return wrong


def check_pods(events: list[Event], seen: dict[str, Pod]) -> None:
    """Every pod's whole life is there, each fact once, at its time."""
    names = {uid: pod.name for uid, pod in seen.items()}
    assert [f"{kind} of {names[uid]}" for kind, uid in sorted(lost(events, seen))] == []
    often = Counter((event.kind, event.pod_uid) for event in events if event.pod_uid in seen)
    assert [key for key, times in often.items() if times > 1 and key[0].startswith("pod.")] == [], "doubled"
    assert misplaced(events, seen) == []
