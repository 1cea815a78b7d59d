"""Events, the marks of watches, and prices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TEXTS = "machine pool market instance_type pod pod_uid namespace dag task run cause message zone team occurrence"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "tidepool_events",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("identity", sa.Text, nullable=False, unique=True),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in _TEXTS.split()),
        sa.Column("usd_per_hour", sa.Float(53), nullable=True),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
            for name in ("attempt", "cpu_millis", "memory_bytes")
        ),
        *(sa.Column(name, sa.Float(53), nullable=False, server_default="0") for name in ("volume_gib", "earliest")),
        sa.Column("reconstructed", sa.Boolean, nullable=False, server_default=sa.false()),
        sqlite_autoincrement=True,
    )
    op.create_index("tidepool_events_kind_time", "tidepool_events", ["kind", "time"])
    op.create_index("tidepool_events_machine", "tidepool_events", ["machine", "kind"])
    op.create_index("tidepool_events_pod", "tidepool_events", ["pod_uid", "kind"])
    op.create_table(
        "tidepool_marks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "tidepool_prices",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("instance_type", "market", "region", "zone")),
        sa.Column("since", sa.Float(53), primary_key=True),
        sa.Column("usd_per_hour", sa.Float(53), nullable=False),
        sa.Column("source", sa.Text, nullable=False, server_default=""),
    )


def downgrade() -> None:
    """Drop them, with everything in them."""
    for name in ("tidepool_prices", "tidepool_marks", "tidepool_events"):
        op.drop_table(name)
