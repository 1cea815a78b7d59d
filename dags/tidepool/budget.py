"""Whether a job may start within its budgets, from what was spent and what is set aside for jobs that run. Pure.

The keeper publishes what was spent, in a ConfigMap of each team's namespace, with the time that it is known up to. A
job that starts sets aside there what it is expected to cost, before its pod is made: of many that start at once, each
sees those before it. What was set aside becomes what was spent as the job runs; so what nobody takes back, as its
worker died, is gone after the time that the job was expected to take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tidepool.capacity import Budget, Pool
from tidepool.sizing import SMALLEST_JOB_CPU_MILLIS, Placement

SPENT = "spent"
RESERVED = "reserved."
"""Keys of the ConfigMap: what was spent, and before each pod's name what is set aside for it."""

STALE_SECONDS = 300.0
"""Figures that end longer ago say nothing of now."""


@dataclass(frozen=True)
class Figure:
    """What a budget's jobs cost since `begin` (Unix seconds). unpriced_seconds: of machines whose price nobody knows,
    which are not in usd."""

    usd: float
    begin: float
    unpriced_seconds: float = 0.0


@dataclass(frozen=True)
class Reservation:
    """What one attempt is expected to cost: usd over so many seconds from `since` (Unix seconds) on."""

    dag: str
    usd: float
    since: float
    seconds: float

    def left(self, until: float) -> float:
        """What of it is not yet among what was spent, where that is known until then."""
        gone = (until - self.since) / self.seconds if self.seconds > 0 else 1.0
        return self.usd * (1 - min(1.0, max(0.0, gone)))


@dataclass(frozen=True)
class Spending:
    """time: until when the figures are known (Unix seconds), 0: nobody published any. figures: by budget.
    reserved: by pod."""

    time: float
    figures: Mapping[str, Figure]
    reserved: Mapping[str, Reservation]


class Word(StrEnum):
    """What the budgets say."""

    GO = "go"
    WAIT = "wait"
    FAIL = "fail"
    UNKNOWN = "unknown"  # there is a hard limit at which it fails, and nobody knows what was spent


@dataclass(frozen=True)
class Verdict:
    """word: for the job that would start. why: with all figures, empty where it may. warnings: of soft limits."""

    word: Word
    why: str = ""
    warnings: tuple[str, ...] = ()


def of_job(budgets: Mapping[str, Budget], team: str, dag: str) -> dict[str, Budget]:
    """The budgets that a job counts towards."""
    return {
        name: budget
        for name, budget in budgets.items()
        if budget.team in ("", team) and budget.dag in ("", dag) and (budget.soft_usd or budget.hard_usd)
    }


def period(per: str, now: float) -> tuple[float, float]:
    """Begin and end of the day or month (UTC) that a time is in, as Unix seconds."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return day.timestamp(), day.timestamp() + 86_400
    first = day.replace(day=1)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.timestamp(), after.timestamp()


def usd_per_hour(placements: Sequence[tuple[Placement, int]]) -> float:
    """What a job's pods cost an hour on the dearest of their pools; by placement, and how many of each."""
    return sum(count * max(pool.usd_per_hour * share(each, pool) for pool in each.pools) for each, count in placements)


def share(placement: Placement, pool: Pool) -> float:
    """The part of a machine that a pod holds, as it is billed (tidepool.ledger.attribution)."""
    if pool.cpu_millis - placement.cpu_millis < SMALLEST_JOB_CPU_MILLIS or not pool.memory_bytes:
        return 1.0
    return min(1.0, max(placement.cpu_millis / pool.cpu_millis, placement.memory_bytes / pool.memory_bytes))


def verdict(budgets: Mapping[str, Budget], spending: Spending, asked: Reservation, now: float) -> Verdict:
    """Whether a job that counts towards these budgets, and asks for so much, may start now.

    A soft limit only warns. At a hard one the job fails or waits, as the budget says. Figures that are missing, too old
    or of the period before are no figures: a hard limit then lets nobody start, a soft one says that it is not looked
    after.
    """
    warnings: list[str] = []
    unknown: list[tuple[str, str]] = []
    over: list[tuple[str, str]] = []
    for name, budget in budgets.items():
        begin, end = period(budget.per, now)
        figure = spending.figures.get(name)
        missing = _missing(figure, spending, begin, now)
        if figure is None or missing:
            words = f"budget {name!r}: {missing}"
            if budget.hard_usd:
                unknown.append((budget.at_limit, words))
            else:
                warnings.append(words)
            continue
        reserved = sum(each.left(spending.time) for each in spending.reserved.values() if budget.dag in ("", each.dag))
        total = figure.usd + reserved + asked.usd
        words = _words(name, budget, figure, reserved, asked, end)
        if budget.hard_usd and total > budget.hard_usd:
            over.append((budget.at_limit, f"{words}: more than its hard limit of {_usd(budget.hard_usd)} USD"))
        elif budget.soft_usd and total > budget.soft_usd:
            warnings.append(f"{words}: more than its soft limit of {_usd(budget.soft_usd)} USD")
    if over:
        word = Word.FAIL if any(at_limit == "fail" for at_limit, _ in over) else Word.WAIT
        return Verdict(word, "; ".join(why for _, why in over), tuple(warnings))
    if unknown:
        word = Word.UNKNOWN if any(at_limit == "fail" for at_limit, _ in unknown) else Word.WAIT
        return Verdict(word, "; ".join(why for _, why in unknown), tuple(warnings))
    return Verdict(Word.GO, "", tuple(warnings))


