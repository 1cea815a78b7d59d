"""Events in a file, as lines of JSON: what the processes of one machine write and its commands read.

Standard library only. Several processes append to one file; each fact is written once, by one writer of its kind.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from tidepool.ledger.events import Event, EventError, dumps, loads


def append(path: Path, event: Event) -> None:
    """Add one line, whole or not at all for every reader, beside other writers of the same file."""
    # What is no text (half of a surrogate pair, from an annotation) must not keep the fact from being written.
    line = (dumps(event) + "\n").encode(errors="replace")
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _drop_torn_line(descriptor)
        while line:
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


def _drop_torn_line(descriptor: int) -> None:
    """Cut what a writer left that died in the middle of its line; readers never took it as a line."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)


class Tail:
    """Reads a file as it grows: every call of `new` gives what was completed since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._line = 0

    def new(self) -> list[Event]:
        """Events in the file's order; none while the file does not exist. Raises EventError for what is no event."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read()
        except FileNotFoundError:
            return []
        complete = chunk[: chunk.rfind(b"\n") + 1]
        self._offset += len(complete)
        found = []
        for raw in complete.split(b"\n")[:-1]:
            self._line += 1
            try:
                found.append(loads(raw.decode()))
            except (EventError, UnicodeDecodeError) as error:
                raise EventError(f"{self._path}, line {self._line}: {error}") from error
        return found


def read(path: Path) -> list[Event]:
    """All events of the file in its order; a torn last line is left out, a missing file has none."""
    return Tail(path).new()


class Recorder:
    """Writes each fact once, over restarts of its process too: it knows what the file already holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Event] = {}
        self._first: dict[tuple[str, str], Event] = {}
        for event in read(path):
            self._remember(event)

    def record(self, event: Event) -> bool:
        """Append the event unless the same fact is there; true if it was new."""
        with self._lock:
            if event.identity in self._known:
                return False
            append(self._path, event)
            self._remember(event)
            return True

    def known(self, kind: str, subject: str) -> Event | None:
        """The first recorded event of this kind about this machine or pod UID, if there is one."""
        with self._lock:
            return self._first.get((kind, subject))

    def events(self, kind: str) -> list[Event]:
        """All recorded events of this kind."""
        with self._lock:
            return [event for event in self._known.values() if event.kind == kind]

    def unfinished(self) -> list[Event]:
        """pod.queued of every pod that is not known to be gone."""
        return [event for event in self.events("pod.queued") if self.known("pod.gone", event.pod_uid) is None]

    def not_gone(self, kind: str) -> list[Event]:
        """The events of this kind about machines that are not known to be gone."""
        return [event for event in self.events(kind) if self.known("machine.gone", event.machine) is None]

    def last_time(self, kinds: Sequence[str]) -> float:
        """The latest time of an event of these kinds; 0 where there is none."""
        return max((event.time for kind in kinds for event in self.events(kind)), default=0.0)

    def _remember(self, event: Event) -> None:
        self._known.setdefault(event.identity, event)
        self._first.setdefault(event.key, event)
