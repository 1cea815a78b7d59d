"""Machines, pods and whole histories as events, for tests of what follows from them."""

from __future__ import annotations

import random

from tidepool.ledger.attribution import DAY
from tidepool.ledger.events import Event
from tidepool.prices.book import Price, PriceBook

GIB = 1 << 30
BOOK = PriceBook([Price("us-east-1", "m5.large", "spot", 0.036), Price("us-east-1", "m5.large", "on-demand", 0.096)])
ZONE = "us-east-1a"
HOSTILE = (
    "'; DROP TABLE tidepool_events; --",
    '"quoted" `name` %s %(name)s :name ?',
    "two\nlines\r\n\x1b[2J\x1b]0;title\x07",
    "</script><img src=x onerror=alert(1)>",
    "nul\0 and \ud800 half a pair",
    "\u202eright to left\u2066",
    "x" * 100_000,
)
MARKUP = "\"'><script>alert(1)</script><svg onload=alert(1)><a href=javascript:alert(1)>x</a>&lt;b&gt;<!--"
SQL = "' OR '1'='1'; DELETE FROM tidepool_events; --"
HOSTILE_NAMES = (
    *HOSTILE[:-1],
    "y" * 3000,
    MARKUP,
    SQL,
    "\x1b]8;;http://evil.example\x07x",
    "%00%27",
    "{{7*7}}",
    "${7*7}",
)


def machine(
    name: str,
    asked: float,
    ready: float | None,
    gone: float | None,
    pool: str = "spot",
    market: str = "spot",
    instance_type: str = "m5.large",
    zone: str = ZONE,
) -> list[Event]:
    kind = {"machine": name, "pool": pool, "market": market, "instance_type": instance_type, "zone": zone}
    told = [Event(asked, "machine.asked", **kind)]
    if ready is not None:
        told.append(Event(ready, "machine.ready", machine=name, cpu_millis=4000, memory_bytes=16 * GIB))
    return told + ([Event(gone, "machine.gone", machine=name)] if gone is not None else [])


def pod(
    uid: str,
    on: str,
    scheduled: float,
    running: float | None,
    ended: float | None,
    *,
    cpu: int = 0,
    memory: int = 0,
    pulling: float | None = None,
    dag: str = "d",
    team: str = "t",
) -> list[Event]:
    owner = {"pod": f"job-{uid}", "pod_uid": uid, "dag": dag, "task": uid, "run": "r", "attempt": 1, "team": team}
    told = [Event(scheduled, "pod.queued", cpu_millis=cpu, memory_bytes=memory, **owner)]
    told.append(Event(scheduled, "pod.scheduled", machine=on, **owner))
    told += [Event(pulling, "pod.pulling", machine=on, **owner)] if pulling is not None else []
    told += [Event(running, "pod.running", machine=on, **owner)] if running is not None else []
    return told + ([Event(ended, "pod.ended", machine=on, cause="ok", **owner)] if ended is not None else [])


def history(chance: random.Random) -> list[Event]:
    """Anything that a keeper could write, and much that it should not: times out of order, facts left out."""
    told: list[Event] = []
    for number in range(chance.randint(0, 6)):
        asked, ready, gone = sorted(chance.uniform(0, 3 * DAY / 1000) for _ in range(3))
        told += machine(
            f"i-{number}",
            asked,
            ready if chance.random() < 0.9 else None,
            gone if chance.random() < 0.7 else None,
            chance.choice(["spot", "big", "system", ""]),
            chance.choice(["spot", "on-demand"]),
            chance.choice(["m5.large", "m5.large", "x9.unheard"]),
        )
        if chance.random() < 0.2:
            told.append(
                Event(gone, "machine.gone", f"i-{number}", reconstructed=True, earliest=chance.uniform(0, gone))
            )
    for number in range(chance.randint(0, 25)):
        times = [chance.uniform(0, 3 * DAY / 1000) for _ in range(4)]
        if chance.random() < 0.9:
            times.sort()
        scheduled, pulling, running, ended = times
        told += pod(
            f"u-{number}",
            f"i-{chance.randint(0, 6)}",
            scheduled,
            running if chance.random() < 0.8 else None,
            ended if chance.random() < 0.7 else None,
            cpu=chance.choice([0, 100, 500, 1333, 3000, 9000]),
            memory=chance.choice([0, GIB, 5 * GIB, 99 * GIB]),
            pulling=pulling if chance.random() < 0.5 else None,
        )
        if chance.random() < 0.2:
            end = chance.uniform(0, 3 * DAY / 1000)
            told.append(Event(end, "pod.ended", pod_uid=f"u-{number}", earliest=chance.uniform(0, end)))
    chance.shuffle(told)
    kept = chance.random() * 0.2
    return [event for event in told if chance.random() > kept]


def changing_prices(chance: random.Random) -> PriceBook:
    return BOOK.merged(
        Price("us-east-1", "m5.large", "spot", chance.uniform(0.01, 0.2), ZONE, chance.uniform(0, 3 * DAY / 1000))
        for _ in range(chance.randint(0, 5))
    )


def hostile(name: str) -> list[Event]:
    """A machine and pods whose every name is that."""
    kind = {"machine": name, "pool": name, "market": name, "instance_type": name, "zone": name}
    owner = {"pod": name, "namespace": name, "dag": name, "task": name, "run": name, "team": name}
    told = [Event(1, "machine.asked", **kind), Event(2, "machine.ready", machine=name)]  # type: ignore[arg-type]
    told += [Event(90, "machine.reclaimed", machine=name), Event(99, "machine.gone", machine=name)]
    for uid, cause in ((name, name), ("good", "ok"), ("open", "")):
        pod = {"pod_uid": uid, "machine": name, **owner}
        told += [Event(3, "pod.queued", **pod), Event(4, "pod.scheduled", **pod), Event(5, "pod.running", **pod)]  # type: ignore[arg-type]
        if cause:
            told.append(Event(50, "pod.ended", cause=cause, message=name, **pod))  # type: ignore[arg-type]
    return told
