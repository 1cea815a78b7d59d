"""The reaper's loop: look, wait out the grace time, look again at the one thing, write it down, remove it.

What it knows it has from the objects and the ledger; what it only remembers (since when something has been wrong that
does not say so itself) a restart makes it wait for once more.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from tidepool.keeper import reaper
from tidepool.keeper.reaper import Action, Finding, Rule, World
from tidepool.ledger.events import Event, Ledger

_log = logging.getLogger("tidepool.reaper")

EVERY_SECONDS = 10.0
_BLIND_SECONDS = 1.0
_HOUR = 3600.0


class Sight(Protocol):
    """Where the reaper looks and removes; tidepool.keeper.snapshot.Cluster."""

    def world(self, now: float) -> World | None: ...

    def fresh(self, finding: Finding, now: float) -> World: ...

    def remove(self, finding: Finding) -> bool: ...


class Reaper:
    """Removes what belongs to nobody, and writes each case into the ledger first.

    find: what it looks for; tidepool.keeper.reaper's functions.

    dry_run: it writes down what it would remove, and removes nothing. may_act: asked right before each removal.
    per_hour: removals of each rule within any hour, by its name, instead of the rules' own.
    """

    def __init__(
        self,
        sight: Sight,
        ledger: Ledger,
        dry_run: bool = False,
        may_act: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time.time,
        per_hour: dict[str, int] | None = None,
        find: Callable[[World], list[Finding]] = reaper.look,
    ) -> None:
        self._sight = sight
        self._ledger = ledger
        self._dry_run = dry_run
        self._may_act = may_act
        self._now = now
        self._find = find
        self._saw = False
        self._per_hour = {name: rule.per_hour for name, rule in reaper.RULES.items()} | (per_hour or {})
        self._noticed: dict[tuple[str, str], float] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._unwritten: deque[Event] = deque()
        self._removals: dict[str, deque[float]] | None = None

    def run(self, stopped: Callable[[], bool] = lambda: False, every: float = EVERY_SECONDS) -> None:
        """Look every few seconds until stopped, and soon again where nothing could be seen. Whatever fails is logged,
        and tried again the next time."""
        said = ""
        while not stopped():
            began, self._saw = time.monotonic(), False
            try:
                self.look()
                said = ""
            except Exception as error:  # noqa: BLE001 - an hour without a reaper costs more than any error here
                words = f"{type(error).__name__}: {error}"
                if words != said:
                    _log.warning("looking for what belongs to nobody failed, trying again: %s", words)
                said = words
            pause = every if self._saw else min(every, _BLIND_SECONDS)
            time.sleep(max(0.0, pause - (time.monotonic() - began)))

    def present(self) -> dict[str, tuple[int, float]]:
        """What has been told of and still is so, by rule: how many, and when the first of them was found. Not what is
        only to be reported: that belongs to somebody, or is a machine. Any thread may ask."""
        found: dict[str, tuple[int, float]] = {}
        for (rule, _), since in self._told.copy().items():
            if reaper.RULES[rule].action is not Action.REPORT:
                count, first = found.get(rule, (0, since))
                found[rule] = count + 1, min(first, since)
        return found

    def look(self) -> None:
        """One look, and what follows from it. An error with one finding does not keep the others waiting."""
        self._write_rest()
        if self._removals is None:
            self._removals = self._earlier()
        now = self._now()
        world = self._sight.world(now)
        if world is None:
            return
        self._saw = True
        found = self._find(world)
        self._noticed = {each.key: self._noticed.get(each.key, now) for each in found}
        self._told = {key: since for key, since in self._told.items() if key in self._noticed}
        failed: Exception | None = None
        for finding in found:
            if self._is_due(finding, now):
                try:
                    self._handle(finding)
                except Exception as error:  # noqa: BLE001 - raised below, once the others have had their turn
                    failed = error
        if failed is not None:
            raise failed

    def _is_due(self, finding: Finding, now: float) -> bool:
        return now - self._since(finding) >= finding.rule.grace

    def _since(self, finding: Finding) -> float:
        noticed = self._noticed.get(finding.key, self._now())
        return noticed if finding.since is None else min(noticed, finding.since)

    def _handle(self, finding: Finding) -> None:
        reports = self._dry_run or finding.rule.action is Action.REPORT
        if reports and finding.key in self._told:
            return
        is_over_limit = not reports and self._is_used_up(finding.rule)
        if is_over_limit and finding.key in self._told:
            return
        now = self._now()
        again = next((each for each in self._find(self._sight.fresh(finding, now)) if each.key == finding.key), None)
        if again is None or not self._is_due(again, now):
            _log.debug("%s %s/%s: not any more: %s", finding.kind, finding.namespace, finding.name, finding.evidence)
            return
        self._tell_found(again, now)
        if reports:
            return
        if is_over_limit:
            self._tell_held(again, now)
            return
        if not self._may_act():
            return
        if self._sight.remove(again):
            self._told.pop(finding.key, None)
            self._removed(finding.rule).append(now)
            self._write(_event("reaper.removed", again, now, again.rule.name, self._words(again)))
            _log.warning("removed %s %s/%s: %s", again.kind, again.namespace, again.name, again.evidence)

    def _tell_found(self, finding: Finding, now: float) -> None:
        """Before anything is removed its reason is in the ledger; if that can't be, nothing is removed."""
        if finding.key in self._told:
            return
        # A machine may idle more than once.
        times = f"/{self._since(finding):.0f}" if finding.kind == "Node" else ""
        event = _event("reaper.found", finding, now, finding.rule.name + times, self._words(finding))
        if not self._ledger.record(event):  # a keeper before this one has found it
            before = self._ledger.known(*event.key)
            now = before.time if before is not None and before.cause == event.cause else now
        self._told[finding.key] = now
        _log.warning("%s %s/%s: %s", finding.kind, finding.namespace, finding.name, self._words(finding))

    def _words(self, finding: Finding) -> str:
        action = f"{'dry run: ' if self._dry_run else ''}{finding.rule.action}"
        name = f"{finding.kind} {finding.name}: " if finding.kind != "Pod" else ""
        return f"{action}: {name}{finding.evidence}"

    def _tell_held(self, finding: Finding, now: float) -> None:
        limit = self._per_hour[finding.rule.name]
        words = f"{self._words(finding)}; not removed: {limit} an hour is the limit of rule {finding.rule.name}"
        self._ledger.record(_event("reaper.held", finding, now, f"{finding.rule.name}/{now // _HOUR:.0f}", words))
        _log.error("%s %s/%s: %s", finding.kind, finding.namespace, finding.name, words)

    def _is_used_up(self, rule: Rule) -> bool:
        removals, now = self._removed(rule), self._now()
        while removals and now - removals[0] >= _HOUR:
            removals.popleft()
        return len(removals) >= self._per_hour[rule.name]

    def _removed(self, rule: Rule) -> deque[float]:
        """When the rule removed something, oldest first."""
        if self._removals is None:
            self._removals = self._earlier()
        return self._removals.setdefault(rule.name, deque())

    def _earlier(self) -> dict[str, deque[float]]:
        """What keepers before this one removed within the hour."""
        found: dict[str, deque[float]] = {}
        for event in sorted(self._ledger.events("reaper.removed"), key=lambda event: event.time):
            if self._now() - event.time < _HOUR:
                found.setdefault(event.cause, deque()).append(event.time)
        return found

    def _write(self, event: Event) -> None:
        """Record what is done and can't be undone: if not now, then before the next look."""
        self._unwritten.append(event)
        self._write_rest()

    def _write_rest(self) -> None:
        while self._unwritten:
            self._ledger.record(self._unwritten[0])
            self._unwritten.popleft()


def _event(kind: str, finding: Finding, now: float, occurrence: str, message: str) -> Event:
    owner = finding.owner
    about: dict[str, Any] = {}
    if owner is not None:
        about = {"dag": owner.dag, "task": owner.task, "run": owner.run, "attempt": owner.attempt, "team": owner.team}
    if finding.kind == "Node":
        about["machine"] = finding.machine or finding.name
    else:
        about |= {"pod_uid": finding.uid, "namespace": finding.namespace}
        if finding.kind == "Pod":
            about["pod"] = finding.name
    return Event(now, kind, pool=finding.pool, cause=finding.rule.name, message=message, occurrence=occurrence, **about)
