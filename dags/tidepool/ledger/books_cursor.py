"""How far the books are: which events were taken in, though they are not committed in the order of their sequence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from tidepool.ledger import schema
from tidepool.ledger.events import Event
from tidepool.ledger.store import COLUMNS, Store, event_of

SETTLED_SECONDS = 60.0
"""An event may be committed so much later than one with a higher sequence: PostgreSQL hands them out before."""


@dataclass
class Cursor:
    """How far the events were taken in: all up to `settled`, and those of `_seen` up to `last`."""

    is_set: bool = False
    last: int = 0
    settled: int = 0
    _seen: set[int] = field(default_factory=set)
    _stops: list[tuple[float, int]] = field(default_factory=list)

    def start(self, sequence: int) -> None:
        """All up to that one were taken in."""
        self.is_set, self.last, self.settled = True, sequence, sequence

    def took(self, sequences: Iterable[int], now: float) -> None:
        """These were taken in too."""
        self._seen.update(sequences)
        self.last = max((self.last, *self._seen))
        if not self._stops or self._stops[-1][1] < self.last:
            self._stops.append((now, self.last))

    def settle(self, now: float) -> int:
        """What nothing will come before any more."""
        while self._stops and self._stops[0][0] <= now - SETTLED_SECONDS:
            self.settled = self._stops.pop(0)[1]
        self._seen = {each for each in self._seen if each > self.settled}
        return self.settled

    def missed(self, store: Store) -> list[tuple[int, Event]]:
        """What was committed since, before what was taken in."""
        table = schema.events
        between = sa.and_(table.c.sequence > self.settled, table.c.sequence <= self.last)
        with store.reading() as connection:
            if connection.scalar(sa.select(sa.func.count()).select_from(table).where(between)) == len(self._seen):
                return []
            late = set(connection.scalars(sa.select(table.c.sequence).where(between))) - self._seen
            rows = connection.execute(sa.select(table.c.sequence, *COLUMNS).where(table.c.sequence.in_(late))).all()
        return [(row[0], event_of(row[1:])) for row in rows]
