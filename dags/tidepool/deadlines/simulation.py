"""How one job goes under a policy: from event to event, on a trace of spot machines and with reclaims besides.

`simulate` asks the policy all the time, and it may move a job that runs; `attempts.simulate` is what the operator does.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from tidepool.capacity import Market
from tidepool.deadlines.policies import RESTART_SECONDS, Moment, Policy
from tidepool.deadlines.priors import HOUR, Rate, Work
from tidepool.deadlines.traces import Trace

STEP_SECONDS = 300.0
"""How often a policy is asked where nothing happens."""


@dataclass(frozen=True)
class Job:
    """One job on one stretch of a trace. Seconds; times on the trace's clock.

    work: what it really is. believed: what is known of that beforehand. reclaimed: when spot machines are taken away,
    besides at the end of a span. reclaims: what is known of them when it starts.
    """

    start: float
    work: float
    deadline: float
    believed: Work
    redo: float
    reclaimed: Sequence[float]
    reclaims: Rate


@dataclass(frozen=True)
class Run:
    """How a job went. cost: in hours of an on-demand machine. spot_seconds: for which a spot machine was paid."""

    is_met: bool
    cost: float
    reclaims: int
    spot_seconds: float


class Machine:
    """The machine in use, and how far the work has come on it."""

    def __init__(self, market: Market, now: float, saved: float) -> None:
        self.market, self.ready, self.saved = market, now + RESTART_SECONDS, saved

    def progress(self, now: float) -> float:
        return self.saved + max(0.0, now - self.ready)

    def kept(self, now: float, every: float) -> float:
        """What is saved: up to the last checkpoint; without any, nothing."""
        if not math.isfinite(every):
            return 0.0
        return self.saved + (self.progress(now) - self.saved) // every * every


def simulate(job: Job, policy: Policy, trace: Trace, spot_price: float) -> Run:
    """One job under one policy. What isn't done by the deadline is paid for as on-demand: lateness is not cheap.

    Whatever stops a machine, a reclaim or the policy, costs the work since the last checkpoint.
    """
    now, end, machine, saved = job.start, job.start + job.deadline, None, 0.0
    reclaims, taken, cost, spot_seconds = job.reclaims, 0, 0.0, 0.0
    while now < end:
        is_there, change = trace.at(now)
        progress = machine.progress(now) if machine else saved
        choice = policy(
            Moment(
                elapsed=now - job.start,
                left=end - now,
                saved=machine.kept(now, job.redo) if machine else saved,
                progress=progress,
                work=job.believed,
                redo=job.redo,
                restart=RESTART_SECONDS,
                running=machine.market if machine else None,
                spot_is_there=is_there,
                spot_price=spot_price,
                on_demand_price=1.0,
                reclaims=reclaims,
                step=STEP_SECONDS,
            )
        )
        if choice == "spot" and not is_there:
            choice = None
        if choice != (machine.market if machine else None):
            saved = machine.kept(now, job.redo) if machine else saved
            machine = Machine(choice, now, saved) if choice else None
        until, loss = min(now + STEP_SECONDS, end, change), math.inf
        if machine:
            until = min(until, max(now, machine.ready) + job.work - machine.progress(now))
            if machine.market == "spot":
                index = bisect_right(job.reclaimed, now)
                loss = min(change, job.reclaimed[index] if index < len(job.reclaimed) else math.inf)
                until = min(until, loss)
                spot_seconds += until - now
            cost += (until - now) * (spot_price if machine.market == "spot" else 1.0)
        if machine and machine.market == "spot":
            reclaims = reclaims.seen(until == loss, (until - now) / HOUR)
        now = until
        if machine and machine.progress(now) >= job.work - 1e-6:
            return Run(True, cost / HOUR, taken, spot_seconds)
        if machine and now == loss:
            saved, machine, taken = machine.kept(now, job.redo), None, taken + 1
    rest = job.work - (machine.progress(now) if machine else saved - RESTART_SECONDS)
    return Run(False, (cost + rest) / HOUR, taken, spot_seconds)
