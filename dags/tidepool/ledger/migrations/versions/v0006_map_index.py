"""Which instance of a mapped task a pod is of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = ("tidepool_events", "tidepool_jobs")


def upgrade() -> None:
    """Add the column; of pods before it nobody knows."""
    for table in _TABLES:
        op.add_column(table, sa.Column("map_index", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop it."""
    for table in _TABLES:
        op.drop_column(table, "map_index")
