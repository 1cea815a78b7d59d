"""In front of the ledger's database: what several events are written with together, and what need not be asked twice.

A database takes as long for one event as for a thousand. Standard library only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from tidepool.ledger.events import Event, Ledger

_BATCH = 400


class Backing(Ledger, Protocol):
    """The Store."""

    def record_all(self, events: Iterable[Event]) -> int: ...

    def about(self, subjects: Sequence[str]) -> list[Event]: ...


class Buffer:
    """A ledger whose events are on the disk after `flush`, all or none. Threads may share it.

    It remembers the events of each machine and pod that it is asked about, until it is told to forget.
    """

    def __init__(self, store: Backing) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._waiting: list[Event] = []
        self._known: dict[str, dict[str, Event]] = {}
        self._leaving: set[str] = set()

    def record(self, event: Event) -> bool:
        """Take the event unless the same fact is known; true if it was new."""
        with self._lock:
            known = self._of(event.key[1])
            if event.identity in known:
                return False
            known[event.identity] = event
            self._waiting.append(event)
            return True

    def flush(self) -> None:
        """Write what was taken. What can't be written is kept for the next time; raises what the store raises."""
        with self._lock:
            if self._waiting:
                self._store.record_all(self._waiting)
                self._waiting = []
            for subject in self._leaving:
                self._known.pop(subject, None)
            self._leaving.clear()

    def prepare(self, subjects: Iterable[str]) -> None:
        """Read what is known of all these at once."""
        with self._lock:
            lacking = [subject for subject in dict.fromkeys(subjects) if subject not in self._known]
            for start in range(0, len(lacking), _BATCH):
                batch = lacking[start : start + _BATCH]
                found: dict[str, dict[str, Event]] = {subject: {} for subject in batch}
                for event in self._store.about(batch):  # which may raise: then nothing is known of them yet
                    # A pod's machine may be asked for too: an event is about one of the two.
                    found[event.key[1]].setdefault(event.identity, event)
                self._known |= found

    def expect(self, subject: str) -> None:
        """It has only just come to be: nobody can have written anything about it, and the store need not be asked."""
        with self._lock:
            self._known.setdefault(subject, {})

    def forget(self, subject: str) -> None:
        """It is gone: after the next flush nothing is remembered of it."""
        with self._lock:
            self._leaving.add(subject)

    def refresh(self, subject: str) -> None:
        """Read what others have written about it since it was first asked for."""
        with self._lock:
            known = self._of(subject)
            for event in self._store.about([subject]):
                if event.key[1] == subject:
                    known.setdefault(event.identity, event)

    def known(self, kind: str, subject: str) -> Event | None:
        """The first recorded event of this kind about this machine or pod UID, if there is one."""
        with self._lock:
            return next((event for event in self._of(subject).values() if event.kind == kind), None)

    def events(self, kind: str) -> list[Event]:
        """All recorded events of this kind."""
        self.flush()
        return self._store.events(kind)

    def unfinished(self) -> list[Event]:
        """pod.queued of every pod that is not known to be gone."""
        self.flush()
        return self._store.unfinished()

    def not_gone(self, kind: str) -> list[Event]:
        """The events of this kind about machines that are not known to be gone."""
        self.flush()
        return self._store.not_gone(kind)

    def last_time(self, kinds: Sequence[str]) -> float:
        """The latest time of an event of these kinds; 0 where there is none."""
        self.flush()
        return self._store.last_time(kinds)

    def _of(self, subject: str) -> dict[str, Event]:
        self._leaving.discard(subject)
        if subject not in self._known:
            self.prepare([subject])
        return self._known[subject]
