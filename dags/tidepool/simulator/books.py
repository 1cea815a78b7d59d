"""What a simulated history cost: the ledger's own attribution of its events, and where the money went. Pure.

Money is whole numbers in the attribution's unit, so that what the 24x7 cluster costs, less what was saved, is what the
policy costs, to the last digit:

    schedule  what the cluster costs beyond the time that its jobs hold of it: nights, gaps, what no job fits into
    sizing    the jobs' time on the cluster's machines less their time on the policy's, both at on-demand prices
    spot      the policy's machines at on-demand prices less what they cost
    start     boot and image pull, at on-demand prices; a loss, as are the next two
    tail      machines that no job holds
    redo      attempts whose machine was taken away
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidepool.ledger.attribution import BOOT, CATEGORIES, IDLE, JOB, PULL, Amount, Billing, Window, attribute, bill
from tidepool.ledger.lives import lives, millis
from tidepool.outcome import Cause
from tidepool.prices.book import PriceBook
from tidepool.simulator.assumptions import Assumptions
from tidepool.simulator.engine import History
from tidepool.simulator.machines import EPOCH
from tidepool.simulator.workloads import Workload

WORK, START, TAIL, REDO = "work", "start", "tail", "redo"
USES = (WORK, START, TAIL, REDO)
"""What a machine's time went into: jobs that ended well; boot and image pull; nobody; jobs that lost their machine."""

SAVINGS = ("schedule", "sizing", "spot", START, TAIL, REDO)
BILLING = Billing(minimum_seconds=60)
"""AWS bills a minute at least. Volumes are in the machines' events."""

_PRICE = 10**12
_USES = {PULL: START, BOOT: START, IDLE: TAIL}


class BooksError(Exception):
    """The parts don't add up to the bill: an error of the simulation."""


@dataclass(frozen=True)
class Waits:
    """Seconds from a job's submission to its end, less its running time; jobs that never ended are in none of them."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Books:
    """One policy's figures. USD.

    by_use: of the bill. at_on_demand: the same at the price of the pool's cheapest type on-demand. savings: against the
    24x7 cluster, as SAVINGS, which add up to its bill less this one. billed_per_useful: machine time that is paid for
    by machine time that jobs which ended well held, at on-demand prices. late: jobs that were done after their
    deadline or never, of which `failed` never.
    """

    policy: str
    words: str
    usd: float
    saving: float
    by_use: dict[str, float]
    at_on_demand: dict[str, float]
    savings: dict[str, float]
    billed_per_useful: float
    machine_hours: float
    spot_share: float
    machines: int
    peak: int
    reclaims: int
    jobs: int
    late: int
    failed: int
    waits: Waits


@dataclass
class _Sums:
    """In the attribution's units."""

    bill: int
    held: int
    spot: int
    paid: dict[str, int]
    on_demand: dict[str, int]


def books(
    histories: Sequence[History], workload: Workload, book: PriceBook, assumptions: Assumptions, discount: float = 0.0
) -> list[Books]:
    """Of each history; the first is the 24x7 cluster. discount: of its machines' price, as for a reservation.

    Raises BooksError where the parts of one don't add up to its bill.
    """
    sums = [_sums(history, book) for history in histories]
    fixed = sums[0]
    reserved = round(discount * _machines_only(histories[0], fixed.bill))
    return [
        _books(history, each, fixed, reserved, workload, assumptions)
        for history, each in zip(histories, sums, strict=True)
    ]


def _machines_only(history: History, money: int) -> int:
    """The part of the 24x7 cluster's bill that isn't volumes."""
    (pool,) = history.policy.pools.values()
    return round(money * pool.on_demand_usd / (pool.on_demand_usd + pool.volume_usd))


def _sums(history: History, book: PriceBook) -> _Sums:
    told = lives(history.events)
    window = Window(millis(EPOCH), millis(history.until))
    paid, on_demand = dict.fromkeys(USES, 0), dict.fromkeys(USES, 0)
    prices = {
        name: round((each.on_demand_usd + each.volume_usd) * _PRICE) for name, each in history.policy.pools.items()
    }
    held = spot = 0
    for part in attribute(told, book, window, BILLING):
        use = _USES.get(part.category, REDO)
        if part.category == JOB and part.pod is not None and part.pod.cause == Cause.OK:
            use = WORK
        paid[use] += part.amount.money
        on_demand[use] += part.amount.held * prices[part.machine.pool]
        held += part.amount.held
        spot += part.amount.held if part.machine.market == "spot" else 0
    whole = bill(told, book, window, BILLING)
    if sum(paid.values()) != whole.money or held != whole.held or whole.unpriced:
        raise BooksError(f"{history.policy.name}: the parts ({', '.join(CATEGORIES)}) don't add up to the bill")
    return _Sums(whole.money, held, spot, paid, on_demand)


def _books(
    history: History, own: _Sums, fixed: _Sums, reserved: int, workload: Workload, assumptions: Assumptions
) -> Books:
    baseline = fixed.bill - reserved
    cost = baseline if own is fixed else own.bill
    total = sum(own.on_demand.values())
    savings = {
        "schedule": baseline - fixed.on_demand[WORK],
        "sizing": fixed.on_demand[WORK] - own.on_demand[WORK],
        "spot": total - own.bill,
        START: -own.on_demand[START],
        TAIL: -own.on_demand[TAIL],
        REDO: -own.on_demand[REDO],
    }
    if own is fixed:
        savings = dict.fromkeys(SAVINGS, 0)
    if sum(savings.values()) != baseline - cost:
        raise BooksError(f"{history.policy.name}: the savings don't add up")
    waits, late, failed = _waits(history, workload, assumptions)
    useful = own.on_demand[WORK]
    return Books(
        policy=history.policy.name,
        words=history.policy.words,
        usd=_usd(cost),
        saving=1 - cost / baseline,
        by_use={use: _usd(money) for use, money in own.paid.items()},
        at_on_demand={use: _usd(money) for use, money in own.on_demand.items()},
        savings={name: _usd(money) for name, money in savings.items()},
        billed_per_useful=total / useful if useful else 0.0,
        machine_hours=Amount(own.held).seconds / 3600,
        spot_share=own.spot / own.held,
        machines=history.machines,
        peak=history.peak,
        reclaims=history.reclaims,
        jobs=len(history.jobs),
        late=late,
        failed=failed,
        waits=waits,
    )


def _usd(money: int) -> float:
    return Amount(held=1, money=money).usd or 0.0


def _waits(history: History, workload: Workload, assumptions: Assumptions) -> tuple[Waits, int, int]:
    """And how many jobs were late, and how many never done; those that wait for such a one are counted too."""
    waited = sorted(
        progress.done - progress.submitted - job.seconds
        for job, progress in zip(workload.jobs, history.jobs, strict=True)
        if progress.done is not None and progress.submitted is not None
    )
    failed = len(workload.jobs) - len(waited)
    late = failed + sum(each > assumptions.late_seconds for each in waited)
    return Waits(*(_quantile(waited, share) for share in (0.5, 0.9, 0.99))), late, failed


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them is not above."""
    if not ordered:
        return 0.0
    return round(ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))], 3)
