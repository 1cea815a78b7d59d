from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

# Airflow reads these when it is first imported, and then makes its home.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="tidepool-tests-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from tests import postgres
from tidepool import capacity as document
from tidepool.capacity import Architecture, Capacity, Lake, Market, Pool, Taint, Tenant
from tidepool.ledger.store import Store

if TYPE_CHECKING:
    from tests.dags.fake_kubernetes import Clock, Kubernetes

GIB = 1024**3

PoolMaker = Callable[..., Pool]


def make_pool(
    name: str,
    market: Market = "spot",
    *,
    cpu_millis: int = 1930,
    memory_bytes: int = 7 * GIB,
    priority: int = 50,
    usd_per_hour: float = 0.04,
    jobs: bool = True,
    gpus: int = 0,
    architecture: Architecture = "amd64",
    max_machines: int = 4,
    instance_types: tuple[str, ...] = ("m5.large", "m6i.large"),
) -> Pool:
    return Pool(
        name=name,
        market=market,
        jobs=jobs,
        instance_types=instance_types,
        labels={"tidepool.dev/pool": name},
        taints=(Taint("tidepool.dev/pool", name, "NoSchedule"),) if jobs else (),
        cpu_millis=cpu_millis,
        memory_bytes=memory_bytes,
        ephemeral_storage_bytes=20 * GIB,
        gpus=gpus,
        architecture=architecture,
        max_machines=max_machines,
        priority=priority,
        usd_per_hour=usd_per_hour,
        on_demand_usd_per_hour=0.096,
    )


def make_capacity(*pools: Pool) -> Capacity:
    chosen = pools or (
        make_pool("system", "on-demand", jobs=False, priority=0),
        make_pool("on-demand-small", "on-demand", priority=10, usd_per_hour=0.096),
        make_pool("spot-small"),
    )
    return Capacity(
        cluster="test",
        tenants={
            "analytics": Tenant(namespace="tidepool-analytics", service_account="job"),
            "research": Tenant(namespace="tidepool-research", service_account="job"),
        },
        default_tenant="analytics",
        images={"spark": "tidepool.local/spark:abc123"},
        schedule_timeout_seconds=1800,
        pools={pool.name: pool for pool in chosen},
        lake=Lake(uri="hdfs://namenode.tidepool:8020/lake"),
    )


@pytest.fixture
def pool() -> PoolMaker:
    return make_pool


@pytest.fixture
def capacity_of() -> Callable[..., Capacity]:
    return make_capacity


@pytest.fixture
def capacity() -> Capacity:
    return make_capacity()


@pytest.fixture
def capacity_file(capacity: Capacity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The capacity document as a file that TIDEPOOL_CAPACITY names."""
    path = tmp_path / "capacity.json"
    path.write_text(document.dumps(capacity), encoding="utf-8")
    monkeypatch.setenv("TIDEPOOL_CAPACITY", str(path))
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The operators' time, which goes on where they sleep."""
    from tests.dags.fake_kubernetes import Clock  # with Airflow, which most tests here do without

    clock = Clock()
    monkeypatch.setattr("time.time", clock.time)
    monkeypatch.setattr("time.sleep", clock.sleep)
    return clock


@pytest.fixture
def kubernetes(capacity_file: object, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    """The operators' Kubernetes, with a capacity document, without watches and leases."""
    from tests.dags.fake_kubernetes import without_watches

    return without_watches(monkeypatch)


@pytest.fixture(name="postgres", scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of the tests' own; its URL."""
    pytest.importorskip("psycopg", reason="no driver for PostgreSQL")
    with postgres.running() as server:
        if server is None:
            pytest.skip("no PostgreSQL server: as root, `./tidepool test` installs it")
        yield server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    address: str = request.getfixturevalue("postgres")
    engine = sqlalchemy.create_engine(address)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP SCHEMA public CASCADE"))
        connection.execute(sqlalchemy.text("CREATE SCHEMA public"))
    engine.dispose()
    return address


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Ten days of a company."""
    from tests.dags import year  # which most tests here do without

    opened = Store.open(str(tmp_path_factory.mktemp("page") / "ledger.db"))
    year.fill(opened, year.year(jobs=2500, days=10))
    yield opened
    opened.close()
