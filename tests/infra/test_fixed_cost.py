"""The fixed cost of an environment against sums made by hand, and the table in stacks/README.md against the sums."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from infra import settings
from infra.aws import fixed_cost
from infra.services import hdfs_pods
from infra.settings.model import Services
from infra.settings.model_aws import AwsCloud, RdsDatabase

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "stacks" / "README.md"
HEADING = "## What an environment costs when nothing runs"
ENVIRONMENTS = ("dev", "staging", "prod")

BY_HAND = {
    # Control plane, system machines, kept, NAT, endpoints, PostgreSQL, volumes, key, secret; hours are 730.
    "dev": [73.0, 2 * 0.0864 * 730, 0.0, 36.5, 0.0, 0.016 * 730 + 20 * 0.115, 2 * 80 * 0.08, 1.0, 0.4],
    "staging": [
        73.0,
        3 * 0.1728 * 730,
        0.0,
        36.5,
        0.0,
        0.032 * 730 + 20 * 0.115,
        # root volumes, DataNodes, NameNodes, JournalNodes and ZooKeeper, Prometheus
        (3 * 80 + 3 * 100 + 2 * 20 + 6 * 2 + 50) * 0.08,
        1.0,
        0.4,
    ],
    "prod": [
        73.0,
        3 * 0.3456 * 730,
        0.0,
        3 * 36.5,
        8 * 3 * 7.3,
        2 * (0.065 * 730 + 50 * 0.115),
        (3 * 100 + 3 * 500 + 2 * 50 + 6 * 2 + 100) * 0.08,
        1.0,
        0.4,
    ],
}


def volumes_gib(services: Services) -> int:
    """What the services of an environment claim: HDFS's servers and Prometheus; nothing else has a volume."""
    servers = hdfs_pods.servers(services.hdfs) if services.hdfs else []
    prometheus = services.monitoring.volume_gib if services.monitoring else 0
    return sum(server.replicas * server.volume_gib for server in servers) + prometheus


def items(environment: str) -> list[fixed_cost.Item]:
    loaded, cloud = load(environment)
    return fixed_cost.items(cloud, volumes_gib(loaded.services))


def load(environment: str) -> tuple[settings.Settings, AwsCloud]:
    loaded = settings.load(ROOT / "stacks" / f"Pulumi.{environment}.yaml")
    assert isinstance(loaded.cloud, AwsCloud)
    return loaded, loaded.cloud


def table() -> list[str]:
    """The table's lines as they must stand in stacks/README.md."""
    columns = [items(environment) for environment in ENVIRONMENTS]
    lines = [f"| USD a month | {' | '.join(ENVIRONMENTS)} |", f"|---|{'---|' * len(ENVIRONMENTS)}"]
    for row in zip(*columns, strict=True):
        assert len({each.what for each in row}) == 1
        lines.append(f"| {row[0].what} | {' | '.join(f'{shown(each.usd)} ({each.count})' for each in row)} |")
    totals = [shown(fixed_cost.total(column)) for column in columns]
    return [*lines, f"| **together** | {' | '.join(f'**{each}**' for each in totals)} |"]


def shown(usd: float | None) -> str:
    return "no price known" if usd is None else f"{usd:,.2f}"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_part_costs_what_a_sum_by_hand_says(environment: str) -> None:
    assert [each.usd for each in items(environment)] == pytest.approx(BY_HAND[environment])
    assert fixed_cost.total(items(environment)) == pytest.approx(sum(BY_HAND[environment]))


def test_the_readme_has_the_table_that_the_price_book_gives() -> None:
    _, body = README.read_text(encoding="utf-8").split(f"{HEADING}\n")
    lines = [line for line in re.split(r"^## ", body, flags=re.MULTILINE)[0].splitlines() if line.startswith("|")]
    wanted = table()
    assert lines == wanted, "\n".join(["it must be", *wanted])


def test_machines_that_a_pool_keeps_cost_their_hours_and_warm_ones_their_volumes() -> None:
    loaded, cloud = load("dev")
    pools = {**cloud.pools}
    pools["on-demand-small"] = dataclasses.replace(pools["on-demand-small"], minimum=2)
    pools["on-demand-medium"] = dataclasses.replace(pools["on-demand-medium"], warm=3)
    before = {each.what: each for each in items("dev")}
    after = fixed_cost.items(dataclasses.replace(cloud, pools=pools), volumes_gib(loaded.services))
    more = {each.what: each.usd - (before[each.what].usd or 0) for each in after if each.usd is not None}
    assert more["job machines kept"] == pytest.approx(2 * 0.096 * 730)  # the dearer of m6a.large and m6i.large
    assert more["volumes"] == pytest.approx(5 * 80 * 0.08)
    assert sum(more.values()) == pytest.approx(2 * 0.096 * 730 + 5 * 80 * 0.08)


def test_a_spot_machine_that_is_kept_costs_its_spot_price() -> None:
    loaded, cloud = load("dev")
    pool = dataclasses.replace(cloud.pools["spot-small"], minimum=1)
    changed = dataclasses.replace(cloud, pools={**cloud.pools, pool.name: pool})
    found = {each.what: each.usd for each in fixed_cost.items(changed, volumes_gib(loaded.services))}
    dearest = max(each.spot_usd_per_hour for each in pool.instance_types)
    assert found["job machines kept"] == pytest.approx(dearest * 730)


def test_a_price_that_nobody_knows_is_no_zero() -> None:
    _, cloud = load("dev")
    database = RdsDatabase(instance_class="db.r6g.large", storage_gib=20, backup_days=1, multi_zone=False)
    found = fixed_cost.items(dataclasses.replace(cloud, database=database), 0)
    assert {each.what: each.usd for each in found}["PostgreSQL"] is None
    assert fixed_cost.total(found) is None


def test_without_a_database_neither_it_nor_its_secret_is_paid_for() -> None:
    _, cloud = load("dev")
    found = {each.what: each.usd for each in fixed_cost.items(dataclasses.replace(cloud, database=None), 0)}
    assert (found["PostgreSQL"], found["secret in Secrets Manager"]) == (0.0, 0.0)
