"""What the local cloud's engine has made, in a file: one line of JSON for each change, so that no crash loses one.

The file is its owner's only, as it holds secrets in plain. It speaks of one moto and one API server: of what was made
in others it forgets all.
"""

from __future__ import annotations

import dataclasses
import fcntl
import graphlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.errors import LocalError


class StateError(LocalError):
    """The state file can't be used; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One resource that exists. inputs: those it was last made or changed with; needs: urns that must outlive it.

    side: where it is, `aws` or `kubernetes`; empty for one that is only here, such as a random password.
    """

    urn: str
    type: str
    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    needs: tuple[str, ...] = ()
    side: str = ""
    protect: bool = False
    retain_on_delete: bool = False

    @property
    def name(self) -> str:
        """What the program calls it."""
        return self.urn.rpartition("::")[2]


@dataclass
class State:
    """Resources by urn, and those that others replace but that are still there."""

    entries: dict[str, Entry] = field(default_factory=dict)
    replaced: list[Entry] = field(default_factory=list)
    sides: dict[str, str] = field(default_factory=dict)
    _file: int = -1
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, file: Path, sides: Mapping[str, str]) -> State:
        """The state in `file`, which is made if it isn't there. sides: an identity of each side that is there now.

        Raises StateError where another deploy has it open.
        """
        state = cls(_file=os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            fcntl.flock(state._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state._replay(file)
        except BlockingIOError as error:
            state.close()
            raise StateError(f"another deploy is at work with {file}; wait for it") from error
        except BaseException:
            state.close()
            raise
        new = {**state.sides, **sides}
        if new != state.sides:
            state._change({"sides": new})
        return state

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._file)

    def put(self, entry: Entry) -> None:
        """A resource was made or changed."""
        with self._lock:
            self._change({"put": dataclasses.asdict(entry)})

    def replace(self, urn: str) -> None:
        """A resource is to go once a new one is in its place."""
        with self._lock:
            self._change({"replace": urn})

    def forget(self, entry: Entry) -> None:
        """A resource is gone."""
        with self._lock:
            self._change({"forget": entry.urn, "id": entry.id})

    def ids(self, type_: str) -> frozenset[str]:
        """The ids of all resources of a type, which nobody else may take for their own."""
        with self._lock:
            return frozenset(each.id for each in (*self.entries.values(), *self.replaced) if each.type == type_)

    def _replay(self, file: Path) -> None:
        whole = 0
        for number, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):  # cut off by a crash
                break
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise StateError(
                    f"{file}, line {number}: not a state of this version ({error!r}); remove it"
                ) from error
            whole += len(line)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, 0, os.SEEK_END)

    def _change(self, change: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(change).encode() + b"\n")
        self._apply(change)

    def _apply(self, change: dict[str, Any]) -> None:
        if "sides" in change:
            gone = {side for side, identity in self.sides.items() if change["sides"].get(side) != identity}
            self.entries = {urn: entry for urn, entry in self.entries.items() if entry.side not in gone}
            self.replaced = [entry for entry in self.replaced if entry.side not in gone]
            self.sides = change["sides"]
        elif "put" in change:
            entry = Entry(**{**change["put"], "needs": tuple(change["put"]["needs"])})
            self.entries[entry.urn] = entry
        elif "replace" in change:
            self.replaced.append(self.entries.pop(change["replace"]))
        else:
            urn, identity = change["forget"], change["id"]
            self.replaced = [each for each in self.replaced if (each.urn, each.id) != (urn, identity)]
            if urn in self.entries and self.entries[urn].id == identity:
                del self.entries[urn]


def removal_order(entries: Iterable[Entry]) -> list[Entry]:
    """Each resource before all that it needs."""
    given = list(entries)
    graph: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for index, entry in enumerate(given):
        graph.add(index)
        for other, needed in enumerate(given):
            if other != index and needed.urn in entry.needs:
                graph.add(index, other)
    return [given[index] for index in reversed(list(graph.static_order()))]
