"""What the scheduler sets aside for a pod, as resourcehelper.PodRequests reckons it."""

from __future__ import annotations

from typing import Any

import pytest

from tidepool import requests
from tidepool.keeper import requests as keeper_requests
from tidepool.quantity import LARGEST

GIB = 1024**3
MAIN = {"resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}


def init(cpu: str) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu}}}


def sidecar(cpu: str) -> dict[str, Any]:
    return {"restartPolicy": "Always", **init(cpu)}


@pytest.mark.parametrize(
    ("inits", "cpu_millis"),
    [
        ([], 2000),
        ([init("4")], 4000),
        ([init("1")], 2000),
        ([init("3"), init("4")], 4000),
        ([sidecar("1")], 3000),
        ([sidecar("1"), init("4")], 5000),
        ([init("4"), sidecar("1")], 4000),
        ([init("4"), sidecar("3")], 5000),
        ([sidecar("1"), init("2"), sidecar("2"), init("500m")], 5000),
        ([sidecar("1"), sidecar("2"), init("4")], 7000),
        ([sidecar("1"), init("4"), sidecar("2")], 5000),
    ],
)
def test_sidecars_count_beside_what_comes_after_them(inits: list[dict[str, Any]], cpu_millis: int) -> None:
    spec = {"initContainers": inits, "containers": [MAIN]}
    assert requests.requested({"spec": spec}) == {"cpu": cpu_millis, "memory": GIB}
    assert keeper_requests.requested({"spec": spec}) == (cpu_millis, GIB)


def test_each_resource_is_reckoned_for_itself() -> None:
    spec = {
        "initContainers": [{"resources": {"requests": {"memory": "4Gi", "ephemeral-storage": "1Gi"}}}, init("1")],
        "containers": [
            MAIN,
            {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 2}}},
        ],
        "overhead": {"cpu": "250m", "memory": "64Mi"},
    }
    assert requests.requested({"spec": spec}) == {
        "cpu": 3250,
        "memory": 4 * GIB + 64 * 1024**2,
        "ephemeral-storage": GIB,
        "nvidia.com/gpu": 2,
    }


@pytest.mark.parametrize("pod", [{}, {"spec": None}, {"spec": {"containers": [{}]}}, {"spec": {"containers": None}}])
def test_a_pod_that_asks_for_nothing_is_reckoned_with_nothing(pod: dict[str, Any]) -> None:
    assert requests.requested(pod) == {}
    assert keeper_requests.requested(pod) == (0, 0)


def test_fractions_are_rounded_up_once_and_together() -> None:
    parts = [init("500u"), init("500u"), init("1n")]
    assert requests.requested({"spec": {"containers": parts}}) == {"cpu": 2}
    assert requests.amounts({"cpu": "1.5m", "memory": "100m", "pods": None}) == {"cpu": 2, "memory": 1}


@pytest.mark.parametrize(
    ("text", "resource", "value"),
    [
        ("1930m", "cpu", 1930),
        ("2", "cpu", 2000),
        ("7Gi", "memory", 7 * GIB),
        ("1k", "pods", 1000),
        ("500m", "memory", 1),
    ],
)
def test_an_amount_is_in_the_unit_of_its_resource(text: str, resource: str, value: int) -> None:
    assert requests.amount(text, resource) == value


def test_what_is_no_quantity_is_an_error_and_to_the_keeper_nothing() -> None:
    pod = {"spec": {"containers": [init("lots"), {"resources": {"requests": {"memory": "-1Gi", "cpu": "1"}}}]}}
    with pytest.raises(ValueError, match="'lots' is no Kubernetes quantity"):
        requests.requested(pod)
    assert keeper_requests.requested(pod) == (1000, 0)


def test_the_keeper_never_tells_more_than_its_ledger_holds() -> None:
    node = {"status": {"allocatable": {"cpu": "9" * 5000, "memory": "1e99"}}}
    cpu, memory = keeper_requests.allocatable(node)
    assert cpu == memory == 2**62 < LARGEST
