"""Whose every machine-second was, and what it cost. Pure: from lives and prices to parts that add up to the bill.

Each second of a machine belongs to exactly one of CATEGORIES. A pod holds its share of a machine from when it is placed
until it ends: the larger of its CPU and memory share of the machine's allocatable; the whole machine if it leaves too
little for any other job, or if nobody said how large either is. Shares of pods that together ask for more than there
is are cut in proportion. What no pod holds is boot until the machine is ready and idle from then on.

Amounts are whole numbers: times in milliseconds, shares in billionths, prices in 1e-12 USD. So the parts add up to the
bill to the last digit, and one pass over a machine's life costs no more than sorting its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from tidepool.ledger.lives import Lives, MachineLife, PodLife
from tidepool.prices.book import PriceBook
from tidepool.sizing import SMALLEST_JOB_CPU_MILLIS

JOB, PULL, BOOT, IDLE, SYSTEM, UNATTRIBUTED = CATEGORIES = ("job", "pull", "boot", "idle", "system", "unattributed")
"""job: a pod holds it. pull: a pod holds it and its image is fetched. boot: bought and not ready. idle: ready and held
by nobody, most of it the tail after the last job. system: a machine that is there in any case. unattributed: a pod or
machine ended in that time and nobody saw when."""

SYSTEM_POOLS = frozenset({"system"})
DAY = 86_400_000
GP3_USD_PER_GIB_MONTH = 0.08
HOURS_PER_MONTH = 730

_SHARE = 10**9
_PRICE = 10**12
_HOUR = 3_600_000


@dataclass(frozen=True)
class Billing:
    """What is in the bill beside the machines' hours; as it is, nothing.

    minimum_seconds: least that a machine is billed for (AWS: 60). volume_gib: the root volume of a machine that states
    none, at usd_per_gib_month. Public transfer is never in it.
    """

    minimum_seconds: int = 0
    volume_gib: float = 0.0
    usd_per_gib_month: float = GP3_USD_PER_GIB_MONTH


@dataclass(slots=True)
class Amount:
    """Machine time and its money. Whole numbers whose units are this module's own: read the properties."""

    held: int = 0
    unpriced: int = 0
    money: int = 0

    def add(self, other: Amount) -> None:
        """Add to this one."""
        self.held += other.held
        self.unpriced += other.unpriced
        self.money += other.money

    @property
    def seconds(self) -> float:
        """Machine-seconds."""
        return self.held / (_SHARE * _SHARE * 1000)

    @property
    def unpriced_seconds(self) -> float:
        """Machine-seconds of it whose price nobody knows."""
        return self.unpriced / (_SHARE * _SHARE * 1000)

    @property
    def usd(self) -> float | None:
        """What the priced part of it cost; None where no second of it has a price."""
        if self.held and self.held == self.unpriced:
            return None
        return self.money / (_SHARE * _SHARE * _PRICE * _HOUR)

    @property
    def picodollars(self) -> Fraction:
        """What the priced part of it cost, exactly, in 1e-12 USD."""
        return Fraction(self.money, _SHARE * _SHARE * _HOUR)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of one machine on one day (milliseconds at its midnight UTC). pod: who held it, on job, pull and
    unattributed ones that somebody did."""

    category: str
    machine: MachineLife
    day: int
    amount: Amount
    pod: PodLife | None = None


@dataclass(frozen=True)
class Window:
    """What is looked at: from `since` to `until`, in milliseconds. What is not over yet counts until then."""

    since: int
    until: int


def attribute(
    told: Lives,
    book: PriceBook,
    window: Window,
    billing: Billing = Billing(),
    system_pools: frozenset[str] = SYSTEM_POOLS,
) -> Iterator[Part]:
    """Every part of every machine in the window."""
    pods: dict[str, list[PodLife]] = {}
    for pod in told.pods.values():
        pods.setdefault(pod.machine, []).append(pod)
    for machine in told.machines.values():
        yield from _Sweep(machine, pods.get(machine.id, []), book, window, billing, system_pools).parts()


def bill(told: Lives, book: PriceBook, window: Window, billing: Billing = Billing()) -> Amount:
    """What the machines cost, from their starts, ends and prices alone: the sum that the parts are checked against."""
    total = Amount()
    for machine in told.machines.values():
        if (span := billed(machine, window, billing)) is None:
            continue
        begin, end = span
        moments = _prices(machine, book, billing, begin, end)
        for (moment, price), after in zip(moments, [*(each for each, _ in moments[1:]), end], strict=True):
            held = (after - moment) * _SHARE * _SHARE
            total.add(Amount(held, held, 0) if price is None else Amount(held, 0, held * price))
    return total


def billed(machine: MachineLife, window: Window, billing: Billing) -> tuple[int, int] | None:
    """Begin and end of what is billed of a machine in the window; None where that is nothing."""
    start = machine.start
    if start is None:
        return None
    end = window.until if machine.gone is None else max(machine.gone, start + billing.minimum_seconds * 1000)
    begin, end = max(start, window.since), min(max(end, start), window.until)
    return (begin, end) if begin < end else None


def share(pod: PodLife, machine: MachineLife) -> int:
    """The part of the machine that a pod holds, in billionths."""
    cpu, memory = machine.cpu_millis, machine.memory_bytes
    if not (cpu and memory and (pod.cpu_millis or pod.memory_bytes)) or cpu - pod.cpu_millis < SMALLEST_JOB_CPU_MILLIS:
        return _SHARE
    larger = max(pod.cpu_millis * _SHARE // cpu, pod.memory_bytes * _SHARE // memory)
    return min(max(larger, 1), _SHARE)


def _prices(
    machine: MachineLife, book: PriceBook, billing: Billing, begin: int, end: int
) -> list[tuple[int, int | None]]:
    """(from when on, price in 1e-12 USD per hour or None), volume included; the first is at `begin`."""
    gib = machine.volume_gib or billing.volume_gib
    volume = gib * billing.usd_per_gib_month / HOURS_PER_MONTH
    series = book.series(
        machine.instance_type, machine.market, machine.zone, begin / 1000, end / 1000, machine.usd_per_hour
    )
    return [
        (max(begin, min(round(moment * 1000), end)), None if usd is None else round((usd + volume) * _PRICE))
        for moment, usd in series
    ]


@dataclass(slots=True)
class _Sums:
    """Of a machine, from its beginning to a moment: what a pod with the whole machine as its share would have held."""

    held: int = 0
    unpriced: int = 0
    money: int = 0


@dataclass(slots=True)
class _Sweep:
    """One pass over a machine's life.

    Between two moments at which anything changes every pod holds `share` times the same factor: 1, or less where the
    pods ask for more than the machine. The factor is summed up once for all of them, so that a pod's amount is its
    share times the difference of two sums, however many pods were beside it.
    """

    machine: MachineLife
    pods: list[PodLife]
    book: PriceBook
    window: Window
    billing: Billing
    system_pools: frozenset[str]
    _sums: dict[int, _Sums] = field(default_factory=dict)

    def parts(self) -> Iterator[Part]:
        span = billed(self.machine, self.window, self.billing)
        if span is None:
            return
        begin, end = span
        stages = [(pod, share(pod, self.machine), _stages(pod, begin, self._last_seen(end))) for pod in self.pods]
        stages = [each for each in stages if each[2]]
        changes: dict[int, int] = {begin: 0, end: 0}
        for _, part, spans in stages:
            changes[spans[0][0]] = changes.get(spans[0][0], 0) + part
            changes[spans[-1][1]] = changes.get(spans[-1][1], 0) - part
            for first, last, _ in spans:
                changes.setdefault(first, 0)
                changes.setdefault(last, 0)
        yield from self._remainder(changes, begin, end, min((each[2][0][0] for each in stages), default=end))
        for pod, part, spans in stages:
            for first, last, category in spans:
                for day, start, stop in _days(first, last):
                    before, after = self._sums[start], self._sums[stop]
                    amount = Amount(
                        part * (after.held - before.held),
                        part * (after.unpriced - before.unpriced),
                        part * (after.money - before.money),
                    )
                    yield Part(category, self.machine, day, amount, pod)

    def _last_seen(self, end: int) -> int:
        """Until when pods can hold it: a machine whose end was only concluded has nobody's time at its end."""
        known = self.machine.gone_earliest if self.machine.gone_earliest is not None else self.machine.gone
        return end if known is None else min(end, known)

    def _remainder(self, changes: dict[int, int], begin: int, end: int, first_pod: int) -> Iterator[Part]:
        """What no pod holds, by category and day; fills `_sums` on its way."""
        ready = first_pod if self.machine.ready is None else self.machine.ready
        unseen = end if self.machine.gone_earliest is None else max(begin, min(self.machine.gone_earliest, end))
        prices = dict(_prices(self.machine, self.book, self.billing, begin, end))
        system = self.machine.pool in self.system_pools
        moments = {*changes, *prices, *(start for _, start, _ in _days(begin, end)), ready, unseen}
        ordered = sorted(moment for moment in moments if begin <= moment <= end)
        total, price = 0, prices.get(begin)
        sums = _Sums()
        left: dict[tuple[str, int], Amount] = {}
        for moment, after in zip(ordered, [*ordered[1:], end], strict=True):
            self._sums[moment] = sums
            total += changes.get(moment, 0)
            price = prices.get(moment, price)
            length = after - moment
            factor = length * _SHARE if total <= _SHARE else length * _SHARE * _SHARE // total
            free = length * _SHARE * _SHARE - total * factor
            known = price is not None
            sums = _Sums(
                sums.held + factor,
                sums.unpriced + (0 if known else factor),
                sums.money + factor * (price or 0),
            )
            if free:
                if moment >= unseen:
                    category = UNATTRIBUTED
                elif system:
                    category = SYSTEM
                else:
                    category = BOOT if moment < ready else IDLE
                key = (category, moment // DAY * DAY)
                left.setdefault(key, Amount()).add(Amount(free, 0 if known else free, free * (price or 0)))
        yield from (Part(category, self.machine, day, amount) for (category, day), amount in left.items())


def _stages(pod: PodLife, begin: int, end: int) -> list[tuple[int, int, str]]:
    """(from, to, category) of a pod between two times, without gaps."""
    placed = pod.placed
    if placed is None:
        return []
    over = max(placed, end if pod.over is None else pod.over)
    running = over if pod.running is None else max(placed, min(pod.running, over))
    pulling = running if pod.pulling is None else max(placed, min(pod.pulling, running))
    seen = over
    if pod.ended_earliest is not None:
        known = placed if pod.running is None else running
        seen = max(known, min(pod.ended_earliest, over))
        running, pulling = min(running, seen), min(pulling, seen)
    edges = ((placed, pulling, JOB), (pulling, running, PULL), (running, seen, JOB), (seen, over, UNATTRIBUTED))
    clipped = [(max(first, begin), min(last, end), category) for first, last, category in edges]
    return [each for each in clipped if each[0] < each[1]]


def _days(begin: int, end: int) -> Iterable[tuple[int, int, int]]:
    """(midnight, from, to) of every day in UTC that the span touches."""
    while begin < end:
        midnight = begin // DAY * DAY
        stop = min(end, midnight + DAY)
        yield midnight, begin, stop
        begin = stop
