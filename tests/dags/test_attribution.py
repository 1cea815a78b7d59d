import dataclasses
import itertools
import random
import resource
import time
from collections.abc import Iterator
from fractions import Fraction

import pytest

from tests.dags.histories import BOOK, GIB, ZONE, changing_prices, history, machine, pod
from tidepool.ledger.attribution import BOOT, CATEGORIES, DAY, IDLE, JOB, PULL, SYSTEM, UNATTRIBUTED, Billing
from tidepool.ledger.events import Event
from tidepool.ledger.lives import lives
from tidepool.prices.book import Price
from tidepool.report.costs import Costs, costs


def report(told: list[Event], by: str = "task", since: float = 0, until: float = 1000, **options: object) -> Costs:
    return costs(told, BOOK, by, since, until, **options)  # type: ignore[arg-type]


def seconds(found: Costs) -> dict[str, float]:
    """Of every category that has any."""
    return {name: amount.seconds for name, amount in found.total.amounts.items() if amount.held}


def of(found: Costs, *name: str) -> dict[str, float]:
    (row,) = (row for row in found.rows if row.name == name)
    return {category: amount.seconds for category, amount in row.amounts.items() if amount.held}


def test_every_second_of_a_machine_has_its_category() -> None:
    told = machine("i-1", 10, 40, 100) + pod("a", "i-1", 45, 60, 80, pulling=50)
    found = report(told)
    assert seconds(found) == {BOOT: 30, JOB: 25, PULL: 10, IDLE: 25}
    assert of(found, "d", "a") == {JOB: 25, PULL: 10}
    assert found.balanced
    assert found.bill.usd == pytest.approx(90 * 0.036 / 3600, rel=1e-12)


def test_a_pod_of_ten_seconds_is_exact() -> None:
    found = report(machine("i-1", 0, 5, 1000) + pod("a", "i-1", 500.25, 500.25, 510.25))
    assert of(found, "d", "a") == {JOB: 10}
    (row,) = found.rows
    assert row.total.usd == pytest.approx(10 * 0.036 / 3600, rel=1e-12)


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        (1000, 2 * GIB, 25.0),  # a quarter of the CPU, an eighth of the memory
        (1000, 8 * GIB, 50.0),
        (3400, GIB, 85.0),
        (3600, GIB, 100.0),  # no other job fits beside it: the whole machine is its own
        (0, 0, 100.0),  # nobody said how large it is
    ],
)
def test_a_pod_holds_the_larger_of_its_cpu_and_memory_share_and_the_rest_idles(
    cpu: int, memory: int, expected: float
) -> None:
    found = report(machine("i-1", 0, 0, 100) + pod("a", "i-1", 0, 0, 100, cpu=cpu, memory=memory))
    assert of(found, "d", "a") == {JOB: expected}
    assert seconds(found).get(IDLE, 0) == 100 - expected


def test_pods_that_together_ask_for_more_than_there_is_are_cut_in_proportion() -> None:
    told = machine("i-1", 0, 0, 100)
    told += pod("cpu", "i-1", 0, 0, 100, cpu=3000, memory=GIB)
    told += pod("memory", "i-1", 0, 0, 50, cpu=500, memory=12 * GIB)
    found = report(told)
    assert of(found, "d", "memory") == pytest.approx({JOB: 25})
    assert of(found, "d", "cpu")[JOB] == pytest.approx(25 + 37.5)
    assert seconds(found)[IDLE] == pytest.approx(12.5)
    assert found.difference == 0


def test_what_nobody_saw_the_end_of_is_unattributed_from_when_it_was_last_seen() -> None:
    told = machine("i-1", 0, 0, None) + pod("a", "i-1", 0, 0, None)
    told.append(Event(60, "pod.ended", machine="i-1", pod_uid="a", reconstructed=True, earliest=40))
    told.append(Event(100, "machine.gone", machine="i-1", reconstructed=True, earliest=90))
    found = report(told)
    assert of(found, "d", "a") == {JOB: 40, UNATTRIBUTED: 20}
    assert seconds(found) == {JOB: 40, UNATTRIBUTED: 30, IDLE: 30}


def test_a_machine_that_never_got_ready_was_booting_and_a_system_machine_is_system_from_the_start() -> None:
    told = machine("i-1", 0, None, 100) + machine("i-2", 0, 30, None, pool="system")
    assert seconds(report(told, until=200)) == {BOOT: 100, SYSTEM: 200}


