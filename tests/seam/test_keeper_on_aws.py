"""The keeper asks a real AWS API (moto server, HTTP): machines of Auto Scaling Groups, notices through EventBridge and
SQS as the program sets them up, and prices."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from infra.aws import asg_tags, events
from infra.aws.allocatable import Allocatable
from infra.local.world_aws import Aws
from tests.waiting import wait_until
from tidepool.keeper import aws, aws_facts
from tidepool.keeper.aws import Clients, Fleet, Notices
from tidepool.keeper.aws_prices import LIST_SECONDS, SPOT_SECONDS, Prices
from tidepool.keeper.figures import PRICES_MARK
from tidepool.ledger.events import Event
from tidepool.ledger.lives import lives
from tidepool.ledger.store import Store
from tidepool.prices import aws as asking

CLUSTER = "dev"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A moto server in a process of its own: all those of one process have the same AWS account."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        Aws(url, "us-east-1").wait(60)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def clients(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Clients:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    httpx.post(f"{endpoint}/moto-api/reset", trust_env=False).raise_for_status()
    return aws.connect("us-east-1", endpoint)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(str(tmp_path / "ledger.db"))
    yield made
    made.close()


def make_group(clients: Clients, name: str = "dev-spot", cluster: str = CLUSTER, desired: int = 2) -> None:
    """As the program makes it: the tags of the machines, and those of the autoscaler."""
    tags = asg_tags.render(
        cluster=cluster,
        group=name,
        ownership={"tidepool.dev/pool": "spot"},
        labels={"tidepool.dev/pool": "spot"},
        taints=[],
        resources=Allocatable(1930, 7000 << 20, 16 << 30, 20),
        gpus=0,
        unneeded_time="1m",
    )
    image = clients.ec2.describe_images()["Images"][0]["ImageId"]
    clients.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": image})
    clients.autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=9,
        DesiredCapacity=desired,
        AvailabilityZones=["us-east-1a"],
        MixedInstancesPolicy={
            "InstancesDistribution": {"OnDemandBaseCapacity": 0, "OnDemandPercentageAboveBaseCapacity": 0},
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "$Latest"},
                "Overrides": [{"InstanceType": "m5.large"}, {"InstanceType": "m6i.large"}],
            },
        },
        Tags=[
            {"Key": key, "Value": value, "PropagateAtLaunch": asg_tags.for_machines(key)} for key, value in tags.items()
        ],
    )


def machines(clients: Clients, group: str = "dev-spot") -> list[str]:
    described = clients.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])
    return sorted(each["InstanceId"] for each in described["AutoScalingGroups"][0]["Instances"])


def fleet(clients: Clients, store: Store, **more: Any) -> Fleet:
    return Fleet(clients.ec2, clients.autoscaling, CLUSTER, store, **more)


def test_machines_of_the_clusters_groups_are_written_down_once_and_nobody_elses(clients: Clients, store: Store) -> None:
    make_group(clients)
    make_group(clients, "other", cluster="other")
    looking = fleet(clients, store)
    looking.look()
    looking.look()
    fleet(clients, store).look()
    told = store.events("machine.launched")
    assert sorted(event.machine for event in told) == machines(clients)
    assert {(each.pool, each.market, each.instance_type, each.zone) for each in told} == {
        ("spot", "spot", "m5.large", "us-east-1a")
    }
    assert all(abs(event.time - time.time()) < 60 for event in told)
    assert all(event.volume_gib > 0 for event in told)


def test_a_machine_is_gone_when_ec2_ended_it_whoever_asked(clients: Clients, store: Store) -> None:
    make_group(clients)
    looking = fleet(clients, store)
    looking.look()
    first, second = machines(clients)
    clients.autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=first, ShouldDecrementDesiredCapacity=True)
    looking.look()
    (gone,) = store.events("machine.gone")
    assert (gone.machine, gone.pool) == (first, "spot")
    assert abs(gone.time - time.time()) < 60
    looking.look()
    assert len(store.events("machine.gone")) == 1
    assert lives(store.read()).machines[second].gone is None


def test_a_machine_that_came_and_went_between_two_looks_has_cost_something(clients: Clients, store: Store) -> None:
    looking = fleet(clients, store)
    looking.look()
    make_group(clients, desired=1)
    (machine,) = machines(clients)
    clients.autoscaling.terminate_instance_in_auto_scaling_group(
        InstanceId=machine, ShouldDecrementDesiredCapacity=True
    )
    looking.look()
    life = lives(store.read()).machines[machine]
    assert life.launched is not None
    assert life.gone is not None
    assert life.launched <= life.gone + 1000


def test_what_ended_while_no_keeper_was_there_is_found_out_by_the_next(clients: Clients, store: Store) -> None:
    store.record(Event(NOON - 7200, "machine.launched", "i-0aaaaaaaaaaaaaaa0", pool="spot", market="spot"))
    store.record(Event(NOON - 3600, "machine.idle", "i-0aaaaaaaaaaaaaaa0", occurrence="u-1"))
    looking = fleet(clients, store, clock=lambda: NOON)
    for missed in range(aws.MISSED_LOOKS):
        assert store.events("machine.gone") == [], missed
        looking.look()
    (gone,) = store.events("machine.gone")
    assert (gone.machine, gone.pool, gone.reconstructed) == ("i-0aaaaaaaaaaaaaaa0", "spot", True)
    assert NOON - 3600 <= gone.earliest <= gone.time == NOON


def test_the_same_machine_told_by_its_node_and_by_ec2_is_one(clients: Clients, store: Store) -> None:
    make_group(clients, desired=1)
    (machine,) = machines(clients)
    store.record(Event(time.time(), "machine.ready", machine, pool="spot", cpu_millis=1930))
    fleet(clients, store).look()
    life = lives(store.read()).machines
    assert list(life) == [machine]
    assert (life[machine].market, life[machine].cpu_millis) == ("spot", 1930)


@pytest.fixture
def queue(clients: Clients, endpoint: str) -> str:
    """The queue and the rules, with the program's own patterns."""
    made: str = clients.sqs.create_queue(QueueName="dev-notices")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=made, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus = boto3.client("events", region_name="us-east-1", endpoint_url=endpoint)
    for name, pattern in events.PATTERNS.items():
        bus.put_rule(Name=name, EventPattern=json.dumps(pattern))
        bus.put_targets(Rule=name, Targets=[{"Id": "keeper", "Arn": arn}])
    return made


