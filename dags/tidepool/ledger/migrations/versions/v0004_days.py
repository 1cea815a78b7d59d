"""Costs by day, for a year's pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_MEASURES = ("picodollars", "seconds", "unpriced_seconds")


def upgrade() -> None:
    """Make the table; the books begin anew, and so fill it."""
    op.create_table(
        "tidepool_days",
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("day", "market", "category", "pool", "team", "dag", "task")
        ),
        *(sa.Column(name, sa.Float(53), nullable=False) for name in ("seconds", "unpriced_seconds", "on_demand_usd")),
        sa.Column("picodollars", sa.BigInteger, nullable=False),
        sa.Column("pods", sa.BigInteger, nullable=False),
    )
    op.create_index("tidepool_days_day", "tidepool_days", ["day"])
    op.create_index("tidepool_days_task", "tidepool_days", ["dag", "task", "day"])
    op.drop_index("tidepool_costs_day", "tidepool_costs")
    op.create_index("tidepool_costs_day", "tidepool_costs", ["day"])
    op.execute("DELETE FROM tidepool_marks WHERE name = 'books'")


def downgrade() -> None:
    """Drop it."""
    op.drop_index("tidepool_costs_day", "tidepool_costs")
    op.create_index("tidepool_costs_day", "tidepool_costs", ["day", "market", "category", *_MEASURES])
    op.drop_table("tidepool_days")
