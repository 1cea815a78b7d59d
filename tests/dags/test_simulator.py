"""The simulation against accounts made by hand, its rules over many seeds, and its speed."""

import itertools
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tidepool.capacity import Capacity, Market, Pool, Tenant
from tidepool.deadlines.traces import Span, Trace
from tidepool.ledger.lives import MachineLife, PodLife, lives, millis
from tidepool.prices.book import Price, PriceBook
from tidepool.report.costs import costs
from tidepool.simulator import comparison, engine, policies, spot, workloads
from tidepool.simulator.assumptions import NAMES, AssumptionError, Assumptions, read
from tidepool.simulator.books import BILLING, SAVINGS, USES, Books
from tidepool.simulator.comparison import World
from tidepool.simulator.engine import History
from tidepool.simulator.machines import EPOCH
from tidepool.simulator.policies import MachinePool, Policy, PoolError
from tidepool.simulator.workloads import DAY, HOUR, Job, Workload

GIB = 1 << 30
SHAPES = {"small": (1930, 7), "large": (15890, 60)}
PRICES = {("m5.large", "on-demand"): 0.096, ("m5.large", "spot"): 0.04}
PRICES |= {("m5.4xlarge", "on-demand"): 0.768, ("m5.4xlarge", "spot"): 0.32}
BOOK = PriceBook([Price("us-east-1", kind, market, usd) for (kind, market), usd in PRICES.items()])
PLAIN = Assumptions(reclaims_per_hour=0.0)


def pool(market: Market, size: str, most: int) -> Pool:
    cpu, memory = SHAPES[size]
    kind = "m5.large" if size == "small" else "m5.4xlarge"
    return Pool(
        name=f"{market}-{size}",
        market=market,
        jobs=True,
        instance_types=(kind,),
        labels={},
        taints=(),
        cpu_millis=cpu,
        memory_bytes=memory * GIB,
        ephemeral_storage_bytes=50 * GIB,
        gpus=0,
        architecture="amd64",
        max_machines=most,
        priority=50 if market == "spot" else 10,
        usd_per_hour=PRICES[kind, market],
        on_demand_usd_per_hour=PRICES[kind, "on-demand"],
    )


def world(
    there: str | Trace = "always",
    assumptions: Assumptions = PLAIN,
    seed: int = 1,
    unneeded: float = 60.0,
    most: int = 100,
    volume: float = 0.0,
) -> World:
    names = itertools.product(("spot", "on-demand"), SHAPES)
    pools = {each.name: each for each in (pool(market, size, most) for market, size in names)}  # type: ignore[arg-type]
    capacity = Capacity("test", {"t": Tenant("tidepool-t", "job")}, "t", {}, 1800, pools)
    made = policies.machine_pools(capacity, BOOK, dict.fromkeys(pools, volume), dict.fromkeys(pools, unneeded), most)
    return World(capacity, made, BOOK, assumptions, there, seed)


def workload(*jobs: Job, days: int = 1) -> Workload:
    return Workload("test", "", jobs, days)


def job(submit: float = 0.0, seconds: float = 600.0, cores: int = 2, gib: float = 2.0, after: int | None = None) -> Job:
    return Job(f"job{submit:g}-{seconds:g}", submit, seconds, cores, int(gib * GIB), after)


def histories(given: World, work: Workload) -> dict[str, History]:
    found = policies.policies(given.capacity, given.pools, work.jobs, given.assumptions)
    names = [name for name, each in given.pools.items() if each.pool.market == "spot"]
    market = spot.market(names, given.spot, given.seed, given.assumptions)
    return {each.name: engine.run(each, work, market, given.assumptions, given.seed) for each in found}


def compared(given: World, work: Workload) -> dict[str, Books]:
    return {each.policy: each for each in comparison.compare(work, given)}


def machines(history: History) -> list[MachineLife]:
    return list(lives(history.events).machines.values())


def pods(history: History) -> list[PodLife]:
    return list(lives(history.events).pods.values())


def at(seconds: float) -> int:
    return millis(EPOCH + seconds)


