"""Bringing a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

VERSION_TABLE = "tidepool_ledger_version"
"""Of its own, so that the ledger can be in a database with others that Alembic looks after, such as Airflow's."""

_LOCK = 0x71DE9001


def upgrade(connection: Connection, version: str = "head") -> None:
    """Bring the database to a version, within the connection's transaction; one process at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    command.upgrade(_config(connection), version)


def downgrade(connection: Connection, version: str) -> None:
    """Take the database back to an older version; `base` is none."""
    command.downgrade(_config(connection), version)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
