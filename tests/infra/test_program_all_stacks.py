"""The whole program on every stack file: before anything is there, with everything there, and how long it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra import image_sources, settings
from infra.aws import endpoints, machines
from infra.settings.model import AwsCloud, Settings
from tests.infra import golden, recorded

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_SECONDS = 6.0
"""Of CPU, which depend little on what else runs."""

every_stack = pytest.mark.parametrize("stack", recorded.ALL)


def load(stack: str) -> tuple[Settings, AwsCloud]:
    loaded = settings.load(recorded.STACKS / f"Pulumi.{stack}.yaml")
    assert isinstance(loaded.cloud, AwsCloud)
    return loaded, loaded.cloud


def counts(made: list[recorded.Recorded]) -> Counter[str]:
    return Counter(each.typ for each in made)


@every_stack
def test_a_preview_of_an_empty_account_takes_seconds(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        report = preview(stack)
        with capsys.disabled():
            print(f" {stack}: {report['cpu_seconds']} s of CPU in {report['seconds']} s", end="")
        if report["cpu_seconds"] <= MOST_SECONDS:
            break
    assert report["cpu_seconds"] <= MOST_SECONDS
    assert report["counts"] == counts(recorded.record(stack))


def preview(stack: str) -> dict[str, Any]:
    """What a process of its own says of a stack's preview."""
    command = [sys.executable, "-m", "tests.infra.recorded", stack, "--preview"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@every_stack
def test_the_network_is_as_wide_as_its_settings_say(stack: str) -> None:
    _, cloud = load(stack)
    zones, made = len(cloud.network.zones), counts(recorded.record(stack))
    gateways = zones if cloud.network.nat == "per-zone" else 1
    interfaces = len(endpoints.INTERFACE_SERVICES) if cloud.network.interface_endpoints else 0
    assert made["aws:ec2/vpc:Vpc"] == made["aws:ec2/internetGateway:InternetGateway"] == 1
    assert made["aws:ec2/subnet:Subnet"] == made["aws:ec2/routeTableAssociation:RouteTableAssociation"] == 2 * zones
    assert made["aws:ec2/natGateway:NatGateway"] == made["aws:ec2/eip:Eip"] == gateways
    assert made["aws:ec2/routeTable:RouteTable"] == made["aws:ec2/route:Route"] == zones + 1
    assert made["aws:ec2/vpcEndpoint:VpcEndpoint"] == 1 + interfaces
    assert made["aws:ec2/flowLog:FlowLog"] == 1


@every_stack
def test_every_pool_has_its_template_and_groups_beside_the_system_nodes(stack: str) -> None:
    _, cloud = load(stack)
    made = counts(recorded.record(stack))
    assert made["eks:index:Cluster"] == made["aws:eks/nodeGroup:NodeGroup"] == 1
    assert made["aws:ec2/launchTemplate:LaunchTemplate"] == len(cloud.pools) + 1
    assert made["aws:autoscaling/group:Group"] == sum(
        len(machines.groups(cloud.cluster.name, pool)) for pool in cloud.pools.values()
    )


@every_stack
def test_data_lives_in_three_closed_buckets_and_a_database_where_asked_for(stack: str) -> None:
    _, cloud = load(stack)
    made = counts(recorded.record(stack))
    for part in ("", "OwnershipControls", "PublicAccessBlock", "Policy", "Versioning", "LifecycleConfiguration"):
        assert made[f"aws:s3/bucket{part}:Bucket{part}"] == 3
    assert made["aws:rds/instance:Instance"] == (cloud.database is not None)
    assert made["aws:secretsmanager/secretVersion:SecretVersion"] == made["aws:secretsmanager/secret:Secret"]
    assert made["aws:budgets/budget:Budget"] == (cloud.budget is not None)


@every_stack
def test_every_image_has_a_repository_and_is_built_only_where_asked_for(stack: str) -> None:
    loaded, _ = load(stack)
    made = counts(recorded.record(stack))
    images = len(image_sources.names())
    assert made["aws:ecr/repository:Repository"] == made["aws:ecr/lifecyclePolicy:LifecyclePolicy"] == images
    assert made["docker-build:index:Image"] == (images if loaded.images.build else 0)


@every_stack
def test_every_service_that_is_asked_for_is_there_and_no_other(stack: str) -> None:
    loaded, cloud = load(stack)
    services = loaded.services
    made = recorded.record(stack)
    wanted = {
        "cluster-autoscaler": True,
        "aws-node-termination-handler": True,
        "nvidia-device-plugin": any(pool.gpus for pool in cloud.pools.values()),
        "kube-prometheus-stack": services.monitoring is not None,
        "spark-operator": services.spark_operator,
        "airflow": services.airflow is not None,
    }
    charts = {each.inputs["chart"].rpartition("/")[2] for each in made if each.typ == "kubernetes:helm.sh/v3:Release"}
    assert charts == {chart for chart, asked in wanted.items() if asked}
    components = {each.typ for each in made}
    assert ("tidepool:services:Hdfs" in components) == (services.hdfs is not None)
    assert ("tidepool:services:HistoryServer" in components) == services.history_server


@every_stack
def test_every_tenant_has_a_namespace_with_limits_and_a_closed_network(stack: str) -> None:
    loaded, _ = load(stack)
    made = recorded.record(stack)
    for tenant in loaded.tenants:
        kinds = Counter(
            each.inputs["kind"]
            for each in made
            if each.typ.startswith("kubernetes:")
            and each.inputs.get("metadata", {}).get("namespace") == f"tidepool-{tenant}"
        )
        assert kinds["ResourceQuota"] >= 1
        assert kinds["LimitRange"] == 1
        assert kinds["ServiceAccount"] == 2  # of jobs, and of drivers of jobs of several pods
        assert kinds["NetworkPolicy"] >= 2


@every_stack
def test_nothing_goes_to_whatever_cluster_the_kubeconfig_of_the_day_points_to(stack: str) -> None:
    made = recorded.record(stack)
    (provider,) = [each for each in made if each.typ == "pulumi:providers:kubernetes"]
    inside = [each for each in made if each.custom and each.typ.startswith("kubernetes:")]
    assert inside
    assert {each.provider.rpartition("::")[0] for each in inside} == {provider.urn}


@every_stack
def test_what_data_lives_in_is_protected_exactly_where_the_settings_say_so(stack: str) -> None:
    _, cloud = load(stack)
    kept = ("aws:s3/bucket:Bucket", "aws:rds/instance:Instance", "aws:kms/key:Key", "eks:index:Cluster")
    protected = {each.protect for each in recorded.record(stack) if each.typ in kept}
    assert protected == {cloud.protect}


@every_stack
def test_no_password_is_an_input_in_plain(stack: str) -> None:
    made = recorded.record(stack)
    passwords = {each.name: f"random-{each.name}" for each in made if each.typ.endswith(":RandomPassword")}
    for each in made:
        for key, value in each.inputs.items():
            if any(password in json.dumps(value, default=str) for password in passwords.values()):
                assert key in each.secrets, f"{each.typ} {each.name}: {key}"


@every_stack
def test_what_the_jobs_get_to_know_of_an_environment_stands_in_a_file_to_read(stack: str) -> None:
    """Of an image that the program builds only the name is compared: its tag changes with whatever goes into it."""
    document = json.loads(recorded.outputs(stack)["capacity"])
    if load(stack)[0].images.build:
        document["images"] = dict.fromkeys(document["images"], "built")
    golden.check_json(f"capacity/{stack}.json", document)
