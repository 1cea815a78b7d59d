"""The Helm charts that tidepool deploys: where each comes from, and what a Release of one is made of. Pure.

A chart's source is the repository that holds it: `https://…` (a Helm repository) or `oci://…` (a registry's folder).
The setting `chart_sources` replaces it by a mirror, by chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra import versions


@dataclass(frozen=True)
class Chart:
    """A chart, pinned."""

    name: str
    version: str
    source: str


CLUSTER_AUTOSCALER = Chart(
    "cluster-autoscaler", versions.CHART_CLUSTER_AUTOSCALER, "https://kubernetes.github.io/autoscaler"
)
NODE_TERMINATION_HANDLER = Chart(
    "aws-node-termination-handler", versions.CHART_NODE_TERMINATION_HANDLER, "oci://public.ecr.aws/aws-ec2/helm"
)
NVIDIA_DEVICE_PLUGIN = Chart(
    "nvidia-device-plugin", versions.CHART_NVIDIA_DEVICE_PLUGIN, "https://nvidia.github.io/k8s-device-plugin"
)
KUBE_PROMETHEUS_STACK = Chart(
    "kube-prometheus-stack",
    versions.CHART_KUBE_PROMETHEUS_STACK,
    "https://prometheus-community.github.io/helm-charts",
)
SPARK_OPERATOR = Chart("spark-operator", versions.CHART_SPARK_OPERATOR, "https://kubeflow.github.io/spark-operator")
AIRFLOW = Chart("airflow", versions.CHART_AIRFLOW, "https://airflow.apache.org")

CHARTS = {
    chart.name: chart
    for chart in (
        AIRFLOW,
        CLUSTER_AUTOSCALER,
        KUBE_PROMETHEUS_STACK,
        NODE_TERMINATION_HANDLER,
        NVIDIA_DEVICE_PLUGIN,
        SPARK_OPERATOR,
    )
}
"""By name, as `chart_sources` names them."""


def release(
    chart: Chart, namespace: str, values: Mapping[str, Any], sources: Mapping[str, str], timeout_seconds: int = 600
) -> dict[str, Any]:
    """The arguments of a `kubernetes.helm.v3.Release` that is named like its chart.

    sources: mirrors by chart's name. timeout_seconds: for all its pods to be ready, images pulled.
    """
    source = sources.get(chart.name, chart.source).rstrip("/")
    is_registry = source.startswith("oci://")
    return {
        "name": chart.name,  # a name of Pulumi's own would differ between stacks, and the Services' names with it
        "chart": f"{source}/{chart.name}" if is_registry else chart.name,
        "version": chart.version,
        "repository_opts": None if is_registry else {"repo": source},
        "namespace": namespace,
        "values": dict(values),
        "atomic": True,  # an upgrade that fails leaves the version before it running
        "cleanup_on_fail": True,
        "max_history": 5,
        "timeout": timeout_seconds,
    }
