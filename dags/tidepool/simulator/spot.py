"""The spot market of the simulation: when a pool has machines, and how often one is taken away. Seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from tidepool.deadlines import priors, traces
from tidepool.deadlines.traces import DAY, DAYS, Trace
from tidepool.prices import table
from tidepool.simulator.assumptions import Assumptions

PROCESSES = ("always", *traces.PROCESSES, "never")


@dataclass(frozen=True)
class Market:
    """traces: when spot machines are to be had, by pool; where that ends, all of the pool's are reclaimed. A trace
    that is over begins anew. hazards: reclaims per hour besides, by instance type.
    """

    traces: Mapping[str, Trace | None]
    hazards: Mapping[str, float]

    def at(self, pool: str, time: float) -> tuple[bool, float]:
        """Whether machines can be had, and when that changes next."""
        trace = self.traces[pool]
        if trace is None:
            return False, math.inf
        length = trace.end - trace.start
        rounds, offset = divmod(time, length)
        there, change = trace.at(trace.start + offset)
        if len(trace.changes) == 2 and trace.changes == [trace.start, trace.end]:
            return True, math.inf
        return there, min(change - trace.start, length) + rounds * length

    def lasts(self, pool: str, instance_type: str, time: float, rng: random.Random) -> float:
        """When a machine launched now is reclaimed."""
        there, change = self.at(pool, time)
        while there and change < math.inf:  # where a trace begins anew nothing is reclaimed if it goes on being there
            there, after = self.at(pool, change + 1e-6)
            if not there:
                break
            change = after
        hazard = self.hazards.get(instance_type, priors.UNKNOWN_PER_HOUR)
        own = time + rng.expovariate(hazard) * 3600 if hazard else math.inf
        return min(change, own)


def market(pools: list[str], process: str | Trace, seed: int, assumptions: Assumptions) -> Market:
    """The market of these spot pools: a process of `tidepool.deadlines.traces` for each, or one trace for all."""
    found: dict[str, Trace | None] = {}
    for number, pool in enumerate(sorted(pools)):
        if isinstance(process, Trace):
            found[pool] = process
        elif process == "never":
            found[pool] = None
        elif process == "always":
            found[pool] = traces.always(DAYS * DAY)
        else:
            found[pool] = traces.synthetic(process, seed * 1000 + number)
    given = assumptions.reclaims_per_hour
    hazards = {
        row["instance_type"]: given if given >= 0 else priors.reclaims(row["spot_interruption_bucket"] or None).per_hour
        for row in table.rows()
    }
    return Market(found, hazards)
