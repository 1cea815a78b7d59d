"""Which market an attempt of a job with a deadline goes to, from what is known when it is about to be placed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from tidepool.capacity import Market
from tidepool.deadlines import policies, priors
from tidepool.deadlines.policies import RESTART_SECONDS, TARGET, Moment


@dataclass(frozen=True)
class History:
    """What was seen before this attempt.

    runtimes: seconds of the task's past good attempts. reclaims: of spot machines of the pools that it may use, in so
    many machine-hours, lately. bucket: those machines' Spot Advisor band (`priors.BUCKETS`); None where unknown.
    """

    runtimes: tuple[float, ...] = ()
    reclaims: float = 0.0
    spot_hours: float = 0.0
    bucket: str | None = None


@dataclass(frozen=True)
class Choice:
    """Where the attempt goes; None means to wait for spot. The probabilities are of missing the deadline.

    why: one sentence with all figures, for the task's log.
    """

    market: Market | None
    miss_on_spot: float
    miss_on_demand: float
    why: str


def market(
    history: History,
    deadline: float,
    now: float,
    *,
    allotted: float,
    spot_price: float,
    on_demand_price: float,
    expected: float | None = None,
    saved: float = 0.0,
    checkpoint_every: float | None = None,
    spot_is_there: bool = True,
    restart: float = RESTART_SECONDS,
    step: float = 60.0,
    target: float = TARGET,
) -> Choice:
    """The market for the attempt that starts now. Times are Unix seconds, durations seconds, prices USD per hour.

    allotted: from when the job could first run to its deadline. expected: the author's guess of the work; without it
    and without a past run nothing is known of the runtime, and the attempt is on-demand.
    saved: work that the attempt needn't do again. checkpoint_every: None for a job without checkpoints.
    spot_is_there: False where no spot pool gives machines at present. step: how soon this is asked again after a wait.
    Raises ValueError where history or `allotted` can't be.
    """
    work = priors.runtime(history.runtimes, expected or allotted / 2)
    moment = Moment(
        elapsed=allotted - (deadline - now),
        left=deadline - now,
        saved=saved,
        progress=saved,
        work=work,
        redo=math.inf if checkpoint_every is None else checkpoint_every,
        restart=restart,
        booting=0.0,
        running=None,
        spot_is_there=spot_is_there,
        spot_price=spot_price,
        on_demand_price=on_demand_price,
        reclaims=priors.reclaims(history.bucket).seen(history.reclaims, history.spot_hours),
        returns=priors.RETURNS,
        step=step,
    )
    is_known = bool(history.runtimes) or expected is not None
    chosen = policies.tidepool(moment, target) if is_known else "on-demand"
    on_spot, on_demand = policies.miss_on_spot(moment), policies.miss_on_demand(moment)
    return Choice(chosen, on_spot, on_demand, _why(chosen, moment, history, on_spot, on_demand, target))


def task_deadline(
    deadline: float, task: str, downstream: Mapping[str, Collection[str]], seconds: Callable[[str], float]
) -> float:
    """When a task must be done so that what comes after it is done by the DAG run's deadline.

    downstream: the tasks right after each. seconds: what one of them takes, its machine included.
    """
    known: dict[str, float] = {}

    def after(each: str) -> float:
        if each not in known:
            known[each] = max((seconds(next_) + after(next_) for next_ in downstream.get(each, ())), default=0.0)
        return known[each]

    return deadline - after(task)


def _why(
    chosen: Market | None, moment: Moment, history: History, on_spot: float, on_demand: float, target: float
) -> str:
    runs = len(history.runtimes)
    known = f"from {runs} past run{'' if runs == 1 else 's'}" if runs else "a guess: no past run"
    facts = (
        f"{_duration(moment.left)} left, the work takes {_duration(moment.work.expected - moment.saved)} ({known}), "
        f"reclaims {moment.reclaims.per_hour:.1%} an hour; the probability of missing the deadline is "
        f"{on_spot:.1%} on spot, {on_demand:.1%} on-demand, and {1 - target:.1%} is allowed"
    )
    if chosen == "spot" and on_spot > 1 - target:
        facts += "; on-demand would hardly be surer"
    return f"{'waiting for spot' if chosen is None else chosen}: {facts}"


def _duration(seconds: float) -> str:
    sign = "-" if seconds < 0 else ""
    minutes = round(abs(seconds) / 60)
    return f"{sign}{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{sign}{minutes} min"
