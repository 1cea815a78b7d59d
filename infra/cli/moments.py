"""Times as people give them on a command line, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse(text: str, now: float, option: str) -> float:
    """Unix seconds of `90m` (ago), a date or a time; without an offset it is UTC. Raises typer.BadParameter."""
    if match := _AGO.fullmatch(text):
        return now - int(match[1]) * _SECONDS[match[2]]
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is not a time; give how long ago (90m, 24h, 7d), a date (2026-11-01) or that and a time "
            "(2026-11-01T08:30)",
            param_hint=option,
        ) from error


def shown(time: float) -> str:
    """To the second, such as 2026-11-01 08:30:00 UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
