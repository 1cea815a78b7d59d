"""What pods used of CPU and memory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_COLUMNS = {
    "tidepool_events": ("cpu_seconds", "memory_p99_bytes", "memory_peak_bytes", "samples"),
    "tidepool_jobs": ("samples",),
}


def upgrade() -> None:
    """Add the columns."""
    for table, names in _COLUMNS.items():
        for name in names:
            kind = sa.Float(53) if name == "cpu_seconds" else sa.BigInteger()
            op.add_column(table, sa.Column(name, kind, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop them, with what they hold."""
    for table, names in _COLUMNS.items():
        for name in names:
            op.drop_column(table, name)
