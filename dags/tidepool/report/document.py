"""A report as plain data for JSON: times in Unix seconds, lengths in seconds, money in USD. Pure."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tidepool.report import timeline
from tidepool.report.timeline import Job, Machine, Report

ALWAYS_ON_DAY = "peak machines at their on-demand price x 24 h, against one run a day"


def document(report: Report) -> dict[str, Any]:
    """Everything in the report, under the names that its dataclasses use."""
    comparison, bench = report.comparison, timeline.bench(report)
    return {
        "jobs": [_job(job) for job in report.jobs],
        "machines": [_machine(machine) for machine in report.machines],
        "machine_seconds": {
            "bought": report.bought / 1000,
            "used": report.used / 1000,
            "idle": report.idle / 1000,
        },
        "peak": {
            "machines": dict(report.peak.machines),
            "on_demand_usd_per_hour": float(report.peak.usd_per_hour),
        },
        "cost": {
            "period_seconds": comparison.period / 1000,
            "bought_usd": float(comparison.bought),
            "used_usd": float(comparison.used),
            "idle_usd": float(comparison.idle),
            "unpriced_machines": comparison.unpriced,
            "always_on_usd": float(comparison.always_on),
            "always_on_formula": "peak machines at their on-demand price x period",
            "always_on_day_usd": float(comparison.always_on_day),
            "always_on_day_formula": ALWAYS_ON_DAY,
        },
        "bench": {
            "launch_to_ready_seconds": [length / 1000 for length in bench.launch_to_ready],
            "queued_to_running_seconds": [length / 1000 for length in bench.queued_to_running],
        },
    }


def _job(job: Job) -> dict[str, Any]:
    times = {
        name: _seconds(getattr(job, name))
        for name in ("queued", "machine_asked", "machine_ready", "running", "done", "machine_gone")
    }
    names = ("dag", "task", "run", "attempt", "pod", "pod_uid", "pool", "machine", "cause", "message")
    return {name: getattr(job, name) for name in names} | times


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "id": machine.id,
        "pool": machine.pool,
        "market": machine.market,
        "instance_type": machine.instance_type,
        "usd_per_hour": _usd(machine.usd_per_hour),
        "asked": _seconds(machine.asked),
        "ready": _seconds(machine.ready),
        "gone": _seconds(machine.gone),
        "bought_seconds": machine.bought / 1000,
        "used_seconds": machine.used / 1000,
        "idle_seconds": machine.idle / 1000,
        "cost_usd": _usd(machine.cost(machine.bought)),
    }


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _usd(amount: Fraction | None) -> float | None:
    return None if amount is None else float(amount)
