from __future__ import annotations

from infra import naming
from infra.services.priority import CLASSES, PriorityClasses
from tests.infra.manifests import made_by
from tidepool import capacity
from tidepool.queues import WEIGHTS

EXPENDABLE = -10
"""The cluster-autoscaler's cutoff: no machine is bought for pods below it."""

LARGEST_OF_USERS = 1_000_000_000
"""Kubernetes keeps what is above for system classes."""


def test_services_come_before_jobs_and_low_jobs_last() -> None:
    made = made_by(lambda: PriorityClasses("priority"))
    by_value = sorted(made.values(), key=lambda each: -each["value"])
    assert [each["metadata"]["name"] for each in by_value] == [
        naming.PLATFORM_PRIORITY_CLASS,
        "tidepool-job-high",
        capacity.JOB_PRIORITY_CLASS,
        "tidepool-job-low",
    ]
    assert set(WEIGHTS) == {each.name for each in CLASSES} - {naming.PLATFORM_PRIORITY_CLASS}
    assert {name for name, each in made.items() if each["preemptionPolicy"] == "Never"} == {
        "PriorityClass/tidepool-job",
        "PriorityClass/tidepool-job-low",
    }


def test_a_job_puts_out_no_other_that_is_not_low() -> None:
    values = {each.name: each for each in CLASSES}
    ordinary, low = values[capacity.JOB_PRIORITY_CLASS], values["tidepool-job-low"]
    for each in values.values():
        if each.preempts and each.name != naming.PLATFORM_PRIORITY_CLASS:
            assert low.value < each.value <= ordinary.value


def test_a_machine_is_bought_for_every_class_and_daemons_without_one_put_no_job_out() -> None:
    assert all(EXPENDABLE < 0 < each.value < LARGEST_OF_USERS for each in CLASSES)


def test_no_class_is_forced_on_pods_of_others() -> None:
    made = made_by(lambda: PriorityClasses("priority"))
    assert [each["globalDefault"] for each in made.values()] == [False] * 4
