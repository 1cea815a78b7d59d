"""What Prometheus gets from the keeper, as its text format. Figures come from the books (tidepool.keeper.figures).

Labels are pools, markets, teams, categories, causes, rules and budgets: what an environment declares or this library
enumerates. No label is a DAG, a task, a pod or a machine, so that the number of series does not grow with the jobs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tidepool.capacity import Capacity, CapacityError
from tidepool.keeper import figures
from tidepool.keeper.pace import Pace
from tidepool.ledger.store import Store
from tidepool.objects import Object

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
KEEP_SECONDS = 5.0
"""Scrapes within so long get the same answer."""


@dataclass(frozen=True)
class Metric:
    """A family of series. labels: their names, in order. A counter's name ends in `_total`."""

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str


METRICS = (
    Metric("tidepool_machines", "gauge", ("pool", "market", "state"), "Machines that are billed now, by state."),
    Metric("tidepool_machines_unpriced", "gauge", ("pool", "market"), "Of them, those whose price nobody knows."),
    Metric("tidepool_usd_per_hour", "gauge", ("pool", "market"), "What the machines cost an hour at their prices."),
    Metric("tidepool_machine_idle_seconds", "gauge", ("pool",), "The longest that a machine is without a job by now."),
    Metric("tidepool_machines_launched_total", "counter", ("pool", "market"), "Machines that were launched."),
    Metric("tidepool_reclaims_total", "counter", ("pool",), "Spot machines that their cloud gave notice of."),
    Metric("tidepool_cost_today_usd", "gauge", ("category", "market", "team"), "Cost since midnight UTC."),
    Metric(
        "tidepool_cost_month_usd", "gauge", ("category", "market", "team"), "Cost since the first of the month, UTC."
    ),
    Metric("tidepool_unpriced_today_seconds", "gauge", ("market",), "Machine time since midnight UTC without a price."),
    Metric("tidepool_jobs", "gauge", ("team", "pool", "state"), "Pods of jobs that have not ended, by state."),
    Metric("tidepool_job_waiting_seconds", "gauge", ("pool",), "The longest that a pod waits for a machine by now."),
    Metric("tidepool_schedule_timeout_seconds", "gauge", (), "How long a pod may wait for a machine."),
    Metric("tidepool_job_ends_total", "counter", ("team", "cause"), "Pods of jobs that ended, by their cause."),
    Metric("tidepool_deadline_at_risk_jobs", "gauge", ("team",), "Running jobs that will end after their deadline."),
    Metric("tidepool_orphans", "gauge", ("rule",), "Pods and claims without an owner that are still there."),
    Metric("tidepool_orphan_seconds", "gauge", ("rule",), "The longest since one of them was found."),
    Metric("tidepool_reaper_total", "counter", ("rule", "action"), "What the reaper found, removed or held back."),
    Metric(
        "tidepool_budget_used_ratio", "gauge", ("budget", "limit"), "Spent in its day or month, of a budget's limit."
    ),
    Metric("tidepool_keeper_in_step_timestamp_seconds", "gauge", ("watch",), "Until when a watch knows everything."),
    Metric("tidepool_keeper_lag_seconds", "gauge", ("watch",), "The longest from a change to its event, last minute."),
    Metric("tidepool_books_timestamp_seconds", "gauge", (), "Until when the costs of machines that run are known."),
    Metric("tidepool_prices_timestamp_seconds", "gauge", (), "When prices were asked of the cloud last; 0: never."),
)
"""All there is; dags/docs/metrics.md says it in words."""

Labels = tuple[str, ...]
Samples = Mapping[str, Mapping[Labels, float]]
"""By a metric's name: the values by its labels' values."""


class Metrics:
    """capacity: the document as it is now; without one there are no budgets. pods: those of jobs as they are now, None
    before they were listed; without them nothing is known of deadlines. orphans: what the reaper has found and is still
    there, by rule: how many, and since when. clock: Unix seconds."""

    def __init__(
        self,
        store: Store,
        capacity: Callable[[], Capacity] | None = None,
        pace: Pace | None = None,
        pods: Callable[[], list[Object] | None] = lambda: None,
        orphans: Callable[[], Mapping[str, tuple[int, float]]] = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._capacity = capacity
        self._pace = pace
        self._pods = pods
        self._orphans = orphans
        self._clock = clock
        self._figures = figures.Figures(store)
        self._lock = threading.Lock()
        self._kept = ""
        self._kept_at = 0.0

    def render(self) -> str:
        """Prometheus' text format, at most KEEP_SECONDS old. Raises what the database's driver raises."""
        with self._lock:
            now = self._clock()
            if not self._kept or not 0 <= now - self._kept_at < KEEP_SECONDS:
                self._kept, self._kept_at = text(self._samples(now)), now
            return self._kept

    def _samples(self, now: float) -> dict[str, dict[Labels, float]]:
        document = None
        if self._capacity is not None:
            try:
                document = self._capacity()
            except (CapacityError, OSError):
                document = None  # the reaper says so in the log
        found = self._figures.read(now, document, self._pods() or ())
        orphans = self._orphans()
        found["tidepool_orphans"] = {(rule,): float(count) for rule, (count, _) in orphans.items()}
        found["tidepool_orphan_seconds"] = {(rule,): now - since for rule, (_, since) in orphans.items()}
        if self._pace is not None:
            found["tidepool_keeper_in_step_timestamp_seconds"] = {
                (watch,): moment for watch, moment in self._pace.steps().items()
            }
            found["tidepool_keeper_lag_seconds"] = {(watch,): lag for watch, lag in self._pace.lags(now).items()}
        return found


def text(samples: Samples) -> str:
    """Prometheus' text format of the samples, in METRICS' order. Raises ValueError for a metric that is not there."""
    if unknown := sorted(set(samples) - {metric.name for metric in METRICS}):
        raise ValueError(f"no such metric: {', '.join(unknown)}")
    return "".join(line + "\n" for metric in METRICS for line in _family(metric, samples.get(metric.name, {})))


def _family(metric: Metric, values: Mapping[Labels, float]) -> Iterable[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for labels, value in sorted(values.items()):
        pairs = ",".join(f'{name}="{_escape(said)}"' for name, said in zip(metric.labels, labels, strict=True))
        yield f"{metric.name}{{{pairs}}} {value!r}" if pairs else f"{metric.name} {value!r}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