def load(data: Mapping[str, str]) -> Spending:
    """From the ConfigMap's data; what is none of ours is left out."""
    time, figures = 0.0, {}
    body = _object(data.get(SPENT, ""))
    known = body.get("budgets")
    try:
        figures = {str(name): Figure(**_numbers(each)) for name, each in (known or {}).items()}
        time = float(body.get("time", 0.0))
    except (TypeError, ValueError, AttributeError):
        figures = {}
    reserved = {}
    for name, text in data.items():
        each = _object(text)
        if name.startswith(RESERVED):
            try:
                dag = str(each.pop("dag"))
                reserved[name.removeprefix(RESERVED)] = Reservation(dag, **_numbers(each))
            except (KeyError, TypeError, ValueError):
                continue
    return Spending(time, figures, reserved)


def dump_spent(time: float, figures: Mapping[str, Figure]) -> str:
    """What the keeper publishes, as JSON."""
    return json.dumps({"time": time, "budgets": {name: asdict(each) for name, each in figures.items()}}, sort_keys=True)


def reserve(data: Mapping[str, str], pod: str, asked: Reservation, now: float) -> dict[str, str]:
    """The ConfigMap's data with so much set aside for the pod, without what is no longer set aside for others."""
    over = {
        RESERVED + name for name, each in load(data).reserved.items() if now - each.since > each.seconds + STALE_SECONDS
    }
    kept = {name: text for name, text in data.items() if name not in over}
    return {**kept, RESERVED + pod: json.dumps(asdict(asked), sort_keys=True)}


def without(data: Mapping[str, str], pod: str) -> dict[str, str]:
    """The ConfigMap's data with nothing set aside for the pod."""
    return {name: text for name, text in data.items() if name != RESERVED + pod}


def release(data: Mapping[str, str], pod: str, now: float) -> dict[str, str]:
    """The ConfigMap's data after the pod has ended: set aside stays what it cost until that is among what was spent."""
    asked = load(data).reserved.get(pod)
    if asked is None:
        return dict(data)
    ran = min(asked.seconds, max(0.0, now - asked.since))
    cost = asked.usd * (ran / asked.seconds if asked.seconds > 0 else 0.0)
    return {**data, RESERVED + pod: json.dumps(asdict(replace(asked, usd=cost, seconds=ran)), sort_keys=True)}


def _missing(figure: Figure | None, spending: Spending, begin: float, now: float) -> str:
    """Why there is no figure of what was spent; empty where there is."""
    if not spending.time:
        return "nobody has published what was spent; does the keeper run?"
    if now - spending.time > STALE_SECONDS:
        return f"what was spent is known only until {_shown(spending.time)}; does the keeper run?"
    if figure is None:
        return "the keeper has published nothing of it; does it have this capacity document?"
    if figure.begin < begin:
        return "the keeper has not published what was spent since it began anew"
    return ""


def _words(name: str, budget: Budget, figure: Figure, reserved: float, asked: Reservation, end: float) -> str:
    whose = (
        " and ".join([f"team {budget.team}"] * bool(budget.team) + [f"DAG {budget.dag}"] * bool(budget.dag))
        or "all jobs"
    )
    unpriced = f" besides {figure.unpriced_seconds / 3600:.1f} machine-hours of unknown price"
    return (
        f"budget {name!r} of {whose}: {_usd(figure.usd)} USD spent this {budget.per}"
        f"{unpriced if figure.unpriced_seconds else ''}, {_usd(reserved)} set aside for jobs that run, "
        f"{_usd(asked.usd)} for this one; it begins anew at {_shown(end)}"
    )


def _usd(value: float) -> str:
    """To the cent; what is less than one to the last digit that the keeper publishes."""
    return f"{value:.2f}" if value >= 0.01 or not value else f"{value:.6f}"


def _shown(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(body: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in body.items()}
