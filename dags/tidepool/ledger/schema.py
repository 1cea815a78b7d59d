"""The ledger's tables. What changes here needs a migration of its own (tidepool/ledger/migrations/versions)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text, false

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only what is called INTEGER

metadata = MetaData()

events = Table(
    "tidepool_events",
    metadata,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("identity", Text, nullable=False, unique=True),
    Column("time", Float(53), nullable=False),
    Column("kind", Text, nullable=False),
    Column("machine", Text, nullable=False, server_default=""),
    Column("pool", Text, nullable=False, server_default=""),
    Column("market", Text, nullable=False, server_default=""),
    Column("instance_type", Text, nullable=False, server_default=""),
    Column("usd_per_hour", Float(53), nullable=True),
    Column("pod", Text, nullable=False, server_default=""),
    Column("pod_uid", Text, nullable=False, server_default=""),
    Column("namespace", Text, nullable=False, server_default=""),
    Column("dag", Text, nullable=False, server_default=""),
    Column("task", Text, nullable=False, server_default=""),
    Column("run", Text, nullable=False, server_default=""),
    Column("attempt", BigInteger, nullable=False, server_default="0"),
    Column("cause", Text, nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("zone", Text, nullable=False, server_default=""),
    Column("volume_gib", Float(53), nullable=False, server_default="0"),
    Column("cpu_millis", BigInteger, nullable=False, server_default="0"),
    Column("memory_bytes", BigInteger, nullable=False, server_default="0"),
    Column("team", Text, nullable=False, server_default=""),
    Column("occurrence", Text, nullable=False, server_default=""),
    Column("reconstructed", Boolean, nullable=False, server_default=false()),
    Column("earliest", Float(53), nullable=False, server_default="0"),
    Column("cpu_seconds", Float(53), nullable=False, server_default="0"),
    Column("memory_p99_bytes", BigInteger, nullable=False, server_default="0"),
    Column("memory_peak_bytes", BigInteger, nullable=False, server_default="0"),
    Column("samples", BigInteger, nullable=False, server_default="0"),
    Column("map_index", Text, nullable=False, server_default=""),
    Index("tidepool_events_kind_time", "kind", "time"),
    Index("tidepool_events_machine", "machine", "kind"),
    Index("tidepool_events_pod", "pod_uid", "kind"),
    sqlite_autoincrement=True,
)
"""One row an event, never changed and never deleted. `sequence` is the order in which they were written."""

marks = Table(
    "tidepool_marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Where who follows the events is, to go on from after a restart."""

prices = Table(
    "tidepool_prices",
    metadata,
    Column("instance_type", Text, primary_key=True),
    Column("market", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("zone", Text, primary_key=True),
    Column("since", Float(53), primary_key=True),
    Column("usd_per_hour", Float(53), nullable=False),
    Column("source", Text, nullable=False, server_default=""),
)
"""Prices that were asked for since the bundled table was made."""


def _texts(names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False, server_default="") for name in names.split()]


def _times(names: str) -> list[Column[float]]:
    return [Column(name, Float(53), nullable=True) for name in names.split()]


machines = Table(
    "tidepool_machines",
    metadata,
    Column("machine", Text, primary_key=True),
    *_texts("pool market instance_type zone"),
    *_times("asked launched ready reclaimed gone started counted_until"),
    Column("is_over", Boolean, nullable=False),
    Column("usd_per_hour", Float(53), nullable=True),
    Column("on_demand_usd_per_hour", Float(53), nullable=True),
    Index("tidepool_machines_started", "started"),
)
"""One row a machine; times in Unix seconds. started: billed from then on. counted_until: its costs are those until
then; is_over: none will come any more. Prices are those at its start, without its volume, null where unknown."""

jobs = Table(
    "tidepool_jobs",
    metadata,
    Column("pod_uid", Text, primary_key=True),
    *_texts("namespace pod dag task run"),
    Column("attempt", BigInteger, nullable=False, server_default="0"),
    *_texts("team pool machine market instance_type cause message"),
    *_times("queued asked placed started ended"),
    Column("cpu_millis", BigInteger, nullable=False, server_default="0"),
    Column("memory_bytes", BigInteger, nullable=False, server_default="0"),
    Column("cpu_seconds_used", Float(53), nullable=True),
    Column("memory_p99_bytes", BigInteger, nullable=True),
    Column("memory_peak_bytes", BigInteger, nullable=True),
    Column("samples", BigInteger, nullable=False, server_default="0"),
    Column("held_seconds", Float(53), nullable=False, server_default="0"),
    Column("usd", Float(53), nullable=True),
    Column("map_index", Text, nullable=False, server_default=""),
    Index("tidepool_jobs_task", "dag", "task", "queued"),
    Index("tidepool_jobs_queued", "queued"),
    Index("tidepool_jobs_machine", "machine", "placed"),
    Index("tidepool_jobs_team", "team", "queued"),
)
"""One row a pod: an attempt of a job, or one part of it; times in Unix seconds. asked: when its machine was.
placed…ended: it held its part of the machine. held_seconds: machine-seconds, so half of a machine for a minute is 30.
usd: null where no price is known. What was used is null where nobody measured it."""

costs = Table(
    "tidepool_costs",
    metadata,
    Column("machine", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("category", Text, primary_key=True),
    Column("pod_uid", Text, primary_key=True),
    *_texts("dag task team pool market"),
    Column("seconds", Float(53), nullable=False),
    Column("unpriced_seconds", Float(53), nullable=False),
    Column("picodollars", BigInteger, nullable=False),
    Index("tidepool_costs_day", "day"),
    Index("tidepool_costs_task", "dag", "task", "day", "picodollars", "seconds", "unpriced_seconds"),
)
"""What each machine cost on each day (UTC, YYYY-MM-DD), by category of tidepool.ledger.attribution and pod; pod_uid is
empty for what no pod held. seconds: machine-seconds; unpriced_seconds: those of them whose price nobody knows.
picodollars: 1e-12 USD; those of a machine add up to its bill. pool and market are the machine's."""

days = Table(
    "tidepool_days",
    metadata,
    *(Column(name, Text, nullable=False) for name in ("day", "market", "category", "pool", "team", "dag", "task")),
    *(Column(name, Float(53), nullable=False) for name in ("seconds", "unpriced_seconds", "on_demand_usd")),
    Column("picodollars", BigInteger, nullable=False),
    Column("pods", BigInteger, nullable=False),
    Index("tidepool_days_day", "day"),
    Index("tidepool_days_task", "dag", "task", "day"),
)
"""The costs of a day added up over machines and pods. on_demand_usd: what the same hours had cost on demand, where
that price is known."""

task_days = Table(
    "tidepool_task_days",
    metadata,
    *(Column(name, Text, nullable=False) for name in ("day", "dag", "task", "team")),
    *(Column(name, BigInteger, nullable=False) for name in ("runs", "pods", "failed", "ended")),
    *_times("ran_seconds longest_seconds usd"),
    *(Column(name, Float(53), nullable=False) for name in ("lost_usd", "unused_usd")),
    Index("tidepool_task_days_day", "day"),
)
"""The jobs that were queued on a day, added up by task. ran_seconds, longest_seconds: of the `ended` pods that ran and
are over. A run counts on each day on which it had a pod queued. usd: null where no price of them is known; lost_usd and
unused_usd: what was paid for attempts that came to nothing, and for what good ones asked for and did not use."""
