"""What all pages have: the frame, the choice of a period, tables, and leafing through them. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from tidepool.keeper.page import words
from tidepool.keeper.page.html import Child, Html, href, join, tag
from tidepool.keeper.page.period import PRESETS, Period

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
PAGES = {"./": "Overview", "machines": "Machines", "jobs": "Jobs", "comparison": "24x7"}
TITLE = "tidepool"

_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'><rect width='24' height='24' rx='6' fill='#1b7fa8'/>"
    "<path d='M4 14c2.7-3 5.300-3 8 0s5.300 3 8 0' fill='none' stroke='#fff' stroke-width='2'/></svg>"
)
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
"""The Content-Security-Policy: nothing is fetched from anywhere, and no script runs."""


@dataclass(frozen=True)
class Asked:
    """What a page is made of. now: Unix seconds. is_file: it stands by itself, so that nothing on it leads on."""

    connection: sa.Connection
    period: Period
    now: float
    query: Mapping[str, str]
    is_file: bool = False

    def number(self, name: str, least: int, most: int, default: int) -> int:
        """A parameter; what is no number in its bounds is as if not given."""
        given = self.query.get(name, "")
        return min(max(int(given), least), most) if given.isdecimal() and len(given) < 10 else default

    def link(self, child: Child, page: str, name: str | None = None, /, **query: object) -> Html:
        """A link that keeps the period."""
        if self.is_file:
            return join(child)
        return tag("a", child, href=href(page, **query, **self.period.query), aria_label=name)

    def address(self, page: str, /, **query: object) -> str | None:
        """Where it leads; None where nothing may."""
        return None if self.is_file else href(page, **query, **self.period.query)

    def over(self, period: Period) -> Asked:
        """The same about another time."""
        return replace(self, period=period)


@dataclass(frozen=True)
class Page:
    """title: of the page. current: its entry in PAGES."""

    title: str
    current: str
    body: Html


def document(page: Page, asked: Asked) -> str:
    """The whole page."""
    return _whole(page.title, _top(page.current), page.body, asked)


def file(pages: Sequence[Page], title: str, asked: Asked) -> str:
    """Pages as one file."""
    return _whole(title, _brand(), join(*(tag("section", page.body, aria_label=page.title) for page in pages)), asked)


def message(title: str, said: str) -> str:
    """A page that says why there is none."""
    body = tag("div", tag("h1", title), tag("p", said), class_="card empty")
    return _frame(title, tag("header", tag("div", _brand()), class_="top"), body, [])


def _whole(title: str, top: Html, body: Html, asked: Asked) -> str:
    skip = None if asked.is_file else tag("a", "Skip to the content", href="#content", class_="skip")
    notes = [
        f"Times and days are UTC; made {words.moment(asked.now)}. Prices are list and spot prices of instances, by "
        "zone and time where known; a price that nobody knows is shown as unknown, and a + says that a part has none.",
    ]
    return _frame(title, join(skip, tag("header", tag("div", top), class_="top")), body, notes)


def _frame(title: str, top: Html, body: Html, notes: Iterable[str]) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title if title == TITLE else f"{title} · {TITLE}"),
        tag("link", rel="icon", href="data:image/svg+xml;base64," + base64.b64encode(_ICON.encode()).decode()),
        tag("style", Html(STYLE)),
    )
    foot = tag("footer", *(tag("p", note) for note in notes))
    main = tag("main", body, id="content", tabindex="-1")
    return "<!doctype html>\n" + tag("html", head, tag("body", top, main, foot), lang="en")


def _brand() -> Html:
    box = tag("rect", width=24, height=24, rx=6)
    wave = tag("path", d="M4 14c2.7-3 5.3-3 8 0s5.3 3 8 0")
    return tag("div", tag("svg", box, wave, width=24, height=24, aria_hidden="true"), TITLE, class_="brand")


def _top(current: str) -> Html:
    items = (
        tag("li", tag("a", name, href=page, aria_current="page" if page == current else None))
        for page, name in PAGES.items()
    )
    return join(_brand(), tag("nav", tag("ul", items), aria_label="Pages"))


def heading(title: str, said: Child, controls: Child = None, crumbs: Child = None) -> Html:
    """The head of a page."""
    words_ = tag("div", tag("p", crumbs, class_="crumbs") if crumbs else None, tag("h1", title), tag("p", said))
    return tag("div", words_, controls, class_="head")


def periods(asked: Asked, page: str, **query: str) -> Html | None:
    """Links to the usual periods, and a form for others."""
    if asked.is_file:
        return None
    today = datetime.fromtimestamp(asked.now, UTC).date()
    chosen = asked.period
    links = []
    for name, days in PRESETS.items():
        wanted = Period(today - timedelta(days - 1), today)
        current = "true" if wanted == chosen else None
        links.append(tag("li", tag("a", name, href=href(page, **query, **wanted.query), aria_current=current)))
    kept = (tag("input", type="hidden", name=key, value=value) for key, value in query.items() if value)
    form = tag(
        "form",
        kept,
        _date("From", "from", chosen.first),
        _date("To", "to", chosen.last),
        tag("button", "Show"),
        action=page,
        aria_label="Period",
    )
    return tag("div", tag("ul", links, class_="presets", aria_label="The last"), form, class_="controls")


def _date(label: str, name: str, value: date) -> Html:
    return tag("label", label, tag("input", type="date", name=name, value=value.isoformat(), required=True))


@dataclass(frozen=True)
class Column:
    """A column's title; is_figure: on the right. sort: what it is sorted by, and whether it is now."""

    title: Child
    is_figure: bool = False
    sorted_: str | None = None


