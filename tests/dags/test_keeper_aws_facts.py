"""What EC2, Auto Scaling and EventBridge say, as events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tidepool.keeper import aws_facts
from tidepool.keeper.aws_facts import Group, NoticeError

LAUNCHED = datetime(2026, 11, 23, 6, 0, 5, tzinfo=UTC)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
GROUPS = {"dev-spot": Group("dev-spot", "spot", spot=True, instance_type="m5.large")}


def instance(**more: Any) -> dict[str, Any]:
    tags = {aws_facts.GROUP_TAG: "dev-spot", "tidepool.dev/pool": "spot"}
    return {
        "InstanceId": "i-0123456789abcdef0",
        "InstanceType": "m6i.large",
        "InstanceLifecycle": "spot",
        "LaunchTime": LAUNCHED,
        "Placement": {"AvailabilityZone": "eu-central-1b"},
        "State": {"Name": "running"},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **more,
    }


def about(**more: Any) -> dict[str, Any]:
    return aws_facts.machine(instance(**more), GROUPS, 20.0)


def test_a_machine_tells_its_pool_market_zone_and_volume() -> None:
    assert about() == {
        "machine": "i-0123456789abcdef0",
        "pool": "spot",
        "market": "spot",
        "instance_type": "m6i.large",
        "zone": "eu-central-1b",
        "volume_gib": 20.0,
    }


def test_what_a_machine_does_not_tell_its_group_does() -> None:
    told = about(InstanceType="", Tags=[{"Key": aws_facts.GROUP_TAG, "Value": "dev-spot"}], InstanceLifecycle=None)
    assert (told["pool"], told["market"], told["instance_type"]) == ("spot", "spot", "m5.large")


def test_a_machine_of_no_group_is_on_demand_unless_ec2_says_spot() -> None:
    assert about(Tags=[], InstanceLifecycle=None)["market"] == "on-demand"
    assert about(Tags=[])["market"] == "spot"


def test_a_machine_was_asked_for_when_the_desired_capacity_changed() -> None:
    cause = (
        "At 2026-11-23T05:59:58Z a user request update of AutoScalingGroup constraints to min: 0, max: 9, desired: 1 "
        "changing the desired capacity from 0 to 1.  At 2026-11-23T06:00:02Z an instance was started in response to a "
        "difference between desired and actual capacity, increasing the capacity from 0 to 1."
    )
    started = datetime(2026, 11, 23, 6, 0, 3, tzinfo=UTC)
    launching = {"Description": "Launching a new EC2 instance: i-0123456789abcdef0", "Cause": cause}
    ending = {"Description": "Terminating EC2 instance: i-0fffffffffffffff0", "Cause": cause, "StartTime": started}
    failed = {"Description": "Launching a new EC2 instance.  Status Reason: no capacity", "StartTime": started}
    found = aws_facts.asked([{**launching, "StartTime": started}, ending, failed])
    assert found == {"i-0123456789abcdef0": LAUNCHED.timestamp() - 7}
    silent = aws_facts.asked([{**launching, "StartTime": started, "Cause": "At 2019-01-01T00:00:00Z somebody said so"}])
    assert silent == {"i-0123456789abcdef0": started.timestamp()}


def test_a_machine_that_was_ended_tells_when_and_why() -> None:
    gone = instance(State={"Name": "terminated"}, StateTransitionReason="User initiated (2026-11-23 06:10:07 GMT)")
    (event,) = aws_facts.ended(gone, about(), NOON, NOON - 20)
    assert (event.kind, event.time, event.reconstructed) == ("machine.gone", LAUNCHED.timestamp() + 602, False)
    taken = gone | {"StateReason": {"Code": "Server.SpotInstanceTermination"}}
    assert [each.kind for each in aws_facts.ended(taken, about(), NOON, NOON - 20)] == [
        "machine.reclaimed",
        "machine.gone",
    ]


def test_an_end_without_a_time_lies_between_the_last_look_and_now() -> None:
    (event,) = aws_facts.ended(
        instance(State={"Name": "terminated"}, StateTransitionReason=""), about(), NOON, NOON - 20
    )
    assert (event.time, event.earliest, event.reconstructed) == (NOON, NOON - 20, True)


def test_a_stopped_machine_of_a_warm_pool_was_not_asked_for() -> None:
    states = {"i-1": "Warmed:Stopped", "i-2": "InService", "i-3": "Warmed:Pending"}
    instances = [{"InstanceId": name, "LifecycleState": state} for name, state in states.items()]
    assert aws_facts.warmed({"Instances": instances}) == {"i-1", "i-3"}


def message(kind: str, **detail: Any) -> str:
    return json.dumps(
        {
            "detail-type": kind,
            "source": "aws.ec2",
            "time": "2026-11-23T12:00:00Z",
            "detail": {"instance-id": "i-0123456789abcdef0", **detail},
        }
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (message(aws_facts.RECLAIM, **{"instance-action": "terminate"}), "machine.reclaimed"),
        (message(aws_facts.REBALANCE), "machine.at_risk"),
        (message(aws_facts.STATE, state="shutting-down"), "machine.gone"),
        (message(aws_facts.STATE, state="terminated"), "machine.gone"),
    ],
)
def test_a_notice_is_the_event_that_it_tells_of(body: str, kind: str) -> None:
    told = aws_facts.notice(body)
    assert told is not None
    assert (told.kind, told.machine, told.time) == (kind, "i-0123456789abcdef0", NOON)


def test_a_machine_that_has_come_to_run_is_no_notice() -> None:
    assert aws_facts.notice(message(aws_facts.STATE, state="running")) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"detail-type": "EC2 Spot Instance Interruption Warning", "detail": {}, "time": "2026-11-23T12:00:00Z"}',
        message(aws_facts.RECLAIM).replace("2026-11-23T12:00:00Z", "noon"),
        message(aws_facts.RECLAIM, **{"instance-id": "i-1; DROP TABLE"}),
        message("Scheduled Event"),
        message(aws_facts.RECLAIM, **{"instance-id": ["i-0123456789abcdef0"]}),
    ],
)
def test_what_is_no_notice_says_so(body: str) -> None:
    with pytest.raises(NoticeError, match="no notice"):
        aws_facts.notice(body)