def test_a_pod_whose_machine_vanished_held_it_until_then_and_what_is_not_over_counts_until_now() -> None:
    told = (
        machine("i-1", 0, 0, 50) + pod("a", "i-1", 0, 0, 58) + machine("i-2", 0, 0, None) + pod("b", "i-2", 0, 0, None)
    )
    found = report(told, until=100)
    assert (of(found, "d", "a"), of(found, "d", "b")) == ({JOB: 50}, {JOB: 100})


def test_a_window_cuts_machines_and_pods_at_its_edges() -> None:
    told = machine("i-1", 0, 0, 100) + pod("a", "i-1", 10, 10, 60) + machine("i-0", 0, 0, 30)
    found = report(told, since=40, until=80)
    assert seconds(found) == {JOB: 20, IDLE: 20}
    assert found.total.machines == 1


def test_a_day_ends_at_midnight_utc() -> None:
    start = 3 * DAY / 1000 - 100
    told = machine("i-1", start, start, start + 300) + pod("a", "i-1", start + 50, start + 50, start + 250)
    found = report(told, by="day", until=start + 1000)
    assert of(found, "1970-01-03") == {JOB: 50, IDLE: 50}
    assert of(found, "1970-01-04") == {JOB: 150, IDLE: 50}
    assert [row.pods for row in found.rows] == [1, 1]
    assert found.total.pods == 1


def test_a_price_counts_from_when_it_was_valid() -> None:
    book = BOOK.merged([Price("us-east-1", "m5.large", "spot", 0.072, zone=ZONE, since=50)])
    told = machine("i-1", 0, 0, 100) + pod("a", "i-1", 25, 25, 75)
    found = costs(told, book, "task", 0, 1000)
    assert found.rows[0].total.usd == pytest.approx((25 * 0.036 + 25 * 0.072) / 3600)
    assert found.bill.usd == pytest.approx((50 * 0.036 + 50 * 0.072) / 3600)


def test_an_unknown_price_is_unknown_and_never_zero() -> None:
    told = machine("i-1", 0, 0, 100, instance_type="x9.unheard") + pod("a", "i-1", 0, 0, 60)
    found = report(told)
    assert found.rows[0].total.usd is None
    assert (found.bill.usd, found.bill.unpriced_seconds) == (None, 100)
    assert found.balanced
    both = report(told + machine("i-2", 0, 0, 100))
    assert both.bill.usd == pytest.approx(100 * 0.036 / 3600)
    assert both.bill.unpriced_seconds == 100


def test_volume_and_least_bill_are_in_it_where_they_are_asked_for() -> None:
    told = machine("i-1", 0, 0, 36) + pod("a", "i-1", 0, 0, 36)
    billing = Billing(minimum_seconds=60, volume_gib=73, usd_per_gib_month=0.1)
    found = report(told, billing=billing)
    assert seconds(found) == {JOB: 36, IDLE: 24}
    assert found.bill.usd == pytest.approx(60 * (0.036 + 0.01) / 3600)
    assert found.balanced


def test_pods_on_machines_of_which_no_event_tells_are_counted_and_in_no_bill() -> None:
    found = report(pod("a", "i-9", 0, 0, 60) + pod("b", "", 2000, None, None))
    assert (found.off_the_books, found.rows, found.bill.held) == (1, (), 0)


