"""How one job goes as the operator runs it: attempt by attempt, each asked for its market before it starts.

What the operator knows and does is here what it is there: the decision is `placement.moment` and the policy; whether
spot has machines it knows from the breaker of the ladder; an attempt stays where it is until it ends.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from tidepool.breaker import Breaker, State
from tidepool.deadlines import placement
from tidepool.deadlines.policies import RESTART_SECONDS, Policy
from tidepool.deadlines.priors import HOUR
from tidepool.deadlines.simulation import Job, Machine, Run
from tidepool.deadlines.traces import Trace
from tidepool.ladder import lost_on_spot_at_most
from tidepool.retries import LONGEST_PLATFORM_DELAY_SECONDS, PLATFORM_RETRIES

WAIT_SECONDS = 60.0
"""How soon a task that waits for spot machines asks again."""

ASKED_SECONDS = 90.0
"""Until it is known that a spot pool has no machine: the autoscaler's answer to a pod, and the pod's end."""


def simulate(job: Job, policy: Policy, trace: Trace, spot_price: float) -> Run:
    """One job. What isn't done by the deadline is paid for as on-demand, as in `simulation.simulate`.

    A reclaimed attempt is followed by the next one after the longest pause there is.
    """
    now, end, saved, known = job.start, job.start + job.deadline, 0.0, 0.0
    breaker, reclaims, taken, cost, spot_seconds = Breaker(), job.reclaims, 0, 0.0, 0.0
    most = lost_on_spot_at_most(math.isfinite(job.redo), PLATFORM_RETRIES)
    while now < end:
        is_known_there = breaker.state(now) is not State.OPEN
        moment = placement.moment(
            job.believed,
            reclaims,
            job.start,
            end,
            now,
            saved=known,
            checkpoint_every=job.redo,
            spot_is_there=is_known_there,
            spot_price=spot_price,
            on_demand_price=1.0,
            step=WAIT_SECONDS,
        )
        market = policy(moment) if taken < most else "on-demand"
        if market is None:
            now += WAIT_SECONDS
            continue
        loss = math.inf
        if market == "spot":
            is_there, loss = trace.at(now)
            if not is_there:
                now += ASKED_SECONDS
                breaker = breaker.failed(now)
                continue
            index = bisect_right(job.reclaimed, now)
            loss = min(loss, job.reclaimed[index] if index < len(job.reclaimed) else math.inf)
            breaker = breaker.started(now)
        machine = Machine(market, now, saved)
        until = min(machine.ready + job.work - saved, loss, end)
        cost += (until - now) * (spot_price if market == "spot" else 1.0)
        if market == "spot":
            spot_seconds += until - now
            reclaims = reclaims.seen(until == loss, (until - now) / HOUR)
        now = until
        if machine.progress(now) >= job.work - 1e-6:
            return Run(True, cost / HOUR, taken, spot_seconds)
        if now < end or now == loss:
            known += placement.kept(machine.progress(now) - saved, job.redo)
            saved, taken, breaker = machine.kept(now, job.redo), taken + 1, breaker.lost(now)
            now += LONGEST_PLATFORM_DELAY_SECONDS
        else:
            return Run(False, (cost + job.work - machine.progress(now)) / HOUR, taken, spot_seconds)
    return Run(False, (cost + job.work - saved + RESTART_SECONDS) / HOUR, taken, spot_seconds)
