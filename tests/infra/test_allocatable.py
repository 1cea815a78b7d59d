from __future__ import annotations

import pytest

from infra.aws.allocatable import MIB, allocatable, reserved_cpu_millis, reserved_memory_bytes
from infra.aws.instance_types import architecture, table


@pytest.mark.parametrize(
    ("name", "max_pods", "cpu_millis", "memory_mib", "storage_mib"),
    [
        # memory: 92.5 % of EC2's figure - (255 + 11 x pods) MiB - 100 MiB; storage: (80 GiB - 128 MiB) x 0.9 - 1 GiB
        ("m5.large", 20, 1930, 7002, 72588),
        ("m5.large", 110, 1930, 6012, 72588),
        ("c6a.large", 20, 1930, 3213, 72588),
        ("m6i.xlarge", 20, 3920, 14580, 72588),
        ("m6i.4xlarge", 20, 15890, 60045, 72588),
    ],
)
def test_allocatable_is_what_the_kubelet_will_report(
    name: str, max_pods: int, cpu_millis: int, memory_mib: int, storage_mib: int
) -> None:
    size = allocatable(table()[name], max_pods, root_volume_gib=80)
    assert (size.cpu_millis, size.memory_bytes / MIB, size.ephemeral_storage_bytes / MIB, size.pods) == (
        cpu_millis,
        memory_mib,
        storage_mib,
        max_pods,
    )


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
