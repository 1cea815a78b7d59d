"""A spot machine is taken back while its job runs: the job is tried again on a new machine and succeeds."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from infra import naming
from infra.local import paths
from tidepool.capacity import BREAKERS_CONFIG_MAP
from tidepool.ledger import tail

NAMESPACE, POOL = naming.tenant_namespace("jobs"), "spot-small"

pytestmark = pytest.mark.local_cloud


@pytest.mark.parametrize(("notice", "cause"), [("60", "spot_reclaim"), ("0", "node_lost")])
def test_a_job_on_a_reclaimed_machine_is_retried_on_a_new_one(local: Any, notice: str, cause: str) -> None:
    run = local.start("waits")
    folder = local.folder / run
    local.wait_until((folder / "started").names, 60, "the job runs")
    (first,) = (folder / "started").names()
    (machine,) = local.job_machines()
    command = [str(paths.REPOSITORY / "tidepool"), "local", "reclaim", "--notice", notice]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout.strip()) == (0, machine), done.stderr

    local.wait_until(lambda: len((folder / "started").names()) == 2, 120, "the job was started again")
    (second,) = set((folder / "started").names()) - {first}
    assert (folder / "ended").names() == []
    (folder / "go").touch()
    local.succeeds("waits", run, 60)
    assert (folder / "ended").names() == [second]

    # One machine more than needed may come: the Auto Scaling Group replaces the lost one by itself. It goes too.
    local.drains()
    ended = local.wait_until(lambda: _both(local.pod_events("pod.ended", run)), 10, "both ends were recorded")
    assert [(event.pod, event.attempt, event.cause) for event in ended] == [(first, 1, cause), (second, 2, "ok")]
    assert ended[0].machine == machine != ended[1].machine
    notices = [each.machine for each in tail.read(local.cloud.events) if each.kind == "machine.reclaimed"]
    assert (machine in notices) == (cause == "spot_reclaim"), "the ledger has the notice"
    told = json.loads(local.api.read_namespaced_config_map(BREAKERS_CONFIG_MAP, NAMESPACE).data[POOL])
    assert told["reclaims"], "the pool's circuit breaker was told"
    assert ended[0].time <= local.pod_events("pod.running", run)[1].time, "one ended before the other began"


def test_what_is_no_spot_machine_is_not_taken_back(local: Any) -> None:
    instances = local.group("system").instances
    system = instances[0]
    command = [str(paths.REPOSITORY / "tidepool"), "local", "reclaim", system, "--notice", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 1
    assert f"{system} is not a spot machine; spot machines: none" in done.stderr
    assert local.group("system").instances == instances


def _both(ended: list[Any]) -> list[Any]:
    return ended if len(ended) == 2 else []