def test_a_cluster_that_is_always_there_costs_its_peak_by_the_hour() -> None:
    # Seven jobs of 2 cores fit on a machine of 16 whose DaemonSets have their part; the eighth and ninth need another.
    work = workload(*(job(submit) for submit in range(9)), job(7200, cores=16), days=2)
    books = compared(world(volume=73.0), work)["24x7"]
    assert books.peak == 2
    assert books.usd == pytest.approx(2 * 48 * (0.768 + 73 * 0.08 / 730), rel=1e-9)
    assert (books.late, books.failed, books.waits.p99) == (0, 0, PLAIN.start_seconds)


def test_a_machine_is_billed_from_its_launch_until_the_scan_after_its_idle_time() -> None:
    history = histories(world(unneeded=60), workload(job(5)))["tidepool"]
    (machine,), (pod,) = machines(history), pods(history)
    assert machine.pool == "spot-small"
    assert machine.launched is not None
    assert machine.ready is not None
    assert machine.gone is not None
    # The scan at 10 s sees the pod; then launch and boot, a third more or less.
    assert at(10 + 8) <= machine.launched <= at(10 + 16)
    assert 45_000 <= machine.ready - machine.launched <= 90_000
    assert (pod.scheduled, pod.pulling, pod.running) == (machine.ready, machine.ready, machine.ready + 33_000)
    assert pod.ended == machine.ready + 633_000
    idle = (machine.gone - pod.ended) / 1000
    assert 60 <= idle < 60 + 10
    assert machine.gone % 10_000 == 0
    ours = compared(world(unneeded=60), workload(job(5)))["tidepool"]
    assert ours.usd == pytest.approx((machine.gone - machine.launched) / 3_600_000 * 0.04, rel=1e-9)
    assert ours.billed_per_useful == pytest.approx((machine.gone - machine.launched) / 600_000, rel=1e-6)


def test_by_default_an_idle_machine_stays_for_ten_minutes() -> None:
    history = histories(world(), workload(job(0, 60)))["on-demand"]
    (machine,), (pod,) = machines(history), pods(history)
    assert pod.ended is not None
    assert machine.gone is not None
    assert 600 <= (machine.gone - pod.ended) / 1000 < 620


def test_a_machine_that_comes_is_for_the_pod_that_it_was_asked_for_and_no_second_one_is() -> None:
    history = histories(world(), workload(job(0), job(1), job(2)))["tidepool"]
    assert len(machines(history)) == 3
    shared = histories(world(), workload(job(0, cores=2), job(1, cores=2), job(2, cores=16)))["on-demand"]
    assert len(machines(shared)) == 2


def test_the_next_task_finds_the_machine_of_the_one_before_it_with_its_image() -> None:
    history = histories(world(), workload(job(0), job(10, after=0), job(10, after=1)))["tidepool"]
    assert len(machines(history)) == 1
    first, second, third = pods(history)
    assert second.queued == first.ended + 10_000  # type: ignore[operator]
    assert second.running == second.queued + 3000
    assert second.pulling is None
    assert third.ended == second.ended + 613_000  # type: ignore[operator]


def test_each_job_of_tidepools_has_the_smallest_machine_that_it_fits_for_itself() -> None:
    work = workload(job(0, cores=2, gib=2), job(0, cores=2, gib=20), job(0, cores=8))
    pools = [each.pool for each in pods(histories(world(), work)["tidepool"])]
    assert pools == ["spot-small", "spot-large", "spot-large"]


def test_where_spot_has_no_machines_the_ladder_goes_on_demand_and_the_breaker_spares_the_next_job_the_wait() -> None:
    # At 300 s the autoscaler would try the spot group again; the breaker is open for longer.
    history = histories(world("never"), workload(job(0), job(300)))["tidepool"]
    first, second = pods(history)
    assert {each.market for each in machines(history)} == {"on-demand"}
    # A failure is known after a minute; the second job does not ask there again.
    assert 60 + 10 + 53 <= (first.running - first.queued) / 1000 <= 60 + 20 + 106 + 33  # type: ignore[operator]
    assert (second.running - second.queued) / 1000 <= 20 + 106 + 33  # type: ignore[operator]


