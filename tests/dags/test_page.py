import base64
import http.client
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import sqlalchemy as sa

from tests.dags import year
from tests.dags.histories import BOOK, DAY, HOSTILE_NAMES, hostile, machine, pod
from tidepool.keeper import metrics
from tidepool.keeper.pace import Pace
from tidepool.keeper.page import app, charts, layout, queries
from tidepool.keeper.page.charts import Bar, Line
from tidepool.keeper.page.period import Period
from tidepool.keeper.page.server import ListenError, PageServer, Site, token
from tidepool.ledger import history, schema
from tidepool.ledger.attribution import Billing
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store
from tidepool.report.costs import costs

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
STYLE_ONLY = re.compile(r"<style>.*?</style>", re.DOTALL)


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


def test_a_search_finds_what_it_says_and_nothing_more(tmp_path: Path) -> None:
    told = machine("i-1", 0, 1, 900)
    for number, dag in enumerate(("a_b", "axb", "50%", "Straße")):
        told += pod(str(number), "i-1", 10 * number + 2, 10 * number + 3, 10 * number + 9, dag=dag)
    store = opened(tmp_path, told)

    def found(text: str) -> list[str]:
        with store.reading() as connection:
            tasks, count = queries.tasks(connection, EPOCH, "waste", text, 10, 0)
        assert len(tasks) == count
        return sorted(task.dag for task in tasks)

    assert found("a_b") == ["a_b"]
    assert found("%") == ["50%"]
    assert found("A_B") == ["a_b"]
    assert found("' OR 1=1 --") == []
    assert len(found("")) == 4


