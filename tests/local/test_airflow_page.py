"""The keeper's page behind the real Airflow's own login: its API server on a port of its own, without the rest."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from infra.local import addresses, airflow, paths
from infra.local.supervisor import minimal_environment
from tests.dags import browser, year
from tests.waiting import wait_until
from tidepool.keeper.page.server import PageServer, Site
from tidepool.ledger.store import Store

pytestmark = pytest.mark.local_cloud

COOKIE = "_token"


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("cloud")
    store = Store.open(str(folder / "ledger.db"))
    year.fill(store, year.year(jobs=2000, days=30))
    token = airflow.page_token(folder).read_text().strip()
    server = PageServer("127.0.0.1:0", Site(store, token, clock=lambda: year.LAST))
    threading.Thread(target=server.run, daemon=True).start()
    yield server
    server.close()
    store.close()


@pytest.fixture(scope="module")
def url(keeper: PageServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Airflow's API server with the plugin, as the local cloud runs it."""
    folder: Path = next(tmp_path_factory.getbasetemp().glob("cloud*"))
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        patch.setattr(addresses, "AIRFLOW", f"http://127.0.0.1:{free.getsockname()[1]}")
        patch.setattr(addresses, "KEEPER", f"http://127.0.0.1:{keeper.port}")
        free.close()
        airflow.prepare(folder / "airflow", folder, paths.cache())
        programs = airflow.programs(
            folder / "airflow", folder / "capacity.json", folder / "kubeconfig", "tidepool-jobs"
        )
        (program,) = (each for each in programs if each.name == "airflow-api-server")
        with (folder / "api-server.log").open("wb") as log:
            process = subprocess.Popen(
                program.command,
                env=minimal_environment() | program.environment,
                cwd=program.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:

            def answers() -> bool:
                assert process.poll() is None, (folder / "api-server.log").read_text()[-3000:]
                return _answers(addresses.AIRFLOW)

            wait_until(answers, 120, "Airflow's API server answers")
            yield addresses.AIRFLOW
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


@pytest.fixture(scope="module")
def session(url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a browser has after logging in."""
    home = next(tmp_path_factory.getbasetemp().glob("cloud*")) / "airflow"
    known = {"username": airflow.USER, "password": json.loads((home / airflow.PASSWORDS).read_text())[airflow.USER]}
    answer = httpx.post(f"{url}/auth/token", json=known, trust_env=False, timeout=60)
    return str(answer.raise_for_status().json()["access_token"])


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/version", trust_env=False).is_success
    except httpx.TransportError:
        return False


def get(url: str, session: str = "") -> httpx.Response:
    cookies = {COOKIE: session} if session else {}
    with httpx.Client(trust_env=False, cookies=cookies, timeout=60) as client:
        return client.get(url)


@pytest.mark.parametrize("page", ["", "machines", "jobs", "task", "job", "comparison"])
def test_whom_airflow_does_not_know_sees_no_page(url: str, page: str) -> None:
    for session in ("", "forged"):
        answer = get(f"{url}/tidepool/{page}", session)
        assert answer.status_code in (401, 403)
        assert "tidepool" not in answer.text.lower()


@pytest.mark.parametrize("page", ["", "machines", "jobs", "comparison"])
def test_whom_airflow_knows_sees_the_keepers_page(url: str, session: str, page: str) -> None:
    answer = get(f"{url}/tidepool/{page}?from=2026-11-18", session)
    assert answer.status_code == 200
    assert "2026-11-18 to 2026-11-20" in answer.text or page == "machines"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_nothing_else_of_the_keeper_is_reached_through_airflow(url: str, session: str) -> None:
    for path in (
        "healthz",
        "metrics",
        "%2e%2e/metrics",
        "jobs/%2e%2e/metrics",
        "/elsewhere.example/",
        "@elsewhere.example/",
    ):
        assert get(f"{url}/tidepool/{path}", session).status_code == 404
    with httpx.Client(trust_env=False, cookies={COOKIE: session}) as client:
        assert client.post(f"{url}/tidepool/jobs").status_code == 405


def test_the_keeper_itself_shows_nothing_without_its_token(keeper: PageServer, session: str) -> None:
    assert get(f"http://127.0.0.1:{keeper.port}/", session).status_code == 401


def test_it_is_in_airflows_menu_and_its_links_work_within_airflow(url: str, session: str) -> None:
    if browser.program() is None:
        pytest.skip("no Chromium: as root, `./tidepool test` installs it")
    with browser.started() as window:
        window.cookie(COOKIE, session, url)
        window.size(1400, 900)
        window.open(f"{url}/plugin/tidepool")
        found = (
            "[...document.querySelectorAll('iframe')].map(f => f.contentDocument?.querySelector('h1')?.textContent)[0]"
        )

        def until(heading: str) -> None:
            shown = partial(window.value, "document.body.innerText")
            wait_until(lambda: window.value(found) == heading, 60, shown)

        until("What it cost")
        if folder := os.environ.get("TIDEPOOL_PICTURES"):
            window.picture(Path(folder) / "page-in-airflow.png", whole=False)
        assert "Costs" in window.value("document.body.innerText")
        window.value("[...document.querySelector('iframe').contentDocument.querySelectorAll('nav a')][2].click()")
        until("Jobs")
