"""Alerts and dashboards speak of metrics that there are, and alerts fire when they should and not before."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.services import alerts, dashboards, monitoring
from infra.settings import model
from tests.infra.releases import SYSTEM
from tidepool.keeper.metrics import METRICS

LABELS = {metric.name: set(metric.labels) for metric in METRICS}
ALERTS: list[dict[str, Any]] = alerts.rules()["groups"][0]["rules"]
DASHBOARDS = {name: json.loads(text) for name, text in dashboards.dashboards().items()}
SETTINGS = model.Monitoring(retention_days=15, volume_gib=50)


def expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of every alert and panel."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for name, board in DASHBOARDS.items():
        for panel in board["panels"]:
            yield f"{name}: {panel['title']}", panel["targets"][0]["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_expression_is_of_metrics_and_labels_that_there_are(where: str, expression: str) -> None:
    named = set(re.findall(r"tidepool_\w+", expression))
    assert named
    assert named <= LABELS.keys()
    known = set().union(*(LABELS[name] for name in named))
    for labels in re.findall(r"by \(([\w, ]+)\)", expression):
        assert set(labels.split(", ")) <= known, labels
    assert set(re.findall(r'(\w+)=~?"', expression)) <= known


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_two_keepers_that_serve_the_same_figures_count_once(where: str, expression: str) -> None:
    assert not re.search(r"sum by \([^)]*\) \(tidepool_|sum\(tidepool_", expression)
    assert re.search(r"max|absent", expression)


def test_every_metric_but_those_that_alerts_use_is_on_a_dashboard() -> None:
    drawn = set(re.findall(r"tidepool_\w+", json.dumps(list(DASHBOARDS.values()))))
    assert LABELS.keys() - drawn == {"tidepool_schedule_timeout_seconds", "tidepool_unpriced_today_seconds"}


def test_every_alert_says_what_has_happened_and_what_to_do_first() -> None:
    names = {alert["alert"] for alert in ALERTS}
    assert len(names) == len(ALERTS)
    assert {f"Tidepool{each}" for each in ("Orphan", "IdleMachine", "Budget", "ReclaimStorm", "Unschedulable")} <= names
    assert "TidepoolDeadlineAtRisk" in names
    for alert in ALERTS:
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook"].endswith(".")
        labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
        by = set(re.findall(r"by \((\w+)", alert["expr"])) | {"market"} & labels
        assert labels <= by, alert["alert"]


def test_the_page_of_metrics_names_all_alerts() -> None:
    page = (Path(__file__).parents[2] / "dags" / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(Tidepool\w+)`", page, re.MULTILINE)) == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_of_a_dashboard_do_not_overlap_and_fill_its_width(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert board["uid"].startswith("tidepool-")


def test_without_a_keeper_nothing_is_drawn_and_nothing_alerted() -> None:
    without, with_one = (monitoring.values(SETTINGS, SYSTEM, "gp3", keeper) for keeper in (False, True))
    assert "additionalPrometheusRulesMap" not in without
    assert with_one["additionalPrometheusRulesMap"]["tidepool"] == alerts.rules()
    monitors = [each["name"] for each in with_one["prometheus"]["additionalServiceMonitors"]]
    assert set(monitors) - {each["name"] for each in without["prometheus"]["additionalServiceMonitors"]} == {"keeper"}
    assert "sidecar" not in without["grafana"]
    sidecar = with_one["grafana"]["sidecar"]["dashboards"]
    assert sidecar["folderAnnotation"] == monitoring.FOLDER_ANNOTATION


IN_TIME: dict[str, list[tuple[str, str]]] = {  # alert: series that must not make it fire
    "TidepoolOrphan": [('tidepool_orphan_seconds{rule="ownerless",pod="keeper-1"}', "0+30x10 0x30")],
    "TidepoolReaperHeld": [('tidepool_reaper_total{rule="ownerless",action="held"}', "7x40")],
    "TidepoolIdleMachine": [('tidepool_machine_idle_seconds{pool="spot"}', "0+60x30 0x10")],
    "TidepoolBudget": [('tidepool_budget_used_ratio{budget="b",limit="soft"}', "0.99x40")],
    "TidepoolBudgetHard": [
        ('tidepool_budget_used_ratio{budget="b",limit="hard"}', "0.89x40"),
        ('tidepool_budget_used_ratio{budget="b",limit="soft"}', "0.99x40"),
    ],
    "TidepoolUnknownPrice": [('tidepool_machines_unpriced{pool="spot",market="spot"}', "1x20 0x20")],
    "TidepoolReclaimStorm": [
        ('tidepool_reclaims_total{pool="spot",pod="keeper-1"}', "90 91 92x40"),
        ('tidepool_reclaims_total{pool="spot",pod="keeper-2"}', "90 91 92x40"),
    ],
    "TidepoolUnschedulable": [
        ('tidepool_job_waiting_seconds{pool="spot"}', "0+60x15 0x25"),
        ("tidepool_schedule_timeout_seconds", "1800x40"),
    ],
    "TidepoolDeadlineAtRisk": [('tidepool_deadline_at_risk_jobs{team="a"}', "0 1 0x38")],
    "TidepoolKeeperBehind": [('tidepool_keeper_lag_seconds{watch="pods"}', "2 30 2x38")],
    "TidepoolKeeperDown": [],
}
LATE: dict[str, list[tuple[str, str]]] = {  # series that must, after 40 minutes at the latest
    "TidepoolOrphan": [('tidepool_orphan_seconds{rule="ownerless"}', "0+60x40")],
    "TidepoolReaperHeld": [('tidepool_reaper_total{rule="ownerless",action="held"}', "0x20 1x20")],
    "TidepoolIdleMachine": [('tidepool_machine_idle_seconds{pool="spot"}', "0+60x40")],
    "TidepoolBudget": [('tidepool_budget_used_ratio{budget="b",limit="soft"}', "1.2x40")],
    "TidepoolBudgetHard": [('tidepool_budget_used_ratio{budget="b",limit="hard"}', "0.95x40")],
    "TidepoolUnknownPrice": [('tidepool_machines_unpriced{pool="spot",market="spot"}', "1x70")],
    "TidepoolReclaimStorm": [
        ('tidepool_reclaims_total{pool="spot",pod="keeper-1"}', "0x30 1 2 4x40"),
        ('tidepool_reclaims_total{pool="spot",pod="keeper-2"}', "0x30 1 2 4x40"),
    ],
    "TidepoolUnschedulable": [
        ('tidepool_job_waiting_seconds{pool="spot"}', "0+60x40"),
        ("tidepool_schedule_timeout_seconds", "1800x40"),
    ],
    "TidepoolDeadlineAtRisk": [('tidepool_deadline_at_risk_jobs{team="a"}', "1x40")],
    "TidepoolKeeperBehind": [('tidepool_keeper_lag_seconds{watch="pods"}', "30x40")],
    "TidepoolKeeperDown": [],
}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool: as root, `./tidepool test` installs it")
    return found


def test_alerts_fire_when_they_should_and_not_before(promtool: str, tmp_path: Path) -> None:
    assert IN_TIME.keys() == LATE.keys() == {alert["alert"] for alert in ALERTS}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(alerts.rules()))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [*cases()]}))
    for command in (("check", "rules", "rules.yaml"), ("test", "rules", "tests.yaml")):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def cases() -> Iterator[dict[str, Any]]:
    """promtool's: which alerts are there at the end; a keeper that tells something is there unless it is the case."""
    for series, fires in ((IN_TIME, False), (LATE, True)):
        for name, told in series.items():
            given = [{"series": each, "values": values} for each, values in told]
            if not (name == "TidepoolKeeperDown" and fires):
                steps = 'tidepool_keeper_in_step_timestamp_seconds{watch="nodes"}'
                given.append({"series": steps, "values": "0+60x80"})
            minutes = 70 if name == "TidepoolUnknownPrice" else 39
            yield {
                "name": f"{name}: {'late' if fires else 'in time'}",
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": "{}", "value": int(fires)}],
                    }
                ],
            }
