"""A job as its author asks for it, before any machine is chosen, and the Kubernetes quantities that it is asked in."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from tidepool import quantity as quantities

_SIZE = re.compile(r"[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?")

MIB = 1024**2
SMALLEST_MEMORY_BYTES = 64 * MIB
"""Less than this is a forgotten unit, such as memory="3"."""


class JobError(ValueError):
    """What a job asks for is wrong or cannot be had; the message names the task and says what can."""


@dataclass(frozen=True)
class Job:
    """What one job asks of its machine. Whatever is None is derived from the pool.

    cores: threads that work at once. memory: the pod's memory limit, a Kubernetes quantity such as "3Gi".
    gpus: of its machine, for this job alone. pool: a pool's name. machine: a type that the pool's machines may be of.
    team: a tenant's name.
    exclusive: no other job's pod on the machine while this one runs.
    Raises JobError with everything that is wrong at once.
    """

    task: str
    cores: int | None = None
    memory: str | None = None
    pool: str | None = None
    exclusive: bool = True
    gpus: int = 0
    team: str | None = None
    machine: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.cores is not None and (type(self.cores) is not int or self.cores < 1):
            problems.append(f"cores: must be a whole number of at least 1, not {self.cores!r}")
        if self.pool is not None and (not isinstance(self.pool, str) or not self.pool):
            problems.append(f"pool: must be a pool's name, not {self.pool!r}")
        if self.machine is not None and (not isinstance(self.machine, str) or not self.machine):
            problems.append(f'machine: must be a type of machine such as "m5.large", not {self.machine!r}')
        if self.team is not None and (not isinstance(self.team, str) or not self.team):
            problems.append(f"team: must be a team's name, not {self.team!r}")
        if type(self.gpus) is not int or self.gpus < 0:
            problems.append(f"gpus: must be a whole number, not negative, not {self.gpus!r}")
        if type(self.exclusive) is not bool:
            problems.append(f"exclusive: must be True or False, not {self.exclusive!r}")
        try:
            memory = self.memory_bytes
        except ValueError as error:
            problems.append(f"memory: {error}")
        else:
            if memory is not None and memory < SMALLEST_MEMORY_BYTES:
                problems.append(f'memory: {self.memory!r} is only {memory} bytes; did you mean "{self.memory}Gi"?')
        if problems:
            raise JobError(f"task {self.task!r}: " + "; ".join(problems))

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit asked for, in bytes; None where the author left it to the pool."""
        return None if self.memory is None else quantity(self.memory)


def quantity(text: str) -> int:
    """A quantity of bytes as authors write it, such as "3Gi", "1.5G" or "512Mi"; raises ValueError that says what is
    allowed: of Kubernetes' grammar what a size of memory needs."""
    if not isinstance(text, str) or _SIZE.fullmatch(text) is None:
        raise ValueError(f'must be a Kubernetes quantity such as "3Gi" or "512Mi", not {text!r}')
    return _bytes(text)


@functools.lru_cache(maxsize=256)
def _bytes(text: str) -> int:
    """Once for each size: the jobs of a DAG file have few of them."""
    return int(quantities.parse(text))


def human(size: int) -> str:
    """A size in bytes for people, rounded down, and in a form that `memory` takes: 6.6 GiB ("6835Mi")."""
    mebibytes = size // MIB
    if mebibytes < 1024:
        return f'{mebibytes} MiB ("{mebibytes}Mi")'
    return f'{mebibytes * 10 // 1024 / 10:.1f} GiB ("{mebibytes}Mi")'
