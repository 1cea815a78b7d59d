"""What the local cloud's own long-running processes share."""

from __future__ import annotations

import datetime
import signal
import threading


def log(text: str) -> None:
    """One line with its UTC time to standard output, which supervisord keeps."""
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%f}Z {text}", flush=True)


def ready_to_stop() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
