"""What the stand-in autoscaler says of pods: the cluster-autoscaler's words, as the ladder of attempts reads them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kubernetes.client import ApiClient, ApiException

from infra.local.autoscaler import Autoscaler
from infra.local.aws import Group
from tests.local.autoscaler_objects import GIB, group, pod
from tidepool import ladder
from tidepool.ladder import Clocks, Stage


class Api:
    """The API server's part: nodes, pods and events."""

    api_client = ApiClient()

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods = [{**each, "metadata": {**each["metadata"], "uid": each["metadata"]["name"]}} for each in pods]
        self.events: dict[str, dict[str, Any]] = {}
        self.writes = 0
        self.failure: Exception | None = None

    def list_node(self, **_: Any) -> Any:
        return {"items": []}

    def list_pod_for_all_namespaces(self, **_: Any) -> Any:
        return {"items": self.pods}

    def read_namespaced_config_map(self, *_: Any, **__: Any) -> Any:
        raise ApiException(status=404)

    def create_namespaced_event(self, namespace: str, body: dict[str, Any], **_: Any) -> None:
        self._answer()
        assert body["metadata"]["namespace"] == namespace == body["involvedObject"]["namespace"]
        self.events[body["metadata"]["name"]] = body

    def patch_namespaced_event(self, name: str, namespace: str, body: dict[str, Any], **_: Any) -> None:
        self._answer()
        self.events[name] |= body

    def _answer(self) -> None:
        self.writes += 1
        if self.failure is not None:
            raise self.failure


class Aws:
    """The Auto Scaling Groups; a machine that is asked for never comes."""

    def __init__(self, *groups: Group) -> None:
        self._groups = {each.name: each for each in groups}
        self.refuses = False

    def groups(self, _: str) -> list[Group]:
        return list(self._groups.values())

    def scale(self, name: str, desired: int) -> None:
        if self.refuses:
            raise ClientError({"Error": {"Code": "Throttling", "Message": "slow down"}}, "SetDesiredCapacity")
        self._groups[name] = dataclasses.replace(self._groups[name], desired=desired)

    def give_back(self, instance: str) -> None:
        for name, each in self._groups.items():
            left = tuple(other for other in each.instances if other != instance)
            self._groups[name] = dataclasses.replace(each, instances=left, desired=len(left))


def scanned(api: Api, aws: Aws, *times: float) -> list[dict[str, Any]]:
    autoscaler = Autoscaler("local", aws, api)  # type: ignore[arg-type]
    for now in times:
        autoscaler.scan(now)
    return list(api.events.values())


def words(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["reason"], event["message"]) for event in events]


def test_a_pod_that_buys_a_machine_is_told_which_group_grows_by_how_many() -> None:
    (event,) = scanned(Api(pod()), Aws(group("spot"), group("other")), 1.0)
    assert (event["type"], event["reason"]) == ("Normal", "TriggeredScaleUp")
    assert event["message"] == "pod triggered scale-up: [{local-spot 0->1 (max: 4)}]"
    assert event["source"] == {"component": "cluster-autoscaler"}
    about = {"apiVersion": "v1", "kind": "Pod", "name": "job", "namespace": "jobs", "uid": "job"}
    assert event["involvedObject"] == about


def test_pods_that_share_a_machine_are_both_told() -> None:
    events = scanned(Api(pod("a", "500m", "1Gi"), pod("b", "500m", "1Gi")), Aws(group("spot")), 1.0)
    assert sorted(event["involvedObject"]["name"] for event in events) == ["a", "b"]


def test_while_its_machine_is_on_its_way_nothing_more_is_said() -> None:
    assert len(scanned(Api(pod()), Aws(group("spot")), 1.0, 20.0, 40.0)) == 1


FULL = group("spot", maximum=0)


@pytest.mark.parametrize(
    ("asks", "groups", "reasons"),
    [
        ({}, [FULL], "1 max node group size reached"),
        ({}, [group("a"), group("b")], "2 node(s) had untolerated taint(s)"),
        ({"cpu": "4", "memory": "9Gi"}, [group("spot")], "1 Insufficient cpu, 1 Insufficient memory"),
        ({}, [FULL, group("b")], "1 max node group size reached, 1 node(s) had untolerated taint(s)"),
        ({}, [], ""),
    ],
)
def test_a_pod_that_no_group_helps_is_told_why_by_number_of_groups(
    asks: dict[str, Any], groups: list[Group], reasons: str
) -> None:
    events = scanned(Api(pod(**asks)), Aws(*groups), 1.0)
    assert words(events) == [("NotTriggerScaleUp", f"pod didn't trigger scale-up: {reasons}")]


