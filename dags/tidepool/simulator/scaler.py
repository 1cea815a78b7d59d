"""What the cluster-autoscaler decides at its scans: which pool gets a machine more, and when an idle one goes back.

The engine does it; here is what the autoscaler remembers: pools that got no machine, and when it last asked for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tidepool.simulator.machines import Machine, Pod
from tidepool.simulator.policies import MachinePool, Policy


class Scaler:
    """Of one policy. All times are in seconds since the workload began."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._settings = policy.autoscaler
        self._backoff: dict[str, tuple[float, float]] = {}  # until when a pool is passed over, and for how long it was
        self._last_added = -math.inf

    def next_scan(self, now: float) -> float:
        """The first scan after now."""
        interval = self._settings.scan_interval
        return (math.floor(now / interval) + 1) * interval

    def scan_after(self, due: float, now: float) -> float:
        """The scan that looks again at what is due then, the next one at the earliest."""
        interval = self._settings.scan_interval
        return math.ceil(max(due, now + interval) / interval) * interval

    def choose(self, pod: Pod, count: Mapping[str, int], now: float) -> MachinePool | None:
        """The pool that gets a machine for the pod: by priority, then where the pod leaves least over. count: machines
        by pool."""
        options = [
            pool
            for name in pod.pools
            if self._backoff.get(name, (0.0, 0.0))[0] <= now
            and count[name] < (pool := self._policy.pools[name]).pool.max_machines
            and pod.cpu <= pool.pool.cpu_millis
        ]
        return min(options, key=lambda each: (-each.pool.priority, each.pool.cpu_millis - pod.cpu), default=None)

    def asked(self, now: float) -> None:
        """A group was raised."""
        self._last_added = now

    def got_one(self, pool: str) -> None:
        """A machine of the pool is ready: the pool is passed over no longer."""
        self._backoff.pop(pool, None)

    def got_none(self, pool: str, now: float) -> None:
        """The pool is passed over for a while, from one time to the next for twice as long."""
        until, last = self._backoff.get(pool, (-math.inf, 0.0))
        if now >= until:
            doubled = last * 2 if last and now - until < self._settings.backoff_reset else self._settings.first_backoff
            pause = min(self._settings.longest_backoff, doubled)
            self._backoff[pool] = (now + pause, pause)

    def due(self, machine: Machine) -> float:
        """The scan that gives an idle machine back: its time counts from the first scan that sees it idle."""
        interval = self._settings.scan_interval
        seen = math.ceil((machine.idle_since or 0.0) / interval) * interval
        unneeded = machine.pool.unneeded_time if self._policy.has_ladder else self._settings.unneeded_time
        return math.ceil((seen + unneeded) / interval) * interval

    def removable(self, machine: Machine) -> float:
        """When an idle machine may go: none goes soon after one was added."""
        return max(self.due(machine), self._last_added + self._settings.delay_after_add)
