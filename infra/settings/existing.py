"""The keys of `cluster.kind: existing`: a cluster that is there, its machines described by what their nodes carry."""

from __future__ import annotations

import re
from typing import Any

from infra import naming
from infra.naming import DNS_LABEL, SYSTEM_POOL
from infra.settings import patterns
from infra.settings.model_existing import ExistingCloud, ExistingCluster, ExistingPool
from infra.settings.strict import REQUIRED, Table, near
from tidepool.capacity import Architecture, Taint
from tidepool.job import MIB, quantity
from tidepool.quantity import parse

EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")

SERVICE_ACCOUNTS = (
    naming.JOB_SERVICE_ACCOUNT,
    naming.AIRFLOW_SERVICE_ACCOUNT,
    naming.AIRFLOW_API_SERVICE_ACCOUNT,
    naming.HISTORY_SERVICE_ACCOUNT,
    naming.KEEPER_SERVICE_ACCOUNT,
)
"""Those of services that ask a cloud for something."""


def read(top: Table, architectures: tuple[Architecture, ...]) -> ExistingCloud:
    """The cloud of a stack file's top table. architectures: what container images are built for."""
    system = top.optional("tidepool:system_nodes")
    selector = labels(system, "selector") if system else {}
    system_taints = taints(system) if system else ()
    if system:
        system.done()
    return ExistingCloud(
        cluster=_cluster(top.table("tidepool:cluster")),
        pools=_pools(top.table("tidepool:pools"), architectures),
        storage_class=top.string("tidepool:storage_class", DNS_LABEL, "the name of a StorageClass", default=""),
        system_selector=selector,
        system_taints=system_taints,
        database_secret=top.string("tidepool:database_secret", DNS_LABEL, "the name of a Secret", default=""),
        logs=top.string("tidepool:logs", patterns.LOG_URI, patterns.LOG_URI_WORDS, default=""),
        event_logs=top.string("tidepool:event_logs", patterns.LAKE_URI, patterns.LAKE_URI_WORDS, default=""),
        service_accounts=_service_accounts(top.optional("tidepool:service_accounts")),
    )


def labels(body: Table, key: str) -> dict[str, str]:
    """Node labels of a key."""
    return body.texts(key, patterns.LABEL_KEY, patterns.LABEL_VALUE, patterns.NODE_LABEL_WORDS)


def taints(body: Table) -> tuple[Taint, ...]:
    """The node taints of the key `taints`."""
    found = []
    for item in body.items("taints"):
        found.append(
            Taint(
                key=item.string("key", patterns.LABEL_KEY, patterns.NODE_LABEL_WORDS),
                value=item.string("value", patterns.LABEL_VALUE, patterns.NODE_LABEL_WORDS, default=""),
                effect=item.choice("effect", EFFECTS),
            )
        )
        item.done()
    return tuple(found)


def _service_accounts(body: Table | None) -> dict[str, dict[str, str]]:
    """Annotations by ServiceAccount."""
    if body is None:
        return {}
    for name in body.names():
        if name not in SERVICE_ACCOUNTS:
            body.problem(name, name, f"one of {', '.join(SERVICE_ACCOUNTS)}{near(name, SERVICE_ACCOUNTS)}")
    return {
        name: body.texts(name, patterns.LABEL_KEY, patterns.ANNOTATION, patterns.ANNOTATION_WORDS)
        for name in body.names()
    }


def _cluster(body: Table) -> ExistingCluster:
    body.choice("kind", ("existing",))
    cluster = ExistingCluster(
        name=body.string("name", DNS_LABEL, patterns.LABEL_WORDS),
        context=body.string("context", default=""),
        device_plugin=body.boolean("device_plugin", default=True),
    )
    body.done()
    return cluster


def _pools(body: Table, architectures: tuple[Architecture, ...]) -> dict[str, ExistingPool]:
    if SYSTEM_POOL in body.names():
        body.problem(SYSTEM_POOL, SYSTEM_POOL, "another name: this is the system nodes', see tidepool:system_nodes")
    for name in body.names():
        if not re.fullmatch(DNS_LABEL, name):
            body.problem(name, name, f"a name of {patterns.LABEL_WORDS}")
    pools = {name: _pool(name, body.table(name)) for name in body.names()}
    if not any(pool.jobs for pool in pools.values()) and not body.missing:
        body.problem("", sorted(pools), "at least one pool with jobs: true; else no job has a machine")
    for name, pool in pools.items():
        if pool.architecture not in architectures:
            body.problem(
                f"{name}.architecture",
                pool.architecture,
                f"one that images are built for (images.architectures: {', '.join(architectures)})",
            )
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    for name, pool in pools.items():
        other = seen.setdefault(tuple(sorted(pool.labels.items())), name)
        if pool.labels and other != name:
            body.problem(
                f"{name}.labels", pool.labels, f"other labels than pool {other} has; else a job of one lands on both"
            )
    return pools


def _pool(name: str, body: Table) -> ExistingPool:
    market: Any = body.choice("market", ("spot", "on-demand"))
    architecture: Any = body.choice("architecture", ("amd64", "arm64"), default="amd64")
    price = body.number("usd_per_hour", 0, 10_000)
    pool = ExistingPool(
        name=name,
        market=market,
        jobs=body.boolean("jobs", default=True),
        maximum=body.integer("max", 1, 10_000),
        priority=body.integer("priority", 1, 1000, default=10),
        labels=labels(body, "labels"),
        taints=taints(body),
        cpu_millis=body.parsed("cpu", _cpu_millis, 500, "a CPU quantity such as 3920m or 4, 500m at least"),
        memory_bytes=body.parsed("memory", quantity, 512 * MIB, "a quantity such as 14Gi, 512Mi at least"),
        ephemeral_storage_bytes=body.parsed(
            "ephemeral_storage", quantity, 1024 * MIB, "a quantity such as 60Gi, 1Gi at least"
        ),
        gpus=body.integer("gpus", 0, 64, default=0),
        architecture=architecture,
        usd_per_hour=price,
        on_demand_usd_per_hour=body.number(
            "on_demand_usd_per_hour",
            0,
            10_000,
            default=REQUIRED if market == "spot" and not body.wrong("market") else price,
        ),
    )
    if pool.jobs and not pool.labels and not body.wrong("labels"):
        body.problem("labels", {}, "one label at least, which the pool's nodes carry and jobs select them by")
    if pool.market == "on-demand" and pool.usd_per_hour != pool.on_demand_usd_per_hour:
        body.problem(
            "on_demand_usd_per_hour", pool.on_demand_usd_per_hour, f"usd_per_hour, which is {price}, or left out"
        )
    body.done()
    return pool


def _cpu_millis(text: str) -> int:
    millis = parse(text) * 1000
    if millis != int(millis):
        raise ValueError(text)
    return int(millis)