def test_stock_kubernetes_goes_on_demand_too_once_the_spot_group_is_backed_off() -> None:
    history = histories(world("never"), workload(job(0)))["spot"]
    assert [each.market for each in machines(history)] == ["on-demand"]


def trace(*spans: tuple[float, float, int]) -> Trace:
    return Trace("test", tuple(Span(*each) for each in spans))


OUTAGE = trace((0, 400, 1), (400, 4000, 0), (4000, 10 * DAY, 1))


def test_a_reclaimed_job_of_tidepools_begins_anew_at_the_notice() -> None:
    history = histories(world(OUTAGE), workload(job(0, 1200)))["tidepool"]
    lost, second = pods(history)
    assert (lost.cause, second.cause) == ("spot_reclaim", "ok")
    assert lost.ended == at(400 - 120)
    assert second.queued == at(400 - 120 + 5)
    first = machines(history)[0]
    assert (first.reclaimed, first.gone) == (at(280), at(400))


def test_stock_kubernetes_and_airflow_notice_a_lost_machine_late() -> None:
    history = histories(world(OUTAGE), workload(job(0, 1200)))["spot"]
    lost, second = pods(history)
    assert (lost.cause, second.cause) == ("node_lost", "ok")
    assert lost.ended == at(400)
    assert second.queued == at(400 + 380 + 300)


def test_after_a_storm_of_reclaims_the_breaker_keeps_all_jobs_off_the_pool() -> None:
    brief = trace((0, 400, 1), (400, 401, 0), (401, 10 * DAY, 1))
    history = histories(world(brief), workload(*(job(number, 3000) for number in range(4))))["tidepool"]
    assert [pod.pool for pod in pods(history)] == ["spot-small"] * 4 + ["on-demand-small"] * 4


def test_after_two_lost_attempts_the_ladder_goes_on_demand() -> None:
    often = replace(PLAIN, reclaims_per_hour=20.0)
    history = histories(world(assumptions=often), workload(job(0, 3600)))["tidepool"]
    lost = [each for each in pods(history) if each.cause != "ok"]
    assert len(lost) == 2
    assert pods(history)[-1].pool == "on-demand-small"


def test_what_the_group_launches_after_a_reclaim_is_paid_for_though_nobody_wants_it() -> None:
    once = trace((0, 400, 1), (400, 401, 0), (401, 10 * DAY, 1))
    history = histories(world(once, replace(PLAIN, notice_seconds=130)), workload(job(0, 400)))["tidepool"]
    assert sum(not [pod for pod in pods(history) if pod.machine == each.id] for each in machines(history)) >= 1


def test_a_job_that_gets_no_machine_in_its_time_fails_and_counts_as_late_with_all_that_wait_for_it() -> None:
    work = workload(job(0, 3000), job(1, 100), job(10, 100, after=1))
    given = world("never", most=1)
    given = replace(given, pools={name: each for name, each in given.pools.items() if each.pool.market == "on-demand"})
    given = replace(given, pools={"on-demand-large": given.pools["on-demand-large"]})
    ours = compared(given, work)["tidepool"]
    assert (ours.failed, ours.late) == (2, 2)


def random_workload(rng: random.Random) -> Workload:
    jobs: list[Job] = []
    for _ in range(rng.randrange(1, 60)):
        after = rng.randrange(len(jobs)) if jobs and rng.random() < 0.5 else None
        submit = rng.uniform(0, 60 if after is not None else 6 * HOUR)
        seconds = min(6 * HOUR, rng.lognormvariate(6, 1.5))
        jobs.append(job(round(submit, 1), round(seconds, 1), rng.choice((1, 2, 4, 16)), rng.choice((0.5, 2, 6)), after))
    return workload(*jobs)


