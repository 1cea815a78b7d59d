"""The stand-in autoscaler's decisions: the same as the cluster-autoscaler's where one can see them from outside."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local import autoscaler_plan as plan
from infra.local.aws import Group
from tests.local.autoscaler_objects import GIB, LABEL, group, pod


def grown(pods: list[dict[str, Any]], groups: list[Group], **more: Any) -> dict[str, int]:
    given: dict[str, Any] = {"rooms": [], "priorities": {}} | more
    return {each.group: each.machines for each in plan.growth(pods, groups, given["rooms"], given["priorities"])}


def test_a_pod_buys_one_machine_of_the_pool_that_it_tolerates_and_asks_for() -> None:
    assert grown([pod()], [group("spot"), group("other")]) == {"local-spot": 1}


def test_a_pod_without_the_toleration_buys_nothing() -> None:
    foreign = pod()
    foreign["spec"]["tolerations"] = []
    assert grown([foreign], [group("spot")]) == {}


def test_a_pod_too_big_for_every_machine_buys_nothing() -> None:
    assert grown([pod(memory="8Gi")], [group("spot")]) == {}


def test_a_machine_on_its_way_takes_its_pod_and_no_second_one_is_bought() -> None:
    spot = group("spot")
    assert grown([pod()], [spot], rooms=[plan.template(spot)]) == {}
    assert grown([pod("a"), pod("b")], [spot], rooms=[plan.template(spot)]) == {"local-spot": 1}


def test_two_whole_machine_pods_buy_two_machines_and_two_small_ones_share_one() -> None:
    assert grown([pod("a"), pod("b")], [group("spot")]) == {"local-spot": 2}
    assert grown([pod("a", "500m", "1Gi"), pod("b", "500m", "1Gi")], [group("spot")]) == {"local-spot": 1}


def test_a_group_never_grows_beyond_its_maximum() -> None:
    pods = [pod(f"job-{number}") for number in range(9)]
    assert grown(pods, [group("spot", maximum=3, desired=1)]) == {"local-spot": 2}


def test_the_priority_expander_decides_and_the_next_priority_takes_what_the_first_has_no_room_for() -> None:
    pods = [pod("a", pools=("spot", "od")), pod("b", pools=("spot", "od"))]
    priorities = {50: [".*-spot$"], 10: [".*-od$"]}
    groups = [group("od"), group("spot", maximum=1)]
    assert grown(pods[:1], groups, priorities=priorities) == {"local-spot": 1}
    assert grown(pods, groups, priorities=priorities) == {"local-spot": 1, "local-od": 1}


def test_without_priorities_the_machine_with_the_least_waste_is_bought() -> None:
    groups = [group("big", cpu=15_000, memory=60 * GIB), group("small")]
    assert grown([pod(pools=("big", "small"))], groups) == {"local-small": 1}


def node(taints: list[dict[str, str]] | None = None, **spec: Any) -> dict[str, Any]:
    own = {"key": LABEL, "value": "spot", "effect": "NoSchedule"}
    return {
        "metadata": {"name": "i-1", "labels": {LABEL: "spot"}},
        "spec": {"taints": [own, *(taints or [])], **spec},
        "status": {"allocatable": {"cpu": "1930m", "memory": "7Gi", "pods": "20"}},
    }


def on(where: str, body: dict[str, Any], phase: str = "Running") -> dict[str, Any]:
    body["spec"]["nodeName"] = where
    body["status"] = {"phase": phase}
    return body


def test_a_ready_machine_with_room_takes_the_pod_also_in_the_moment_before_its_not_ready_taint_goes() -> None:
    fresh = node([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    assert grown([pod()], [group("spot", desired=1)], rooms=[plan.rest(fresh, [])]) == {}


@pytest.mark.parametrize(
    "machine",
    [
        node(unschedulable=True),
        node([{"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}]),
    ],
)
def test_a_machine_that_takes_no_pods_any_more_holds_nothing_back(machine: dict[str, Any]) -> None:
    assert grown([pod()], [group("spot", desired=1)], rooms=[plan.rest(machine, [])]) == {"local-spot": 1}


def test_a_machine_that_is_full_holds_nothing_back_and_finished_pods_take_no_room() -> None:
    spot = group("spot", desired=1)
    running, finished = on("i-1", pod("a")), on("i-1", pod("a"), "Succeeded")
    assert grown([pod("b")], [spot], rooms=[plan.rest(node(), [running])]) == {"local-spot": 1}
    assert grown([pod("b")], [spot], rooms=[plan.rest(node(), [finished])]) == {}


def test_only_pods_that_the_scheduler_gave_up_on_are_pending() -> None:
    waiting, placed, leaving = pod("a"), pod("b"), pod("c")
    placed["spec"]["nodeName"] = "i-1"
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T00:00:00Z"
    undecided = pod("d") | {"status": {}}
    assert plan.pending([waiting, placed, leaving, undecided]) == [waiting]


def test_a_machine_is_idle_with_daemon_mirror_and_finished_pods_only() -> None:
    daemon = on("i-1", pod("daemon"))
    daemon["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "x"}]
    mirror = on("i-1", pod("mirror"))
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert plan.idle("i-1", [daemon, mirror, on("i-1", pod(), "Failed"), on("i-2", pod())])
    assert not plan.idle("i-1", [on("i-1", pod())])


def test_a_group_does_not_shrink_below_its_minimum() -> None:
    spot = group("spot", desired=2)
    assert plan.may_shrink(spot, leaving=0)
    assert plan.may_shrink(spot, leaving=1)
    assert not plan.may_shrink(spot, leaving=2)


@pytest.mark.parametrize(
    ("operator", "values", "accepted"),
    [
        ("In", ["spot"], True),
        ("NotIn", ["spot"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
        ("Unheard", ["spot"], False),
    ],
)
def test_node_affinity_expressions_mean_what_the_scheduler_means(
    operator: str, values: list[str] | None, accepted: bool
) -> None:
    body = pod()
    terms = [{"matchExpressions": [{"key": LABEL, "operator": operator, "values": values}]}]
    body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = {
        "nodeSelectorTerms": terms
    }
    assert plan.Room({LABEL: "spot"}, [], plan.requests(body)).fits(body) is accepted


def test_an_init_container_larger_than_the_rest_decides_the_request() -> None:
    body = pod(cpu="500m", memory="1Gi")
    body["spec"]["initContainers"] = [{"resources": {"requests": {"memory": "2Gi"}}}]
    assert plan.requests(body) == {"cpu": 500, "memory": 2 * GIB, "pods": 1}


def test_a_sidecar_keeps_its_share_while_what_comes_after_it_starts() -> None:
    body = pod(cpu="2", memory="1Gi")
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    body["spec"]["initContainers"] = [sidecar, {"resources": {"requests": {"cpu": "4"}}}]
    assert plan.requests(body)["cpu"] == 5000
    body["spec"]["initContainers"].reverse()
    assert plan.requests(body)["cpu"] == 4000
