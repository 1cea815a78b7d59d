"""The keeper's pages as one file: what a report says, to be kept or sent. Nothing in it leads or fetches anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tidepool.keeper.page import app
from tidepool.keeper.page.period import Period
from tidepool.ledger.attribution import Billing
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store
from tidepool.prices.book import PriceBook


def html(events: Iterable[Event], book: PriceBook, billing: Billing, since: float, until: float) -> str:
    """The report on the days (UTC) from `since` to `until` (Unix seconds); what is not over yet counts until then."""
    first, last = (datetime.fromtimestamp(time, UTC).date() for time in (since, max(since, until - 0.001)))
    with tempfile.TemporaryDirectory(prefix="tidepool-report-") as folder:
        store = Store.open(str(Path(folder) / "books.db"))
        try:
            store.record_all(events)
            Books(store, book, billing, clock=lambda: until).update()
            with store.reading() as connection:
                return app.file(connection, Period(first, last), until)
        finally:
            store.close()
