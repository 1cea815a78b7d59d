"""Prometheus, Alertmanager and Grafana: metrics of the cluster, the autoscaler, Airflow and the keeper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from infra import charts, naming
from infra.services import alerts, dashboards
from infra.services.placement import Placement, resources
from infra.settings import model

ADMIN_SECRET = "grafana-admin"  # noqa: S105 (a name)
DASHBOARD_LABEL = {"grafana_dashboard": "1"}
FOLDER_ANNOTATION = "grafana_folder"
"""Of ConfigMaps that the sidecar of the chart's Grafana takes dashboards from."""


@dataclass(frozen=True)
class MonitoringArgs:
    """storage_class: empty for the cluster's default. keeper: the environment has one, to draw and alert by."""

    settings: model.Monitoring
    placement: Placement
    storage_class: str
    chart_sources: Mapping[str, str]
    keeper: bool = False


class Monitoring(pulumi.ComponentResource):
    """Namespace, Grafana's first password, dashboards and the Release. Pages are for `kubectl port-forward` only."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:Monitoring", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            # node-exporter reads the machine's /proc and /sys: no lower level allows that
            metadata={"name": naming.MONITORING_NAMESPACE, "labels": naming.pod_security_labels("privileged")},
            opts=inside,
        )
        password = random.RandomPassword(f"{name}-password", length=24, special=False, opts=inside)
        secret = kubernetes.core.v1.Secret(
            f"{name}-admin",
            metadata={"name": ADMIN_SECRET, "namespace": namespace.metadata.name},
            string_data={"admin-user": "admin", "admin-password": password.result},
            opts=inside,
        )
        if args.keeper:
            kubernetes.core.v1.ConfigMap(
                f"{name}-dashboards",
                metadata={
                    "name": "tidepool-dashboards",
                    "namespace": namespace.metadata.name,
                    "labels": DASHBOARD_LABEL,
                    "annotations": {FOLDER_ANNOTATION: dashboards.FOLDER},
                },
                data=dashboards.dashboards(),
                opts=inside,
            )
        kubernetes.helm.v3.Release(
            f"{name}-release",
            kubernetes.helm.v3.ReleaseArgs(
                **charts.release(
                    charts.KUBE_PROMETHEUS_STACK,
                    namespace=naming.MONITORING_NAMESPACE,
                    values=values(args.settings, args.placement, args.storage_class, args.keeper),
                    sources=args.chart_sources,
                )
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[secret]),
        )
        self.register_outputs({})


def values(
    settings: model.Monitoring, placement: Placement, storage_class: str, keeper: bool = False
) -> dict[str, Any]:
    """The chart's values. keeper: it is collected, and alerted by."""
    system = placement.values(naming.PLATFORM_PRIORITY_CLASS)
    scheduled = {"nodeSelector": system["nodeSelector"], "tolerations": system["tolerations"]}
    off = {"enabled": False}
    folders = {"folderAnnotation": FOLDER_ANNOTATION, "provider": {"foldersFromFilesStructure": True}}
    of_keeper = [monitor(naming.PLATFORM_NAMESPACE, "app.kubernetes.io/name", naming.KEEPER_SERVICE_ACCOUNT, "http")]
    return {
        # Helm never upgrades CRDs by itself.
        "crds": {"upgradeJob": {"enabled": True, "forceConflicts": True, **scheduled}},
        # A managed control plane shows none of these; elsewhere they listen on loopback by default.
        **dict.fromkeys(("kubeControllerManager", "kubeEtcd", "kubeProxy", "kubeScheduler"), off),
        "prometheusOperator": {
            **system,
            "resources": resources("50m", "128Mi", "256Mi"),
            "admissionWebhooks": {"patch": scheduled},
        },
        "prometheus": {
            "prometheusSpec": {
                **system,
                "resources": resources("250m", "1Gi", "3Gi"),
                "retention": f"{settings.retention_days}d",
                "retentionSize": f"{settings.volume_gib * 85 // 100}GB",  # old data goes before the volume is full
                "storageSpec": {"volumeClaimTemplate": {"spec": claim(settings.volume_gib, storage_class)}},
            },
            "additionalServiceMonitors": [
                monitor(naming.AUTOSCALER_NAMESPACE, "app.kubernetes.io/instance", "cluster-autoscaler", "http"),
                monitor(naming.PLATFORM_NAMESPACE, "component", "statsd", "statsd-scrape"),
                *(of_keeper if keeper else ()),
            ],
        },
        "alertmanager": {"alertmanagerSpec": {**system, "resources": resources("20m", "64Mi", "128Mi")}},
        "grafana": {
            **system,
            "resources": resources("100m", "256Mi", "512Mi"),
            "admin": {"existingSecret": ADMIN_SECRET, "userKey": "admin-user", "passwordKey": "admin-password"},
            "ingress": off,
            **({"sidecar": {"dashboards": folders}} if keeper else {}),
        },
        **({"additionalPrometheusRulesMap": {"tidepool": alerts.rules()}} if keeper else {}),
        "kube-state-metrics": {**system, "resources": resources("20m", "64Mi", "256Mi")},
        # Not on job machines, where it would take room from jobs: the kubelet itself reports what pods use there.
        "prometheus-node-exporter": {**system, "resources": resources("20m", "32Mi", "64Mi")},
    }


def claim(gib: int, storage_class: str) -> dict[str, Any]:
    """Specification of a PersistentVolumeClaim."""
    chosen = {"storageClassName": storage_class} if storage_class else {}
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{gib}Gi"}}, **chosen}


def monitor(namespace: str, label: str, value: str, port: str) -> dict[str, Any]:
    """A ServiceMonitor: every half minute from the Services with the label. Harmless where there are none."""
    return {
        "name": value,
        "namespaceSelector": {"matchNames": [namespace]},
        "selector": {"matchLabels": {label: value}},
        "endpoints": [{"port": port, "interval": "30s"}],
    }
