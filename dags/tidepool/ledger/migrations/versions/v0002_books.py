"""What follows from the events, for who reads: machines, jobs and costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "tidepool_machines",
        sa.Column("machine", sa.Text, primary_key=True),
        *_texts("pool market instance_type zone"),
        *_times("asked launched ready reclaimed gone started counted_until"),
        sa.Column("is_over", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Float(53), nullable=True) for name in ("usd_per_hour", "on_demand_usd_per_hour")),
    )
    op.create_index("tidepool_machines_started", "tidepool_machines", ["started"])
    op.create_table(
        "tidepool_jobs",
        sa.Column("pod_uid", sa.Text, primary_key=True),
        *_texts("namespace pod dag task run"),
        sa.Column("attempt", sa.BigInteger, nullable=False, server_default="0"),
        *_texts("team pool machine market instance_type cause message"),
        *_times("queued asked placed started ended"),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
            for name in ("cpu_millis", "memory_bytes")
        ),
        sa.Column("cpu_seconds_used", sa.Float(53), nullable=True),
        *(sa.Column(name, sa.BigInteger, nullable=True) for name in ("memory_p99_bytes", "memory_peak_bytes")),
        sa.Column("held_seconds", sa.Float(53), nullable=False, server_default="0"),
        sa.Column("usd", sa.Float(53), nullable=True),
    )
    for name, columns in (
        ("task", ["dag", "task", "queued"]),
        ("queued", ["queued"]),
        ("machine", ["machine", "placed"]),
        ("team", ["team", "queued"]),
    ):
        op.create_index(f"tidepool_jobs_{name}", "tidepool_jobs", columns)
    op.create_table(
        "tidepool_costs",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("machine", "day", "category", "pod_uid")),
        *_texts("dag task team pool market"),
        *(sa.Column(name, sa.Float(53), nullable=False) for name in ("seconds", "unpriced_seconds")),
        sa.Column("picodollars", sa.BigInteger, nullable=False),
    )
    measures = ["picodollars", "seconds", "unpriced_seconds"]
    op.create_index("tidepool_costs_day", "tidepool_costs", ["day", "market", "category", *measures])
    op.create_index("tidepool_costs_task", "tidepool_costs", ["dag", "task", "day", *measures])


def downgrade() -> None:
    """Drop them; the events make them anew."""
    for name in ("tidepool_costs", "tidepool_jobs", "tidepool_machines"):
        op.drop_table(name)
    op.execute("DELETE FROM tidepool_marks WHERE name = 'books'")


def _texts(names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False, server_default="") for name in names.split()]


def _times(names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Float(53), nullable=True) for name in names.split()]
