"""What happened to machines and pods, as immutable events: the record that every figure about money is derived from.

Standard library only. An event has an identity, so that what is written twice counts once. Events are kept in a file on
one machine (tidepool.ledger.journal) or in a database (tidepool.ledger.store): the same events in both.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MACHINE_KINDS = (
    "machine.asked",  # an Auto Scaling Group was told to buy it
    "machine.launched",  # EC2 runs it, and bills it from then on
    "machine.ready",  # its node takes pods
    "machine.idle",  # its last job ended; once for every time, `occurrence` is that job's UID
    "machine.cordoned",  # its node takes no more pods; `occurrence` tells one time from the next
    "machine.at_risk",  # its cloud said that it may take it back soon
    "machine.reclaimed",  # its cloud gave notice that it takes it back
    "machine.gone",  # it is billed no more
)
POD_KINDS = (
    "pod.queued",  # it was created
    "pod.scheduled",  # it has a machine
    "pod.pulling",  # that machine fetches its image
    "pod.running",  # its container was started
    "pod.ended",  # with a cause
    "pod.gone",  # its object was deleted
    "pod.used",  # what it used of CPU and memory, once it has ended
)
REAPER_KINDS = (
    "reaper.found",  # a rule (`cause`) speaks against a pod, claim or machine; `message` is the evidence
    "reaper.removed",  # and it was removed
    "reaper.held",  # and it was not: the rule's limit for that hour (`occurrence`) is used up
)
"""What the keeper did about what belongs to nobody. No figure about money follows from these."""

KINDS = MACHINE_KINDS + POD_KINDS + REAPER_KINDS


class EventError(Exception):
    """An events file holds a line that is no event; the message says which file, which line and why."""


@dataclass(frozen=True, slots=True)
class Event:
    """One fact.

    time: Unix seconds, UTC. kind: one of KINDS. machine: EC2 instance id. zone: its availability zone. usd_per_hour:
    the machine's price when it was asked for; None where nobody said. volume_gib: its root volume. cpu_millis,
    memory_bytes: a machine's allocatable on machine.ready, a pod's requests on the pod's events. pod_uid: the pod's
    UID, on the reaper's events a claim's too; pod and namespace are its name. team, dag, task, run, attempt: the pod's
    owner; map_index: of a mapped task, as text. cause: why a pod ended (`ok`, `out_of_memory` …), on pod.ended; the
    rule, on the reaper's events.
    occurrence: tells the times apart of what may happen more than once.

    cpu_seconds, memory_p99_bytes, memory_peak_bytes, samples: what the pod used, and from how many measurements that is
    known, on pod.used.

    reconstructed: nobody saw it happen; it was concluded later from what still existed. earliest: it then happened
    between this time and `time` (0: at `time`, as far as a stamp says).
    """

    time: float
    kind: str
    machine: str = ""
    pool: str = ""
    market: str = ""
    instance_type: str = ""
    usd_per_hour: float | None = None
    pod: str = ""
    pod_uid: str = ""
    namespace: str = ""
    dag: str = ""
    task: str = ""
    run: str = ""
    attempt: int = 0
    cause: str = ""
    message: str = ""
    zone: str = ""
    volume_gib: float = 0.0
    cpu_millis: int = 0
    memory_bytes: int = 0
    team: str = ""
    occurrence: str = ""
    reconstructed: bool = False
    earliest: float = 0.0
    cpu_seconds: float = 0.0
    memory_p99_bytes: int = 0
    memory_peak_bytes: int = 0
    samples: int = 0
    map_index: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not self.key[1]:
            raise ValueError(f"{self.kind} needs {'machine' if self.kind in MACHINE_KINDS else 'pod_uid'}")

    @property
    def key(self) -> tuple[str, str]:
        """The kind, and whom it happened to."""
        if self.kind in REAPER_KINDS:
            return self.kind, self.pod_uid or self.machine
        return self.kind, self.machine if self.kind in MACHINE_KINDS else self.pod_uid

    @property
    def identity(self) -> str:
        """What makes it the same fact, whoever writes it and when: kind, subject and occurrence."""
        return "/".join((*self.key, self.occurrence) if self.occurrence else self.key)


_TYPES = {field.name: str(field.type).removesuffix(" | None") for field in dataclasses.fields(Event)}
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Event)}
_LARGEST = 2**62  # what a database takes


def dumps(event: Event) -> str:
    """One line of JSON without its newline; fields that say nothing are left out."""
    body = {name: value for name in _TYPES if (value := getattr(event, name)) != _DEFAULTS[name]}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def loads(line: str) -> Event:
    """The event of one line. Raises EventError with the reason."""
    try:
        body = json.loads(line)
    except json.JSONDecodeError as error:
        raise EventError(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise EventError("must be a JSON object")
    unknown = sorted(set(body) - set(_TYPES))
    if unknown:
        raise EventError(f"unknown keys {', '.join(unknown)}; known are {', '.join(_TYPES)}")
    wrong = [name for name, value in body.items() if not _fits(value, _TYPES[name])]
    if wrong:
        raise EventError(f"wrong type: {', '.join(f'{name}={body[name]!r}' for name in wrong)}")
    try:
        return Event(**body)
    except (TypeError, ValueError) as error:
        raise EventError(str(error)) from error


def _fits(value: object, wanted: str) -> bool:
    if wanted == "str":
        return isinstance(value, str)
    if wanted == "bool":
        return isinstance(value, bool)
    number = isinstance(value, int if wanted == "int" else int | float) and not isinstance(value, bool)
    return number and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]  # and so no NaN


class Ledger(Protocol):
    """Where events are recorded and asked for: the Recorder's file, or the Store's database."""

    def record(self, event: Event) -> bool: ...

    def known(self, kind: str, subject: str) -> Event | None: ...

    def events(self, kind: str) -> list[Event]: ...

    def unfinished(self) -> list[Event]: ...

    def not_gone(self, kind: str) -> list[Event]: ...

    def last_time(self, kinds: Sequence[str]) -> float: ...
