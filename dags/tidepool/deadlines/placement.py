"""Which market an attempt of a job with a deadline goes to, from what is known when it is about to be placed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from tidepool.capacity import Market
from tidepool.deadlines import policies, priors
from tidepool.deadlines.policies import RESTART_SECONDS, TARGET, Moment
from tidepool.deadlines.priors import Rate, Work


@dataclass(frozen=True)
class History:
    """What was seen before this attempt.

    runtimes: seconds of the task's past good runs, of all their attempts. reclaims: of spot machines of the pools that
    it may use, in so many machine-hours, lately.
    """

    runtimes: tuple[float, ...] = ()
    reclaims: float = 0.0
    spot_hours: float = 0.0


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
    checkpoint_every: float = math.inf,
    spot_is_there: bool = True,
    step: float = 60.0,
    target: float = TARGET,
) -> Choice:
    """The market for the attempt that starts now. Times are Unix seconds, durations seconds, prices USD per hour.

    allotted: from when the job could first run to its deadline. expected: what its author says of the work, which
    counts as one run until there was one; without either nothing is known of the runtime, and the attempt is on-demand.
    saved: work that the attempt needn't do again. checkpoint_every: the most work that a reclaim makes undone, all of
    it for a job without checkpoints. spot_is_there: False where no spot pool gives machines at present. step: how soon
    this is asked again after a wait. Raises ValueError where history or `allotted` can't be.
    """
    guessed = (expected,) if expected is not None else ()
    asked = moment(
        priors.runtime(history.runtimes or guessed, expected or allotted / 2),
        priors.reclaims().seen(history.reclaims, history.spot_hours),
        deadline - allotted,
        deadline,
        now,
        saved=saved,
        checkpoint_every=checkpoint_every,
        spot_is_there=spot_is_there,
        spot_price=spot_price,
        on_demand_price=on_demand_price,
        step=step,
    )
    is_known = bool(history.runtimes) or expected is not None
    chosen = policies.tidepool(asked, target) if is_known else "on-demand"
    on_spot, on_demand = policies.miss_on_spot(asked), policies.miss_on_demand(asked)
    why = f"{chosen or 'waiting for spot'}: {_facts(asked, history, expected, on_spot, on_demand, target)}"
    if not is_known:
        why += "; the first run of a job that nothing is known of is on-demand"
    elif chosen == "on-demand" and on_demand > policies.MISSED:
        why += "; late, but no later than need be"
    elif chosen == "on-demand" and not policies.is_spot_cheaper(asked):
        why += "; spot would be no cheaper"
    return Choice(chosen, on_spot, on_demand, why)


def moment(
    work: Work,
    reclaims: Rate,
    begin: float,
    deadline: float,
    now: float,
    *,
    saved: float,
    checkpoint_every: float,
    spot_is_there: bool,
    spot_price: float,
    on_demand_price: float,
    step: float,
) -> Moment:
    """What the policy is asked with where an attempt is about to start. begin: when the job could first run."""
    return Moment(
        elapsed=now - begin,
        left=deadline - now,
        saved=saved,
        progress=saved,
        work=work,
        redo=checkpoint_every,
        restart=RESTART_SECONDS,
        running=None,
        spot_is_there=spot_is_there,
        spot_price=spot_price,
        on_demand_price=on_demand_price,
        reclaims=reclaims,
        step=step,
    )


def kept(ran: float, checkpoint_every: float) -> float:
    """What an attempt that ran so many seconds has surely saved of its work: all but the last of its checkpoints'
    intervals; without checkpoints (math.inf) nothing."""
    return max(0.0, ran - checkpoint_every)


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


def _facts(
    moment: Moment, history: History, expected: float | None, on_spot: float, on_demand: float, target: float
) -> str:
    runs = len(history.runtimes)
    known = f"from {runs} past run{'' if runs == 1 else 's'}" if runs else "a guess: no past run"
    if not runs and expected is not None:
        known = "as its author expects"
    saved = f", of which {_duration(moment.saved)} are saved" if moment.saved >= 60 else ""
    redo = f"at most {_duration(moment.redo)}" if math.isfinite(moment.redo) else "all"
    return (
        f"{_duration(moment.left)} left, the work takes {_duration(moment.work.expected)} ({known}){saved}, "
        f"reclaims {moment.reclaims.per_hour:.1%} an hour, each of which makes {redo} of it undone; the probability of "
        f"missing the deadline is {on_spot:.1%} on spot and {on_demand:.1%} on-demand, and "
        f"{policies.allowance(on_demand, target):.1%} more on spot are allowed"
    )


def _duration(seconds: float) -> str:
    sign = "-" if seconds < 0 else ""
    minutes = round(abs(seconds) / 60)
    return f"{sign}{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{sign}{minutes} min"
