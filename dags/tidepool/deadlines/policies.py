"""Where a job with a deadline runs next: the published policies and tidepool's own, behind one interface.

A policy is a pure function from what is known at a moment to a market, or None to wait. It is asked when the job may
start, at every reclaim, when spot capacity comes or goes, and every `step` seconds besides.

On-demand machines are taken to be there always, `restart` seconds after they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tidepool.capacity import Market
from tidepool.deadlines.priors import Rate, Work

TARGET = 0.99
"""The share of deadlines that are to be met."""

RESTART_SECONDS = 300.0
"""A machine bought (1.5 to 4 minutes), the image pulled, the job started and its last checkpoint read."""

MISSED = 0.5
"""A deadline that is missed more probably than this is given up: what matters then is to be done soon."""


class Moment(NamedTuple):
    """A job at a moment, as a policy sees it. Times and work are in seconds, prices per hour.

    elapsed: since the job could first have run. left: until the deadline.
    saved: work that a new machine would start from. progress: work done, that of the running machine counted.
    work: what the job is in all. redo: the most work that a reclaim makes undone: the time between two checkpoints,
    math.inf without any. restart: from a decision until work goes on, a machine bought and the job started.
    booting: what is left of that for the machine now used. running: its market. spot_is_there: whether a spot machine
    can be had (or kept). reclaims, returns: of one spot machine, and of spot capacity once it is gone.
    step: until a policy is asked again at the latest.
    """

    elapsed: float
    left: float
    saved: float
    progress: float
    work: Work
    redo: float
    restart: float
    booting: float
    running: Market | None
    spot_is_there: bool
    spot_price: float
    on_demand_price: float
    reclaims: Rate
    returns: Rate
    step: float


Policy = Callable[[Moment], Market | None]


def all_on_demand(moment: Moment) -> Market | None:
    """Never spot."""
    return "on-demand"


def all_spot(moment: Moment) -> Market | None:
    """Never on-demand, whatever the deadline."""
    return "spot" if moment.spot_is_there else None


def greedy(moment: Moment) -> Market | None:
    """Spot, or waiting for it, until the point of no return; then on-demand to the end.

    That point is where the time left is what a new on-demand machine needs for all that isn't saved.
    """
    needed = moment.restart + moment.work.expected_after(moment.progress) - moment.saved
    if moment.running == "on-demand" or moment.left - moment.step < needed:
        return "on-demand"
    return "spot" if moment.spot_is_there else None


def uniform_progress(moment: Moment) -> Market | None:
    """Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI 24.

    The job keeps to the line from (0, 0) to (deadline, work). Its rules: spot whenever it is there, and until it is
    reclaimed; idle and behind the line, on-demand; from there back only when ahead of where the line is in 2d; idle
    and with less than 2d of slack, on-demand to the end. d is what a changeover costs: the restart, and the work that a
    reclaim makes undone. Two readings are ours, both to its good: on-demand is left for spot and never for idleness,
    and a job without checkpoints, which the paper does not cover, keeps its on-demand machine; its d is the restart.
    """
    has_checkpoints = math.isfinite(moment.redo)
    changeover = moment.restart + (moment.redo if has_checkpoints else 0)
    work = moment.work.expected_after(moment.progress)
    slope = work / (moment.elapsed + moment.left)
    if moment.running == "spot":
        return "spot"
    if moment.left - moment.step < work - moment.progress + 2 * changeover:
        return "on-demand"
    if moment.running == "on-demand":
        ahead = moment.progress >= slope * (moment.elapsed + 2 * changeover)
        return "spot" if ahead and moment.spot_is_there and has_checkpoints else "on-demand"
    if moment.spot_is_there:
        return "spot"
    return "on-demand" if moment.progress < slope * moment.elapsed else None


def tidepool(moment: Moment, target: float = TARGET) -> Market | None:
    """Spot, or waiting for it, while that is cheaper and the deadline as good as sure; else on-demand.

    Time that isn't needed for work (slack) never grows: waiting, restarts and work done twice use it up. So on-demand
    is not taken a moment before it has to be, and what slack is worth most for is kept: the way back to spot.

    Spot: while the probability of missing the deadline there stays within what `target` leaves. Where even on-demand
    is not so sure, because the runtime isn't, spot may add half as much to that, and what `target` leaves at most.
    Waiting: while spot would be taken after it, and slack remains for the changeovers that are still to come. A wait
    adds nothing to what is missed on-demand, or the next one would add to that.
    From on-demand back to spot: only with checkpoints.
    Where even on-demand is likely to miss the deadline, on-demand: late, but no later than need be.
    """
    if moment.running == "on-demand" and not math.isfinite(moment.redo):
        return "on-demand"
    allowed, sure = 1 - target, miss_on_demand(moment)
    accepted = max(allowed, sure + min(sure / 2, allowed))
    if moment.running == "spot":
        return "spot" if miss_on_spot(moment) <= accepted else "on-demand"
    if sure > MISSED or not is_spot_cheaper(moment):
        return "on-demand"
    if moment.spot_is_there:
        return "spot" if miss_on_spot(moment._replace(running=None)) <= accepted else "on-demand"
    later = moment._replace(left=moment.left - moment.step - _reserve(moment))
    return None if moment.running is None and miss_on_spot(later) <= allowed else "on-demand"


def miss_on_demand(moment: Moment) -> float:
    """The probability of missing the deadline on an on-demand machine from now on."""
    start = moment.progress if moment.running == "on-demand" else moment.saved
    wait = moment.booting if moment.running == "on-demand" else moment.restart
    possible = moment.work.at_least(moment.progress)
    return sum(wait + work - start > moment.left for work in possible) / len(possible)


def miss_on_spot(moment: Moment) -> float:
    """The probability of missing the deadline where a spot machine runs the job, and on-demand after a reclaim.

    For each possible runtime: certain where even without a reclaim the time isn't enough; else the probability of a
    reclaim so late that what it makes undone can't be done again.
    """
    keeps = moment.running == "spot"
    start, wait = (moment.progress, moment.booting) if keeps else (moment.saved, moment.restart)
    undone = start - moment.saved
    possible = moment.work.at_least(moment.progress)
    total = 0.0
    for work in possible:
        running = work - start
        slack = moment.left - wait - running
        if slack < 0:
            total += 1
            continue
        slack -= moment.restart
        if slack >= min(moment.redo, work):
            continue
        # The work undone at a reclaim grows with the time since the last checkpoint: from here on it is too much.
        too_late = max(0.0, slack - undone) if slack >= 0 else -wait
        if too_late < running:
            reclaims = moment.reclaims
            total += reclaims.none_within(wait + too_late) - reclaims.none_within(wait + running)
    return total / len(possible)


def _reserve(moment: Moment) -> float:
    """Slack for the changeovers to come, should all further work alternate with the coming and going of spot."""
    if not math.isfinite(moment.redo):
        return 0.0
    remaining = moment.work.expected_after(moment.progress) - moment.saved
    on = moment.reclaims.expected_seconds(remaining)
    off = moment.returns.expected_seconds(remaining)
    return remaining / (on + off) * (2 * moment.restart + moment.redo / 2)


def is_spot_cheaper(moment: Moment) -> bool:
    """Whether a new spot machine now, and on-demand after a reclaim, is expected to cost less than on-demand alone."""
    remaining = moment.work.expected_after(moment.progress)
    rest = remaining - moment.saved
    until_done = moment.restart + rest
    on_demand = moment.booting + remaining - moment.progress if moment.running == "on-demand" else until_done
    survives = moment.reclaims.none_within(until_done)
    on_spot = moment.reclaims.expected_seconds(until_done)
    again = until_done * (1 - survives)
    if math.isfinite(moment.redo):
        # What a reclaimed machine has done is kept, save its start and, on average, half the way to a checkpoint.
        again -= max(0.0, on_spot - until_done * survives - (moment.restart + moment.redo / 2) * (1 - survives))
    return moment.spot_price * on_spot + moment.on_demand_price * again < moment.on_demand_price * on_demand


POLICIES: dict[str, Policy] = {
    "all-on-demand": all_on_demand,
    "all-spot": all_spot,
    "greedy": greedy,
    "uniform-progress": uniform_progress,
    "tidepool": partial(tidepool, target=TARGET),
}
"""By name, as `tidepool simulate deadlines` compares them."""
