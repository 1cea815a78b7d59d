from __future__ import annotations

import re
import tomllib
from pathlib import Path

from infra import versions

ROOT = Path(__file__).resolve().parents[2]


def test_versions_agree_with_the_python_packages() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert f"pyspark=={versions.SPARK}" in groups["spark"]
    assert f"apache-airflow=={versions.AIRFLOW}" in groups["airflow"]
    assert f"apache-airflow-providers-cncf-kubernetes=={versions.PROVIDER_CNCF}" in groups["airflow"]


def test_versions_agree_with_the_go_modules() -> None:
    modules = (ROOT / "infra" / "local" / "go" / "go.mod").read_text()
    assert f"k8s.io/kubernetes v{versions.KUBERNETES}" in modules
    assert f"github.com/coredns/coredns v{versions.COREDNS}" in modules
    assert f"sigs.k8s.io/kwok v{versions.KWOK}" in (ROOT / "infra" / "local" / "kwok" / "go.mod").read_text()


def test_the_autoscaler_is_of_the_clusters_minor_version() -> None:
    assert versions.CLUSTER_AUTOSCALER.split(".")[:2] == versions.KUBERNETES.split(".")[:2]


def test_every_version_is_exact_and_says_where_to_look_for_the_next() -> None:
    lines = [line for line in Path(versions.__file__).read_text().splitlines() if " = " in line]
    assert lines
    for line in lines:
        assert re.fullmatch(r'[A-Z_]+ = "(\d+|\d+\.\d+\.\d+|v\d+\.\d+\.\d+-eksbuild\.\d+)"  # https://.+', line), line


def test_kube_proxy_on_eks_is_of_the_clusters_minor_version() -> None:
    assert versions.EKS_KUBE_PROXY.removeprefix("v").split(".")[:2] == versions.KUBERNETES.split(".")[:2]
