"""Every page: its markup and links, whatever names and queries hold."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from tests.dags import year
from tests.dags.histories import BOOK, HOSTILE_NAMES, hostile
from tests.dags.pages import EPOCH, NOW, Reader, check, page, rows
from tidepool.keeper.page import app, charts
from tidepool.keeper.page.charts import Bar, Line
from tidepool.ledger import schema
from tidepool.ledger.books import Books
from tidepool.ledger.store import Store


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_becomes_markup_or_sql_on_any_page(name: str, store: Store) -> None:
    store.record_all(hostile(name))
    Books(store, BOOK, clock=lambda: NOW).update()
    before = [*store.read()]
    (job,) = {(row.dag, row.task, row.run) for row in rows(store, schema.jobs)}
    days = {"from": "1970-01-01", "to": "1970-01-03"}
    for where in app.PAGES:
        for query in (
            {},
            days,
            {"dag": job[0], "task": job[1], "run": job[2], "until": "1970-01-01T01:00", **days},
            dict.fromkeys(("dag", "task", "run", "search", "order", "page", "hours", "until"), name) | days,
            {"from": name, "to": name},
        ):
            status, text = page(store, where, **query)
            assert status == (400 if query.get("from") == name else 200)
            read = check(text)
            shown = "".join(read.text)
            assert "\x1b" not in text
            assert "\u202e" not in text
            if status == 200 and where == "jobs" and query is days and "<" in name:
                assert "<" in shown, "as it is named"
    assert [*store.read()] == before
    with store.reading() as connection:
        check(app.file(connection, EPOCH, NOW), is_file=True)


def test_both_databases_show_the_same_pages(small: Store, postgres: str) -> None:
    other = Store.open(postgres)
    with small.reading() as source, other.writing(1) as target:
        for table in (schema.machines, schema.jobs, schema.costs, schema.days, schema.task_days):
            target.execute(sa.delete(table))
            target.execute(sa.insert(table), [dict(row) for row in source.execute(sa.select(table)).mappings()])
    queries_ = {"dag": "flights_daily", "task": "model", "search": "a", "from": "2026-11-12"}
    (run,) = {row.run for row in rows(small, schema.jobs) if row.attempt == 2 and row.task == "ad_hoc"} or {""}
    for where in app.PAGES:
        for order in ("waste", "cost", "time"):
            query = {**queries_, "order": order, "run": run}
            assert page(other, where, year.LAST, **query) == page(small, where, year.LAST, **query)
    other.close()


def test_every_page_says_where_it_is_and_has_a_table_beside_each_chart(small: Store) -> None:
    for where in ("", "machines", "jobs", "comparison"):
        status, text = page(small, where, year.LAST)
        assert status == 200
        read = check(text)
        assert [each.get("aria-current") for each in read.of("a")].count("page") == 1
        assert len(read.of("h1")) == len(read.of("main")) == 1
        charts = [each for each in read.of("svg") if each.get("class", "").startswith("chart")]
        assert all(each["aria-label"] and each["role"] in ("img", "group") for each in charts)
        assert len(read.of("table")) >= len(charts)
        assert len(read.of("caption")) == len(read.of("table"))
        assert all(each["scope"] in ("row", "col") for each in read.of("th"))
        assert all("aria-label" in each or "aria-hidden" in each for each in read.of("svg"))


def test_links_lead_to_pages_that_are_there(small: Store) -> None:
    """Followed from the overview on, one of each kind of page."""
    todo, seen = [("", "")], set()
    while todo:
        where, query = todo.pop()
        status, text = page(small, where, year.LAST, **{key: value[0] for key, value in parse_qs(query).items()})
        assert status == 200, (where, query)
        seen.add(where)
        for each in check(text).of("a"):
            target = urlsplit(each["href"])
            name = target.path.removeprefix("./")
            if name not in seen and name not in [already for already, _ in todo] and not target.fragment:
                todo.append((name, target.query))
    assert seen == set(app.PAGES)


def test_long_tables_are_leafed_through_without_losing_or_doubling_a_row(small: Store) -> None:
    first = page(small, "task", year.LAST, dag="orders_hourly", task="ingest")[1]
    counted = re.search(r"1 to 25 of (\d+)", first)
    assert counted
    found = []
    for number in range(1, int(counted[1]) // 25 + 2):
        text = page(small, "task", year.LAST, dag="orders_hourly", task="ingest", page=str(number))[1]
        found += [each["href"] for each in Reader(text).of("a") if each["href"].startswith("job?")]
    assert len(found) == len(set(found)) == int(counted[1])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"from": "yesterday"}, "a date looks like"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "must lie between"),
        ({"from": "0001-01-01"}, "must lie between"),
        ({"from": "1990-01-01", "to": "2026-01-01"}, "is more than"),
        ({"to": "0001-01-01"}, "must lie between"),
        ({"from": "9999-12-01", "to": "9999-12-31"}, "must lie between"),
        ({"to": "8999-12-31"}, "200"),
        ({"to": "1970-01-01"}, "200"),
    ],
)
def test_what_is_no_period_is_said(small: Store, query: dict[str, str], said: str) -> None:
    for where in app.PAGES:
        status, text = page(small, where, year.LAST, **query)
        assert status == 400 or said == "200"
        assert said in text or said == str(status)


@pytest.mark.parametrize("until", ["0001-01-01T00:00", "9999-12-31T23:59", "1970-01-01T00:00", "8000-01-01T00:00"])
def test_a_moment_that_no_calendar_has_is_no_failure(small: Store, until: str) -> None:
    for hours in ("1", "744"):
        assert page(small, "machines", year.LAST, until=until, hours=hours)[0] == 200


def test_the_timeline_draws_nothing_of_what_lies_outside_of_its_time() -> None:
    bars = [
        Bar(0, 50, "before", "a"),
        Bar(40, 120, "within", "b"),
        Bar(200, 300, "after", "c"),
        Bar(0, 100, "edge", "d"),
    ]
    bars += [Bar(150, 150, "moment", "e")]
    marks = [(50.0, "mark-before", ""), (150.0, "mark-within", ""), (250.0, "mark-after", "")]
    drawn = str(charts.timeline([Line("spot", "", bars, marks)], 100, 200, "what was there"))
    for key in ("before", "after", "edge", "mark-before", "mark-after"):
        assert f'class="{key}"' not in drawn
    for key in ("within", "moment", "mark-within"):
        assert f'class="{key}"' in drawn


@pytest.mark.parametrize("number", ["0", "-1", "1e9", "99999999999999999999", "٣", "x", ""])
def test_a_page_number_that_is_none_is_no_error(small: Store, number: str) -> None:
    assert page(small, "jobs", year.LAST, page=number)[0] == 200
    assert page(small, "machines", year.LAST, page=number, hours=number, until=number)[0] == 200


def test_an_empty_ledger_has_pages_that_say_so(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "ledger.db"))
    for where in app.PAGES:
        assert page(store, where)[0] == 200
    store.close()