def send(endpoint: str, kind: str, **detail: Any) -> None:
    """An event of EC2's, onto the account's bus."""
    entry = {"Source": "aws.ec2", "DetailType": kind, "Detail": json.dumps(detail)}
    boto3.client("events", region_name="us-east-1", endpoint_url=endpoint).put_events(Entries=[entry])


def take(notices: Notices, number: int) -> None:
    """All of so many messages; none may be there yet."""
    taken = 0

    def all_taken() -> bool:
        nonlocal taken
        taken += notices.take(wait_seconds=1)
        return taken >= number

    wait_until(all_taken, 20, f"{number} messages")


def test_a_notice_of_ec2_is_in_the_ledger_at_once_and_then_off_the_queue(
    clients: Clients, store: Store, queue: str, endpoint: str
) -> None:
    make_group(clients, desired=1)
    (machine,) = machines(clients)
    notices = Notices(clients.sqs, queue, fleet(clients, store), store)
    send(endpoint, aws_facts.REBALANCE, **{"instance-id": machine})
    send(endpoint, aws_facts.RECLAIM, **{"instance-id": machine, "instance-action": "terminate"})
    send(endpoint, aws_facts.STATE, **{"instance-id": machine, "state": "running"})
    send(endpoint, aws_facts.STATE, **{"instance-id": machine, "state": "shutting-down"})
    take(notices, 3)
    assert notices.take(wait_seconds=0) == 0
    for kind in ("machine.at_risk", "machine.reclaimed", "machine.gone"):
        (event,) = store.events(kind)
        assert (event.machine, event.pool, event.market) == (machine, "spot", "spot")
    assert len(store.events("machine.launched")) == 1


