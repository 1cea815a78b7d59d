"""What the machines of every stack carry, as files to read: a change of them is a change of all new machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import settings
from infra.aws import machines, user_data
from infra.settings.model import AwsCloud
from tests.infra import golden

STACKS = sorted((Path(__file__).resolve().parents[2] / "stacks").glob("Pulumi.*.yaml"))


def name_of(stack: Path) -> str:
    return stack.name.removeprefix("Pulumi.").removesuffix(".yaml")


def cloud_of(stack: Path) -> AwsCloud:
    cloud = settings.load(stack).cloud
    assert isinstance(cloud, AwsCloud)
    return cloud


@pytest.mark.parametrize("stack", STACKS, ids=name_of)
def test_user_data_of_every_pool(stack: Path) -> None:
    cloud = cloud_of(stack)
    texts = {
        name: machines.machine_user_data(
            cloud.cluster.name,
            pool,
            endpoint="https://endpoint.example",
            certificate_authority="Q0E=",
            service_cidr="172.20.0.0/16",
        )
        for name, pool in cloud.pools.items()
    }
    assert all(user_data.parse(text)["spec"]["cluster"]["name"] == cloud.cluster.name for text in texts.values())
    together = "\n".join(f"=== {name} ===\n{text}" for name, text in texts.items())
    golden.check(f"user_data/{name_of(stack)}.txt", together)


@pytest.mark.parametrize("stack", STACKS, ids=name_of)
def test_tags_of_every_group(stack: Path) -> None:
    cloud = cloud_of(stack)
    environment = {"tidepool.dev/owner": "data", "tidepool.dev/environment": name_of(stack)}
    tags = {
        group.name: machines.group_tags(cloud.cluster.name, group.name, pool, environment)
        for pool in cloud.pools.values()
        for group in machines.groups(cloud.cluster.name, pool)
    }
    golden.check_json(f"tags/{name_of(stack)}.json", tags)
