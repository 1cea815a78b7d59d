"""What the contract finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that would not work. where: file with line or key; rule: a short name; do: what to do about it."""

    where: str
    rule: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.do}. [{self.rule}]"


class ContractError(Exception):
    """An environment and its jobs don't go together. The message has every problem, one a line."""

    def __init__(self, environment: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{environment}: {count}\n" + "\n".join(f"  {problem}" for problem in problems))
