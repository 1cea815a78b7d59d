"""`tidepool test`: all tests, on the real local cloud too where it can run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Annotated

import typer

from infra.cli.told import told
from infra.local import cloud, paths, preflight, toolchain
from infra.local.progress import Progress

SIDE_BY_SIDE = ["-n", "logical", "--dist", "loadfile"]
"""What a machine has cores for; a file's tests stay together, for what they share takes long to start."""

NONE_CHOSEN = 5
"""pytest's exit code where `-k` or a path leaves no test."""

TEST_PACKAGES = {  # program: (Debian package, what is tested with it)
    "chromium-headless-shell": ("chromium-headless-shell", "the tests of the keeper's page (100 MB)"),
    "postgres": ("postgresql", "the tests of a ledger in PostgreSQL (60 MB)"),
    "promtool": ("prometheus", "the tests of alert rules and dashboards (100 MB)"),
}
"""Beside what the local cloud needs; a machine that has none of them skips those tests."""


def test(
    arguments: Annotated[list[str] | None, typer.Argument(help="More arguments for pytest.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Without the local cloud and types: minutes.")] = False,
) -> None:
    """Run ruff, mypy and the tests. Those on the local cloud need root; where it can't run, that is said.

    \b
    Examples:
      tidepool test
      tidepool test --fast
      tidepool test -- -k sizing
    """
    python = [sys.executable, "-m"]
    _run([*python, "ruff", "check"])
    _run([*python, "ruff", "format", "--check"])
    if not fast:
        _run([*python, "mypy"])
    on_cloud = not fast and _local_cloud_can_run()
    if not fast:
        _install_test_packages()
    pytest = [*python, "pytest", *(arguments or [])]
    found = [_run([*pytest, "-m", "not local_cloud", *SIDE_BY_SIDE], or_none=on_cloud)]
    if on_cloud:  # one after the other: there is one local cloud
        found.append(_run([*pytest, "-m", "local_cloud"], or_none=True))
    if all(code == NONE_CHOSEN for code in found):
        raise typer.Exit(NONE_CHOSEN)


def _local_cloud_can_run() -> bool:
    """Whether they can, said loudly where not; fills the cache where they can."""
    if found := preflight.problems():
        typer.secho("WITHOUT THE TESTS ON THE LOCAL CLOUD, which can't run here:", fg="red", bold=True, err=True)
        for problem in found:
            typer.secho(f"- {problem}", err=True)
        if os.environ.get("CI"):
            typer.echo("and CI must run them: this is a failure", err=True)
            raise typer.Exit(1)
        return False
    with told("test"):
        cloud.prepare(Progress())  # minutes on a new machine: more than a test's limit
    return True


def _install_test_packages() -> None:
    """Where that can be; elsewhere it says what is missing, whose tests skip."""
    missing = toolchain.missing_packages(TEST_PACKAGES)
    if missing and (os.geteuid() != 0 or not shutil.which("apt-get")):
        typer.secho("WITHOUT what only root installs, with apt-get:", fg="red", bold=True, err=True)
        for package, why in missing.items():
            typer.secho(f"- the Debian package {package}: {why}", err=True)
        return
    with told("test"):
        toolchain.install_packages(Progress(), TEST_PACKAGES)


def _run(command: list[str], or_none: bool = False) -> int:
    """The exit code, which is 0, or of no test at all where that may be."""
    code = subprocess.run(command, cwd=paths.REPOSITORY).returncode
    if code and not (or_none and code == NONE_CHOSEN):
        raise typer.Exit(code)
    return code