def test_notices_of_others_machines_and_what_is_none_are_dropped(
    clients: Clients, store: Store, queue: str, endpoint: str
) -> None:
    make_group(clients, "other", cluster="other", desired=1)
    (stranger,) = machines(clients, "other")
    notices = Notices(clients.sqs, queue, fleet(clients, store), store)
    send(endpoint, aws_facts.RECLAIM, **{"instance-id": stranger})
    send(endpoint, aws_facts.RECLAIM, **{"instance-id": "i-0bbbbbbbbbbbbbbb0"})
    clients.sqs.send_message(QueueUrl=queue, MessageBody="hello")
    take(notices, 3)
    assert list(store.read()) == []


def test_a_notice_that_could_not_be_written_stays_on_the_queue(
    clients: Clients, store: Store, queue: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_group(clients, desired=1)
    (machine,) = machines(clients)
    looking = fleet(clients, store)
    looking.look()
    notices = Notices(clients.sqs, queue, looking, store)
    clients.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "0"})
    send(endpoint, aws_facts.RECLAIM, **{"instance-id": machine})

    def broken(event: Event) -> bool:
        raise OSError("the database is away")

    with monkeypatch.context() as failing:
        failing.setattr(store, "record", broken)
        with pytest.raises(OSError, match="database"):
            notices.take(wait_seconds=5)
    assert notices.take(wait_seconds=5) == 1
    assert len(store.events("machine.reclaimed")) == 1


class Answers:
    """In place of boto3's `pricing` and `ec2`, of which moto knows no prices: pages, and what was asked for."""

    def __init__(self, key: str, items: list[Any]) -> None:
        self._page = {key: items}
        self.asked: list[dict[str, Any]] = []

    def get_paginator(self, operation: str) -> Any:
        return self

    def paginate(self, **parameters: Any) -> list[dict[str, Any]]:
        self.asked.append(parameters)
        return [self._page]


def test_prices_are_asked_for_daily_and_hourly_and_when_a_type_is_new(store: Store) -> None:
    product = {
        "product": {"attributes": {**asking.SHARED_LINUX, "regionCode": "us-east-1", "instanceType": "m5.large"}},
        "terms": {
            "OnDemand": {
                "t": {
                    "effectiveDate": "2026-11-01T00:00:00Z",
                    "priceDimensions": {"d": {"unit": "Hrs", "pricePerUnit": {"USD": "0.107"}}},
                }
            }
        },
    }
    spot = {
        "ProductDescription": "Linux/UNIX",
        "AvailabilityZone": "us-east-1a",
        "InstanceType": "m5.large",
        "SpotPrice": "0.041",
        "Timestamp": datetime.fromtimestamp(NOON - 600, UTC),
    }
    pricing, ec2 = Answers("PriceList", [json.dumps(product)]), Answers("SpotPriceHistory", [spot])
    now, types = [NOON], ["m5.large"]
    prices = Prices(pricing, ec2, "us-east-1", store, lambda: types, clock=lambda: now[0])
    assert prices.step() == 2
    assert {(each.market, each.zone, each.usd_per_hour) for each in store.prices()} == {
        ("on-demand", "", 0.107),
        ("spot", "us-east-1a", 0.041),
    }
    assert float(store.marked(PRICES_MARK) or 0) == NOON
    asked = [(len(pricing.asked), len(ec2.asked))]
    for later in (60, SPOT_SECONDS, LIST_SECONDS):
        now[0] = NOON + later
        prices.step()
        asked.append((len(pricing.asked), len(ec2.asked)))
    assert asked == [(1, 1), (1, 1), (1, 2), (2, 3)]
    assert ec2.asked[1]["StartTime"].timestamp() == NOON - 2 * SPOT_SECONDS
    types.append("m6i.large")
    prices.step()
    assert len(ec2.asked) == 4
    assert len(store.prices()) == 2


def test_a_right_that_is_missing_stops_nothing_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            raise KeyboardInterrupt

    def denied() -> None:
        raise PermissionError("AccessDenied: not authorized to perform pricing:GetProducts")

    monkeypatch.setattr(aws.time, "sleep", sleep)
    with caplog.at_level("WARNING"), pytest.raises(KeyboardInterrupt):
        aws.forever(denied, 0.0, "asking AWS for prices")
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(pauses) == 60
    assert len(caplog.records) == 1
    assert "pricing:GetProducts" in caplog.text
