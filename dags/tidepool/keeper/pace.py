"""How far behind the cluster the ledger is: for each watch, when it was in step last and how long changes took."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 60.0
STALLED_SECONDS = 120.0
"""A watch is in step every minute, whatever happens. If none was for so long, the keeper does nothing any more."""


class Pace:
    """Told by the watches after each batch; threads may share it. Times in Unix seconds. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._moved = clock()
        self._in_step: dict[str, float] = {}
        self._lags: dict[str, deque[tuple[float, float]]] = {}

    def begin(self) -> None:
        """The watches begin now."""
        with self._lock:
            self._moved = self._clock()

    def wrote(self, watch: str, first_read: float, now: float) -> None:
        """A batch is in the ledger, the first change of which was read then."""
        with self._lock:
            self._moved = self._clock()
            self._in_step[watch] = now
            lags = self._lags.setdefault(watch, deque())
            lags.append((now, max(0.0, now - first_read)))
            while lags and lags[0][0] < now - WINDOW_SECONDS:
                lags.popleft()

    def in_step(self, watch: str, now: float) -> None:
        """It knows of everything up to now."""
        with self._lock:
            self._moved = self._clock()
            self._in_step[watch] = now

    def trouble(self) -> str:
        """Why the keeper should be started again: no watch was in step for STALLED_SECONDS; empty while that is not so.

        A database or an API server that takes connections and says nothing raises no error.
        """
        with self._lock:
            quiet = self._clock() - self._moved
        return f"no watch was in step for {quiet:.0f} s" if quiet >= STALLED_SECONDS else ""

    def steps(self) -> dict[str, float]:
        """When each watch was in step last."""
        with self._lock:
            return dict(self._in_step)

    def lags(self, now: float) -> dict[str, float]:
        """The longest that a change took from being read to being in the ledger, within the last minute; 0: none."""
        with self._lock:
            return {
                watch: max((lag for at, lag in self._lags.get(watch, ()) if at >= now - WINDOW_SECONDS), default=0.0)
                for watch in self._in_step
            }