def rows(store: Store, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with store.reading() as connection:
        return list(connection.execute(sa.select(table)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Ten days of a company."""
    store = Store.open(str(tmp_path_factory.mktemp("page") / "ledger.db"))
    year.fill(store, year.year(jobs=2500, days=10))
    yield store
    store.close()


def test_what_the_overview_shows_is_what_the_report_says(tmp_path: Path) -> None:
    told = machine("i-1", 0, 40, 3600) + pod("a", "i-1", 50, 60, 1000, pulling=51, dag="flights", team="core")
    told += machine("i-2", 100, 150, None, market="on-demand") + machine("i-3", 0, 1, 9, instance_type="x9.unheard")
    store = opened(tmp_path, told)
    report = costs(told, BOOK, "day", 0, NOW)
    with store.reading() as connection:
        whole = queries.total(connection, EPOCH)
        daily = queries.daily(connection, EPOCH)
    assert whole.usd == pytest.approx(report.bill.usd)
    assert whole.seconds == pytest.approx(report.bill.seconds)
    assert whole.unpriced == pytest.approx(report.bill.unpriced_seconds) == 9
    for row in report.rows:
        for category, amount in row.amounts.items():
            mine = [cost for key, cost in daily.items() if (key[0], key[2]) == (row.name[0], category)]
            assert sum(cost.seconds for cost in mine) == pytest.approx(amount.seconds)
    text = page(store, "", **{"from": "1970-01-01", "to": "1970-01-03"})[1]
    assert f"${report.bill.usd:,.2f}+" in text, "a part has no known price, and that is said"
    store.close()


def test_an_unknown_price_is_unknown_and_never_zero(tmp_path: Path) -> None:
    store = opened(tmp_path, machine("i-3", 0, 1, 900, instance_type="x9.unheard") + pod("a", "i-3", 2, 3, 800))
    days = {"from": "1970-01-01", "to": "1970-01-01"}
    for where in ("", "jobs", "comparison"):
        text = page(store, where, **days)[1]
        assert "unknown" in "".join(Reader(text).text)
    assert "unknown" in page(store, "job", dag="d", task="a", run="r")[1]
    store.close()


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


@pytest.mark.parametrize("minimum", [0, 60])
def test_the_overview_says_what_its_figures_count_and_what_they_leave_out(tmp_path: Path, minimum: int) -> None:
    store = Store.open(str(tmp_path / "ledger.db"))
    store.record_all(machine("i-1", 0, 1, 30))
    Books(store, BOOK, Billing(minimum_seconds=minimum), clock=lambda: NOW).update()
    with store.reading() as connection:
        whole = queries.total(connection, EPOCH)
        text = app.file(connection, EPOCH, NOW)
    assert whole.seconds == max(30, minimum)
    for said in (text, page(store, "", **EPOCH.query)[1]):
        assert "Left out: all other volumes (EBS)" in said
        assert "data transfer" in said
        assert ("each for 60 s at least" in said) == (minimum == 60)
        assert ("may bill a machine for a minute at least" in said) == (minimum == 0)
    store.close()


def test_pods_whose_machine_is_gone_are_nowhere_counted_as_there(tmp_path: Path) -> None:
    told = machine("i-1", 0, 1, 900) + machine("i-2", 0, 1, None)
    told += pod("a", "i-1", 2, 3, None) + pod("b", "i-2", 2, 3, None) + pod("c", "i-2", 2, 3, 50)
    store = opened(tmp_path, [*told, Event(NOW - 40 * 86_400, "pod.queued", pod_uid="d", pod="job-d")])
    with store.reading() as connection:
        there = queries.now(connection)
    assert (there.running, there.waiting) == (1, 1)
    assert sorted(job.pod for job in history.present(store, NOW).jobs) == ["job-b", "job-d"]
    gauges = metrics.Metrics(store, clock=lambda: NOW).render()
    assert sum(float(line.split()[-1]) for line in gauges.splitlines() if line.startswith("tidepool_jobs{")) == 2
    store.close()


@pytest.mark.parametrize("number", ["0", "-1", "1e9", "99999999999999999999", "٣", "x", ""])
def test_a_page_number_that_is_none_is_no_error(small: Store, number: str) -> None:
    assert page(small, "jobs", year.LAST, page=number)[0] == 200
    assert page(small, "machines", year.LAST, page=number, hours=number, until=number)[0] == 200


def test_an_empty_ledger_has_pages_that_say_so(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "ledger.db"))
    for where in app.PAGES:
        assert page(store, where)[0] == 200
    store.close()


@pytest.fixture
def served(small: Store) -> Iterator[int]:
    """The port of a server."""
    server = PageServer("127.0.0.1:0", Site(small, TOKEN, lambda: "up 1\n", lambda: year.LAST))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.port
    server.close()
    thread.join(10)


def ask(port: int, target: str, authorization: str = "", method: str = "GET") -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, target, headers={"Authorization": authorization} if authorization else {})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


BASIC = "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()


def test_only_who_knows_the_token_sees_a_page(served: int) -> None:
    wrong = "Basic " + base64.b64encode(b"anyone:another token").decode()
    for header in (
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        wrong,
        "Basic %%%",
        f"Digest {TOKEN}",
    ):
        for where in (*app.PAGES, "nothing"):
            status, text, headers = ask(served, f"/{where}", header)
            assert status == 401
            assert "basic" in headers["WWW-Authenticate"].lower()
            assert "orders_hourly" not in text
    for header in (f"Bearer {TOKEN}", BASIC):
        assert ask(served, "/", header)[0] == 200
    assert ask(served, "/nothing", BASIC)[0] == 404


def test_without_a_token_nobody_sees_a_page(small: Store) -> None:
    site = Site(small, "")
    assert {site.answer("/", header).status for header in ("", "Bearer ", "Basic Og==", "Bearer x")} == {401}


def test_health_and_metrics_are_for_the_cluster(served: int) -> None:
    assert ask(served, "/healthz")[:2] == (200, "ok\n")
    status, text, headers = ask(served, "/metrics")
    assert (status, text) == (200, "up 1\n")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    waiting = Site(None, TOKEN).answer("/metrics", "")
    assert waiting.status == 200  # for Prometheus it is well
    assert all(line.startswith("#") for line in str(waiting.body).splitlines())


def test_a_keeper_that_does_nothing_any_more_says_so_to_the_cluster(small: Store) -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    site = Site(small, TOKEN, trouble=pace.trouble)
    now[0] = 119.0
    assert site.answer("/healthz", "").status == 200
    now[0] = 121.0
    assert (site.answer("/healthz", "").status, site.answer("/healthz", "").body) == (
        503,
        "no watch was in step for 121 s\n",
    )
    pace.wrote("pods", 0, 0)
    assert site.answer("/healthz", "").status == 200


def test_a_page_or_metrics_for_which_no_connection_is_left_are_asked_for_again(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> str:
        raise sa.exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached")

    monkeypatch.setattr(small, "reading", full)
    site = Site(small, TOKEN, full)
    assert [site.answer(where, BASIC).status for where in ("/", "/metrics")] == [503, 503]


def test_nothing_can_be_changed_by_the_page(served: int) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
        assert ask(served, "/jobs", BASIC, method)[0] == 501
    status, text, _ = ask(served, "/", BASIC, "HEAD")
    assert (status, text) == (200, "")


def test_every_answer_says_that_nothing_may_run_or_be_fetched(served: int) -> None:
    for where, header in (("/", BASIC), ("/", ""), ("/nothing", BASIC), ("/?from=x", BASIC), ("/healthz", "")):
        headers = ask(served, where, header)[2]
        policy = headers["Content-Security-Policy"]
        assert policy == layout.POLICY
        assert "unsafe" not in policy
        assert "script" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


def test_the_page_is_small_has_one_style_sheet_and_no_script(served: int) -> None:
    text = ask(served, "/", BASIC)[1]
    assert len(STYLE_ONLY.findall(text)) == 1
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert len(text) < 200_000


@pytest.mark.parametrize(
    "target",
    ["/" + "x" * 70_000, "/?" + "a=b&" * 500, "/?" + "a" * 9000, "//evil.example/", "/../../etc/passwd", "/%00"],
)
def test_a_strange_address_is_no_page_and_no_failure(served: int, target: str) -> None:
    assert ask(served, target, BASIC)[0] in (400, 404, 414)
    assert ask(served, "/healthz")[0] == 200


def test_a_hostile_query_is_answered(served: int) -> None:
    for name in HOSTILE_NAMES:
        query = urlencode({"search": name.encode(errors="replace")})
        status, text, _ = ask(served, f"/jobs?{query[:8000]}", BASIC)
        assert status == 200
        check(text)
    assert ask(served, "/jobs?search=%ff%fe" + quote("<b>"), BASIC)[0] == 200


def test_who_opens_connections_and_says_nothing_keeps_nobody_out(served: int) -> None:
    idle = [socket.create_connection(("127.0.0.1", served)) for _ in range(10)]
    assert ask(served, "/", BASIC)[0] == 200
    for each in idle:
        each.close()


def test_a_database_that_is_away_is_said_and_comes_back(tmp_path: Path) -> None:
    store = opened(tmp_path, machine("i-1", 0, 1, 9))
    site = Site(store, TOKEN, clock=lambda: NOW)
    with store.writing(1) as connection:
        connection.execute(sa.text("ALTER TABLE tidepool_days RENAME TO away"))
    assert site.answer("/", BASIC).status == 503
    with store.writing(1) as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO tidepool_days"))
    assert site.answer("/", BASIC).status == 200
    assert Site(None, TOKEN).answer("/", BASIC).status == 503
    store.close()


def test_what_it_cannot_listen_on_is_said(small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ListenError, match="is no HOST:PORT"):
        PageServer("8080", Site(small, TOKEN))
    with pytest.raises(ListenError, match="can't listen on"):
        PageServer("203.0.113.1:80", Site(small, TOKEN))
    with pytest.raises(ListenError, match="give it 16 or more"):
        PageServer("127.0.0.1:0", Site(small, "short"))
    monkeypatch.setenv("TIDEPOOL_PAGE_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(ListenError, match="No such file"):
        token()
    (tmp_path / "none").write_text(f"{TOKEN}\n")
    assert token() == TOKEN


def test_the_dearest_moment_is_what_always_on_is_made_of(tmp_path: Path) -> None:
    told = machine("i-1", 0, 1, 3600) + machine("i-2", 1800, 1801, 7200, market="on-demand")
    told += machine("i-3", 3600, 3601, 5400) + machine("i-s", 0, 1, None, pool="system", market="on-demand")
    store = opened(tmp_path, told)
    with store.reading() as connection:
        peak = queries.peak(connection, EPOCH, NOW)
        bought, on_demand = queries.bought(connection, EPOCH)
    assert peak is not None
    assert peak.usd_per_hour == pytest.approx(2 * 0.096), "the two that were there at once; one went as another came"
    assert peak.machines == (("spot", "m5.large", 2),)
    assert on_demand == pytest.approx((3600 + 5400 + 1800) / 3600 * 0.096)
    assert bought.usd == pytest.approx((3600 + 1800) / 3600 * 0.036 + 5400 / 3600 * 0.096)
    store.close()


def test_waste_is_what_failed_and_what_was_not_used(tmp_path: Path) -> None:
    told = (
        machine("i-1", 0, 0, 4000)
        + pod("bad", "i-1", 0, 0, 1000)
        + pod("good", "i-1", 2000, 2000, 3000, cpu=1000, memory=4)
    )
    told = [each for each in told if (each.kind, each.pod_uid) != ("pod.ended", "bad")]
    told.append(Event(1000, "pod.ended", "i-1", pod_uid="bad", cause="app_error"))
    told.append(Event(3001, "pod.used", "i-1", pod_uid="good", cpu_seconds=250, memory_p99_bytes=1, samples=9))
    store = opened(tmp_path, told)
    with store.reading() as connection:
        found = {task.task: task for task in queries.tasks(connection, EPOCH, "waste", "", 10, 0)[0]}
    assert found["bad"].lost == pytest.approx(found["bad"].usd)
    assert found["bad"].failed == 1
    assert found["good"].unused == pytest.approx(0.75 * (found["good"].usd or 0))
    store.close()


def test_a_task_is_shown_with_what_its_days_have_together(tmp_path: Path) -> None:
    day, told = 86_400.0, machine("i-1", 0, 0, 3 * 86_400.0)
    for uid, since, until in (("a", 0.0, 1000.0), ("b", day, day + 3000), ("c", 2 * day, None)):
        told += [replace(each, task="task", run=uid) for each in pod(uid, "i-1", since, since, until)]
    store = opened(tmp_path, told, 2 * day + 100)
    with store.reading() as connection:
        [task], count = queries.tasks(connection, EPOCH, "time", "TASK", 10, 0)
        [first], _ = queries.tasks(connection, Period(EPOCH.first, EPOCH.first), "time", "", 10, 0)
        trend = queries.trends(connection, EPOCH, [("d", "task")])
    store.close()
    assert (count, task.team, task.runs, task.pods, task.failed) == (1, "t", 3, 3, 0)
    assert (task.mean, task.longest, first.longest) == (2000, 3000, 1000)
    assert task.usd == pytest.approx((1000 + 3000 + 100) * 0.036 / 3600)
    assert trend["d", "task"] == [*(pytest.approx(each * 0.036 / 3600) for each in (1000, 3000, 100)), None]
