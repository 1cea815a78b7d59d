"""The time that a page is about: whole days, UTC. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

PRESETS = {"day": 1, "week": 7, "month": 30, "quarter": 91, "year": 365}
DEFAULT = PRESETS["month"]
MOST_BARS = 92
_FIRST, _LAST, _MOST_DAYS = date(1970, 1, 1), date(9000, 1, 1), 3660


class PeriodError(ValueError):
    """What was asked for is no period; the message says what one is."""


@dataclass(frozen=True)
class Period:
    """From the first day to the last, both in it."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """How many."""
        return (self.last - self.first).days + 1

    @property
    def since(self) -> float:
        """Its beginning, in Unix seconds."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC).timestamp()

    @property
    def until(self) -> float:
        """Its end."""
        return self.since + 86_400 * self.days

    @property
    def before(self) -> Period:
        """The one of the same length before it."""
        return Period(self.first - timedelta(self.days), self.first - timedelta(1))

    @property
    def query(self) -> dict[str, str]:
        """As parameters of a link."""
        return {"from": self.first.isoformat(), "to": self.last.isoformat()}

    @property
    def step(self) -> int:
        """Days in one bar of a chart: 1, or 7 where there would be too many."""
        return 1 if self.days <= MOST_BARS else 7

    def steps(self) -> Iterator[date]:
        """The first day of each bar."""
        for start in range(0, self.days, self.step):
            yield self.first + timedelta(start)

    def bar(self, day: str) -> int:
        """The number of the bar that a day is in."""
        return (date.fromisoformat(day) - self.first).days // self.step

    def __str__(self) -> str:
        if self.first == self.last:
            return self.first.isoformat()
        return f"{self.first.isoformat()} to {self.last.isoformat()}"


def period(first: str, last: str, today: date, days: int = DEFAULT) -> Period:
    """Of two dates as they were given; by default the last `days`. Raises PeriodError."""
    try:
        end = date.fromisoformat(last) if last else today
        begin = date.fromisoformat(first) if first else None
    except ValueError as error:
        raise PeriodError(f"{error}: a date looks like {today.isoformat()}") from error
    if not _FIRST <= end < _LAST:
        raise PeriodError(f"the last day ({end}) must lie between {_FIRST} and {_LAST}")
    begin = begin or max(end - timedelta(days - 1), _FIRST)
    if not _FIRST <= begin <= end:
        raise PeriodError(f"the first day ({begin}) must lie between {_FIRST} and the last ({end})")
    if (end - begin).days >= _MOST_DAYS:
        raise PeriodError(f"{begin} to {end} is more than {_MOST_DAYS} days")
    return Period(begin, end)