def random_world(rng: random.Random, seed: int) -> World:
    assumptions = Assumptions(
        reclaims_per_hour=rng.choice((-1.0, 0.0, 0.5, 5.0)),
        pull_seconds=rng.choice((0.0, 30.0)),
        boot_seconds=rng.choice((0.0, 60.0, 300.0)),
        notice_seconds=rng.choice((0.0, 120.0)),
    )
    there: str | Trace = OUTAGE if rng.random() < 0.2 else rng.choice(spot.PROCESSES)
    unneeded = rng.choice((0.0, 20.0, 600.0))
    return world(there, assumptions, seed, unneeded, most=rng.choice((2, 5, 100)), volume=rng.choice((0.0, 80.0)))


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_books_balance_and_the_rules_hold(seed: int) -> None:
    rng = random.Random(f"rules {seed}")  # noqa: S311
    given, work = random_world(rng, seed), random_workload(rng)
    books = compared(given, work)
    for name, history in histories(given, work).items():
        check_books(books[name], books["24x7"], history)
        check_machines(history, given.pools)
        check_jobs(history, work)


def check_books(own: Books, fixed: Books, history: History) -> None:
    # An account of its own: each machine's seconds at its price.
    total = 0.0
    for machine in machines(history):
        assert machine.launched is not None
        assert machine.gone is not None
        assert machine.usd_per_hour is not None
        seconds = max(60.0, (machine.gone - machine.launched) / 1000)
        total += seconds / 3600 * (machine.usd_per_hour + machine.volume_gib * 0.08 / 730)
    assert own.usd == pytest.approx(total, rel=1e-6)
    assert sum(own.by_use.values()) == pytest.approx(own.usd, rel=1e-9)
    assert set(own.by_use) == set(USES)
    assert set(own.savings) == set(SAVINGS)
    assert fixed.usd - own.usd == pytest.approx(sum(own.savings.values()), rel=1e-9, abs=1e-9)
    # The report of the same events says the same.
    until = history.until + 3600
    report = costs(history.events, PriceBook(), "pool", EPOCH, until, BILLING)
    assert report.balanced
    assert report.bill.usd == pytest.approx(own.usd, rel=1e-9)


def check_machines(history: History, pools: Mapping[str, MachinePool]) -> None:
    by_machine: dict[str, list[PodLife]] = defaultdict(list)
    for pod in pods(history):
        if pod.machine:
            by_machine[pod.machine].append(pod)
    there: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for machine in machines(history):
        assert machine.launched is not None
        assert machine.gone is not None, "no machine outlives its jobs"
        there[machine.pool] += [(machine.launched, 1), (machine.gone, -1)]
        changes: list[tuple[int, int, int, int]] = []
        for pod in by_machine[machine.id]:
            assert pod.scheduled is not None
            assert pod.ended is not None
            assert machine.ready is not None
            assert machine.ready <= pod.scheduled <= pod.ended <= machine.gone
            changes += [(pod.scheduled, 1, pod.cpu_millis, pod.memory_bytes)]
            changes += [(pod.ended, -1, -pod.cpu_millis, -pod.memory_bytes)]
        count = cpu = memory = 0
        for _, one, millis_, size in sorted(changes):
            count, cpu, memory = count + one, cpu + millis_, memory + size
            assert cpu <= machine.cpu_millis
            assert memory <= machine.memory_bytes
            assert count <= 1 or not history.policy.has_ladder, "a job of tidepool's is alone on its machine"
    if not history.policy.is_fixed:
        for name, moves in there.items():
            assert max(itertools.accumulate(one for _, one in sorted(moves))) <= pools[name].pool.max_machines


