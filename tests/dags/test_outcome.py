"""One cause for every end: one file for each in outcomes/, in the shapes of the API server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidepool.outcome import Cause, Seen, conclude, outcome

FOLDER = Path(__file__).parent / "outcomes"
CASES: dict[str, Any] = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(FOLDER.glob("*.yaml"))}
PAINS = set(range(1, 17)) - {13, 16}
"""The lines of the list of pains that a pod can end by: not previews of cost, and not figures of what a task used."""


@pytest.mark.parametrize("case", CASES)
def test_every_end_has_its_one_cause_and_says_what_is_the_evidence(case: str) -> None:
    body = CASES[case]
    found = conclude(Seen(**body["seen"]))
    assert found.cause.value == body["cause"], found.message
    assert body["says"].lower() in found.message.lower()


@pytest.mark.parametrize("case", CASES)
def test_every_case_says_what_it_is_and_where_its_shape_is_from(case: str) -> None:
    body = CASES[case]
    assert body.keys() - {"pain"} == {"about", "source", "cause", "says", "seen"}
    assert body["about"].endswith(".")
    assert body["seen"].keys() <= {field.name for field in dataclasses.fields(Seen)}


def test_every_cause_and_every_pain_has_a_case() -> None:
    assert {body["cause"] for body in CASES.values()} == {cause.value for cause in Cause}
    assert {body["pain"] for body in CASES.values() if "pain" in body} == PAINS


def test_what_the_local_cloud_can_bring_about_is_recorded_from_it() -> None:
    """By tests/local/test_cloud_outcomes.py."""
    recorded = {body["cause"] for body in CASES.values() if body["source"].startswith("recorded from a pod")}
    by_others = {"timed_out", "unknown"}  # Airflow's clocks, and what nobody saw
    assert recorded >= {cause.value for cause in Cause} - by_others


def test_what_is_not_evident_is_unknown_whatever_else_is_missing() -> None:
    """Taking evidence away never turns one cause into another, save where the pod itself tells."""
    for case, body in CASES.items():
        bare = conclude(Seen(pod=body["seen"].get("pod"), gone=body["seen"].get("gone", False)))
        told_by_others = {"node", "node_gone", "events", "market", "stopped", "overtime"} & body["seen"].keys()
        if not told_by_others:
            assert bare.cause.value == body["cause"], case


def test_a_pod_that_is_gone_without_a_word_is_lost_only_with_its_machine() -> None:
    pod = CASES["unknown-gone"]["seen"]["pod"]
    assert outcome(pod).cause is Cause.UNKNOWN
    assert outcome(pod, node_gone=True).cause is Cause.NODE_LOST


def test_only_the_jobs_own_container_counts() -> None:
    seen = CASES["app-error-sidecar-out-of-memory"]["seen"]
    assert conclude(Seen(**seen)).cause is Cause.APP_ERROR
    assert conclude(Seen(**seen, container="agent")).cause is Cause.OUT_OF_MEMORY
