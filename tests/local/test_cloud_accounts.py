"""What the report says of a pipeline's run is what AWS and the API server say too, though the keeper dies over it.

TIDEPOOL_CHAOS_SEED: the seed of the moments at which it dies; else always the same; it is printed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.local.account import Account
from tidepool.ledger import tail

pytestmark = pytest.mark.local_cloud

SEED = 11

OF_THE_WHOLE = 0.001
OF_A_MACHINE_SECONDS = 1.0
KILLS = 4


def utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def report(local: Any, by: str, since: float, until: float) -> dict[str, Any]:
    """`tidepool report` of the local cloud, as JSON."""
    command = [sys.executable, "-m", "infra.cli.main", "report", "--format", "json", "--by", by]
    command += ["--database", str(local.cloud.events), "--since", utc(since), "--until", utc(until)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_report_equals_an_account_of_aws_and_the_api_server_though_the_keeper_is_killed(local: Any) -> None:
    seed = int(os.environ.get("TIDEPOOL_CHAOS_SEED") or SEED)
    print(f"TIDEPOOL_CHAOS_SEED={seed}")
    chance, over = random.Random(seed), threading.Event()  # noqa: S311
    local.airflow.wait_dag("flights", 60)

    def kills() -> None:
        for _ in range(KILLS):
            if over.wait(chance.uniform(4, 12)):
                return
            if pid := local.pid("keeper"):
                os.kill(pid, signal.SIGKILL)

    since = float(int(time.time()))
    killer = threading.Thread(target=kills, daemon=True)
    with Account(local) as account:
        killer.start()
        run = local.start("flights")
        local.succeeds("flights", run, 400)
        killer.join(60)
        over.set()
        local.drains()
        pods = [pod for pod in account.pods.values() if pod.run == run]
        local.wait_until(lambda: len(local.pod_events("pod.gone", run)) == len(pods), 60, "the ledger has every end")
        until = float(int(time.time()))
    assert account.gaps == 0
    assert {pod.task for pod in pods} == {"clean", "delays"}

    told = {(event.kind, event.machine): event.time for event in tail.read(local.cloud.events)}
    bought = {each.id: each for each in account.instances.values() if each.launched >= since}
    assert {machine for kind, machine in told if kind == "machine.asked" and machine in bought} == set(bought)
    for machine, each in bought.items():
        ledger = told["machine.gone", machine] - told["machine.asked", machine]
        assert each.ended is not None
        assert ledger == pytest.approx(each.ended - each.launched, abs=OF_A_MACHINE_SECONDS), machine

    whole = report(local, "task", since, until)
    assert whole["balanced"]
    seconds = sum(each.seconds(since, until) for each in account.instances.values())
    assert whole["bill"]["seconds"] == pytest.approx(seconds, rel=OF_THE_WHOLE)
    assert whole["bill"]["usd"] == pytest.approx(account.usd(since, until), rel=OF_THE_WHOLE)
    rows = {row["task"]: row for row in whole["rows"] if row["dag"] == "flights"}
    assert set(rows) == {"clean", "delays"}
    for pod in pods:  # each has its machine to itself, and so the whole of it
        parts = rows[pod.task]["categories"]
        unseen = parts["unattributed"]["seconds"]
        known = rows[pod.task]["seconds"] - unseen
        assert known <= pod.held + OF_A_MACHINE_SECONDS, pod.task
        assert known + unseen >= pod.held - OF_A_MACHINE_SECONDS, pod.task
    print(
        f"{len(bought)} machines, {seconds:.1f} s: the report misses {whole['bill']['seconds'] - seconds:+.3f} s of it"
    )