@pytest.mark.parametrize("seed", range(300))
def test_whatever_happened_the_parts_add_up_to_the_bill_and_none_is_negative(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable one is wanted
    told, book = history(chance), changing_prices(chance)
    since, until = sorted(chance.uniform(0, 4 * DAY / 1000) for _ in range(2))
    billing = Billing(chance.choice([0, 60]), chance.choice([0, 20]))
    totals = set()
    for by in ("job", "task", "dag", "team", "pool", "day"):
        found = costs(told, book, by, since, until, billing)
        whole = found.total.total
        assert (whole.held, whole.money, whole.unpriced) == (found.bill.held, found.bill.money, found.bill.unpriced)
        assert found.balanced
        rows = [*found.rows, found.nobody]
        assert sum(row.total.held for row in rows) == whole.held
        assert sum(row.total.money for row in rows) == whole.money
        for row in rows:
            for amount in row.amounts.values():
                assert amount.held >= 0
                assert amount.money >= 0
                assert 0 <= amount.unpriced <= amount.held
        totals.add(tuple(found.total.amounts[category].held for category in CATEGORIES))
    assert len(totals) == 1, "what is asked for changes how it is shown, and no figure"
    assert totals == {
        tuple(costs(told + told, book, "dag", since, until, billing).total.amounts[name].held for name in CATEGORIES)
    }


@pytest.mark.parametrize("seed", range(60))
def test_the_sweep_agrees_with_counting_every_moment(seed: int) -> None:
    """Against an account made the slow way: each stretch between two changes, each pod in it, exact fractions."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable one is wanted
    told = history(chance)
    found = costs(told, BOOK, "job", 0, 3 * DAY / 1000)
    rows = {row.name[-1]: row.amounts for row in found.rows}
    for uid, held in slowly(told):
        name = f"job-{uid}"
        amounts = rows.pop(name, None)
        swept = sum(amounts[each].seconds for each in (JOB, PULL, UNATTRIBUTED)) if amounts else 0
        assert swept == pytest.approx(float(held), abs=1e-3), uid
    assert not rows or set(rows) == {""}


def slowly(told: list[Event]) -> Iterator[tuple[str, Fraction]]:
    everything = lives(told)
    end = 3 * DAY
    holds: dict[str, Fraction] = {}
    for bought in everything.machines.values():
        if bought.start is None:
            continue
        until = min(bought.gone if bought.gone is not None else end, end)
        last = until if bought.gone_earliest is None else min(until, bought.gone_earliest)
        spans = []
        for each in everything.pods.values():
            if each.machine == bought.id and each.placed is not None:
                over = max(each.placed, end if each.over is None else each.over)
                first, stop = max(each.placed, bought.start), min(over, last)
                if first < stop:
                    spans.append((each, first, stop, portion(each, bought)))
        moments = sorted({moment for _, first, stop, _ in spans for moment in (first, stop)})
        for begin, after in itertools.pairwise(moments):
            there = [(each, part) for each, first, stop, part in spans if first <= begin and after <= stop]
            asked = sum((part for _, part in there), Fraction(0))
            for each, part in there:
                held = Fraction(after - begin, 1000) * part / max(asked, Fraction(1))
                holds[each.uid] = holds.get(each.uid, Fraction(0)) + held
    yield from ((uid, held) for uid, held in holds.items() if everything.pods[uid].pod)


def portion(pod: object, machine: object) -> Fraction:
    facts, whole = dataclasses.asdict(pod), dataclasses.asdict(machine)  # type: ignore[call-overload]
    cpu, memory = facts["cpu_millis"], facts["memory_bytes"]
    if not whole["cpu_millis"] or not (cpu or memory) or whole["cpu_millis"] - cpu < 500:
        return Fraction(1)
    return min(Fraction(1), max(Fraction(cpu, whole["cpu_millis"]), Fraction(memory, whole["memory_bytes"])))


def busy(machines: int, pods: int) -> Iterator[Event]:
    """So many machines with so many pods on them, several side by side, over a month."""
    chance = random.Random(0)  # noqa: S311 - a repeatable one is wanted
    bought = [chance.uniform(0, 30 * DAY / 1000) for _ in range(machines)]
    for number, start in enumerate(bought):
        yield from machine(f"i-{number}", start, start + 40, start + 7200)
    for number in range(pods):
        start = bought[number % machines] + chance.uniform(40, 6500)
        told = pod(f"u-{number}", f"i-{number % machines}", start, start + 9, start + 600, cpu=700, pulling=start + 1)
        yield from told


def test_ten_thousand_machines_and_a_hundred_thousand_pods_take_less_than_a_minute_and_two_gib() -> None:
    """And twice as many events take about twice as long. The figures are printed: pytest -s."""
    spent = []
    for machines, pods in ((5_000, 50_000), (10_000, 100_000)):
        told = list(busy(machines, pods))
        start = time.process_time()
        found = costs(told, BOOK, "dag", 0, 31 * DAY / 1000)
        spent.append(time.process_time() - start)
        assert found.difference == 0
        assert found.total.pods == pods
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"\n{machines} machines, {pods} pods, {len(told)} events: {spent[-1]:.1f} s, {peak:.0f} MiB at most")
    assert spent[1] < 60
    assert peak < 2048
    assert spent[1] < 3.5 * spent[0], "more than linear"