def test_of_two_pods_the_one_that_no_machine_on_its_way_takes_is_told_no() -> None:
    coming = dataclasses.replace(group("spot", maximum=1, desired=1), instances=())
    events = scanned(Api(pod("a"), pod("b")), Aws(coming), 1.0)
    assert [event["involvedObject"]["name"] for event in events] == ["b"]
    assert words(events)[0][1] == "pod didn't trigger scale-up: 1 max node group size reached"


def test_an_affinity_that_no_group_has_is_the_reason_where_its_taint_is_tolerated() -> None:
    asks = pod()
    asks["spec"]["tolerations"] = [{"operator": "Exists"}]
    events = scanned(Api(asks), Aws(group("other")), 1.0)
    assert words(events)[0][1] == "pod didn't trigger scale-up: 1 node(s) didn't match Pod's node affinity/selector"


def test_nobody_is_told_no_while_machines_are_asked_for() -> None:
    events = scanned(Api(pod("a"), pod("b", pools=("nowhere",))), Aws(group("spot")), 1.0)
    assert [event["reason"] for event in events] == ["TriggeredScaleUp"]


def test_the_same_word_again_raises_a_count_not_too_often_and_not_for_ever() -> None:
    api = Api(pod(pools=("nowhere",)))
    (event,) = scanned(api, Aws(group("spot")), *[0.5 * each for each in range(2, 60)])
    assert event["count"] == api.writes == 3  # at 1 s, 11 s and 21 s
    api = Api(pod(pools=("nowhere",)))
    (event,) = scanned(api, Aws(group("spot")), *[10.0 * each for each in range(1, 120)])
    assert event["count"] == 25 + 3  # as Kubernetes' recorder: at once, and then one each five minutes


def test_a_group_that_cannot_be_raised_is_told_of_and_backs_off() -> None:
    aws = Aws(group("spot"))
    aws.refuses = True
    events = scanned(Api(pod()), aws, 1.0, 2.0)
    failed, refused = events
    assert failed["involvedObject"]["kind"] == "ConfigMap"
    assert failed["involvedObject"]["name"] == "cluster-autoscaler-status"
    assert (failed["type"], failed["reason"]) == ("Warning", "FailedToScaleUpGroup")
    assert failed["message"].startswith("Scale-up failed for group local-spot: ")
    assert words([refused]) == [
        ("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 in backoff after failed scale-up"),
    ]


def test_a_machine_that_does_not_come_is_given_back_when_the_platforms_autoscaler_would_too() -> None:
    aws = Aws(group("spot", desired=1, maximum=1))
    autoscaler = Autoscaler("local", aws, api := Api(pod(cpu="1", memory="8Gi")))  # type: ignore[arg-type]
    for now in (1.0, 300.0):
        autoscaler.scan(now)
    assert aws.groups("")[0].desired == 1
    autoscaler.scan(302.0)
    assert aws.groups("")[0].desired == 0
    said = [event["message"] for event in api.events.values() if event["reason"] == "ScaleUpTimedOut"]
    assert said == ["Nodes added to group local-spot failed to register within 5m0s"]
    api.pods = Api(pod()).pods
    autoscaler.scan(302.0 + 179)
    assert aws.groups("")[0].desired == 0
    autoscaler.scan(302.0 + 181)
    assert aws.groups("")[0].desired == 1


@pytest.mark.parametrize("failure", [ApiException(status=403), ConnectionError("away")])
def test_an_event_that_cannot_be_written_keeps_nobody_from_machines(failure: Exception) -> None:
    api, aws = Api(pod()), Aws(group("spot"))
    api.failure = failure
    assert scanned(api, aws, 1.0) == []
    assert aws.groups("")[0].desired == 1


def test_the_ladder_understands_what_is_said() -> None:
    waiting = {"status": {"phase": "Pending"}, "metadata": {"uid": "job"}}
    bought = scanned(Api(pod()), Aws(group("spot")), 1.0)
    assert ladder.stage(waiting, bought) is Stage.BUYING
    full = scanned(Api(pod()), Aws(group("spot", maximum=0)), 1.0)
    stuck = ladder.stuck(waiting, full, 20.0, Clocks())
    assert stuck is not None
    assert stuck.is_full
    assert datetime.fromisoformat(full[0]["lastTimestamp"]).tzinfo == UTC
    small = scanned(Api(pod(memory="8Gi")), Aws(group("spot", memory=7 * GIB)), 1.0)
    nowhere = ladder.stuck(waiting, small, 20.0, Clocks())
    assert nowhere is not None
    assert not nowhere.is_full
    assert nowhere.why.endswith("1 Insufficient memory")
