"""Waiting in tests: for a condition, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    limit: float,
    what: str | Callable[[], str],
    *,
    away: tuple[type[Exception], ...] = (),
    look: float = 0.1,
) -> T:
    """What `condition` returns once that is true, asked every `look` seconds for `limit` seconds.

    what: is waited for, or tells at the end how it stands. away: errors that mean not yet. AssertionError: it is late.
    """
    deadline = time.monotonic() + limit
    while True:
        error: Exception | None = None
        try:
            if found := condition():
                return found
        except away as raised:
            error = raised
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {limit:.0f} s: {said}" + (f"; the last error: {error}" if error else ""))
        time.sleep(look)
