"""What is believed of spot machines and of a job's runtime before much was seen, and after.

Rates are per machine and hour, runtimes in seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist, fmean

HOUR = 3600.0

BUCKETS = {"<5%": 0.025, "5-10%": 0.075, "10-15%": 0.125, "15-20%": 0.175, ">20%": 0.30}
"""The Spot Advisor's bands: the share of instances that were interrupted in the trailing month, as the band's middle;
the last has no end, and 30 % is a judgement."""

INSTANCE_HOURS = 24.0
"""How long an instance of the Spot Advisor's month is taken to have run. AWS doesn't say. The whole month (730) would
make the hazard 30 times lower; a day is a cautious judgement, and a reclaim that is seen corrects it quickly."""

PRIOR_HOURS = 24.0
"""What a band's hazard is worth: as much as so many machine-hours of watching."""

UNKNOWN_PER_HOUR = 0.05
"""The hazard where no band is known either: the middle of what the deadlines are simulated at (1, 5 and 10 %)."""


@dataclass(frozen=True)
class Rate:
    """How often something happens, not surely known: a Gamma distribution of the hourly rate.

    As if `events` had been seen in `hours`; neither need be whole, both are more than 0.
    """

    events: float
    hours: float

    @property
    def per_hour(self) -> float:
        """The mean."""
        return self.events / self.hours

    def seen(self, events: float, hours: float) -> Rate:
        """After watching for so many more hours (the Gamma distribution is the Poisson process's conjugate)."""
        return Rate(self.events + events, self.hours + hours)

    def none_within(self, seconds: float) -> float:
        """The probability that it doesn't happen for so long (the rate integrated out: a Lomax distribution)."""
        return math.pow(self.hours / (self.hours + max(0.0, seconds) / HOUR), self.events)

    def expected_seconds(self, limit: float) -> float:
        """The mean time until it happens, or until `limit` seconds have gone by without."""
        x, h = limit / HOUR, self.hours
        if abs(self.events - 1) < 1e-9:
            return HOUR * h * math.log1p(x / h)
        return HOUR * h / (self.events - 1) * (1 - math.pow(h / (h + x), self.events - 1))


def reclaims(bucket: str | None = None) -> Rate:
    """The prior of the reclaims of one spot machine, from its Spot Advisor band.

    A share f interrupted within INSTANCE_HOURS is a hazard of -ln(1 - f) / INSTANCE_HOURS: 0.1 % an hour for "<5%",
    1.5 % for ">20%". Raises ValueError for a band that is none.
    """
    if bucket is None:
        return Rate(UNKNOWN_PER_HOUR * PRIOR_HOURS, PRIOR_HOURS)
    if bucket not in BUCKETS:
        raise ValueError(f"{bucket!r} is no band of the Spot Advisor; they are {', '.join(BUCKETS)}")
    return Rate(-math.log1p(-BUCKETS[bucket]) / INSTANCE_HOURS * PRIOR_HOURS, PRIOR_HOURS)


RUNTIME_SPREAD = 0.2
SPREAD_WEIGHT = 3
"""Runtimes of one task differ by 20 % (standard deviation of the logarithm), as if seen in three runs."""

GUESS_WEIGHT = 0.1
"""What a guessed runtime is worth beside one that was seen."""

VALUES = 400
"""So many equally likely runtimes stand for the distribution."""


class Work:
    """How much work a job is: equally likely seconds of running, without waiting for a machine."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = tuple(sorted(seconds))
        self.expected = fmean(self.seconds)
        self._sums = (0.0, *accumulate(self.seconds))

    def at_least(self, done: float) -> Sequence[float]:
        """The runtimes that are still possible after `done` seconds; after the longest, a tenth more than that."""
        if done < self.seconds[0]:
            return self.seconds
        rest = self.seconds[bisect_right(self.seconds, done) :]
        return rest or (1.1 * done,)

    def expected_after(self, done: float) -> float:
        """The mean runtime of those that are still possible."""
        if done < self.seconds[0]:
            return self.expected
        index = bisect_right(self.seconds, done)
        count = len(self.seconds) - index
        return (self._sums[-1] - self._sums[index]) / count if count else 1.1 * done


def runtime(past: Sequence[float], guess: float) -> Work:
    """The runtime of the next run, in seconds, from those of past runs and a guess.

    The logarithm's mean and variance have a normal-inverse-gamma prior (GUESS_WEIGHT, RUNTIME_SPREAD); what follows for
    the next run is a Student t, here the normal distribution of the same variance. Without past runs it is so wide
    that hardly any deadline is surely met. Raises ValueError for runtimes that are not positive.
    """
    if guess <= 0 or any(seconds <= 0 for seconds in past):
        raise ValueError(f"runtimes must be more than 0 seconds, not {[*past]} with the guess {guess}")
    logs, prior = [math.log(seconds) for seconds in past], math.log(guess)
    count, mean = len(logs), fmean(logs) if logs else prior
    weight = GUESS_WEIGHT + count
    squares = SPREAD_WEIGHT * RUNTIME_SPREAD**2 + sum((each - mean) ** 2 for each in logs)
    squares += GUESS_WEIGHT * count / weight * (mean - prior) ** 2
    freedom = SPREAD_WEIGHT + count
    variance = squares / freedom * (1 + 1 / weight) * freedom / (freedom - 2)
    normal = NormalDist((GUESS_WEIGHT * prior + count * mean) / weight, math.sqrt(variance))
    return Work([math.exp(normal.inv_cdf((index + 0.5) / VALUES)) for index in range(VALUES)])
