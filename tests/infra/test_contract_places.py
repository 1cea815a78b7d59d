"""Zones and regions, as the autoscaler sees a pool's groups; and which of many pools a refusal names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra import contract, settings
from infra.contract import Template, jobs
from infra.settings.model import Settings

BASE = Path(__file__).with_name("mistakes") / "Pulumi.base.yaml"
PROD = Path(__file__).resolve().parents[2] / "stacks" / "Pulumi.prod.yaml"
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"

LAB = """config:
  tidepool:owner: data
  tidepool:cluster: {kind: existing, name: lab}
  tidepool:pools:
    batch: {market: on-demand, max: 5, labels: LABELS, cpu: 7910m, memory: 28Gi, ephemeral_storage: 80Gi,
      usd_per_hour: 0.4}
  tidepool:tenants: {etl: {cpu: 32, memory_gib: 128, pods: 100}}
  tidepool:images: {references: {spark: "registry.example/spark:3f2a1bc"}}
  tidepool:jobs: {default_tenant: etl}
  tidepool:lake: {uri: "s3a://lake/dev"}
"""


def lab(folder: Path, labels: str) -> Settings:
    (folder / "Pulumi.lab.yaml").write_text(LAB.replace("LABELS", labels))
    return settings.load(folder / "Pulumi.lab.yaml")


def by_selector(key: str, value: str) -> dict[str, Any]:
    return {"nodeSelector": {key: value}}


def by_affinity(key: str, value: str) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}]
    required = {"nodeSelectorTerms": terms}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def unschedulable(stack: Settings, spec: dict[str, Any]) -> list[str]:
    team = stack.jobs.default_tenant
    pod = {
        "metadata": {"namespace": f"tidepool-{team}"},
        "spec": {"containers": [{"name": "base"}], "tolerations": [{"operator": "Exists"}], **spec},
    }
    template = Template("dags/a.py:1", "task 'a'", pod)
    found = jobs.problems(template, stack, contract.planned(stack))
    return [each.what for each in found if each.rule == "unschedulable"]


@pytest.mark.parametrize("wanting", [by_selector, by_affinity])
@pytest.mark.parametrize(
    ("changes", "key", "value", "taken"),
    [
        ({}, ZONE, "us-east-1a", True),
        ({}, ZONE, "us-east-1b", False),
        ({"pools.spot-small.group_per_zone": True}, ZONE, "us-east-1b", True),
        ({"pools.spot-small.group_per_zone": True}, ZONE, "us-east-1c", False),
        ({"pools.spot-small.zones": ["us-east-1b"]}, ZONE, "us-east-1b", True),
        ({}, REGION, "us-east-1", True),
        ({}, REGION, "eu-west-1", False),
        ({}, "failure-domain.beta.kubernetes.io/zone", "us-east-1b", True),
        ({}, "kubernetes.io/hostname", "ip-10-0-0-1", False),
    ],
)
def test_a_zone_is_had_where_the_autoscaler_buys_machines_for_it(
    wanting: Any, changes: dict[str, Any], key: str, value: str, taken: bool
) -> None:
    assert (unschedulable(settings.load(BASE, changes), wanting(key, value)) == []) is taken


@pytest.mark.parametrize("wanting", [by_selector, by_affinity])
def test_a_zone_that_the_autoscaler_does_not_see_is_told_with_what_would_help(wanting: Any) -> None:
    (told,) = unschedulable(settings.load(BASE), wanting(ZONE, "us-east-1b"))
    assert "its group over us-east-1a, us-east-1b is in us-east-1a (group_per_zone makes one for each)" in told


@pytest.mark.parametrize("wanting", [by_selector, by_affinity])
@pytest.mark.parametrize(
    ("labels", "key", "taken"),
    [
        ("{workload: batch}", ZONE, True),
        ("{workload: batch}", REGION, True),
        ("{workload: batch}", "node.kubernetes.io/instance-type", True),
        ("{workload: batch}", "disk", False),
        ("{workload: batch, topology.kubernetes.io/zone: a}", ZONE, True),
        ("{workload: batch, topology.kubernetes.io/zone: b}", ZONE, False),
    ],
)
def test_of_an_existing_cluster_a_zone_is_unknown_unless_its_pool_states_it(
    tmp_path: Path, wanting: Any, labels: str, key: str, taken: bool
) -> None:
    assert (unschedulable(lab(tmp_path, labels), wanting(key, "a")) == []) is taken


def test_an_unknown_label_does_not_hide_what_is_known_to_be_missing(tmp_path: Path) -> None:
    wanted = by_selector(ZONE, "a")
    wanted["nodeSelector"]["disk"] = "fast"
    (told,) = unschedulable(lab(tmp_path, "{workload: batch}"), wanted)
    assert "disk=fast" in told
    assert ZONE not in told


def test_of_many_pools_the_nearest_is_named_and_the_others_are_counted() -> None:
    spec = by_selector("tidepool.dev/pool", "spot-medium")
    spec["containers"] = [
        {"name": "base", "resources": {"requests": {"memory": "100Gi"}, "limits": {"memory": "100Gi"}}}
    ]
    (told,) = unschedulable(settings.load(PROD), spec)
    assert told.startswith(
        "task 'a': no machine of any job pool would ever take its pod (spot-medium: it asks for 100.0 "
    )
    assert told.endswith("; 9 more refuse it for other reasons)")
    assert len(told) < 300
