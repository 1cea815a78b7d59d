"""What attempts find out about a pool, which all tasks of a team share. Pure: times are Unix seconds, given.

Closed, the pool is used; open, it is passed over; half-open, one attempt tries it. An opened breaker is closed again at
most once in HYSTERESIS_SECONDS, so that a pool that comes and goes does not take everybody with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from tidepool.capacity import Pool

OPEN_SECONDS = 300.0
LONGEST_OPEN_SECONDS = 1800.0
"""How long a pool is passed over after a launch failure: doubled with each further one. The cluster-autoscaler backs
off a group for as long."""

HYSTERESIS_SECONDS = 1800.0
PROBE_SECONDS = 600.0
"""How long the one attempt that tries a half-open pool may take before another one may."""

WINDOW_SECONDS = 900.0
STORM_RECLAIMS = 3
STORM_SHARE = 0.5
"""A storm: so many reclaims within the window, and so large a share of the attempts that started in it."""

MOST_REMEMBERED = 50

HALF_LIFE_SECONDS = 3 * 86400.0
"""So long ago, what was seen of a pool's reclaims counts for half: markets change in days."""


class State(StrEnum):
    """Of a breaker, in the usual words."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class Breaker:
    """What attempts found out about one pool.

    opened: since when it is passed over; 0 while it is used. failures: launch failures since then. retry: when it may
    be tried again. probing: until when an attempt tries it. closed: when it was last used again after it was not.
    starts, reclaims: of its attempts in the last WINDOW_SECONDS. hours: for which attempts have run on its machines,
    and losses: how many of them lost theirs, as of `seen`; HALF_LIFE_SECONDS later they count for half.
    """

    opened: float = 0.0
    failures: int = 0
    retry: float = 0.0
    probing: float = 0.0
    closed: float = 0.0
    starts: tuple[float, ...] = ()
    reclaims: tuple[float, ...] = ()
    hours: float = 0.0
    losses: float = 0.0
    seen: float = 0.0

    def state(self, now: float) -> State:
        """Half-open is for one attempt at a time: while that one tries, it is open for the others."""
        if not self.opened:
            return State.CLOSED
        return State.HALF_OPEN if now >= self.retry and now >= self.probing else State.OPEN

    def failed(self, now: float) -> Breaker:
        """After an attempt got no machine of the pool."""
        pause = min(LONGEST_OPEN_SECONDS, OPEN_SECONDS * 2.0**self.failures)
        back = self.closed + HYSTERESIS_SECONDS if self.closed else 0.0
        return replace(
            self,
            opened=self.opened or now,
            failures=self.failures + 1,
            retry=max(now + pause, back),
            probing=0.0,
        )

    def started(self, now: float) -> Breaker:
        """After an attempt got its machine."""
        known = replace(self, starts=_recent((*self.starts, now), now), reclaims=_recent(self.reclaims, now))
        if not self.opened or now < self.retry:
            return known
        return replace(known, opened=0.0, failures=0, retry=0.0, probing=0.0, closed=now, starts=(now,), reclaims=())

    def lost(self, now: float) -> Breaker:
        """After an attempt lost its machine."""
        known = replace(self, starts=_recent(self.starts, now), reclaims=_recent((*self.reclaims, now), now))
        reclaims = len(known.reclaims)
        if reclaims >= STORM_RECLAIMS and reclaims >= STORM_SHARE * len(known.starts) and not known.opened:
            return known.failed(now)
        return known

    def ran(self, now: float, hours: float, losses: int) -> Breaker:
        """After an attempt that ran so long on one of its machines has ended, and lost it or not."""
        known, lost = self.lately(now)
        return replace(self, hours=known + hours, losses=lost + losses, seen=now)

    def lately(self, now: float) -> tuple[float, float]:
        """`hours` and `losses`, for what they are worth now."""
        worth = 0.5 ** (max(0.0, now - self.seen) / HALF_LIFE_SECONDS)
        return self.hours * worth, self.losses * worth

    def probed(self, now: float) -> Breaker:
        """While an attempt tries the half-open pool."""
        return replace(self, probing=now + PROBE_SECONDS)


def _recent(times: Iterable[float], now: float) -> tuple[float, ...]:
    return tuple(time for time in times if now - time < WINDOW_SECONDS)[-MOST_REMEMBERED:]


def dump(breaker: Breaker) -> str:
    """As one line of JSON."""
    return json.dumps(asdict(breaker), separators=(",", ":"))


def load(text: str) -> Breaker:
    """What `dump` wrote; a closed breaker for anything else, as nothing that is kept here may ever fail a job."""
    try:
        body = json.loads(text)
        return Breaker(
            opened=float(body["opened"]),
            failures=int(body["failures"]),
            retry=float(body["retry"]),
            probing=float(body["probing"]),
            closed=float(body["closed"]),
            starts=tuple(float(time) for time in body["starts"]),
            reclaims=tuple(float(time) for time in body["reclaims"]),
            hours=float(body.get("hours", 0)),
            losses=float(body.get("losses", 0)),
            seen=float(body.get("seen", 0)),
        )
    except (KeyError, TypeError, ValueError):
        return Breaker()


def lately(breakers: Mapping[str, Breaker], pools: Iterable[Pool], now: float) -> tuple[float, float]:
    """Machines of the spot pools that the team's attempts lost, in so many machine-hours; older ones count for less."""
    seen = [breakers[pool.name].lately(now) for pool in pools if pool.market == "spot" and pool.name in breakers]
    return sum(losses for _, losses in seen), sum(hours for hours, _ in seen)
