"""Every expression of the dashboards, asked of a real Prometheus that has the keeper's own metrics.

TIDEPOOL_PICTURES=FOLDER keeps a picture of each dashboard.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.services import alerts, dashboards
from tests.dags import browser
from tests.seam import dashboard_pictures, observed, prometheus
from tests.seam.prometheus import Prometheus

pytestmark = pytest.mark.skipif(
    not prometheus.is_here(), reason="no prometheus and promtool: as root, `./tidepool test` installs them"
)

BOARDS: dict[str, dict[str, Any]] = {
    name.removesuffix(".json"): json.loads(text) for name, text in dashboards.dashboards().items()
}
PANELS = [
    pytest.param(panel, id=f"{name.removeprefix('tidepool-')}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus.started(folder, observed.samples(folder), observed.SINCE, observed.UNTIL) as server:
        yield server


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_shows_something_of_hours_in_which_everything_happens(
    server: Prometheus, panel: dict[str, Any]
) -> None:
    series = server.over_time(panel)
    assert any(float(value) for each in series for _, value in each["values"]), series
    if panel["type"] == "stat":
        assert len(server.now(panel)) == 1, "a stat is one figure"
    else:
        names = [dashboard_pictures.legend(panel, each) for each in series]
        assert "" not in names
        assert not [name for name in names if "{{" in name], "a legend has a label that the expression leaves out"
        assert len(set(names)) == len(names), "two series of a panel have one name"
        assert len(names) <= 12, "nobody can tell so many colours apart"


def test_every_metric_of_dashboards_and_alerts_is_one_that_the_keeper_exports(server: Prometheus) -> None:
    named = set(re.findall(r"tidepool_\w+", json.dumps([list(BOARDS.values()), alerts.rules()])))
    assert named <= server.names()


def test_figures_of_two_keepers_are_those_of_one(server: Prometheus) -> None:
    (machines,) = server.over_time({"targets": [{"expr": "sum(tidepool_machines)"}]})
    panel = next(each for each in BOARDS["tidepool-money"]["panels"] if each["title"] == "Machines, by pool")
    drawn: dict[float, float] = {}
    for each in server.over_time(panel):
        for at, value in each["values"]:
            drawn[at] = drawn.get(at, 0.0) + float(value)
    assert {at: len(observed.KEEPERS) * count for at, count in drawn.items()} == {
        at: float(value) for at, value in machines["values"]
    }


def test_bars_add_up_to_what_happened(server: Prometheus) -> None:
    """Bars overlap by one scrape, so that none is left out: a total is at most a twentieth too much, and an event."""
    panel = next(each for each in BOARDS["tidepool-jobs"]["panels"] if each["title"] == "Ends, by cause")
    drawn = {
        each["metric"]["cause"]: sum(float(value) for _, value in each["values"]) for each in server.over_time(panel)
    }
    ended = [event for event in observed.events() if event.kind == "pod.ended"]
    happened = Counter(event.cause for event in ended if observed.SINCE < event.time <= observed.UNTIL)
    assert drawn.keys() == happened.keys()
    for cause, count in happened.items():
        assert count * 0.9 - 1 <= drawn[cause] <= count * 1.1 + 1, cause


@pytest.mark.skipif("TIDEPOOL_PICTURES" not in os.environ, reason="TIDEPOOL_PICTURES names no folder")
@pytest.mark.skipif(browser.program() is None, reason=f"none of {', '.join(browser.PROGRAMS)} is here")
def test_pictures(server: Prometheus, tmp_path: Path) -> None:
    with browser.started() as window:
        for name, board in BOARDS.items():
            answers = {
                panel["id"]: (server.now if panel["type"] == "stat" else server.over_time)(panel)
                for panel in board["panels"]
            }
            file = tmp_path / f"{name}.html"
            file.write_text(dashboard_pictures.page(board, answers, server.since, server.until))
            window.size(dashboard_pictures.WIDTH, dashboard_pictures.height(board))
            window.open(file.as_uri())
            picture = Path(os.environ["TIDEPOOL_PICTURES"]) / f"dashboard-{name.removeprefix('tidepool-')}.png"
            window.picture(picture, whole=False)
            assert picture.stat().st_size < 250_000
