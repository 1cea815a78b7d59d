from __future__ import annotations

from collections.abc import Callable

import pytest

from tidepool import ladder, sizing
from tidepool.capacity import Capacity, Market, Pool
from tidepool.job import MIB, Job, JobError, human, quantity
from tidepool.sizing import place, spark_memory

GIB = 1024**3

SHAPES = [  # vCPU, allocatable CPU in millicores and memory: 1 to 96 cores as the kubelet leaves them
    (1, 940, int(1.2 * GIB)),
    (2, 1930, 7 * GIB),
    (4, 3920, 14 * GIB),
    (16, 15890, 60 * GIB),
    (96, 95690, 370 * GIB),
]


@pytest.mark.parametrize(("cores", "cpu", "memory"), SHAPES)
def test_an_exclusive_job_gets_the_whole_machine_and_leaves_room_for_daemons(
    cores: int, cpu: int, memory: int, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    placement = place(Job("t"), capacity_of(pool("p", cpu_millis=cpu, memory_bytes=memory)))
    assert placement.cores == cores
    assert placement.cpu_millis == cpu - sizing.DAEMON_CPU_MILLIS
    assert memory - 257 * MIB < placement.memory_bytes <= memory - sizing.DAEMON_MEMORY_BYTES


@pytest.mark.parametrize(("cores", "cpu", "memory"), SHAPES)
def test_nothing_fits_beside_an_exclusive_job(
    cores: int, cpu: int, memory: int, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("p", cpu_millis=cpu, memory_bytes=memory))
    exclusive = place(Job("a", memory="600Mi"), capacity).cpu_millis
    smallest_shared = place(Job("b", memory="64Mi", exclusive=False), capacity).cpu_millis
    assert exclusive + exclusive > cpu
    assert exclusive + smallest_shared > cpu


@pytest.mark.parametrize(("cores", "cpu", "memory"), SHAPES)
def test_as_many_shared_jobs_of_one_core_fit_as_the_machine_has_cores(
    cores: int, cpu: int, memory: int, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    placement = place(Job("t", exclusive=False), capacity_of(pool("p", cpu_millis=cpu, memory_bytes=memory)))
    assert placement.cores == 1
    assert placement.cpu_millis * cores <= cpu - sizing.DAEMON_CPU_MILLIS
    assert placement.memory_bytes * cores <= memory - sizing.DAEMON_MEMORY_BYTES


def test_no_pool_named_means_spot_first_and_on_demand_to_fall_back_on(capacity: Capacity) -> None:
    assert [pool.name for pool in place(Job("t"), capacity).pools] == ["spot-small", "on-demand-small"]


def test_a_named_pool_is_the_only_one(capacity: Capacity) -> None:
    assert [pool.name for pool in place(Job("t", pool="on-demand-small"), capacity).pools] == ["on-demand-small"]


def shapes(capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]) -> Capacity:
    large = {"cpu_millis": 7910, "memory_bytes": 30 * GIB, "instance_types": ("m5.2xlarge", "m6i.2xlarge")}
    return capacity_of(
        pool("small"),
        pool("small-on-demand", "on-demand", priority=10),
        pool("large", priority=40, **large),
        pool("large-on-demand", "on-demand", priority=5, **large),
        pool("gpu", gpus=1, instance_types=("g4dn.xlarge",)),
        pool("unknown", priority=1, instance_types=()),
    )


def test_a_machine_stands_for_its_shape_and_only_pools_that_have_it_are_used(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = shapes(capacity_of, pool)
    placement = place(Job("t", machine="m6i.2xlarge"), capacity)
    assert [each.name for each in placement.pools] == ["large", "large-on-demand"]
    assert (placement.cores, placement.cpu_millis) == (8, 7910 - sizing.DAEMON_CPU_MILLIS)
    assert [each.name for each in place(Job("t", machine="m5.large"), capacity).pools] == ["small", "small-on-demand"]
    with_pool = place(Job("t", machine="m5.2xlarge", pool="large-on-demand"), capacity)
    assert [each.name for each in with_pool.pools] == ["large-on-demand"]
    on_demand = ladder.offered(capacity, "on-demand", "t")
    assert [each.name for each in place(Job("t", machine="m5.2xlarge"), on_demand).pools] == ["large-on-demand"]
    not_this = sizing.why_not(Job("t", machine="m5.2xlarge"), placement, capacity.pools["small"])
    assert not_this == "the job names machine 'm5.2xlarge'"


@pytest.mark.parametrize(
    ("job", "market", "words"),
    [
        (
            Job("t", machine="m5.24xlarge"),
            None,
            r"machine='m5\.24xlarge', but no pool .* small \(spot\): m5\.large, m6i",
        ),
        (Job("t", machine="m5.24xlarge"), None, r"; unknown \(spot\): none$"),
        (Job("t", machine="m5.large", pool="large"), None, r"are: large \(spot\): m5\.2xlarge, m6i\.2xlarge$"),
        (Job("t", machine="g4dn.xlarge"), "on-demand", r"are: small-on-demand \(on-demand\): .*; large-on-demand"),
        (Job("t", machine="g4dn.xlarge"), None, "every job pool of machine 'g4dn.xlarge' has GPUs"),
        (Job("t", machine="m5.large", gpus=1), None, "gpus=1, but no job pool of machine 'm5.large' has so many"),
        (
            Job("t", machine="m5.large", memory="20Gi"),
            None,
            r"any of the job pools \(small, small-on-demand\): it asks",
        ),
    ],
)
def test_a_machine_that_cannot_be_had_is_said_with_those_that_can(
    job: Job, market: Market | None, words: str, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    with pytest.raises(JobError, match=words):
        place(job, ladder.offered(shapes(capacity_of, pool), market, "t"))


def test_of_equal_priority_the_cheapest_that_fits_wins(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(
        pool("large", cpu_millis=7910, memory_bytes=30 * GIB, usd_per_hour=0.16),
        pool("small", usd_per_hour=0.04),
    )
    assert place(Job("t"), capacity).pools[0].name == "small"
    assert place(Job("t", memory="20Gi"), capacity).pools[0].name == "large"
    assert place(Job("t", cores=8), capacity).pools[0].name == "large"


def test_an_exclusive_job_does_not_fall_back_to_a_machine_that_it_would_share(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("small"), pool("large", cpu_millis=7910, memory_bytes=30 * GIB, priority=10))
    assert [each.name for each in place(Job("t"), capacity).pools] == ["small"]
    assert [each.name for each in place(Job("t", exclusive=False), capacity).pools] == ["small", "large"]


def test_pools_without_machines_and_pools_not_for_jobs_are_never_chosen(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("none", max_machines=0, priority=99), pool("sys", jobs=False, priority=98), pool("p"))
    assert [each.name for each in place(Job("t"), capacity).pools] == ["p"]


def test_machines_with_gpus_are_for_jobs_that_ask_for_them(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(
        pool("eight", gpus=8, priority=99, usd_per_hour=9.0),
        pool("one", gpus=1, priority=98, usd_per_hour=1.0),
        pool("plain"),
        pool("fallback", priority=10),
    )
    assert [each.name for each in place(Job("t"), capacity).pools] == ["plain", "fallback"]
    assert [each.name for each in place(Job("t", gpus=1), capacity).pools] == ["eight", "one"]
    assert [each.name for each in place(Job("t", gpus=2), capacity).pools] == ["eight"]
    assert [place(Job("t", gpus=gpus), capacity).gpus for gpus in (0, 2)] == [0, 2]
    assert [each.name for each in place(Job("t", gpus=1, pool="one"), capacity).pools] == ["one"]


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job("t", gpus=9), "task 't': gpus=9, but no job pool has so many on a machine; job pools with GPUs, and how"),
        (Job("t", gpus=2, pool="one"), r"gpus=2, but a machine of pool 'one' has fewer; .*how many: eight 8, one 1$"),
        (Job("t", gpus=1, pool="plain"), "gpus=1, but a machine of pool 'plain' has fewer"),
        (Job("t", pool="one"), r"pool 'one' has GPUs \(eight 8, one 1\), which are for jobs that ask .* `gpus`"),
        (Job("t", gpus=1, memory="64Gi"), r"any of the job pools \(eight, one\): it asks for 64\.0 .* and 1 GPUs"),
    ],
)
def test_gpus_that_cannot_be_had_are_said_with_those_that_can(
    job: Job, words: str, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("eight", gpus=8, priority=99), pool("one", gpus=1), pool("plain"))
    with pytest.raises(JobError, match=words):
        place(job, capacity)


def test_where_every_machine_has_gpus_a_job_without_is_told(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    with pytest.raises(JobError, match=r"every job pool has GPUs \(one 1\)"):
        place(Job("t"), capacity_of(pool("one", gpus=1)))


def test_a_job_is_its_teams_or_the_default_tenants(capacity: Capacity) -> None:
    mine, anybodys = place(Job("t", team="research"), capacity), place(Job("t"), capacity)
    assert (mine.team, mine.tenant.namespace) == ("research", "tidepool-research")
    assert (anybodys.team, anybodys.tenant.namespace) == ("analytics", "tidepool-analytics")
    with pytest.raises(JobError, match="task 't': there is no team 'sales'; the teams are: analytics, research"):
        place(Job("t", team="sales"), capacity)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job("clean", pool="gpu"), r"'clean'.*no pool 'gpu'; the job pools are: on-demand-small, spot-small"),
        (Job("clean", pool="system"), r"'clean'.*'system' is not for jobs; the job pools are: on-demand-small"),
        (
            Job("clean", pool="spot-small", memory="64Gi"),
            r"'clean' does not fit pool 'spot-small': it asks for 64\.0 GiB \(\"65536Mi\"\) of memory; the largest "
            r"machine, of pool 'spot-small' \(m5\.large, m6i\.large\), gives a job 2 cores and 6\.7 GiB \(\"6912Mi\"\)",
        ),
        (
            Job("clean", cores=64),
            r"'clean' does not fit any of the job pools \(spot-small, on-demand-small\).*64 cores",
        ),
    ],
)
def test_what_cannot_be_had_is_said_with_job_pool_and_the_largest_machine(
    job: Job, words: str, capacity: Capacity
) -> None:
    with pytest.raises(JobError, match=words):
        place(job, capacity)


