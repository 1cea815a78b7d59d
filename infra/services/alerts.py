"""What Prometheus alerts of, by the keeper's metrics (dags/docs/metrics.md). Pure.

Each alert says in its annotations what has happened and, under `runbook`, what to do first. Two keepers may serve the
same figures: every expression takes the larger of them.
"""

from __future__ import annotations

from typing import Any, Literal

ORPHAN_SECONDS = 300
"""The reaper's own promise."""

IDLE_SECONDS = 1800
"""Longer than any pool's unneeded time should be; the autoscaler gives a machine back by then."""

RECLAIMS, RECLAIM_WINDOW = 3, "15m"
NEARLY = 0.9
BEHIND_SECONDS, LATE_SECONDS = 10, 180

Severity = Literal["info", "warning", "critical"]


def rules() -> dict[str, Any]:
    """A PrometheusRule's specification."""
    return {"groups": [{"name": "tidepool", "interval": "30s", "rules": [*_of_waste(), *_of_jobs(), *_of_keeper()]}]}


def _of_waste() -> list[dict[str, Any]]:
    return [
        _alert(
            "TidepoolOrphan",
            f"max by (rule) (tidepool_orphan_seconds) > {ORPHAN_SECONDS}",
            "1m",
            "critical",
            "A pod or claim without an owner is still there after {{ $value | humanizeDuration }} (rule "
            "{{ $labels.rule }})",
            "The keeper's log and its page name it. If the reaper held it back, its limit for the hour is used up: "
            "find out what makes so many. In dry-run mode it removes nothing. Else delete the pod by hand.",
        ),
        _alert(
            "TidepoolReaperHeld",
            f"{_grown('tidepool_reaper_total', 'rule', '1h', action='held')} > 0",
            "0m",
            "warning",
            "The reaper removed as much by rule {{ $labels.rule }} as it may in an hour",
            "Look at the evidence of its findings before anything else: so many at once are a mistake of somebody's, "
            "perhaps the reaper's. The next hour goes on where this one stopped.",
        ),
        _alert(
            "TidepoolIdleMachine",
            f"max by (pool) (tidepool_machine_idle_seconds) > {IDLE_SECONDS}",
            "5m",
            "warning",
            "A machine of pool {{ $labels.pool }} is without a job for {{ $value | humanizeDuration }}",
            "The cluster-autoscaler's ConfigMap cluster-autoscaler-status and its log say why it stays: a pod without "
            "a controller, one that is not safe to evict, the pool's minimum. One that is no node: look in EC2.",
        ),
        _alert(
            "TidepoolBudget",
            'max by (budget) (tidepool_budget_used_ratio{limit="soft"}) >= 1',
            "1m",
            "warning",
            "Budget {{ $labels.budget }} is past its soft limit: {{ $value | humanizePercentage }} of it",
            "`tidepool report --by dag` says what cost most, `tidepool jobs waste` what was paid for nothing. Nothing "
            "is stopped before the hard limit.",
        ),
        _alert(
            "TidepoolBudgetHard",
            f'max by (budget) (tidepool_budget_used_ratio{{limit="hard"}}) >= {NEARLY}',
            "1m",
            "critical",
            "Budget {{ $labels.budget }} is used up to {{ $value | humanizePercentage }} of its hard limit",
            "From there on tasks fail or wait, as the budget says. Raise it in the stack file, or stop what is not "
            "needed.",
        ),
        _alert(
            "TidepoolUnknownPrice",
            "max by (pool, market) (tidepool_machines_unpriced) > 0",
            "1h",
            "info",
            "Machines of pool {{ $labels.pool }} have no known price: their cost is in no figure",
            "The keeper asks AWS for prices with the right pricing:GetProducts; its log says so where it may not. An "
            "existing cluster states its prices in the stack file.",
        ),
    ]


def _of_jobs() -> list[dict[str, Any]]:
    return [
        _alert(
            "TidepoolReclaimStorm",
            f"{_grown('tidepool_reclaims_total', 'pool', RECLAIM_WINDOW)} >= {RECLAIMS}",
            "0m",
            "warning",
            f"{{{{ $value | humanize }}}} machines of {{{{ $labels.pool }}}} are taken back within {RECLAIM_WINDOW}",
            "Jobs go on by themselves: the ladder's breaker keeps new attempts off the pool. More instance types or "
            "zones in the pool make it rarer.",
        ),
        _alert(
            "TidepoolUnschedulable",
            "max by (pool) (tidepool_job_waiting_seconds) > 0.5 * scalar(max(tidepool_schedule_timeout_seconds))",
            "1m",
            "warning",
            "A job waits for a machine of pool {{ $labels.pool }} for {{ $value | humanizeDuration }}",
            "`tidepool explain` says where it could go. The cluster-autoscaler's log says why no machine came: no "
            "capacity, the pool's maximum, an EC2 quota, a template that does not fit.",
        ),
        _alert(
            "TidepoolDeadlineAtRisk",
            "max by (team) (tidepool_deadline_at_risk_jobs) > 0",
            "2m",
            "warning",
            "{{ $value }} running jobs of team {{ $labels.team }} will be late, as long as such jobs take",
            "The keeper's page shows where their time goes. A job that waits for spot capacity can be cleared with "
            "market=on-demand.",
        ),
    ]


def _of_keeper() -> list[dict[str, Any]]:
    return [
        _alert(
            "TidepoolKeeperDown",
            "absent(tidepool_keeper_in_step_timestamp_seconds)",
            "5m",
            "critical",
            "No keeper tells anything: nothing is recorded, and nothing that belongs to nobody is removed",
            "`kubectl -n tidepool describe pods -l app.kubernetes.io/name=keeper`; its log says what it waits for. "
            "What happens meanwhile is reconstructed as far as its objects still exist.",
        ),
        _alert(
            "TidepoolKeeperBehind",
            f"max by (watch) (tidepool_keeper_lag_seconds) > {BEHIND_SECONDS} or "
            f"time() - max by (watch) (tidepool_keeper_in_step_timestamp_seconds) > {LATE_SECONDS}",
            "5m",
            "warning",
            "The keeper's watch of {{ $labels.watch }} is {{ $value | humanizeDuration }} behind",
            "Its log says whether the API server or its database is slow or away.",
        ),
    ]


def _alert(name: str, expr: str, wait: str, severity: Severity, summary: str, runbook: str) -> dict[str, Any]:
    """wait: how long it must hold."""
    return {
        "alert": name,
        "expr": expr,
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "runbook": runbook},
    }


def _grown(metric: str, label: str, window: str, **chosen: str) -> str:
    """By how much a counter has grown; the keeper tells of it from 0 on."""
    selected = ",".join(f'{name}="{value}"' for name, value in chosen.items())
    return f"max by ({label}) (increase({metric}{{{selected}}}[{window}]))".replace("{}", "")
