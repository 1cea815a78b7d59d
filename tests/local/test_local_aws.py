"""What the local cloud reads from Auto Scaling Groups, and how it sizes machines by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.aws import asg_tags, user_data
from infra.aws.allocatable import Allocatable
from infra.local import addresses, aws, machine_files
from infra.local.aws import Aws
from infra.local.machine_files import Size, TooSmallError
from tidepool.capacity import Taint

GIB = 1024**3
MIB = 1024**2


def described(**changes: Any) -> dict[str, Any]:
    tags = asg_tags.render(
        cluster="local",
        group="local-spot",
        ownership={"tidepool.dev/pool": "spot"},
        labels={"tidepool.dev/pool": "spot"},
        taints=[Taint("tidepool.dev/pool", "spot", "NoSchedule")],
        resources=Allocatable(1930, 7000 * MIB, 16 * GIB, 20),
        gpus=0,
        unneeded_time="1m30s",
    )
    return {
        "AutoScalingGroupName": "local-spot",
        "MinSize": 0,
        "MaxSize": 4,
        "DesiredCapacity": 1,
        "AvailabilityZones": ["us-east-1a"],
        "Instances": [{"InstanceId": "i-1"}],
        "MixedInstancesPolicy": {
            "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 0},
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1"},
                "Overrides": [{"InstanceType": "m5.large"}, {"InstanceType": "m5a.large"}],
            },
        },
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **changes,
    }


def test_a_group_reads_back_what_the_program_wrote_into_its_tags() -> None:
    group = aws.read_group(described())
    assert group.labels == {"tidepool.dev/pool": "spot"}
    assert group.taints == {"tidepool.dev/pool": ("spot", "NoSchedule")}
    assert group.resources == {"cpu": 1930, "memory": 7000 * MIB, "ephemeral-storage": 16 * GIB, "pods": 20}
    assert (group.market, group.unneeded_seconds, group.instance_types) == ("spot", 90, ("m5.large", "m5a.large"))


def test_a_group_without_the_unneeded_time_tag_idles_as_long_as_the_autoscaler_defaults_to() -> None:
    tags = [tag for tag in described()["Tags"] if "scaledownunneededtime" not in tag["Key"]]
    assert aws.read_group(described(Tags=tags)).unneeded_seconds == 600


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h2m3s", 3723), ("500ms", 0.5)])
def test_durations_are_go_durations(text: str, seconds: float) -> None:
    assert aws.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "ten", "10 m", "1d"])
def test_a_wrong_duration_says_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="90s or 10m"):
        aws.seconds(text)


def test_an_address_of_another_machine_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(addresses.NotLocalError, match=r"192\.0\.2\.77 is not an address of this machine"):
        Aws("http://192.0.2.77:5555")
    with pytest.raises(addresses.NotLocalError, match=r"example\.com"):
        addresses.require_local("https://example.com")  # a name could resolve to anywhere
    assert addresses.require_local("http://127.0.0.1:5555")


def test_reservations_leave_exactly_the_machine_of_the_host() -> None:
    host, machine = Size(16_000, 64 * GIB, 500 * GIB), Size(1930, 7 * GIB, 16 * GIB)
    reserved = machine_files.reservations(host, machine)
    assert host.cpu_millis - int(reserved["cpu"].removesuffix("m")) == machine.cpu_millis
    kept = machine_files.EVICTION_MEMORY_BYTES
    assert host.memory_bytes - int(reserved["memory"]) - kept == machine.memory_bytes
    kept = machine_files.EVICTION_STORAGE_BYTES
    assert host.storage_bytes - int(reserved["ephemeral-storage"]) - kept == machine.storage_bytes


def test_a_host_smaller_than_the_machine_is_told_so_with_both_sizes() -> None:
    with pytest.raises(TooSmallError, match=r"offer 3\.93 CPU, 15\.0 GiB .* this host has 2 CPU, 8\.0 GiB"):
        machine_files.reservations(Size(2000, 8 * GIB, 100 * GIB), Size(3930, 15 * GIB, 16 * GIB))


def test_the_kubelet_takes_its_labels_taints_and_settings_from_the_user_data() -> None:
    text = user_data.render(
        cluster="local",
        endpoint="https://10.200.0.1:6443",
        certificate_authority="Y2E=",
        service_cidr="10.96.0.0/16",
        max_pods=20,
        reserved={"memory": "475Mi"},
        labels={"tidepool.dev/pool": "spot"},
        taints=[Taint("tidepool.dev/pool", "spot", "NoSchedule")],
    )
    config = user_data.parse(text)
    folder, certificate = Path("/m"), (Path("/c"), Path("/k"))
    kubelet = machine_files.kubelet_config(
        config,
        folder=folder,
        group="/tidepool/i-1",
        socket=Path("/s"),
        authority=Path("/ca"),
        certificate=certificate,
        reserved={"cpu": "70m"},
    )
    flags = machine_files.kubelet_flags(
        config,
        binaries=Path("/b"),
        folder=folder,
        root=Path("/r"),
        instance="i-1",
        zone="us-east-1a",
        address="10.200.0.2",
    )
    assert kubelet["maxPods"] == 20
    assert kubelet["singleProcessOOMKill"] is True
    assert (kubelet["systemReserved"], "kubeReserved" in kubelet) == ({"cpu": "70m"}, False)
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert "--node-labels=tidepool.dev/pool=spot" in flags
    assert "--register-with-taints=tidepool.dev/pool=spot:NoSchedule" in flags
    assert "--provider-id=aws:///us-east-1a/i-1" in flags


def test_the_pods_of_a_machine_get_addresses_of_the_machines_own_range() -> None:
    network = json.loads(machine_files.cni_config(Path("/m"), addresses.pod_range(7)))
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.7.0/24"}]]
