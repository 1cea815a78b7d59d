"""What tasks did by day, for a year's list of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_BOOKS = ("tidepool_jobs", "tidepool_costs", "tidepool_machines", "tidepool_days")


def upgrade() -> None:
    """Make the table; the books begin anew, empty, so that nothing in them is taken for added up already."""
    op.create_table(
        "tidepool_task_days",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("day", "dag", "task", "team")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("runs", "pods", "failed", "ended")),
        *(sa.Column(name, sa.Float(53), nullable=True) for name in ("ran_seconds", "longest_seconds", "usd")),
        *(sa.Column(name, sa.Float(53), nullable=False) for name in ("lost_usd", "unused_usd")),
    )
    op.create_index("tidepool_task_days_day", "tidepool_task_days", ["day"])
    for table in _BOOKS:
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
    op.execute("DELETE FROM tidepool_marks WHERE name = 'books'")


def downgrade() -> None:
    """Drop it."""
    op.drop_table("tidepool_task_days")
