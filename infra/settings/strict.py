"""Strict reading of nested plain data: every problem is collected, each with its path, value and what is allowed.

A `Table` hands out the keys of one mapping by type. Nothing raises until the caller looks at `problems`; a wrong value
reads as a harmless one of its type, so that one mistake does not hide the next.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

REQUIRED: Any = object()


class Table:
    """One mapping at `path`. Read every key that may be there, then call `done()` to report the rest as unknown.

    A default makes a key optional. `problems` is shared with the tables inside it.
    """

    def __init__(self, value: Any, path: str, problems: list[str]) -> None:
        self.path = path
        self.problems = problems
        self._known: list[str] = []
        self._foreign: list[str] = []
        if isinstance(value, dict):
            self._values = {str(key): item for key, item in value.items()}
        else:
            self._values = {}
            self._known.append("*")  # one message is enough: every missing key follows from this
            self.problem("", value, "a map")

    @property
    def missing(self) -> bool:
        """Nothing was there to read, and that is reported already."""
        return "*" in self._known

    def problem(self, key: str, value: Any, allowed: str) -> None:
        """Report the value of a key."""
        self.problems.append(f"{self.at(key)}: {value!r}; must be {allowed}")

    def missing_key(self, key: str, allowed: str) -> None:
        """Report that a key is missing that is needed because of others."""
        self.problems.append(f"{self.at(key)}: missing; must be {allowed}")

    def wrong(self, key: str) -> bool:
        """Whether the value at a key or path, or what it lies in, is reported: what follows from it needn't be."""
        path = self.at(key)
        parts = path.split(".")
        above = tuple(f"{'.'.join(parts[: index + 1])}:" for index in range(len(parts)))
        return self.missing or any(problem.startswith((*above, f"{path}.", f"{path}[")) for problem in self.problems)

    def at(self, key: str) -> str:
        """The path of a key, as messages name it."""
        return ".".join(part for part in (self.path, key) if part)

    def string(self, key: str, pattern: str = ".+", allowed: str = "a string", default: str = REQUIRED) -> str:
        """Text that matches the whole pattern; `allowed` says so in words."""
        value = self._take(key, default, allowed)
        if value is None:
            return ""
        if not isinstance(value, str) or (value != default and not re.fullmatch(pattern, value)):
            self.problem(key, value, allowed)
            return ""
        return value

    def choice(self, key: str, choices: Iterable[str], default: str = REQUIRED) -> str:
        """One of the given words; a near miss is named."""
        words = tuple(choices)
        allowed = "one of " + ", ".join(words)
        value = self._take(key, default, allowed)
        if value is not None and value not in words:
            self.problem(key, value, allowed + near(str(value), words))
            value = None
        return words[0] if value is None else str(value)

    def integer(self, key: str, low: int, high: int, default: int = REQUIRED) -> int:
        """A whole number between both ends, which count too."""
        allowed = f"a whole number from {low} to {high}"
        value = self._take(key, default, allowed)
        if value is None:
            return low
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.problem(key, value, allowed)
            return low
        return value

    def boolean(self, key: str, default: bool = REQUIRED) -> bool:
        """true or false."""
        value = self._take(key, default, "true or false")
        if value is not None and not isinstance(value, bool):
            self.problem(key, value, "true or false")
        return value is True

    def number(self, key: str, low: float, high: float, default: float = REQUIRED) -> float:
        """A number between both ends, which count too."""
        allowed = f"a number from {low:g} to {high:g}"
        value = self._take(key, default, allowed)
        if value is None:
            return low
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            self.problem(key, value, allowed)
            return low
        return float(value)

    def parsed(self, key: str, read: Callable[[str], int], low: int, allowed: str) -> int:
        """What `read` makes of a text or number, such as a quantity; it raises ValueError, and `low` is the least."""
        value = self._take(key, REQUIRED, allowed)
        if value is None:
            return low
        try:
            if isinstance(value, (str, int, float)) and not isinstance(value, bool) and read(str(value)) >= low:
                return read(str(value))
        except ValueError:
            pass
        self.problem(key, value, allowed)
        return low

    def strings(
        self, key: str, pattern: str, allowed: str, default: tuple[str, ...] = REQUIRED, most: int | None = None
    ) -> tuple[str, ...]:
        """A list of different texts, each matching the whole pattern; with no item only where that is the default."""
        value = self._take(key, default, f"a list, each item {allowed}")
        if value is None or value is default:
            return value or ()
        if not isinstance(value, list) or (not value and default != ()):
            self.problem(key, value, f"a list with at least one item, each {allowed}")
            return ()
        if most is not None and len(value) > most:
            self.problem(key, value, f"a list of {most} items at most")
        for index, item in enumerate(value):
            if not isinstance(item, str) or not re.fullmatch(pattern, item):
                self.problem(f"{key}[{index}]", item, allowed)
            elif item in value[:index]:
                self.problem(f"{key}[{index}]", item, "there only once")
        return tuple(item for item in value if isinstance(item, str) and re.fullmatch(pattern, item))

    def texts(self, key: str, name: str, text: str, allowed: str) -> dict[str, str]:
        """A map of texts, such as labels: names and texts match the whole patterns. Empty where it is missing."""
        body = self.optional(key)
        if body is None:
            return {}
        for each in body.names():
            if not re.fullmatch(name, each):
                body.problem(each, each, allowed)
        return {each: body.string(each, text, allowed, default="") for each in body.names()}

    def items(self, key: str) -> tuple[Table, ...]:
        """A list of mappings, such as taints. Empty where it is missing."""
        value = self._take(key, [], "a list of maps")
        if not isinstance(value, list):
            self.problem(key, value, "a list of maps")
            return ()
        return tuple(Table(item, f"{self.at(key)}[{index}]", self.problems) for index, item in enumerate(value))

    def table(self, key: str) -> Table:
        """The mapping below a key, which is required."""
        value = self._take(key, REQUIRED, "a map")
        if value is None:
            return Table(None, self.at(key), [])  # the missing key is reported; what it would hold isn't
        return Table(value, self.at(key), self.problems)

    def optional(self, key: str) -> Table | None:
        """The mapping below a key, or None where it is missing or empty."""
        value = self._take(key, {}, "a map")
        return None if value == {} else Table(value, self.at(key), self.problems)

    def peek(self, *path: str) -> Any:
        """A value at a path as it stands there, or None; it doesn't count as read."""
        value: Any = self._values
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def skip(self, *keys: str) -> None:
        """Count keys as read that nothing can be said about."""
        self._known += keys

    def foreign(self, keys: Iterable[str], why: str) -> None:
        """Report those of the keys that are there, though they have no place here."""
        for key in keys:
            if key in self._values:
                self._foreign.append(key)
                self.problems.append(f"{self.at(key)}: {self._values[key]!r}; must be left out, because it is {why}")

    def names(self) -> tuple[str, ...]:
        """All keys, where they are names that the user chose; they count as read."""
        self._known += self._values
        return tuple(self._values)

    def done(self) -> None:
        """Report every key that nobody read."""
        for key, value in self._values.items():
            if key not in self._known and key not in self._foreign:
                self.problems.append(
                    f"{self.at(key)}: {value!r}; unknown key{_near_key(key, self._known)}; "
                    f"allowed: {', '.join(sorted(self._known))}"
                )

    def _take(self, key: str, default: Any, allowed: str) -> Any:
        """The value of a key, its default, or None after a report that it is missing."""
        missing_all = self.missing
        self._known.append(key)
        value = self._values.get(key)
        if value is not None:
            return value
        if default is not REQUIRED:
            return default
        if not missing_all:
            self.missing_key(key, allowed)
        return None


def near(word: str, words: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing where no word is near."""
    matches = difflib.get_close_matches(word, list(words), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def _near_key(key: str, known: Iterable[str]) -> str:
    """As `near`, but by what stands behind a prefix such as `tidepool:`, which all keys of a stack file share."""
    return near(key.rpartition(":")[2], (each.rpartition(":")[2] for each in known))
