"""What the contract finds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that would not work. where: file with line or key; rule: a short name; do: what to do about it.

    what and do are phrases without a full stop.
    """

    where: str
    rule: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}.{f' {self.do}.' if self.do else ''} [{self.rule}]"


def advised(where: str, rule: str, message: str, do: str) -> Problem:
    """The problem that an error's message tells: its last sentence is what to do, if it has more than one."""
    what, _, advice = message.rstrip(".").rpartition(". ")
    return Problem(where, rule, what, advice) if what else Problem(where, rule, advice, do)


def by_place(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in the order of files and lines."""
    return sorted(set(problems), key=lambda each: (_natural(each.where), each.rule, each.what))


def _natural(text: str) -> list[tuple[int, str]]:
    """Line 9 comes before line 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


class ContractError(Exception):
    """An environment and its jobs don't go together. The message has every problem, one a line."""

    def __init__(self, environment: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{environment}: {count}\n" + "\n".join(f"  {problem}" for problem in problems))
