"""The engine of the local cloud: what a program registers is made, changed, replaced or left alone, as its state says.

It decides as Pulumi's does. A resource whose inputs are those of its state is not touched; what the program no longer
registers is removed at the end, dependents first. How a type is made is a `Kind`, from the modules beside this one;
what cannot be had here at all is listed in `not_here`, never passed over in silence.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.local.errors import LocalError
from infra.local.world_monitor import Registration
from infra.local.world_state import Entry, State, removal_order

HELM_RELEASE = "kubernetes:helm.sh/v3:Release"
AUTO_NAME_LETTERS = 7


class WorldError(LocalError):
    """The local cloud can't make or answer something; the message says what, and what to do."""


@dataclass(frozen=True)
class Made:
    """A resource that is there now."""

    id: str
    outputs: dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How the resources of one type are made.

    make: from the inputs and the ids that are others' already; what is there under the same name is adopted.
    change: to new inputs; None where only a new resource has them. delete: what is gone already is no error.
    auto_name: the input that names it, filled in where the program leaves it out.
    """

    make: Callable[[dict[str, Any], frozenset[str]], Made]
    change: Callable[[Entry, dict[str, Any]], Made | None]
    delete: Callable[[Entry], None]
    auto_name: str = ""


class Side(Protocol):
    """Where resources are: moto, an API server, or this process."""

    name: str
    identity: str

    def kind(self, type_: str) -> Kind | None:
        """How resources of a type are made; None for those of another side."""

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The answer to a look-up; None for those of another side."""

    def lacks(self, asked: Registration) -> str | None:
        """Why a resource can't be had here; None for one that can, or that is another side's."""

    def lacks_parts(self, asked: Registration) -> Mapping[str, str]:
        """Parts of a resource that can't be had although it can, each with the reason."""


