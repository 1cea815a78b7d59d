"""Where a job with a deadline runs next: the published policies and tidepool's own, behind one interface.

A policy is a pure function from what is known at a moment to a market, or None to wait. The published ones are asked
when the job may start, at every reclaim, when spot capacity comes or goes, and every `step` seconds besides. Ours is
asked as the operator asks it: when an attempt is about to start, and every `step` seconds while it waits.

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
    running: the market of the machine now used. spot_is_there: whether a spot machine can be had (or kept), as far as
    is known. reclaims: of one spot machine. step: until a policy is asked again at the latest.
    """

    elapsed: float
    left: float
    saved: float
    progress: float
    work: Work
    redo: float
    restart: float
    running: Market | None
    spot_is_there: bool
    spot_price: float
    on_demand_price: float
    reclaims: Rate
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

    Published, of a job whose work is known and that keeps its progress: it follows the line from (0, 0) to (deadline,
    work). Spot whenever it is there, and until it is reclaimed (exploitation, taking risks); idle and behind the line,
    on-demand; from there back only when as far as the line is in 2d (hysteresis); idle and with less time left than the
    work and 2d, on-demand to the end (safety net), so that no deadline is missed. d is what a changeover costs: the
    restart and the progress that it loses.

    Ours: with checkpoints the loss is the most there may be, the time between two of them, and progress counts as it
    is made, as in the authors' code. On-demand is left for spot and never for idleness. A job without checkpoints, of
    which the paper says nothing, has no progress before it is done, and keeps its on-demand machine. With its whole
    work in d it would be on-demand with any deadline under three times its work; to the policy's good the safety net is
    as late as it may be without a miss: of the two changeovers that it is for, only the second one loses work.
    """
    work = moment.work.expected_after(moment.progress)
    if moment.running == "spot":
        return "spot"
    if not math.isfinite(moment.redo):
        if moment.running == "on-demand" or moment.left - moment.step < 2 * (work + moment.restart):
            return "on-demand"
        return "spot" if moment.spot_is_there else "on-demand"  # always behind the line
    slope = work / (moment.elapsed + moment.left)
    changeover = moment.restart + moment.redo
    if moment.left - moment.step < work - moment.progress + 2 * changeover:
        return "on-demand"
    if moment.running == "on-demand":
        is_ahead = moment.progress >= slope * (moment.elapsed + 2 * changeover)
        return "spot" if is_ahead and moment.spot_is_there else "on-demand"
    if moment.spot_is_there:
        return "spot"
    return "on-demand" if moment.progress < slope * moment.elapsed else None


def tidepool(moment: Moment, target: float = TARGET) -> Market | None:
    """Spot, or waiting for it, while that is cheaper and the deadline as good as sure; else on-demand.

    Time that isn't needed for work (slack) never grows: waiting, restarts and work done twice use it up. So on-demand
    is not taken a moment before it has to be. An attempt stays where it is until it ends: on spot until it is
    reclaimed, on-demand until it is done.

    Spot: while the probability of missing the deadline there is at most what `target` leaves above that on-demand.
    Where even on-demand is not so sure, because the runtime isn't, it may be a quarter above that if that is more.
    Waiting: while spot would be taken after it, and the probability is what `target` leaves at most. A wait adds
    nothing to what is missed on-demand, or the next one would add to that.
    Where even on-demand is likely to miss the deadline, on-demand: late, but no later than need be.
    """
    if moment.running is not None:
        return moment.running
    sure = miss_on_demand(moment)
    if sure > MISSED or not is_spot_cheaper(moment):
        return "on-demand"
    if moment.spot_is_there:
        return "spot" if miss_on_spot(moment) <= sure + allowance(sure, target) else "on-demand"
    later = moment._replace(left=moment.left - moment.step)
    return None if miss_on_spot(later) <= 1 - target else "on-demand"


def allowance(on_demand: float, target: float = TARGET) -> float:
    """How much likelier than on-demand a miss may be on spot."""
    return max(1 - target, on_demand / 4)


def miss_on_demand(moment: Moment) -> float:
    """The probability of missing the deadline where an attempt that starts now is on an on-demand machine."""
    possible = moment.work.at_least(moment.saved)
    return sum(moment.restart + work - moment.saved > moment.left for work in possible) / len(possible)


def miss_on_spot(moment: Moment) -> float:
    """The same where it is on a spot machine, and on-demand after a reclaim.

    For each possible runtime: certain where even without a reclaim the time isn't enough; else the probability of a
    reclaim so late that what it makes undone can't be done again.
    """
    possible = moment.work.at_least(moment.saved)
    total = 0.0
    for work in possible:
        running = work - moment.saved
        slack = moment.left - moment.restart - running
        if slack < 0:
            total += 1
            continue
        slack -= moment.restart
        if slack >= min(moment.redo, running):
            continue
        # The work undone at a reclaim grows with the time since the last checkpoint: from here on it is too much.
        too_late = slack if slack >= 0 else -moment.restart
        reclaims = moment.reclaims
        total += reclaims.none_within(moment.restart + too_late) - reclaims.none_within(moment.restart + running)
    return total / len(possible)


def is_spot_cheaper(moment: Moment) -> bool:
    """Whether a spot machine now, and on-demand after a reclaim, is expected to cost less than on-demand alone."""
    until_done = moment.restart + moment.work.expected_after(moment.saved) - moment.saved
    survives = moment.reclaims.none_within(until_done)
    on_spot = moment.reclaims.expected_seconds(until_done)
    again = until_done * (1 - survives)
    if math.isfinite(moment.redo):
        # What a reclaimed machine has done is kept, save its start and, on average, half the way to a checkpoint.
        again -= max(0.0, on_spot - until_done * survives - (moment.restart + moment.redo / 2) * (1 - survives))
    return moment.spot_price * on_spot + moment.on_demand_price * again < moment.on_demand_price * until_done


POLICIES: dict[str, Policy] = {
    "all-on-demand": all_on_demand,
    "all-spot": all_spot,
    "greedy": greedy,
    "uniform-progress": uniform_progress,
    "tidepool": partial(tidepool, target=TARGET),
}
"""By name, as `tidepool simulate deadlines` compares them."""
