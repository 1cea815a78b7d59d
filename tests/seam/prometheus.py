"""A real Prometheus on loopback, over samples that it did not collect itself; asked as Grafana asks it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.waiting import wait_until

SCRAPE_SECONDS = 30
"""Of the data source that the chart gives Grafana: its time interval."""

Series = dict[str, Any]
Panel = dict[str, Any]


def is_here() -> bool:
    """Debian's package `prometheus` has both."""
    return all(shutil.which(name) for name in ("prometheus", "promtool"))


class Prometheus:
    """since, until: the time range that a dashboard shows. step: seconds between two points of it."""

    def __init__(self, port: int, since: float, until: float, step: float = 60.0) -> None:
        self._port = port
        self.since, self.until, self.step = since, until, step

    def over_time(self, panel: Panel) -> list[Series]:
        """{metric, values} of each series in the time range. Raises AssertionError for what is no expression."""
        step = self._step(panel)
        since = self.since // step * step if step > self.step else self.since
        return self._ask("query_range", query=self._query(panel), start=since, end=self.until, step=step)

    def now(self, panel: Panel) -> list[Series]:
        """{metric, value} of each series at the end of the time range."""
        return self._ask("query", query=self._query(panel), time=self.until)

    def _step(self, panel: Panel) -> float:
        """Between two points: as the screen allows, and not less than the panel's own interval, in minutes."""
        return max(self.step, 60.0 * int(str(panel.get("interval", "0m")).removesuffix("m")))

    def _query(self, panel: Panel) -> str:
        """The panel's expression, with Grafana's own variables replaced as it replaces them."""
        (target,) = panel["targets"]
        step, expression = self._step(panel), str(target["expr"])
        values = {"__interval": step, "__range": self.until - self.since}
        values["__rate_interval"] = max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)
        for name, seconds in values.items():
            expression = re.sub(rf"\$(\{{{name}\}}|{name}\b)", f"{seconds:.0f}s", expression)
        assert "$" not in expression, expression
        return expression

    def names(self) -> set[str]:
        """Of all metrics that there are."""
        return {each["__name__"] for each in self._ask("series", **{"match[]": '{__name__=~".+"}'})}

    def _ask(self, what: str, **asked: object) -> list[Series]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", f"/api/v1/{what}?{urlencode(asked)}")
            found = json.load(connection.getresponse())
        finally:
            connection.close()
        assert found["status"] == "success", found
        return list(found["data"]["result"] if isinstance(found["data"], dict) else found["data"])


@contextmanager
def started(folder: Path, samples: Iterable[str], since: float, until: float) -> Iterator[Prometheus]:
    """One that has the samples (OpenMetrics text), and ends with the block."""
    data, told, settings = folder / "data", folder / "log", folder / "prometheus.yml"
    settings.write_text("{}")
    with (folder / "samples.txt").open("w") as file:
        file.writelines(samples)
    promtool = ["promtool", "tsdb", "create-blocks-from", "openmetrics", file.name, str(data)]
    done = subprocess.run(promtool, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    options = [f"--config.file={settings}", f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=100y"]
    with told.open("w") as log:
        process = subprocess.Popen(["prometheus", *options, "--web.listen-address=127.0.0.1:0"], stderr=log, stdout=log)
    try:

        def port() -> int:
            assert process.poll() is None, told.read_text()
            said = told.read_text()
            found = re.search(r'Listening on" address=127\.0\.0\.1:(\d+)', said)
            return int(found[1]) if found and "ready to receive web requests" in said else 0

        number = wait_until(port, 60, lambda: f"Prometheus is ready: {told.read_text()}", look=0.05)
        yield Prometheus(number, since, until)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
