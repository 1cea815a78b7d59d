"""Figures and moments as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from tidepool.keeper.page.queries import Sum

GIB = 1024**3
UNKNOWN = "unknown"

CATEGORIES = {
    "job": "Job",
    "pull": "Image pull",
    "boot": "Boot",
    "idle": "Idle",
    "system": "System",
    "unattributed": "Unattributed",
}
"""Where a machine's second went, by the names of tidepool.ledger.attribution."""

MEANINGS = {
    "job": "a job's pod held it",
    "pull": "a pod held it and its image was fetched",
    "boot": "bought and not ready yet",
    "idle": "ready and held by nobody, most of it the tail after the last job",
    "system": "machines that are there in any case",
    "unattributed": "something ended in that time and nobody saw when",
}

CAUSES = {
    "": "not over",
    "ok": "ok",
    "app_error": "application error",
    "out_of_memory": "out of memory",
    "spot_reclaim": "spot reclaim",
    "node_lost": "node lost",
    "evicted": "evicted",
    "image_pull": "image pull",
    "unschedulable": "unschedulable",
    "timed_out": "timed out",
    "cancelled": "cancelled",
    "unknown": "unknown",
}


def cause(name: str) -> str:
    """Why an attempt ended."""
    return CAUSES.get(name, name)


def usd(value: float | None) -> str:
    """Money: to the cent, below a dollar to four figures that matter; `unknown` is never 0."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "$0"
    if abs(value) < 1:
        return f"${value:.4f}" if abs(value) >= 0.001 else f"${value:.2g}"
    return f"${value:,.2f}" if abs(value) < 100_000 else f"${value:,.0f}"


def tick(value: float) -> str:
    """Money on an axis."""
    return f"${value:,.0f}" if value >= 10 or value == 0 else f"${value:.10g}"


def cost(sum_: Sum) -> str:
    """Money of a sum; a `+` after it where some of it has no known price."""
    return usd(sum_.usd) + ("+" if sum_.unpriced and sum_.usd is not None else "")


def share(part: float | None, whole: float | None) -> str:
    """A part of a whole."""
    if not whole or part is None:
        return "-"
    return f"{part / whole:.1%}" if part else "0%"


def span(seconds: float | None) -> str:
    """How long: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days:,} d {hours} h" if hours else f"{days:,} d"


def hours(seconds: float) -> str:
    """Machine-hours."""
    value = seconds / 3600
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def moment(time: float | None) -> str:
    """To the second, UTC."""
    return "-" if time is None else datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock(time: float, step: float) -> str:
    """A mark on an axis with so many seconds between two."""
    return datetime.fromtimestamp(time, UTC).strftime("%b %-d" if step >= 86_400 else "%H:%M")


def day(date: str) -> str:
    """A day on an axis."""
    return datetime.fromisoformat(date).strftime("%b %-d")


def memory(size: int | None) -> str:
    """Bytes as GiB."""
    return "-" if size is None else f"{size / GIB:,.2f} GiB"


def change(now: float | None, before: float | None) -> str:
    """How much more or less than before."""
    if not before or now is None:
        return "no comparison"
    part = now / before - 1
    return "as before" if abs(part) < 0.0005 else f"{part:+.1%}"
