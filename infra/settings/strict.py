"""Strict reading of nested plain data: every problem is collected, each with its path, value and what is allowed.

A `Table` hands out the keys of one mapping by type. Nothing raises until the caller looks at `problems`; a wrong value
reads as a harmless one of its type, so that one mistake does not hide the next.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
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
        if isinstance(value, dict):
            self._values = {str(key): item for key, item in value.items()}
        else:
            self._values = {}
            self._known.append("*")  # one message is enough: every missing key follows from this
            self.problem("", value, "a map")

    def problem(self, key: str, value: Any, allowed: str) -> None:
        """Report the value of a key."""
        self.problems.append(f"{self.at(key)}: {value!r}; must be {allowed}")

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

    def strings(self, key: str, pattern: str, allowed: str) -> tuple[str, ...]:
        """A list of different texts, at least one, each matching the whole pattern."""
        value = self._take(key, REQUIRED, f"a list, each item {allowed}")
        if value is None:
            return ()
        if not isinstance(value, list) or not value:
            self.problem(key, value, f"a list with at least one item, each {allowed}")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str) or not re.fullmatch(pattern, item):
                self.problem(f"{key}[{index}]", item, allowed)
            elif item in value[:index]:
                self.problem(f"{key}[{index}]", item, "there only once")
        return tuple(item for item in value if isinstance(item, str))

    def table(self, key: str) -> Table:
        """The mapping below a key, which is required."""
        value = self._take(key, REQUIRED, "a map")
        if value is None:
            return Table({}, self.at(key), [])  # the missing key is reported; what it would hold isn't
        return Table(value, self.at(key), self.problems)

    def names(self) -> tuple[str, ...]:
        """All keys, where they are names that the user chose; they count as read."""
        self._known += self._values
        return tuple(self._values)

    def done(self) -> None:
        """Report every key that nobody read."""
        for key, value in self._values.items():
            if key not in self._known:
                self.problems.append(
                    f"{self.at(key)}: {value!r}; unknown key{near(key, self._known)}; "
                    f"allowed: {', '.join(sorted(self._known))}"
                )

    def _take(self, key: str, default: Any, allowed: str) -> Any:
        """The value of a key, its default, or None after a report that it is missing."""
        missing_all = "*" in self._known
        self._known.append(key)
        value = self._values.get(key)
        if value is not None:
            return value
        if default is not REQUIRED:
            return default
        if not missing_all:
            self.problems.append(f"{self.at(key)}: missing; must be {allowed}")
        return None


def near(word: str, words: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing where no word is near."""
    matches = difflib.get_close_matches(word, list(words), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""
