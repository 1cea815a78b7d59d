"""Who comes first is served first: a lock for the writers of a database that takes one at a time.

SQLite lets the others of a process ask again and again, and one that writes transaction after transaction, as the
books do, would keep the watches waiting for seconds. Standard library only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Threads share it. A thread that has the turn already need not wait for another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[threading.Lock, int]] = deque()
        self._whose: int | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for those who came before."""
        me = threading.get_ident()
        if self._whose == me:
            yield
            return
        gate: threading.Lock | None = None
        with self._lock:
            if self._whose is None:
                self._whose = me
            else:
                gate = threading.Lock()
                gate.acquire()
                self._waiting.append((gate, me))
        if gate is not None:
            gate.acquire()
        try:
            yield
        finally:
            with self._lock:
                self._whose = None
                if self._waiting:
                    following, self._whose = self._waiting.popleft()
                    following.release()
