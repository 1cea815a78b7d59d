"""A headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import urlopen

import websocket

from tests.waiting import wait_until

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
LIMIT_SECONDS = 60


def program() -> str | None:
    """The browser, if there is one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One window. requests: every address it asked for. problems: what its console and its own checks complained of."""

    def __init__(self, path: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tidepool-browser-"))
        options = ["--remote-debugging-port=0", f"--user-data-dir={self._folder}", "--hide-scrollbars", "about:blank"]
        if os.geteuid() == 0:
            options.insert(0, "--no-sandbox")  # it can't make one as root; it sees these pages only
        quiet = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--lang=en-US"]
        # In a group of its own: Debian's program is a shell script that waits for the browser.
        self.process = subprocess.Popen(
            [path, *quiet, *options], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
        )
        self._numbers = itertools.count(1)
        self._told: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._socket = websocket.create_connection(self._address(), timeout=LIMIT_SECONDS, suppress_origin=True)
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                result: dict[str, Any] = said["result"]
                return result
            self._take(said)

    def _take(self, said: dict[str, Any]) -> None:
        method, what = said.get("method", ""), said.get("params", {})
        self._told.append(said)
        if method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(what["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.problems.append(str(what["args"]))
        elif method == "Log.entryAdded":
            self.problems.append(what["entry"]["text"])

    def authorize(self, token: str) -> None:
        """Send the token with every request."""
        self.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Bearer {token}"})

    def cookie(self, name: str, value: str, url: str) -> None:
        """Keep a cookie."""
        self.call("Network.setCookie", name=name, value=value, url=url)

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Of the window, and which colours its user likes."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._told.clear()
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def wait(self, method: str) -> None:
        """Until the browser says so."""
        end = time.monotonic() + LIMIT_SECONDS
        while not any(each.get("method") == method for each in self._told):
            assert time.monotonic() < end, f"no {method}"
            self._take(json.loads(self._socket.recv()))

    def value(self, script: str) -> Any:
        """What a script of the test's gives; the page has none of its own."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def first_paint(self) -> float:
        """Seconds from the click to the first content on the screen."""
        script = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
        end = time.monotonic() + LIMIT_SECONDS
        while (found := self.value(script)) is None:
            assert time.monotonic() < end, "nothing was painted"
        return float(found) / 1000

    def key(self, key: str, code: int) -> None:
        """Press a key and let go of it."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def tree(self) -> list[tuple[str, str]]:
        """(role, name) of what a screen reader is told of, in its order."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored") and "role" in node
        ]

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def _address(self) -> str:
        told = self._folder / "DevToolsActivePort"

        def is_told() -> bool:
            assert self.process.poll() is None, "the browser has ended"
            return told.exists() and "\n" in told.read_text()

        wait_until(is_told, LIMIT_SECONDS, "the browser answers", look=0.05)
        port = told.read_text().split("\n")[0]
        with urlopen(f"http://127.0.0.1:{port}/json") as answer:
            pages = json.load(answer)
        return str(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))


@contextmanager
def started() -> Iterator[Browser]:
    """A browser that ends with the block."""
    path = program()
    assert path is not None
    with Browser(path) as browser:
        yield browser
