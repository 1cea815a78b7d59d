"""Grafana's dashboards of the keeper's metrics (dags/docs/metrics.md), as JSON that Grafana takes in. Pure."""

from __future__ import annotations

import json
from typing import Any

FOLDER = "tidepool"
_WIDTH, _HEIGHT = 12, 8
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_STACKED = {"drawStyle": "line", "fillOpacity": 60, "lineWidth": 1, "stacking": {"mode": "normal", "group": "A"}}
_LINES = {"drawStyle": "line", "fillOpacity": 5, "lineWidth": 2}
_BARS = {"drawStyle": "bars", "fillOpacity": 100, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
_BAR = "10m"  # the shortest time that a bar stands for

Panel = dict[str, Any]


def dashboards() -> dict[str, str]:
    """The JSON of each, by the name of its file."""
    return {f"{made['uid']}.json": json.dumps(made, indent=1, sort_keys=True) for made in (money(), jobs(), keeper())}


def money() -> dict[str, Any]:
    """Machines and what they cost."""
    rate = _max("tidepool_usd_per_hour", "pool", "market")
    machines = _max("tidepool_machines", "pool", "market", "state")
    wasted = _max("tidepool_cost_month_usd", "category", "market", "team", category="boot|idle|unattributed")
    today, month = (_max(f"tidepool_cost_{name}_usd", "category", "market", "team") for name in ("today", "month"))
    return _dashboard(
        "tidepool-money",
        "Machines and money",
        [
            _stat("USD per hour now", f"sum({rate})", "currencyUSD"),
            _stat("Cost today (UTC)", f"sum({today})", "currencyUSD"),
            _stat("Cost this month", f"sum({month})", "currencyUSD"),
            _stat("Of it boot, idle, unattributed", f"sum({wasted}) / sum({month})", "percentunit"),
            _graph("USD per hour, by pool", _sum("pool", rate), "{{pool}}", "currencyUSD", stacked=True),
            _graph("USD per hour, by market", _sum("market", rate), "{{market}}", "currencyUSD", stacked=True),
            _graph("Machines, by what they do", _sum("state", machines), "{{state}}", "short", stacked=True),
            _graph("Machines, by pool", _sum("pool", machines), "{{pool}}", "short", stacked=True),
            _graph("Cost today, by category", _sum("category", today), "{{category}}", "currencyUSD", stacked=True),
            _graph(
                "Cost today, by team (none: boot, idle, system)",
                _sum("team", today),
                "{{team}}",
                "currencyUSD",
                stacked=True,
            ),
            _graph(
                "Longest idle machine, by pool",
                _sum("pool", _max("tidepool_machine_idle_seconds", "pool")),
                "{{pool}}",
                "s",
                threshold=1800,
            ),
            _graph(
                "Budgets: used of the limit",
                _max("tidepool_budget_used_ratio", "budget", "limit"),
                "{{budget}} ({{limit}})",
                "percentunit",
                threshold=1,
            ),
        ],
    )


def jobs() -> dict[str, Any]:
    """Jobs, their ends, and spot machines that were taken back."""
    open_jobs = _max("tidepool_jobs", "team", "pool", "state")
    return _dashboard(
        "tidepool-jobs",
        "Jobs",
        [
            _stat(
                "Running",
                f"sum({_max('tidepool_jobs', 'team', 'pool', 'state', state='running')}) or vector(0)",
                "short",
            ),
            _stat(
                "Waiting for a machine",
                f"sum({_max('tidepool_jobs', 'team', 'pool', 'state', state='queued')}) or vector(0)",
                "short",
            ),
            _stat("Longest wait", f"max({_max('tidepool_job_waiting_seconds', 'pool')})", "s"),
            _stat("Will be late", f"sum({_max('tidepool_deadline_at_risk_jobs', 'team')}) or vector(0)", "short"),
            _graph("Jobs, by state", _sum("state", open_jobs), "{{state}}", "short", stacked=True),
            _graph("Jobs, by team", _sum("team", open_jobs), "{{team}}", "short", stacked=True),
            _events("Ends, by cause", "tidepool_job_ends_total", ("team", "cause"), ("cause",), "{{cause}}"),
            _graph(
                "Longest wait for a machine, by pool",
                _sum("pool", _max("tidepool_job_waiting_seconds", "pool")),
                "{{pool}}",
                "s",
            ),
            _events(
                "Machines launched, by pool",
                "tidepool_machines_launched_total",
                ("pool", "market"),
                ("pool",),
                "{{pool}}",
            ),
            _events("Reclaimed, by pool", "tidepool_reclaims_total", ("pool",), ("pool",), "{{pool}}"),
        ],
    )


def keeper() -> dict[str, Any]:
    """The keeper itself, and what it found that belongs to nobody."""
    return _dashboard(
        "tidepool-keeper",
        "Keeper",
        [
            _stat("Pods and claims without an owner", f"sum({_max('tidepool_orphans', 'rule')}) or vector(0)", "short"),
            _stat("The longest of them", f"max({_max('tidepool_orphan_seconds', 'rule')}) or vector(0)", "s"),
            _stat("Machines without a price", f"sum({_max('tidepool_machines_unpriced', 'pool', 'market')})", "short"),
            _stat("Age of the prices", f"time() - max({_max('tidepool_prices_timestamp_seconds')} > 0)", "s"),
            _graph("Lag, by watch", _max("tidepool_keeper_lag_seconds", "watch"), "{{watch}}", "s", threshold=2),
            _graph(
                "Watches: not in step for",
                f"time() - {_max('tidepool_keeper_in_step_timestamp_seconds', 'watch')}",
                "{{watch}}",
                "s",
                threshold=180,
            ),
            _graph(
                "Books behind by",
                f"time() - {_max('tidepool_books_timestamp_seconds')}",
                "costs of running machines",
                "s",
            ),
            _events(
                "What the reaper did",
                "tidepool_reaper_total",
                ("rule", "action"),
                ("rule", "action"),
                "{{rule}}: {{action}}",
            ),
        ],
    )


def _max(metric: str, *labels: str, **chosen: str) -> str:
    """One of the two keepers' figures. chosen: label and what it must match."""
    selected = ",".join(f'{name}=~"{value}"' for name, value in chosen.items())
    series = f"{metric}{{{selected}}}" if selected else metric
    return f"max by ({', '.join(labels)}) ({series})" if labels else f"max({series})"


def _sum(label: str, expr: str) -> str:
    """By a label; 0 while there is none of what was there within the time shown.

    Else a legend's last value would be one of hours ago, and a stack's colours would change.
    """
    metric = expr[expr.rindex("tidepool_") :].rstrip(")")
    return f"sum by ({label}) ({expr}) or 0 * count by ({label}) (last_over_time({metric}[$__range] @ end()))"


def _dashboard(uid: str, title: str, panels: list[Panel]) -> dict[str, Any]:
    """Panels in their order: small ones four in a row, others two."""
    across, down, height = 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        width, tall = (6, 4) if panel["type"] == "stat" else (_WIDTH, _HEIGHT)
        if across + width > 2 * _WIDTH or (across and tall != height):
            across, down = 0, down + height
        panel |= {"id": number, "gridPos": {"x": across, "y": down, "w": width, "h": tall}}
        across, height = across + width, tall
    return {
        "uid": uid,
        "title": title,
        "tags": ["tidepool"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "editable": False,
        "time": {"from": "now-24h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }


def _stat(title: str, expr: str, unit: str) -> Panel:
    return {
        "type": "stat",
        "title": title,
        "datasource": _DATASOURCE,
        "targets": [{"refId": "A", "expr": expr, "instant": True, "datasource": _DATASOURCE}],
        "fieldConfig": {"defaults": {"unit": unit, "color": {"mode": "fixed", "fixedColor": "text"}}, "overrides": []},
        "options": {"graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}},
    }


def _graph(
    title: str, expr: str, legend: str, unit: str, stacked: bool = False, threshold: float | None = None
) -> Panel:
    drawn: dict[str, Any] = dict(_STACKED if stacked else _LINES)
    defaults: dict[str, Any] = {"unit": unit, "min": 0, "custom": drawn}
    if threshold is not None:
        drawn |= {"thresholdsStyle": {"mode": "dashed"}, "axisSoftMax": threshold}
        steps = [{"color": "green", "value": None}, {"color": "red", "value": threshold}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return {
        "type": "timeseries",
        "title": title,
        "datasource": _DATASOURCE,
        "targets": [{"refId": "A", "expr": expr, "legendFormat": legend, "datasource": _DATASOURCE}],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}},
    }


def _events(title: str, metric: str, labels: tuple[str, ...], by: tuple[str, ...], legend: str) -> Panel:
    """Bars of how often something happened; of what never did within the time shown there is none."""
    inside = f"max by ({', '.join(labels)}) (increase({metric}"
    often = f"round(sum by ({', '.join(by)}) ({inside}[$__rate_interval]))))"
    ever = f"sum by ({', '.join(by)}) ({inside}[$__range] @ end()))) > 0"
    made = _graph(title, f"{often} and {ever}", legend, "short")
    made["fieldConfig"]["defaults"]["custom"] = dict(_BARS)
    made["options"]["legend"]["calcs"] = ["sum", "max"]
    return made | {"interval": _BAR, "description": "How often in the time that a bar stands for. Empty: never."}
