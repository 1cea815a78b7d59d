"""Money and counts as every command says them."""

from __future__ import annotations

from fractions import Fraction

UNKNOWN = "unknown"


def usd(value: float | Fraction | None) -> str:
    """To the cent; below a dollar to a thousandth of one, as a short job costs no more; `unknown` is never 0."""
    if value is None:
        return UNKNOWN
    figure = float(value)
    return f"{figure:,.2f}" if abs(figure) >= 1 or not figure else f"{figure:.5f}"


def rate(usd_per_hour: float | Fraction | None) -> str:
    """USD per hour, with as many digits as clouds publish."""
    return UNKNOWN if usd_per_hour is None else f"{float(usd_per_hour):,.4f}"


def counted(number: int, noun: str) -> str:
    """Such as `1 job`, `2,691 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