def table(columns: Sequence[Column], rows: Iterable[Sequence[Child]], caption: Child) -> Html:
    """A table whose first column names its rows."""
    heads = (
        tag("th", each.title, scope="col", class_="n" if each.is_figure else None, aria_sort=each.sorted_)
        for each in columns
    )
    lines = []
    for row in rows:
        cells = [tag("th", row[0], scope="row")]
        cells += [
            tag("td", cell, class_="n" if column.is_figure else None)
            for cell, column in zip(row[1:], columns[1:], strict=True)
        ]
        lines.append(tag("tr", cells))
    return scroll(tag("table", tag("caption", caption), tag("thead", tag("tr", heads)), tag("tbody", lines)), "Table")


def scroll(child: Child, name: str) -> Html:
    """What may be wider than the window: it is scrolled by itself, by keyboard too."""
    return tag("div", child, class_="scroll", tabindex="0", role="region", aria_label=name)


def figure(title: str, said: Child, chart: Child, below: Child = None) -> Html:
    """A card with a chart."""
    caption = tag("figcaption", tag("h2", title), tag("span", said, class_="sub"))
    return tag("figure", caption, scroll(chart, title), below, class_="card")


def card(*children: Child) -> Html:
    """A card."""
    return tag("section", *children, class_="card")


def as_table(columns: Sequence[Column], rows: Iterable[Sequence[Child]], caption: str) -> Html:
    """The figures of a chart, for those who would rather read them."""
    return tag("details", tag("summary", "The figures as a table"), table(columns, rows, caption))


def tiles(*items: tuple[str, Child, Child]) -> Html:
    """Figures at a glance: what, how much, and what is to be said of it."""
    made = (
        tag("div", tag("dt", name), tag("dd", value, class_="big"), tag("dd", note, class_="note"))
        for name, value, note in items
    )
    return tag("dl", made, class_="tiles")


def leaf(asked: Asked, page: str, size: int, count: int, **query: str) -> Html | None:
    """Links to the pages of a long table."""
    number, last = asked.number("page", 1, 10**6, 1), max(1, -(-count // size))
    if asked.is_file or last == 1:
        return None
    first = (number - 1) * size + 1
    where = tag("span", f"{first:,} to {min(number * size, count):,} of {count:,}")
    links = [
        tag("li", asked.link(name, page, page=wanted, **query))
        for name, wanted in (("First", 1), ("Previous", number - 1), ("Next", number + 1), ("Last", last))
        if 1 <= wanted <= last and wanted != number
    ]
    return tag("nav", tag("ul", tag("li", where), links, class_="pages"), aria_label="Pages of the table")


def badge(cause: str) -> Html:
    """Why an attempt ended."""
    kind = {"ok": "good", "": "open"}.get(cause, "bad")
    return tag("span", words.cause(cause), class_=f"badge {kind}")


def empty(title: str, said: str) -> Html:
    """Instead of a chart of nothing."""
    return tag("div", tag("h2", title), tag("p", said), class_="card empty")
