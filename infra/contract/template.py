"""A job's pod, as the contract looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.contract.problem import Problem


@dataclass(frozen=True)
class Template:
    """One job's pod. where: DAG file and line; subject: whose it is, such as `task clean`.

    schedule_timeout_seconds: how long it may wait for a machine. execution_timeout_seconds: how long the task may take,
    waiting included. None: not known, or as long as it likes.
    """

    where: str
    subject: str
    pod: Mapping[str, Any]
    schedule_timeout_seconds: int | None = None
    execution_timeout_seconds: float | None = None

    @property
    def images(self) -> list[str]:
        """The images of all containers."""
        spec = self.pod.get("spec") or {}
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        return [each["image"] for each in containers if each.get("image")]

    def problem(self, rule: str, what: str, do: str) -> Problem:
        """Something that is wrong with this job."""
        return Problem(self.where, rule, f"{self.subject}: {what}", do)


@dataclass
class Reading:
    """What was found in DAG files. unread: jobs that the reading can say nothing of, each with the reason."""

    templates: list[Template] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
