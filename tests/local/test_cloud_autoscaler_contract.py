"""What any autoscaler does here, seen from outside: the stand-in, or the binary that TIDEPOOL_AUTOSCALER names."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.local.aws import Aws
from tidepool.capacity import POOL_LABEL

pytestmark = pytest.mark.local_cloud

SPOT, ON_DEMAND = "spot-small", "on-demand-small"
FOREVER = "import time; time.sleep(3600)"
READY_SECONDS = 1.0
"""How exact Kubernetes' own times are."""


@contextlib.contextmanager
def maximum(aws: Aws, group: Any, value: int) -> Iterator[None]:
    """Another maximum for an Auto Scaling Group for a while."""
    described = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group.name])["AutoScalingGroups"]
    policy = described[0]["MixedInstancesPolicy"]  # moto forgets it where an update does not name it
    del policy["LaunchTemplate"]["LaunchTemplateSpecification"]["LaunchTemplateName"]  # the id says it

    def change(maximum: int) -> None:
        aws.autoscaling.update_auto_scaling_group(
            AutoScalingGroupName=group.name, MaxSize=maximum, MixedInstancesPolicy=policy
        )

    change(value)
    try:
        yield
    finally:
        change(group.maximum)


def create(local: Any, *names: str) -> None:
    """Jobs that fit both pools, each filling a machine."""
    for name in names:
        local.create(local.job_pod(name, FOREVER))


def pool_of(local: Any, machine: str) -> str:
    return str(local.node(machine).metadata.labels[POOL_LABEL])


def test_from_zero_spot_is_bought_first_then_on_demand_and_never_above_the_maximum(local: Any) -> None:
    spot, on_demand = local.group(SPOT), local.group(ON_DEMAND)
    assert (spot.desired, on_demand.desired) == (0, 0)
    with maximum(local.aws, spot, 1), maximum(local.aws, on_demand, 1):
        create(local, "first")
        assert pool_of(local, local.runs("first")) == SPOT
        create(local, "second")
        assert pool_of(local, local.runs("second")) == ON_DEMAND
        create(local, "third")
        # A job that ends makes room for the next one; were the maximum not kept, a machine would come instead.
        asked = local.machines_asked()
        local.wait_until(lambda: local.pod("third").status.conditions, 10, "the scheduler has looked at the third job")
        local.delete("second")
        assert pool_of(local, local.runs("third")) == ON_DEMAND
        assert local.machines_asked() == asked
        assert (local.group(SPOT).desired, local.group(ON_DEMAND).desired) == (1, 1)
        local.delete("first", "third")
        local.drains()
    assert local.group("system").instances, "a pool's minimum stays"


def test_an_idle_machine_goes_after_its_time_and_not_earlier_and_a_busy_one_stays(local: Any) -> None:
    create(local, "short", "long")
    idle, busy = local.runs("short"), local.runs("long")
    unneeded = local.group(SPOT).unneeded_seconds
    local.delete("short")
    start = time.monotonic()
    local.wait_until(lambda: idle not in local.job_machines(), 30 + unneeded, "the idle machine was given back")
    assert time.monotonic() - start >= unneeded - READY_SECONDS
    assert local.job_machines() == [busy]
    assert local.pod("long").status.phase == "Running"
    local.delete("long")
    local.drains(30 + unneeded)
