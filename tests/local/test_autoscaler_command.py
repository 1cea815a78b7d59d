"""Which autoscaler runs, and with what: a binary gets the cluster-autoscaler's own flags and cloud config."""

from __future__ import annotations

import configparser
from pathlib import Path

import httpx
import pytest

from infra import versions
from infra.local import addresses, autoscaler_binary, paths
from infra.local.progress import Progress
from infra.local.start import autoscaler_command


def test_without_a_binary_the_stand_in_runs(tmp_path: Path) -> None:
    assert "infra.local.autoscaler" in autoscaler_command(tmp_path, "dev", None)


def test_a_binary_discovers_the_groups_by_their_tags_and_expands_by_priority(tmp_path: Path) -> None:
    program, *flags = autoscaler_command(tmp_path, "dev", Path("/opt/cluster-autoscaler"))
    assert program == "/opt/cluster-autoscaler"
    tags = "k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/dev"
    assert f"--node-group-auto-discovery=asg:tag={tags}" in flags
    assert "--cloud-provider=aws" in flags
    assert "--expander=priority,least-waste" in flags
    assert f"--kubeconfig={tmp_path}/cluster-autoscaler.kubeconfig" in flags


def test_a_binary_asks_the_local_aws_api_for_everything(tmp_path: Path) -> None:
    flags = autoscaler_command(tmp_path, "dev", Path("/opt/cluster-autoscaler"))
    [config] = [flag.removeprefix("--cloud-config=") for flag in flags if flag.startswith("--cloud-config=")]
    parsed = configparser.ConfigParser()
    parsed.read(config)
    overrides = [parsed[name] for name in parsed.sections() if name.startswith("ServiceOverride")]
    assert {each["Service"] for each in overrides} == {"autoscaling", "ec2", "eks"}
    assert {each["URL"] for each in overrides} == {addresses.MOTO}


def test_where_no_registry_answers_it_is_said_once_and_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def get(url: str, **_: object) -> httpx.Response:
        asked.append(url)
        raise httpx.ConnectError("no route")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(httpx, "get", get)
    assert autoscaler_binary.find(Progress()) is None
    assert autoscaler_binary.find(Progress()) is None
    assert asked == ["https://registry.k8s.io/v2/"]
    assert "stand-in autoscaler takes its place" in " ".join(capsys.readouterr().err.split())


def test_a_binary_in_the_cache_is_taken_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = paths.cache() / "cluster-autoscaler" / versions.CLUSTER_AUTOSCALER
    folder.mkdir(parents=True)
    (folder / "cluster-autoscaler").touch()
    assert autoscaler_binary.find(Progress()) == folder / "cluster-autoscaler"
