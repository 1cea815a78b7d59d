"""The program that makes pools and the first user, run with a stand-in for Airflow's command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.services import airflow_setup

STAND_IN = """\
#!{python}
import json, pathlib, shutil, sys
home = pathlib.Path({home!r})
with (home / "calls").open("a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
if sys.argv[1:3] == ["pools", "export"]:
    shutil.copyfile(home / "present.json", sys.argv[3])
sys.exit(sys.argv[1:3] == {fails!r})
"""


def run(home: Path, wanted: object, present: object, fails: tuple[str, ...] = ()) -> tuple[int, list[list[str]]]:
    """Exit code and the calls of `airflow`. fails: the first words of the call that does."""
    (home / "present.json").write_text(json.dumps(present))
    (home / "wanted.json").write_text(json.dumps(wanted))
    program = home / "airflow"
    program.write_text(STAND_IN.format(python=sys.executable, home=str(home), fails=list(fails)))
    program.chmod(0o755)
    environment = {"PATH": f"{home}:{os.environ['PATH']}", "AIRFLOW_FIRST_PASSWORD": "generated"}
    environment["AIRFLOW_KEEPER_PASSWORD"] = "another"
    done = subprocess.run(
        [sys.executable, airflow_setup.__file__, str(home / "wanted.json")],
        env=environment,
        cwd=home,
        capture_output=True,
        check=False,
        timeout=60,
    )
    calls = (home / "calls").read_text().splitlines()
    return done.returncode, [json.loads(call) for call in calls]


def test_pools_are_imported_stale_ones_deleted_and_the_first_user_made(tmp_path: Path) -> None:
    present = {"old": {"description": "tidepool: machines of the pool old (spot)"}, "mine": {"description": ""}}
    code, calls = run(tmp_path, wanted={"spot": {"slots": 3}}, present=present)
    assert code == 0
    assert [call[:2] for call in calls] == [
        ["pools", "import"],
        ["pools", "export"],
        ["pools", "delete"],
        ["users", "create"],
        ["users", "create"],
    ]
    assert calls[2] == ["pools", "delete", "old"]
    assert calls[3][-2:] == ["--password", "generated"]
    assert calls[4][2:6] == ["--role", "Viewer", "--username", "keeper"]
    assert calls[4][-2:] == ["--password", "another"]


@pytest.mark.parametrize("step", [("pools", "import"), ("users", "create")])
def test_a_step_that_fails_fails_the_job(tmp_path: Path, step: tuple[str, ...]) -> None:
    code, calls = run(tmp_path, wanted={}, present={}, fails=step)
    assert code != 0
    assert calls[-1][:2] == list(step)
