import io
import random
from fractions import Fraction

import pytest
from rich.console import Console

from infra.cli import report_view
from tidepool.capacity import Capacity, Pool, Tenant
from tidepool.ledger.events import Event
from tidepool.prices.book import PriceBook
from tidepool.report import timeline
from tidepool.report.costs import costs
from tidepool.report.document import document
from tidepool.report.timeline import Report


def pool(name: str, jobs: bool = True, usd: float = 0.04, on_demand: float = 0.1) -> Pool:
    return Pool(name, "spot", jobs, ("m5.large",), {}, (), 1930, 7 << 30, 20 << 30, 0, "amd64", 4, 50, usd, on_demand)


CAPACITY = Capacity(
    "local",
    {"team": Tenant("tidepool-team", "job")},
    "team",
    {},
    1800,
    {"spot": pool("spot"), "big": pool("big", usd=0.4, on_demand=1.0), "system": pool("system", jobs=False)},
)


def machine(name: str, asked: float, ready: float | None, gone: float | None, pool: str = "spot") -> list[Event]:
    usd = CAPACITY.pools[pool].usd_per_hour
    told = [Event(asked, "machine.asked", machine=name, pool=pool, market="spot", usd_per_hour=usd)]
    told += [Event(ready, "machine.ready", machine=name)] if ready is not None else []
    return told + ([Event(gone, "machine.gone", machine=name)] if gone is not None else [])


def pod(uid: str, on: str, queued: float, running: float | None, ended: float | None, attempt: int = 1) -> list[Event]:
    owner = {"pod": f"job-{uid}", "pod_uid": uid, "dag": "d", "task": uid, "run": "r", "attempt": attempt}
    told = [Event(queued, "pod.queued", **owner)]
    told += [Event(running, "pod.running", machine=on, **owner)] if running is not None else []
    return told + ([Event(ended, "pod.ended", machine=on, cause="ok", **owner)] if ended is not None else [])


def test_a_jobs_timeline_has_its_own_times_and_those_of_its_machine() -> None:
    told = pod("clean", "i-1", 10, 17.5, 40) + machine("i-1", 12, 15.25, 55)
    (job,) = timeline.report(told, CAPACITY, now=100).jobs
    times = (job.queued, job.machine_asked, job.machine_ready, job.running, job.done, job.machine_gone)
    assert times == (10000, 12000, 15250, 17500, 40000, 55000)
    assert (job.task, job.attempt, job.machine, job.cause, job.bought_for_it) == ("clean", 1, "i-1", "ok", True)


def test_bought_is_from_asked_to_gone_and_used_while_a_job_runs() -> None:
    told = machine("i-1", 12, 15, 55) + pod("a", "i-1", 10, 20, 30) + pod("b", "i-1", 12, 40, 45)
    (bought,) = timeline.report(told, CAPACITY, now=100).machines
    assert (bought.bought, bought.used, bought.idle) == (43_000, 15_000, 28_000)
    assert bought.cost(bought.bought) == Fraction("0.04") * 43 / 3600


def test_jobs_side_by_side_on_one_machine_use_it_once() -> None:
    told = machine("i-1", 0, 1, 50) + pod("a", "i-1", 0, 10, 30) + pod("b", "i-1", 0, 20, 40)
    assert timeline.report(told, CAPACITY, now=100).used == 30_000


def test_a_job_whose_machine_vanished_used_it_until_then() -> None:
    told = machine("i-1", 0, 1, 50) + pod("a", "i-1", 0, 10, 58) + pod("b", "i-1", 0, 20, None)
    assert timeline.report(told, CAPACITY, now=100).used == 40_000


def test_a_machine_whose_price_nobody_knows_is_not_free() -> None:
    told = [Event(0, "machine.asked", machine="i-9", pool="elsewhere"), Event(3600, "machine.gone", machine="i-9")]
    report = timeline.report(told + machine("i-1", 0, 1, 3600), CAPACITY, now=9999)
    unknown = next(each for each in report.machines if each.id == "i-9")
    assert (unknown.usd_per_hour, unknown.cost(unknown.bought)) == (None, None)
    assert (report.comparison.bought, report.comparison.unpriced) == (Fraction("0.04"), 1)
    said = document(report)
    assert [each["cost_usd"] for each in said["machines"] if each["id"] == "i-9"] == [None]
    assert said["cost"]["unpriced_machines"] == 1
    shown = io.StringIO()
    report_view.show(report, Console(file=shown, width=80))
    assert "unknown" in next(line for line in shown.getvalue().splitlines() if line.startswith("i-9"))
    assert "The price of 1 machine is unknown" in shown.getvalue()


def test_what_is_not_over_counts_until_now() -> None:
    report = timeline.report(machine("i-1", 0, 1, None) + pod("a", "i-1", 0, 10, None), CAPACITY, now=100)
    assert (report.bought, report.used) == (100_000, 90_000)
    assert report.jobs[0].done is None


