"""Run by Alembic: brings the database of the connection that it was given to a version, in one transaction."""

from __future__ import annotations

from alembic import context

from tidepool.ledger.migrations.run import VERSION_TABLE
from tidepool.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite's too: killed in the middle, it has the old schema
)
with context.begin_transaction():
    context.run_migrations()
