"""Two things measured in turns, and how many times as much the one takes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """How many times as much: of the medians, and of the rounds the least and the most."""

    medians: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.medians:.2f} ({self.least:.2f}-{self.most:.2f})"


def ratio(measured: Sequence[float], against: Sequence[float]) -> Ratio:
    """Of figures from the same rounds, in the same order: what else went on in a round then is in both.

    Raises ValueError where there are none, or not as many.
    """
    if not measured:
        raise ValueError("no rounds to compare")
    rounds = [one / other for one, other in zip(measured, against, strict=True)]
    return Ratio(statistics.median(measured) / statistics.median(against), min(rounds), max(rounds))
