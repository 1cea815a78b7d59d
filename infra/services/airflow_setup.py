"""Runs in the image `airflow` once the database is there: Airflow's pools and first users. Standard library only.

    python airflow_setup.py POOLS_JSON

The first user's password comes as AIRFLOW_FIRST_PASSWORD, the keeper's, who only reads, as AIRFLOW_KEEPER_PASSWORD.
Everything may be done again: a user that is there stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

USER, KEEPER_USER = "admin", "keeper"
USERS = {USER: ("Admin", "AIRFLOW_FIRST_PASSWORD"), KEEPER_USER: ("Viewer", "AIRFLOW_KEEPER_PASSWORD")}
"""Airflow's role and the variable with the password, by user."""

MARK = "tidepool: "  # as tidepool.queues.MARK, which this file cannot import where it runs


def stale(present: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> list[str]:
    """Pools that were made from an earlier capacity document. What somebody made by hand is left alone."""
    return sorted(
        name
        for name, pool in present.items()
        if name not in wanted and str(pool.get("description") or "").startswith(MARK)
    )


def main(wanted: Path) -> None:
    """Import the pools, delete stale ones, create the first users."""
    airflow("pools", "import", str(wanted))
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "pools.json"
        airflow("pools", "export", str(exported))
        present = json.loads(exported.read_text(encoding="utf-8"))
    for name in stale(present, json.loads(wanted.read_text(encoding="utf-8"))):
        airflow("pools", "delete", name)
    for user, (role, variable) in USERS.items():
        names = ("--firstname", "First", "--lastname", "User", "--email", f"{user}@example.invalid")
        password = os.environ[variable]
        airflow("users", "create", "--role", role, "--username", user, *names, "--password", password)


def airflow(*arguments: str) -> None:
    """Airflow's own command line. Raises CalledProcessError where it fails."""
    subprocess.run(("airflow", *arguments), check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
