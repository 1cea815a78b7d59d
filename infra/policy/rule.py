"""What a rule is, and what it looks at: resources as the Pulumi engine records them, with camelCase inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Resource:
    """One resource. type: its token; id: empty where it isn't known yet. inputs: reading one may raise NotKnown."""

    type: str
    name: str
    inputs: Inputs
    protect: bool = False
    id: str = ""


@dataclass(frozen=True)
class Rule:
    """A rule about single resources. types: tokens; check: what is wrong with one, as phrases."""

    name: str
    description: str
    types: Set[str]
    check: Callable[[Resource], Iterable[str]]


@dataclass(frozen=True)
class StackRule:
    """A rule about resources side by side. check: the resource that is wrong, and why."""

    name: str
    description: str
    check: Callable[[Sequence[Resource]], Iterable[tuple[Resource, str]]]


@dataclass(frozen=True)
class Violation:
    """A resource that breaks a rule."""

    rule: str
    type: str
    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.name} ({self.type}): {self.message} [{self.rule}]"


class NotKnown(Exception):
    """An input has no value yet."""


class Partial(dict[str, Any]):
    """Inputs of which some are not known yet: reading one raises NotKnown, going through all leaves it out."""

    def __init__(self, known: Mapping[str, Any], unknown: Iterable[str]) -> None:
        super().__init__(known)
        self.unknown = frozenset(unknown)

    def __getitem__(self, key: str) -> Any:
        if key in self.unknown:
            raise NotKnown(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; raises NotKnown where there is one that nobody knows yet."""
        return self[key] if key in self or key in self.unknown else default


def is_true(value: Any) -> bool:
    """Whether a setting is on; launch templates spell truth values as text."""
    return value is True or value == "true"


def listed(value: Any) -> list[Any]:
    """A list for what may be one item, several or none: IAM documents have all three."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value inside nested maps and lists, with the keys that lead to it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, str(index)))
    else:
        yield path, value