@dataclass
class Changes:
    """What a deploy did, by `type name`; unchanged: how many resources it left alone."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0


class World:
    """Answers a program's registrations and look-ups by creating and asking. A Handler for world_monitor.run."""

    def __init__(self, state: State, sides: Sequence[Side]) -> None:
        self.changes = Changes()
        self.not_here: list[dict[str, str]] = []
        self._state = state
        self._sides = sides
        self._registered: set[str] = set()
        self._lock = threading.Lock()
        self._at_work = 0
        self._idle = threading.Condition()
        self._closed = False

    def close(self) -> None:
        """Take no more registrations, and wait for those at work: a program that failed leaves some behind it."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._at_work == 0)

    def register(self, asked: Registration) -> tuple[str | None, Mapping[str, Any]]:
        """Create, change or leave alone one resource; its id and its outputs."""
        with self._idle:
            if self._closed:
                raise WorldError(f"{asked.type} {asked.name} came after the deploy had ended")
            self._at_work += 1
        try:
            return self._register(asked)
        finally:
            with self._idle:
                self._at_work -= 1
                self._idle.notify_all()

    def _register(self, asked: Registration) -> tuple[str | None, Mapping[str, Any]]:
        if asked.type.startswith("pulumi:providers:") or not (asked.custom or asked.remote):
            return asked.name, asked.inputs
        if reason := next(filter(None, (side.lacks(asked) for side in self._sides)), None):
            self._list(asked, asked.name, reason)
            return asked.name, asked.inputs
        for part, reason in (each for side in self._sides for each in side.lacks_parts(asked).items()):
            self._list(asked, f"{asked.name}: {part}", reason)
        side, kind = self._kind(asked)
        old = self._state.entries.get(asked.urn)
        inputs = _inputs(asked, kind, old)
        with self._lock:
            self._registered.add(asked.urn)
        if old is not None and old.inputs == inputs:
            made = Made(old.id, old.outputs)
            self._count(None, asked)
        else:
            made = self._make(asked, kind, old, inputs)
        entry = Entry(
            urn=asked.urn,
            type=asked.type,
            id=made.id,
            inputs=inputs,
            outputs=made.outputs,
            needs=tuple(sorted({*asked.dependencies, asked.parent})),
            side=side.name,
            protect=asked.protect,
            retain_on_delete=asked.retain_on_delete,
        )
        if entry != old:
            self._state.put(entry)
        return made.id, made.outputs

    def read(self, type_: str, name: str, identity: str) -> tuple[str | None, Mapping[str, Any]]:
        """Nothing is here that no program made."""
        raise WorldError(
            f"{name}: the local cloud can't look up the {type_} {identity}; it has only what it made itself"
        )

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer one look-up."""
        for side in self._sides:
            answer = side.call(token, arguments)
            if answer is not None:
                return answer
        raise WorldError(f"the local cloud can't answer {token}; teach it in infra/local/world_lookups.py")

    def remove_the_rest(self) -> None:
        """Remove what the program did not register, dependents first. Call it after a whole run of the program only.

        Raises WorldError, before anything is removed, where something of it is protected.
        """
        rest = [entry for urn, entry in self._state.entries.items() if urn not in self._registered]
        if guarded := [entry for entry in rest if entry.protect]:
            names = ", ".join(f"{entry.type} {entry.name}" for entry in guarded)
            raise WorldError(f"protected, so not removed: {names}; deploy them with protect off first")
        for entry in removal_order([*self._state.replaced, *rest]):
            if not entry.retain_on_delete:
                self._remove(entry)
            self._state.forget(entry)
            if entry in rest:
                self.changes.removed.append(f"{entry.type} {entry.name}")

    def _make(self, asked: Registration, kind: Kind, old: Entry | None, inputs: dict[str, Any]) -> Made:
        taken = self._state.ids(asked.type)
        if old is None:
            made = kind.make(inputs, taken)
            self._count(self.changes.created, asked)
            return made
        changed = kind.change(old, inputs)
        if changed is not None:
            self._count(self.changes.updated, asked)
            return changed
        if old.protect:
            raise WorldError(f"{asked.type} {asked.name} is protected, and this change would replace it")
        made = kind.make(inputs, taken)
        self._state.replace(asked.urn)
        self._count(self.changes.replaced, asked)
        return made

    def _remove(self, entry: Entry) -> None:
        for side in self._sides:
            if side.name == entry.side and (kind := side.kind(entry.type)) is not None:
                kind.delete(entry)
                return
        raise WorldError(f"{entry.type} {entry.name} is in the state, but the local cloud can't remove it")

    def _kind(self, asked: Registration) -> tuple[Side, Kind]:
        for side in self._sides:
            if (kind := side.kind(asked.type)) is not None:
                return side, kind
        known = " and ".join(side.name for side in self._sides if side.name)
        raise WorldError(
            f"{asked.name}: the local cloud can't create {asked.type} in {known}. Teach it in infra/local/world_*.py, "
            "or say in NOT_HERE why it can't be had."
        )

    def _list(self, asked: Registration, name: str, reason: str) -> None:
        said = {"type": asked.type, "name": name, "reason": reason}
        if asked.type == HELM_RELEASE:
            repository = asked.inputs.get("repositoryOpts", {}).get("repo", "")
            said |= {"chart": asked.inputs["chart"], "repository": repository, "version": asked.inputs["version"]}
        with self._lock:
            self.not_here.append(said)

    def _count(self, where: list[str] | None, asked: Registration) -> None:
        with self._lock:
            if where is None:
                self.changes.unchanged += 1
            else:
                where.append(f"{asked.type} {asked.name}")


def _inputs(asked: Registration, kind: Kind, old: Entry | None) -> dict[str, Any]:
    """The inputs that count: with a name where the program gives none, and old values where changes are ignored."""
    inputs = dict(asked.inputs)
    if kind.auto_name:
        inputs.setdefault(kind.auto_name, auto_name(asked.name, asked.urn))
    if old is not None:
        for path in asked.ignore_changes:
            inputs = _with_old(inputs, old.inputs, path.split("."))
    return inputs


def _with_old(new: dict[str, Any], old: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """New inputs with the old value, or the old absence, of what is at a path of names."""
    first, *rest = path
    if rest and first in new and first in old:
        return {**new, first: _with_old(new[first], old[first], rest)}
    others = {key: value for key, value in new.items() if key != first}
    return {**others, first: old[first]} if first in old else others


def auto_name(name: str, urn: str) -> str:
    """A physical name as providers make it, but the same at each try, so that an interrupted deploy finds it again."""
    digest = hashlib.sha256(urn.encode()).hexdigest()
    return f"{name}-{digest[:AUTO_NAME_LETTERS]}"
