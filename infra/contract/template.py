"""A job's pods, as the contract looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from infra.contract.problem import Problem


@dataclass(frozen=True)
class Member:
    """A kind of pods that a job has besides its main one. name: such as `each of 2 executors`.

    count: as many as it needs at once.
    """

    name: str
    count: int
    pod: Mapping[str, Any]


@dataclass(frozen=True)
class Template:
    """One job. where: DAG file and line; subject: whose it is, such as `task clean`; pod: its only one, or main one.

    schedule_timeout_seconds: how long it may wait for a machine. execution_timeout_seconds: how long the task may take,
    waiting included. None: not known, or as long as it likes. members: its other pods.
    """

    where: str
    subject: str
    pod: Mapping[str, Any]
    schedule_timeout_seconds: int | None = None
    execution_timeout_seconds: float | None = None
    members: tuple[Member, ...] = ()

    @property
    def images(self) -> list[str]:
        """The images of all containers of the main pod; members run the same."""
        spec = self.pod.get("spec") or {}
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        return [each["image"] for each in containers if each.get("image")]

    def kinds(self) -> Iterator[Template]:
        """Each kind of its pods as if it were a job's only one."""
        yield replace(self, members=())
        for each in self.members:
            yield replace(self, subject=f"{self.subject}, {each.name}", pod=each.pod, members=())

    def problem(self, rule: str, what: str, do: str) -> Problem:
        """Something that is wrong with this job."""
        return Problem(self.where, rule, f"{self.subject}: {what}", do)


@dataclass
class Reading:
    """What was found in DAG files. unread: jobs that the reading can say nothing of, each with the reason."""

    templates: list[Template] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
