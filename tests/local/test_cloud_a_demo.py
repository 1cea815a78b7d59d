"""The demo as a user runs it, from nothing to nothing, with the right numbers. Before the shared cloud starts."""

from __future__ import annotations

import json
import subprocess

import pytest

from infra.local import cloud, paths

pytestmark = pytest.mark.local_cloud

FLIGHTS = 336_776
DEMO_SECONDS = 400


@pytest.mark.usefixtures("state_home")
def test_the_demo_counts_every_flight_beats_the_baseline_and_leaves_no_machine() -> None:
    demo = [str(paths.REPOSITORY / "tidepool"), "demo", "--json"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=DEMO_SECONDS)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["succeeded"] is True
    assert told["machines_left"] == []
    assert sum(row["flights"] for row in told["results"]["delays"]) == FLIGHTS
    assert told["results"]["model"]["rmse"] < told["results"]["model"]["baseline_rmse"]
    assert cloud.leftovers() == []
