"""What the local cloud tells its user instead of a traceback."""

from __future__ import annotations


class LocalError(Exception):
    """Something a user can mend; the message says what, where and what to do. Each kind is a subclass."""
