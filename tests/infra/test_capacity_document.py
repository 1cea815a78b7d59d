from __future__ import annotations

from pathlib import Path

from infra import capacity_document, settings
from tidepool import capacity

STACK = Path(__file__).resolve().parents[2] / "stacks" / "Pulumi.local.yaml"


def test_the_library_reads_back_what_the_program_writes() -> None:
    document = capacity_document.build(settings.load(STACK))
    assert capacity.loads(capacity.dumps(document)) == document


def test_job_pools_keep_others_off_and_the_system_pool_does_not() -> None:
    pools = capacity_document.build(settings.load(STACK)).pools
    assert [(each.key, each.value, each.effect) for each in pools["spot-small"].taints] == [
        ("tidepool.dev/pool", "spot-small", "NoSchedule")
    ]
    assert pools["system"].taints == ()
    assert pools["system"].labels == {"tidepool.dev/pool": "system"}


def test_a_pool_costs_what_its_dearest_type_costs_in_its_market() -> None:
    pool = capacity_document.build(settings.load(STACK)).pools["spot-small"]
    assert (pool.usd_per_hour, pool.on_demand_usd_per_hour) == (0.0418, 0.096)
