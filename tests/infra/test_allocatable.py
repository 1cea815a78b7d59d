"""Sizes of machines, compared with what nodes report.

measured/kernel_memory.csv: EC2's memory less the node's capacity, in bytes, as the authors of Karpenter measured it in
2023 on Bottlerocket, which keeps the most of its kind (aws/karpenter-provider-aws,
pkg/providers/instancetype/zz_generated.memory_overhead.go).
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from infra.aws.allocatable import (
    MIB,
    Allocatable,
    allocatable,
    kernel_bytes,
    kube_reserved,
    reserved_cpu_millis,
    reserved_memory_bytes,
)
from infra.aws.instance_types import GIB, InstanceType, architecture, table

MEASURED = Path(__file__).parent / "measured" / "kernel_memory.csv"


@pytest.mark.parametrize(
    ("name", "max_pods", "cpu_millis", "memory_mib", "storage_mib"),
    [
        # memory: EC2's - kernel's - (255 + 11 x pods) MiB - 100 MiB; storage: (80 GiB - 128 MiB) x 0.9 - 1 GiB
        ("m5.large", 20, 1930, 7002, 72588),
        ("m5.large", 110, 1930, 6012, 72588),
        ("c6a.large", 20, 1930, 3073, 72588),
        ("m6i.xlarge", 20, 3920, 14580, 72588),
        ("m6i.4xlarge", 20, 15890, 61274, 72588),
    ],
)
def test_allocatable_of_machines_on_their_root_volume(
    name: str, max_pods: int, cpu_millis: int, memory_mib: int, storage_mib: int
) -> None:
    size = allocatable(table()[name], max_pods, root_volume_gib=80)
    assert size == Allocatable(cpu_millis, memory_mib * MIB, storage_mib * MIB, max_pods)


def test_on_the_instance_store_the_root_volume_does_not_count() -> None:
    machine = table()["m5d.large"]
    small, large = (allocatable(machine, 20, root_volume_gib=size, nvme=True) for size in (20, 500))
    assert small == large
    assert small.ephemeral_storage_bytes == 62017 * MIB  # 69.8 GiB x 0.98 x 0.9 - 1 GiB


def type_of(vcpu: int, memory_gib: int) -> InstanceType:
    """A type that only its size is known of."""
    (example, *_) = table().values()
    fields = {**vars(example), "vcpu": vcpu, "memory_bytes": memory_gib * GIB}
    return InstanceType(**fields)


@pytest.mark.parametrize(
    ("vcpu", "memory_gib", "pods", "volume_gib", "cpu_millis", "memory_kib", "storage_bytes"),
    [
        # `kubectl describe node` on EKS, AL2023, default reservations: allocatable, not capacity
        pytest.param(2, 4, 17, 20, 1930, 3376720, 18181869946, id="t3.medium, 2023.10, 1.32.9, kernel 6.1"),
        pytest.param(2, 8, 35, 50, 1930, 7248300, 47172899146, id="t3.large, 2023.11, 1.34.8, kernel 6.12"),
        pytest.param(4, 16, 58, 100, 3920, 14719096, 95491281146, id="g6.xlarge, 2023.12, 1.36.2, kernel 6.18"),
        pytest.param(8, 32, 58, 100, 7910, 31315416, 95491281146, id="trn1.2xlarge, 2023.12, 1.33.13, kernel 6.12"),
    ],
)
def test_a_real_node_offers_at_least_what_is_promised_and_little_more(
    vcpu: int, memory_gib: int, pods: int, volume_gib: int, cpu_millis: int, memory_kib: int, storage_bytes: int
) -> None:
    promised = allocatable(type_of(vcpu, memory_gib), pods, volume_gib)
    assert promised.cpu_millis == cpu_millis
    assert 0.94 * memory_kib * 1024 < promised.memory_bytes <= memory_kib * 1024
    assert 0.99 * storage_bytes < promised.ephemeral_storage_bytes <= storage_bytes


def test_the_kernel_never_keeps_more_than_is_reckoned_and_little_less() -> None:
    with MEASURED.open(encoding="utf-8", newline="") as file:
        measured = {table()[row["instance_type"]]: int(row["bytes"]) for row in csv.DictReader(file)}
    spare = {each.name: (kernel_bytes(each.memory_bytes) - kept) / each.memory_bytes for each, kept in measured.items()}
    assert len(spare) == 134
    assert min(spare.values()) > 0.003, min(spare, key=lambda name: spare[name])
    assert max(spare.values()) < 0.05, max(spare, key=lambda name: spare[name])
    assert sum(spare.values()) / len(spare) < 0.025


def test_a_machine_reserves_what_is_reckoned_with() -> None:
    assert kube_reserved(vcpu=4, max_pods=20) == {"cpu": "80m", "memory": "475Mi", "ephemeral-storage": "1Gi"}


@pytest.mark.parametrize(("vcpu", "millis"), [(1, 60), (2, 70), (4, 80), (8, 90), (16, 110), (96, 310)])
def test_reserved_cpu_follows_the_kubelets_steps(vcpu: int, millis: int) -> None:
    assert reserved_cpu_millis(vcpu) == millis


@pytest.mark.parametrize(("pods", "mib"), [(20, 475), (110, 1465)])
def test_reserved_memory_grows_with_the_number_of_pods(pods: int, mib: int) -> None:
    assert reserved_memory_bytes(pods) == mib * MIB


def test_every_known_type_has_a_shape_and_both_prices() -> None:
    assert len(table()) == 185
    for each in table().values():
        assert each.vcpu > 0
        assert each.memory_bytes > 0
        assert each.spot_usd_per_hour > 0
        assert each.price("on-demand") == each.on_demand_usd_per_hour > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m6g.large", "arm64"),
        ("c7gn.xlarge", "arm64"),
        ("a1.large", "arm64"),
        ("g5g.xlarge", "arm64"),
        ("g5.xlarge", "x86_64"),
        ("m5.large", "x86_64"),
        ("g4dn.xlarge", "x86_64"),
    ],
)
def test_graviton_is_known_by_its_name(name: str, expected: str) -> None:
    assert architecture(name) == expected
