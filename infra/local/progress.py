"""Progress on what takes long: steps with their time, a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_STILL_SECONDS = 30


class Progress:
    """Tells a person what is going on, on stderr (standard output is for results)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, soft_wrap=True)  # paths stay whole, to be copied

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show `title` while the block runs and how long it took when it ends; steps may nest and run in threads."""
        start = time.monotonic()
        done = threading.Event()
        reporter = threading.Thread(target=self._still, args=(title, start, done), daemon=True)
        reporter.start()
        failed = True
        try:
            yield
            failed = False
        finally:
            done.set()
            reporter.join()
            seconds = time.monotonic() - start
            mark = "failed after" if failed else "done in"
            if seconds >= 2 or failed:
                self.say(f"  {title}: {mark} {seconds:.0f} s")

    def _still(self, title: str, start: float, done: threading.Event) -> None:
        if not done.wait(2):
            self.say(f"  {title} …")
        while not done.wait(_STILL_SECONDS):
            self.say(f"  {title} … {time.monotonic() - start:.0f} s")
