"""The page in a real browser, and a year of it. Figures are printed: pytest -s. TIDEPOOL_PICTURES=FOLDER keeps PNGs."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from tests.dags import browser, year
from tests.dags.browser import Browser
from tests.dags.histories import BOOK, HOSTILE_NAMES, hostile
from tests.waiting import wait_until
from tidepool.keeper.page.server import PageServer, Site
from tidepool.ledger import schema
from tidepool.ledger.books import Books
from tidepool.ledger.store import Store

pytestmark = pytest.mark.skipif(browser.program() is None, reason=f"none of {', '.join(browser.PROGRAMS)} is here")

TOKEN = "a token of sixteen"
YEAR = "from=2025-11-21&to=2026-11-20"
FIRST_PAINT_SECONDS = 1.0
NAMED = ("link", "button", "textbox", "searchbox", "Date", "DateTime", "table", "image", "img", "heading")
CONTRAST = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const light = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const part = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const ground = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return 'white';
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest('.unseen, title, .label')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(element.closest('svg') ? style.fill : style.color), light(ground(element))].sort();
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${walk.currentNode.data.trim().slice(0, 30)}`);
  }
  return [...new Set(bad)];
})()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A year of 100,000 jobs."""
    opened, begun = Store.open(str(tmp_path_factory.mktemp("year") / "ledger.db")), time.monotonic()
    year.fill(opened, year.year())
    print(f"\na year of jobs was made in {time.monotonic() - begun:.0f} s")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pages(store: Store) -> Iterator[dict[str, str]]:
    """Every kind of page: addresses by name."""
    server = PageServer("127.0.0.1:0", Site(store, TOKEN, clock=lambda: year.LAST))
    threading.Thread(target=server.run, daemon=True).start()
    with store.reading() as connection:
        job = schema.jobs.c
        chosen = sa.select(job.dag, job.task, job.run).where(job.attempt == 3, job.cause == "ok").order_by(job.queued)
        dag, task, run = connection.execute(chosen.limit(1)).one()
    whole = f"http://127.0.0.1:{server.port}/"
    yield {
        "overview": whole,
        "overview of a year": f"{whole}?{YEAR}",
        "machines": f"{whole}machines",
        "jobs": f"{whole}jobs",
        "jobs of a year": f"{whole}jobs?{YEAR}",
        "task": f"{whole}task?dag=flights_daily&task=model&{YEAR}",
        "job": f"{whole}job?dag={dag}&task={task}&run={run.replace('+', '%2B')}",
        "comparison": f"{whole}comparison?{YEAR}",
    }
    server.close()


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser.started() as window:
        window.authorize(TOKEN)
        window.size(1280, 900)
        yield window


def test_a_browser_that_is_closed_leaves_no_process() -> None:
    with browser.started() as closed:
        assert has_members(closed.process.pid)
    what = "the browser has ended, as the shell script that Debian starts it by has"
    wait_until(lambda: not has_members(closed.process.pid), 10, what, look=0.01)


