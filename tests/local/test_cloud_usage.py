"""What a job used of its machine, from the kubelet that measured it to `tidepool jobs waste`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import naming
from infra.cli.main import app
from tidepool import pod as pods
from tidepool.history import FEW_SAMPLES
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

pytestmark = pytest.mark.local_cloud

MIB = 1024**2
HELD_MIB, SECONDS = 300, 35
WORK = f"""\
import time
held = bytearray({HELD_MIB} << 20)
held[::4096] = b"x" * len(held[::4096])
end = time.monotonic() + {SECONDS}
while time.monotonic() < end:
    sum(range(10000))
"""


def used(local: Any) -> Event | None:
    """The event of the job's pod."""
    store = Store.open(str(local.cloud.events), make=False)
    try:
        return next((event for event in store.events("pod.used") if event.dag == "measured"), None)
    finally:
        store.close()


def test_a_job_that_uses_little_of_its_machine_is_among_the_wasteful_with_what_it_used(local: Any) -> None:
    manifest = local.job_pod("measured", WORK)
    labels, annotations = pods.owner("measured", "spin", "r1", 1, "jobs")
    manifest["metadata"]["labels"] |= labels
    manifest["metadata"]["annotations"] |= annotations
    local.create(manifest)
    local.wait_until(lambda: local.pod("measured").status.phase == "Succeeded", 90, "the job has ended")
    event = local.wait_until(lambda: used(local), 20, "what it used was recorded")
    assert event.samples >= 2
    # The kubelet measures every 10 s or so, and the last seconds not at all; the host has other things to do as well.
    assert 0.2 * SECONDS <= event.cpu_seconds <= 1.2 * SECONDS
    assert HELD_MIB * MIB <= event.memory_peak_bytes <= 2 * HELD_MIB * MIB
    assert event.memory_p99_bytes <= event.memory_peak_bytes
    shown = CliRunner().invoke(app, ["jobs", "waste", "--dag", "measured", "--json"])
    assert shown.exit_code == 0, shown.output
    [row] = json.loads(shown.stdout)
    assert (row["task"], row["namespace"], row["runs"]) == ("spin", naming.tenant_namespace("jobs"), 1)
    assert row["memory_p99_bytes"] == event.memory_p99_bytes
    assert row["usd"] > 0
    assert 0 < row["cpu"] < 1
    if event.samples >= FEW_SAMPLES:
        assert row["unused_usd"] > 0
    local.delete("measured")
