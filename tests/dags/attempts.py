"""Attempts of one job to their end, for tests of where they go and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dags.fake_kubernetes import Kubernetes, Store, context, without_watches
from tidepool import JobFailed, JobPodOperator


def without_waits(monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    """A Kubernetes without watches and leases, in real time, where nobody sleeps."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    return without_watches(monkeypatch)


def run(operator: JobPodOperator, attempt: int = 1) -> None:
    operator.execute(context(attempt))


def failed(operator: JobPodOperator, attempt: int = 1, store: Store | None = None) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        operator.execute(context(attempt, store))
    return caught.value


def pools_of(body: dict[str, Any]) -> list[str]:
    affinity = body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [each["values"][0] for term in affinity["nodeSelectorTerms"] for each in term["matchExpressions"]]


def of_pods(kubernetes: Kubernetes) -> list[dict[str, Any]]:
    """Collects each pod as it is deleted, as a watch would see it last."""
    last: list[dict[str, Any]] = []
    delete = kubernetes.delete_namespaced_pod

    def deleted(name: str, namespace: str, body: Any = None, **more: Any) -> None:
        last.append(kubernetes.json(name))
        last[-1]["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z"
        delete(name, namespace, body, **more)

    kubernetes.delete_namespaced_pod = deleted  # type: ignore[method-assign]
    return last
