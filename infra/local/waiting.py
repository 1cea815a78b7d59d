"""Waiting until something is so, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], limit_seconds: float, failure: Exception, look_seconds: float = 0.1) -> None:
    """Return as soon as the condition holds, which is looked at once at least. Raises `failure` past the limit."""
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise failure
        time.sleep(look_seconds)
