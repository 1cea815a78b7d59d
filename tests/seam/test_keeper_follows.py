"""The keeper on a real kube-apiserver whose nodes and pods kwok plays: a small run of `tidepool bench keeper`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.cli import bench_keeper
from infra.local import keeper_scale
from infra.local.keeper_scale import Figures, Scale
from infra.local.progress import Progress

LIMIT_SECONDS = 30.0
"""Of a lag: a test's machine has other things to do. `tidepool bench keeper` measures."""


@pytest.mark.local_cloud
def test_the_keeper_misses_nothing_and_writes_nothing_twice_though_it_is_killed_in_between(tmp_path: Path) -> None:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not here; `tidepool local up` gets it")
    figures = keeper_scale.measure(Scale(nodes=20, pods=120, per_second=30), tmp_path, Progress())
    assert (figures.missing, figures.doubled) == (0, 0)
    assert set(figures.lags) == {"pod.queued", "pod.running", "pod.ended", "pod.gone"}
    for kind, lags in figures.lags.items():
        assert len(lags) == 120, kind
        assert keeper_scale.summary(lags)["p99"] < LIMIT_SECONDS, kind
    assert max(figures.peak_bytes) < bench_keeper.MOST_MIB * 2**20


def test_what_is_not_as_promised_is_named() -> None:
    good = Figures(Scale(1, 1, 1.0), {"pod.queued": [0.1, 0.2]}, [100 << 20, 200 << 20], [1.0, 1.0])
    assert bench_keeper.problems(good) == []
    late = Figures(good.scale, {"pod.queued": [0.1] * 50 + [9.0] * 50}, [100 << 20, 600 << 20], missing=3, doubled=1)
    told = "\n".join(bench_keeper.problems(late))
    assert "pod.queued" in told
    assert "600 MiB" in told
    assert "3 events are missing, 1 are there twice" in told


def test_a_summary_is_of_all_values() -> None:
    assert keeper_scale.summary([float(each) for each in range(1, 101)]) == {"median": 50.5, "p99": 100.0, "max": 100.0}
    assert keeper_scale.summary([]) == {"median": 0.0, "p99": 0.0, "max": 0.0}
