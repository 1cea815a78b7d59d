"""Who is answered: with the token only, nothing can be changed, and nobody keeps the others out."""

import base64
import http.client
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa

from tests.dags import year
from tests.dags.histories import HOSTILE_NAMES, machine
from tests.dags.pages import NOW, TOKEN, check, opened
from tidepool.keeper.pace import Pace
from tidepool.keeper.page import app, layout
from tidepool.keeper.page.server import ListenError, PageServer, Site, token
from tidepool.ledger.store import Store

STYLE_ONLY = re.compile(r"<style>.*?</style>", re.DOTALL)
BASIC = "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()


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
