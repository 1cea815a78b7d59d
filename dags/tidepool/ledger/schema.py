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
"""Where a keeper's watches are, to go on from after a restart."""

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