def test_the_system_machine_is_not_counted() -> None:
    report = timeline.report(machine("i-0", 0, 1, None, pool="system"), CAPACITY, now=100)
    assert (report.machines, report.peak.count) == ((), 0)


def test_the_peak_is_the_most_machines_at_once_and_the_dearest_of_those() -> None:
    told = machine("i-1", 0, 1, 50) + machine("i-2", 20, 21, 60) + machine("i-3", 50, 51, 80, pool="big")
    peak = timeline.report(told, CAPACITY, now=100).peak
    assert (peak.machines, peak.usd_per_hour) == ({"spot": 1, "big": 1}, Fraction("1.1"))


def test_always_on_costs_the_peak_at_on_demand_prices_for_the_period_and_for_a_day() -> None:
    told = machine("i-1", 12, 15, 3612) + machine("i-2", 12, 15, 1812) + pod("a", "i-1", 10, 20, 3000)
    comparison = timeline.report(told, CAPACITY, now=9999).comparison
    assert comparison.period == 3_602_000
    assert comparison.always_on == Fraction("0.2") * 3602 / 3600
    assert comparison.always_on_day == Fraction("0.2") * 24
    assert comparison.bought == Fraction("0.04") * Fraction(3, 2)


def test_a_report_since_a_moment_leaves_out_what_was_over_and_clips_what_was_there() -> None:
    told = (
        machine("i-1", 0, 1, 40) + machine("i-2", 30, 31, 90) + pod("a", "i-1", 0, 5, 30) + pod("b", "i-2", 60, 62, 70)
    )
    report = timeline.report(told, CAPACITY, now=100, since=50)
    assert [job.task for job in report.jobs] == ["b"]
    assert [(one.id, one.bought, one.used) for one in report.machines] == [("i-2", 40_000, 8_000)]
    assert report.jobs[0].machine_asked == 30_000


def test_bench_counts_only_jobs_that_waited_for_a_machine_to_be_bought() -> None:
    told = machine("i-1", 11, 13.5, 90) + pod("first", "i-1", 10, 16, 30) + pod("second", "i-1", 31, 32, 40)
    figures = timeline.bench(timeline.report(told, CAPACITY, now=100))
    assert figures.launch_to_ready == (2500,)
    assert figures.queued_to_running == (6000,)


def test_no_events_make_an_empty_report() -> None:
    report = timeline.report([], CAPACITY, now=100)
    assert (report.jobs, report.bought, report.comparison.period, report.comparison.always_on_day) == ((), 0, 0, 0)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happened_used_and_idle_add_up_to_bought_and_nothing_is_negative(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable one is wanted
    told: list[Event] = []
    for number in range(chance.randint(0, 6)):
        asked, ready, gone = sorted(chance.uniform(0, 500) for _ in range(3))
        kept = chance.random() < 0.8
        told += machine(f"i-{number}", asked, ready, gone if kept else None, chance.choice(["spot", "big", "system"]))
    for number in range(chance.randint(0, 12)):
        queued, running, ended = sorted(chance.uniform(0, 600) for _ in range(3))
        over = ended if chance.random() < 0.8 else None
        told += pod(f"u-{number}", f"i-{chance.randint(0, 5)}", queued, running, over)
    chance.shuffle(told)
    report = timeline.report(told, CAPACITY, now=600, since=chance.choice([0, 250]))
    check_sums(report)
    assert check_sums(timeline.report(told + told, CAPACITY, now=600)) == check_sums(
        timeline.report(told, CAPACITY, now=600)
    )


def check_sums(report: Report) -> tuple[int, int, int]:
    for one in report.machines:
        assert one.used >= 0
        assert one.idle >= 0
        assert one.used + one.idle == one.bought
        assert one.cost(one.used) + one.cost(one.idle) == one.cost(one.bought)
    assert report.used + report.idle == report.bought
    comparison = report.comparison
    assert comparison.used + comparison.idle == comparison.bought
    assert report.peak.count <= len(report.machines)
    assert comparison.always_on_day == report.peak.usd_per_hour * 24
    assert report.bought <= comparison.period * max(1, report.peak.count)
    return report.bought, report.used, report.idle


@pytest.mark.parametrize("seed", range(30))
def test_the_demos_report_and_the_ledgers_bill_tell_the_same_sum(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable one is wanted
    told: list[Event] = []
    for number in range(5):
        asked, ready, gone = sorted(chance.uniform(0, 500) for _ in range(3))
        kept = chance.random() < 0.8
        told += machine(f"i-{number}", asked, ready, gone if kept else None, chance.choice(["spot", "big"]))
    demo = timeline.report(told, CAPACITY, now=600)
    ledger = costs(told, PriceBook(), "pool", 0, 600).bill
    assert ledger.seconds == pytest.approx(demo.bought / 1000)
    assert ledger.usd == pytest.approx(float(demo.comparison.bought))