def check_jobs(history: History, work: Workload) -> None:
    runs = defaultdict(list)
    for pod in pods(history):
        runs[int(pod.uid.partition("-")[0])].append(pod)
    for index, (each, progress) in enumerate(zip(work.jobs, history.jobs, strict=True)):
        good = [pod for pod in runs[index] if pod.cause == "ok"]
        if progress.done is None:
            assert not good
            blocked = each.after is not None and history.jobs[each.after].done is None
            assert blocked or progress.failed
            continue
        (end,) = good
        assert (end.ended - end.running) / 1000 == pytest.approx(each.seconds, abs=0.002)  # type: ignore[operator]
        if each.after is not None:
            before = history.jobs[each.after].done
            assert before is not None
            assert progress.submitted == pytest.approx(before + each.submit, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_history_and_another_one_another(seed: int) -> None:
    work = workloads.seed_profile(seed, Assumptions())
    work = replace(work, jobs=work.jobs[:900], days=1)
    one, same, other = (histories(world("ample", Assumptions(), number), work) for number in (seed, seed, seed + 1))
    for name in policies.NAMES:
        assert one[name].events == same[name].events
    assert one["tidepool"].events != other["tidepool"].events


def test_prices_and_reservations_move_the_bill_and_nothing_else() -> None:
    work = workload(job(0), job(700), job(9000))
    usual, reserved = compared(world(), work), compared(replace(world(), discount=0.5), work)
    assert reserved["24x7"].usd == pytest.approx(usual["24x7"].usd / 2)
    assert reserved["tidepool"].usd == usual["tidepool"].usd
    assert sum(reserved["tidepool"].savings.values()) == pytest.approx(reserved["24x7"].usd - reserved["tidepool"].usd)


def test_what_fits_no_machine_is_named_with_what_there_is() -> None:
    with pytest.raises(PoolError, match=r"no machine of on-demand-large has 16 cores and 70\.0 GiB"):
        compared(world(), workload(job(0, cores=16, gib=70)))


def test_memory_that_authors_ask_for_beyond_what_there_is_does_not_keep_a_job_away() -> None:
    assert compared(world(), workload(job(0, cores=16, gib=50)))["24x7"].late == 0


def test_a_pool_without_prices_is_named() -> None:
    pools = {"x": pool("on-demand", "small", 5)}
    capacity = Capacity("test", {"t": Tenant("n", "job")}, "t", {}, 1800, pools)
    with pytest.raises(PoolError, match=r"x: m5\.large"):
        policies.machine_pools(capacity, PriceBook(), {}, {"x": 60.0}, 10)


def test_assumptions_are_read_by_name_and_all_errors_are_told_at_once() -> None:
    assert read(["boot_seconds=120", "pull_seconds=0"]) == Assumptions(boot_seconds=120, pull_seconds=0)
    with pytest.raises(AssumptionError) as problems:
        read(["boot_second=1", "pull_seconds=x", "nothing=1"])
    assert str(problems.value).splitlines() == [
        "'boot_second=1': there is no assumption 'boot_second'; did you mean boot_seconds?",
        "'pull_seconds=x': must be pull_seconds=NUMBER",
        f"'nothing=1': there is no assumption 'nothing'; there are: {', '.join(NAMES)}",
    ]
    with pytest.raises(AssumptionError, match="boot_seconds: must be a number of at least 0, not -1"):
        read(["boot_seconds=-1"])
    with pytest.raises(AssumptionError, match="asked_by_authors: must be a number of at least 1, not nan"):
        read(["asked_by_authors=nan"])


def test_the_busy_hours_alone_save_two_thirds_on_the_seed_profile() -> None:
    """8 hours of 24: what the published platform's figures start from."""
    work = workloads.seed_profile(1, Assumptions())
    busy = sum(each.seconds for each in work.jobs) / (len(workloads.LANES) * 7 * DAY)
    assert busy == pytest.approx(1 / 3, abs=0.01)


def test_a_thousand_machines_and_ten_thousand_jobs_take_a_minute_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    assumptions = Assumptions()
    work = workloads.large(1, assumptions)
    began = time.monotonic()
    ours = compared(world("ample", assumptions, most=2000), work)["tidepool"]
    seconds = time.monotonic() - began
    with capsys.disabled():
        print(f"\nsimulated {ours.peak:,} machines at once and {ours.jobs:,} jobs, 4 policies, in {seconds:.1f} s")
    assert ours.peak >= 1000
    assert ours.jobs == 10_000
    assert seconds <= 60


def test_policies_are_the_same_jobs_on_other_machines() -> None:
    given = world()
    found: list[Policy] = policies.policies(given.capacity, given.pools, (job(),), PLAIN)
    assert [each.name for each in found] == list(policies.NAMES)
    assert [set(each.pools) for each in found[:3]] == [
        {"on-demand-small"},
        {"on-demand-small"},
        {"spot-small", "on-demand-small"},
    ]
    assert set(found[3].pools) == set(given.pools)
