"""From a path and its query to a page: what the server and the one-file report have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from tidepool.keeper.page import comparison, fleet, jobs, layout, overview
from tidepool.keeper.page.layout import Asked, Page
from tidepool.keeper.page.period import Period, PeriodError, period
from tidepool.ledger.store import storable

PAGES: dict[str, Callable[[Asked], Page]] = {
    "": overview.page,
    "machines": fleet.page,
    "jobs": jobs.page,
    "task": jobs.task,
    "job": jobs.job,
    "comparison": comparison.page,
}
"""By the last part of the path; addresses on a page are relative to it, so that it may be served under any prefix."""


def render(name: str, query: Mapping[str, str], connection: sa.Connection, now: float) -> tuple[int, str]:
    """HTTP status and HTML of a page."""
    if name not in PAGES:
        return 404, layout.message("There is no such page", "The overview, machines, jobs and 24x7 are all there are.")
    today = datetime.fromtimestamp(now, UTC).date()
    try:
        chosen = period(query.get("from", ""), query.get("to", ""), today)
    except PeriodError as error:
        return 400, layout.message("That is no period", str(error))
    asked = Asked(connection, chosen, now, {key: storable(value) for key, value in query.items()})
    return 200, layout.document(PAGES[name](asked), asked)


def file(connection: sa.Connection, chosen: Period, now: float) -> str:
    """Overview, machines of the last day, jobs and the comparison as one HTML file that leads nowhere."""
    asked = Asked(connection, chosen, now, {}, is_file=True)
    pages = [PAGES[name](asked) for name in ("", "machines", "jobs", "comparison")]
    return layout.file(pages, f"Report, {chosen}", asked)
