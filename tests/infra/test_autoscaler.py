from __future__ import annotations

import pulumi
import pytest
import yaml

from infra import versions
from infra.autoscaler_flags import FLAGS
from infra.local.aws import seconds
from infra.services import autoscaler
from infra.services.autoscaler import Autoscaler, AutoscalerRelease, priority_list
from infra.settings.pools import UNNEEDED_TIME
from tests.infra import recording
from tests.infra.releases import RELEASE, SYSTEM

CLOUD = {"cloudProvider": "aws", "awsRegion": "us-east-1", "autoDiscovery": {"clusterName": "dev"}}


def test_its_image_is_of_the_clusters_minor_version_whatever_the_chart_packages() -> None:
    tag = autoscaler.values(CLOUD, SYSTEM, {})["image"]["tag"]
    assert tag.removeprefix("v").split(".")[:2] == versions.KUBERNETES.split(".")[:2]


def test_identity_of_a_cloud_that_binds_by_annotation_is_on_the_account() -> None:
    account = autoscaler.values(CLOUD, SYSTEM, {"iam.gke.io/gcp-service-account": "a"})["rbac"]["serviceAccount"]
    assert account == {"name": "cluster-autoscaler", "annotations": {"iam.gke.io/gcp-service-account": "a"}}


def test_a_cloud_does_not_silently_replace_what_the_service_decides() -> None:
    with pytest.raises(ValueError, match="the cloud sets extraArgs, which are ours"):
        autoscaler.values({**CLOUD, "extraArgs": {"v": "9"}}, SYSTEM, {})


def test_no_clock_of_the_autoscaler_holds_an_idle_machine_longer_than_its_pool_says() -> None:
    shortest = seconds(UNNEEDED_TIME)
    for flag in ("scale-down-delay-after-add", "scale-down-delay-after-delete"):
        assert seconds(FLAGS[flag]) == 0
    for flag in ("scan-interval", "unremovable-node-recheck-timeout"):
        assert seconds(FLAGS[flag]) <= shortest


def test_pools_are_tried_in_the_order_of_their_priority() -> None:
    text = priority_list({"dev-on-demand": 10, "dev-spot": 50, "dev-system": 10})
    assert list(yaml.safe_load(text).items()) == [(50, ["^dev-spot$"]), (10, ["^dev-on-demand$", "^dev-system$"])]


def test_the_order_has_one_owner() -> None:
    """The chart would make the same ConfigMap, and the two would take it from each other at every deployment."""
    assert "expanderPriorities" not in autoscaler.values(CLOUD, SYSTEM, {})


def test_the_order_is_where_the_expander_looks_for_it() -> None:
    release = AutoscalerRelease(values=CLOUD, placement=SYSTEM, identity={}, chart_sources={})
    made = recording.made_by(lambda: Autoscaler("autoscaler", {"dev-spot": 50}, release))
    order = made.one("core/v1:ConfigMap")
    assert order.inputs["metadata"] == {"name": "cluster-autoscaler-priority-expander", "namespace": "kube-system"}
    assert order.inputs["data"] == {"priorities": "50:\n- ^dev-spot$\n"}


@pytest.mark.parametrize("preview", [False, True])
def test_the_release_comes_after_the_order_and_bears_unknown_values(preview: bool) -> None:
    def build() -> None:
        cluster = pulumi.Output.from_input(pulumi.ComponentResource("tidepool:tests:First", "first").urn).apply(
            lambda _: "dev"
        )
        values = {"cloudProvider": "aws", "autoDiscovery": {"clusterName": cluster}}
        release = AutoscalerRelease(values=values, placement=SYSTEM, identity={}, chart_sources={})
        Autoscaler("autoscaler", {"dev-spot": 50}, release)

    made = recording.made_by(build, preview=preview)
    release = made.one(RELEASE)
    assert "autoscaler-priorities" in release.depends_on
    assert release.inputs["values"]["cloudProvider"] == "aws"
