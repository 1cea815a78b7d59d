from __future__ import annotations

import pytest

from infra.services import monitoring
from infra.services.monitoring import Monitoring, MonitoringArgs
from infra.settings import model
from tests.infra import recording
from tests.infra.releases import PASSWORD, RANDOM, RELEASE, SYSTEM, has_secret, pods_of, revealed

SETTINGS = model.Monitoring(retention_days=15, volume_gib=50)


def test_everything_runs_on_system_nodes() -> None:
    pods = pods_of(monitoring.values(SETTINGS, SYSTEM, "gp3"))
    assert len(pods) == 6
    for path, pod in pods.items():
        assert pod["nodeSelector"] == {"tidepool.dev/pool": "system"}, path
        assert pod["tolerations"][0]["key"] == "CriticalAddonsOnly", path


def test_the_clusters_own_storage_class_is_taken_where_none_is_named() -> None:
    assert "storageClassName" not in monitoring.claim(50, "")
    assert monitoring.claim(50, "gp3")["storageClassName"] == "gp3"


def test_old_metrics_go_before_the_volume_is_full() -> None:
    assert monitoring.values(SETTINGS, SYSTEM, "")["prometheus"]["prometheusSpec"]["retentionSize"] == "42GB"


@pytest.mark.parametrize("preview", [False, True])
def test_the_password_is_in_a_secret_and_nowhere_else(preview: bool) -> None:
    args = MonitoringArgs(settings=SETTINGS, placement=SYSTEM, storage_class="gp3", chart_sources={})
    made = recording.made_by(lambda: Monitoring("monitoring", args), preview=preview, computed=RANDOM)
    release = made.one(RELEASE)
    assert "monitoring-admin" in release.depends_on
    assert not has_secret(release.inputs["values"])
    if not preview:
        secret = made.one(":Secret").inputs
        assert secret["metadata"]["name"] == release.inputs["values"]["grafana"]["admin"]["existingSecret"]
        assert revealed(secret["stringData"]) == {"admin-user": "admin", "admin-password": PASSWORD}


def test_nothing_is_open_to_the_outside() -> None:
    values = monitoring.values(SETTINGS, SYSTEM, "gp3")
    assert values["grafana"]["ingress"] == {"enabled": False}