def has_members(group: int) -> bool:
    """Whether there is a process of the group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_page_of_a_year_with_100_000_jobs_is_painted_within_a_second(
    window: Browser, pages: dict[str, str], store: Store
) -> None:
    with store.reading() as connection:
        jobs = connection.scalar(sa.select(sa.func.count()).select_from(schema.jobs))
    assert jobs is not None
    assert jobs >= 100_000
    print(f"\n{jobs:,} jobs; first contentful paint, best of three: as it was, and with the cores to itself")
    found = {}
    for name, url in pages.items():
        painted = []
        for _ in range(3):
            begun = time.process_time()
            window.open(url)
            asked = time.process_time() - begun  # the server is this process
            seconds = window.first_paint()
            waited = window.value("performance.getEntriesByType('navigation')[0].responseStart") / 1000
            painted.append((min(seconds, asked + seconds - waited), seconds))
        found[name] = min(painted)[0]
        size = window.value("document.documentElement.outerHTML.length") / 1000
        print(f"{name:20} {min(each for _, each in painted):.3f} s, {found[name]:.3f} s, {size:.0f} kB")
    assert max(found.values()) <= FIRST_PAINT_SECONDS, found


def test_nothing_is_asked_of_another_host_and_the_console_is_silent(window: Browser, pages: dict[str, str]) -> None:
    window.requests.clear()
    window.problems.clear()
    for url in pages.values():
        window.open(url)
    hosts = {urlsplit(each).netloc for each in window.requests if not each.startswith("data:")}
    assert hosts == {urlsplit(pages["overview"]).netloc}
    assert len([each for each in window.requests if not each.startswith("data:")]) == len(pages), (
        "a page is one request"
    )
    assert window.problems == []


def test_who_hears_a_page_is_told_what_everything_is(window: Browser, pages: dict[str, str]) -> None:
    for name, url in pages.items():
        window.open(url)
        tree = window.tree()
        roles = [role for role, _ in tree]
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert landmark in roles, f"{name} has no {landmark}"
        nameless = [role for role, said in tree if not said.strip() and role in NAMED]
        assert nameless == [], name
        assert "heading" in roles


def test_the_keyboard_reaches_everything_in_its_order(window: Browser, pages: dict[str, str]) -> None:
    for name in ("overview", "jobs", "machines"):
        window.open(pages[name])
        window.value("document.querySelectorAll('*').forEach((e, i) => e.dataset.place = i)")
        here = (
            "(e => e === document.body ? null : [+e.dataset.place, e.tagName.toLowerCase(), "
            "getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        wanted = "a[href], button, input:not([type=hidden]), summary, [tabindex='0']"
        visible = f'[...document.querySelectorAll("{wanted}")].filter(e => e.checkVisibility()).length'
        found: list[int] = []
        count = window.value(visible)
        for _ in range(count * 5):
            window.key("Tab", 9)
            place = window.value(here)
            if place is None or (found and place[0] < found[-1]):
                break
            assert place[2] != "none" or place[1] == "input", f"{name}: nothing shows that {place} has the focus"
            if not found or place[0] != found[-1]:  # the parts of a date are stops of their own
                found.append(place[0])
        assert len(found) == count, f"{name}: {len(found)} of {count}"


def test_the_first_stop_skips_to_the_content_and_enter_follows_a_link(window: Browser, pages: dict[str, str]) -> None:
    window.open(pages["overview"])
    window.key("Tab", 9)
    assert window.value("document.activeElement.textContent") == "Skip to the content"
    window.key("Enter", 13)
    assert window.value("document.activeElement.id") == "content"
    window.value("document.querySelector('nav a[href=jobs]').focus()")
    window._told.clear()
    window.key("Enter", 13)
    window.wait("Page.loadEventFired")
    assert window.value("document.querySelector('h1').textContent") == "Jobs"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(window: Browser, pages: dict[str, str], dark: bool) -> None:
    window.size(1280, 900, dark)
    for name, url in pages.items():
        window.open(url)
        assert window.value(CONTRAST) == [], name
    window.size(1280, 900)


def test_a_page_is_not_wider_than_a_phone(window: Browser, pages: dict[str, str]) -> None:
    window.size(390, 800)
    for name, url in pages.items():
        window.open(url)
        assert window.value("document.documentElement.scrollWidth") <= 390, name
    window.size(1280, 900)


def test_no_name_runs_in_a_browser(window: Browser, tmp_path: Path) -> None:
    opened = Store.open(str(tmp_path / "ledger.db"))
    opened.record_all(event for name in HOSTILE_NAMES for event in hostile(name[:100]))
    Books(opened, BOOK, clock=lambda: 100_000.0).update()
    server = PageServer("127.0.0.1:0", Site(opened, TOKEN, clock=lambda: 100_000.0))
    threading.Thread(target=server.run, daemon=True).start()
    window.requests.clear()
    window.problems.clear()
    for where in ("", "machines?hours=24", "jobs", "comparison", "jobs?search=%3Cscript%3Ealert(1)%3C/script%3E"):
        window.open(f"http://127.0.0.1:{server.port}/{where}")
        assert window.value("document.querySelectorAll('script, img, iframe, object, [onload], [onerror]').length") == 0
        assert window.value("document.querySelectorAll('a[href^=javascript]').length") == 0
    assert {urlsplit(each).netloc for each in window.requests if not each.startswith("data:")} == {
        f"127.0.0.1:{server.port}"
    }
    assert window.problems == []
    server.close()
    opened.close()


@pytest.mark.skipif("TIDEPOOL_PICTURES" not in os.environ, reason="TIDEPOOL_PICTURES names no folder")
def test_pictures(window: Browser, pages: dict[str, str]) -> None:
    folder = Path(os.environ["TIDEPOOL_PICTURES"])
    for file, name, height, dark in (
        ("page-overview", "overview of a year", 1480, False),
        ("page-machines", "machines", 1010, False),
        ("page-jobs", "jobs of a year", 900, True),
        ("page-job", "job", 1000, False),
        ("page-comparison", "comparison", 1060, False),
    ):
        window.size(1200, height, dark)
        window.open(pages[name])
        window.picture(folder / f"{file}.png", whole=False)
    window.size(1280, 900)
