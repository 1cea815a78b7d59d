"""The ledger's pages as text, and what a browser makes of them."""

from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from tests.dags.histories import BOOK, DAY
from tidepool.keeper.page import app
from tidepool.keeper.page.period import Period
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

TOKEN = "a token of sixteen"
NOW = 3 * DAY / 1000
EPOCH = Period(date(1970, 1, 1), date(1970, 1, 4))
TAGS = {
    *("html", "head", "meta", "title", "link", "style", "body", "header", "main", "nav", "footer", "section", "div"),
    *("h1", "h2", "p", "a", "b", "small", "span", "ul", "li", "dl", "dt", "dd", "details", "summary"),
    *("figure", "figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("form", "label", "input", "button"),
    *("svg", "g", "rect", "text", "line", "polyline", "polygon", "circle", "path"),
}
VOID = {"meta", "link", "input"}


class Reader(HTMLParser):
    """What a browser makes of a page: elements, attributes, text; and that each element is closed where it must be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"{tag}: {names}"
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def opened(folder: Path, events: list[Event], now: float = NOW) -> Store:
    store = Store.open(str(folder / "ledger.db"))
    store.record_all(events)
    Books(store, BOOK, clock=lambda: now).update()
    return store


def page(store: Store, name: str, now: float = NOW, **query: str) -> tuple[int, str]:
    with store.reading() as connection:
        return app.render(name, query, connection, now)


def check(text: str, is_file: bool = False) -> Reader:
    """Only the elements that there are, none that runs or fetches anything, and every link leads to a page."""
    read = Reader(text)
    for tag, attributes in read.tags:
        assert tag.lower() in TAGS, tag
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc", "action-")]
        for name in {"src", "data", "formaction", "xlink:href"} & set(attributes):
            raise AssertionError(f"{tag} {name}={attributes[name]}")
        if "href" in attributes and tag == "a":
            assert not is_file, attributes
            target = urlsplit(attributes["href"])
            assert (target.scheme, target.netloc) == ("", "")
            assert target.path.removeprefix("./") in app.PAGES or attributes["href"] == "#content"
        if tag == "link":
            assert attributes["href"].startswith("data:image/svg+xml;base64,")
        if tag == "form":
            assert not is_file
            assert attributes["action"].removeprefix("./") in app.PAGES
            assert "method" not in attributes, "nothing is sent to be changed"
    return read


def rows(store: Store, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with store.reading() as connection:
        return list(connection.execute(sa.select(table)))