def test_the_largest_memory_that_a_message_offers_can_be_asked_for(capacity: Capacity) -> None:
    with pytest.raises(JobError, match="6912Mi"):
        place(Job("t", memory="6913Mi"), capacity)
    assert place(Job("t", memory="6912Mi"), capacity).memory_bytes == 6912 * MIB


def test_a_cluster_without_job_pools_says_so(capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]) -> None:
    with pytest.raises(JobError, match="needs a job pool, but cluster 'test' has none"):
        place(Job("t"), capacity_of(pool("system", jobs=False)))


def test_a_job_tells_everything_that_is_wrong_with_it_at_once() -> None:
    with pytest.raises(JobError) as caught:
        Job("t", cores=0, memory="lots", pool="", exclusive="yes", gpus=-1, team="")  # type: ignore[arg-type]
    for words in (
        "cores: must be",
        "memory: must be a Kubernetes quantity",
        "pool: must be",
        "exclusive: must be",
        "gpus: must be a whole number, not negative, not -1",
        "team: must be a team's name, not ''",
    ):
        assert words in str(caught.value)


def test_a_forgotten_unit_is_noticed() -> None:
    with pytest.raises(JobError, match='did you mean "3Gi"'):
        Job("t", memory="3")


@pytest.mark.parametrize(
    ("text", "size"), [("3Gi", 3 * GIB), ("512Mi", 512 * MIB), ("1.5Gi", 3 * GIB // 2), ("2G", 2 * 10**9), ("7", 7)]
)
def test_quantities_are_those_of_kubernetes(text: str, size: int) -> None:
    assert quantity(text) == size


@pytest.mark.parametrize("text", ["", "3 Gi", "-1Gi", "3GB", "Gi", "1e3", "3gi", None, 3])
def test_other_quantities_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a Kubernetes quantity"):
        quantity(text)  # type: ignore[arg-type]


def test_sizes_for_people_are_rounded_down() -> None:
    assert human(7 * GIB - 1) == '6.9 GiB ("7167Mi")'
    assert human(600 * MIB) == '600 MiB ("600Mi")'


@pytest.mark.parametrize("cores", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("gib", [2, 3, 7, 31, 250])
def test_the_parts_of_sparks_memory_add_up_to_the_limit(cores: int, gib: int) -> None:
    if gib * 1024 < 400 * cores + 1024:
        with pytest.raises(JobError, match="Ask for at least"):
            spark_memory("t", GIB, cores)
        return
    memory = spark_memory("t", gib * GIB, cores)
    assert memory.heap + memory.overhead + memory.python + memory.margin == gib * 1024
    assert memory.overhead >= max(384, memory.heap // 10)
    assert memory.python >= 200 * (cores + 1)
    assert memory.heap >= sizing.SMALLEST_HEAP_MIB


def test_the_least_memory_that_a_message_offers_is_enough() -> None:
    with pytest.raises(JobError, match=r"task 't'.*Ask for at least .*\(\"(\d+)Mi\"\)") as caught:
        spark_memory("t", GIB, 2)
    least = int(str(caught.value).split("at least")[1].split('("')[1].split("Mi")[0])
    assert spark_memory("t", least * MIB, 2).heap >= sizing.SMALLEST_HEAP_MIB
    with pytest.raises(JobError):
        spark_memory("t", (least - 3) * MIB, 2)
