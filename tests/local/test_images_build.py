"""`tidepool images build` with docker needs neither root nor the local cloud; without docker it says what it needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import main
from infra.local import cgroups, cloud, images

DOCKER = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$1" in info) exit {info};; image) echo 123000000;; esac
"""


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], Path]:
    """Puts a docker that builds nothing onto PATH; `info`: its exit code. Returns the file of its calls.

    We are nobody special there, and whatever needs root fails.
    """

    def put(info: int) -> Path:
        (folder := tmp_path / "bin").mkdir()
        program = folder / "docker"
        program.write_text(DOCKER.format(info=info))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(os, "geteuid", lambda: 1001)
        monkeypatch.setattr(cloud, "_LOCK", tmp_path / "not" / "to" / "be" / "opened")
        monkeypatch.setattr(cgroups, "ROOT", tmp_path / "not-to-be-written")
        return tmp_path / "calls"

    return put


def test_docker_builds_for_a_user_without_rights(docker: Callable[[int], Path]) -> None:
    calls = docker(0)
    done = CliRunner().invoke(main.app, ["images", "build", "spark", "hdfs"])
    assert done.exit_code == 0, done.output
    built = [line for line in calls.read_text().splitlines() if line.startswith("build ")]
    assert [images.reference(name) in line for name, line in zip(("spark", "hdfs"), built, strict=True)] == [True] * 2
    assert f"{images.reference('hdfs')}  123 MB" in done.output
    assert not cgroups.ROOT.exists()


def test_without_docker_it_says_what_is_missing(docker: Callable[[int], Path]) -> None:
    calls = docker(1)
    done = CliRunner().invoke(main.app, ["images", "build", "spark"])
    assert done.exit_code == 1
    assert "start docker" in done.output
    assert calls.read_text() == "info\n"


def test_the_help_says_who_needs_root() -> None:
    assert "Only buildah needs root" in CliRunner().invoke(main.app, ["images", "build", "--help"]).output
