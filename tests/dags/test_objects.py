from __future__ import annotations

from typing import Any

import pytest

from tidepool.objects import condition, is_over

READY = {"type": "Ready", "status": "False", "reason": "KubeletNotReady"}


@pytest.mark.parametrize(
    "thing", [None, {}, {"status": None}, {"status": {"conditions": None}}, {"status": {"conditions": [{"type": "X"}]}}]
)
def test_what_says_nothing_of_a_condition_has_an_empty_one(thing: Any) -> None:
    assert condition(thing, "Ready") == {}


def test_a_condition_is_found_by_its_type_whatever_it_says() -> None:
    assert condition({"status": {"conditions": [{"type": "MemoryPressure"}, READY]}}, "Ready") == READY


@pytest.mark.parametrize(
    ("status", "over"),
    [
        ({"phase": "Succeeded"}, True),
        ({"phase": "Failed"}, True),
        ({"phase": "Running"}, False),
        ({"phase": "Pending"}, False),
        ({"phase": "Unknown"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_pod_is_over_in_its_final_phases_only(status: Any, over: bool) -> None:
    assert is_over({"status": status}) is over
    assert not is_over({})
