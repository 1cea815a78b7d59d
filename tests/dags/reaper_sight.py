"""A cluster in memory, and a reaper that looks at it with a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.dags.reaper_objects import NOW, TENANTS, WORDS, node
from tidepool.capacity import Pool
from tidepool.keeper.ownership import Owner
from tidepool.keeper.reaper import Finding, World
from tidepool.keeper.reaping import EVERY_SECONDS, Reaper
from tidepool.ledger import journal
from tidepool.ledger.journal import Recorder

Object = dict[str, Any]


class Sight:
    """A cluster in memory. stale: what a look shows instead of what is there. refuse: removals are answered 409."""

    def __init__(self, *pods: Object) -> None:
        self.now = NOW
        self.pods = {pod["metadata"]["uid"]: pod for pod in pods}
        self.nodes = [node("node-1"), node("node-2")]
        self.claims: list[Object] = []
        self.renewed: dict[str, float] = {}
        self.ended: set[str] = set()
        self.pools: tuple[Pool, ...] = ()
        self.lives: Callable[[Owner], bool | None] = lambda owner: False
        self.stale: World | None = None
        self.away = False
        self.refuse = False
        self.removed: list[tuple[str, str, float]] = []

    def world(self, now: float) -> World:
        if self.away:
            raise OSError("the API server is away")
        return self.stale or self.fresh(None, now)

    def fresh(self, finding: Finding | None, now: float) -> World:
        if self.away:
            raise OSError("the API server is away")
        return World(
            now,
            TENANTS,
            pools=self.pools,
            pods=list(self.pods.values()),
            nodes=list(self.nodes),
            claims=list(self.claims),
            renewed=dict(self.renewed),
            ended=self.ended.__contains__,
            word=lambda owner: WORDS[self.lives(owner)],
        )

    def remove(self, finding: Finding) -> bool:
        if self.refuse:
            return False
        self.removed.append((finding.rule.name, finding.name, self.now))
        self.pods.pop(finding.uid, None)
        self.claims = [each for each in self.claims if each["metadata"]["uid"] != finding.uid]
        return True


class Ledger(Recorder):
    """The events file; `full` lets no event in."""

    full: frozenset[str] | set[str] = frozenset()

    def record(self, event: Any) -> bool:
        if event.kind in self.full:
            raise OSError("the disk is full")
        return super().record(event)


def reaper(sight: Sight, file: Path, **options: Any) -> Reaper:
    return Reaper(sight, Ledger(file), now=lambda: sight.now, **options)


def watch(made: Reaper, sight: Sight, seconds: float) -> None:
    """Looks every few seconds, for so long."""
    until = sight.now + seconds
    while sight.now < until:
        made.look()
        sight.now += EVERY_SECONDS


def told(file: Path) -> list[tuple[str, str, str]]:
    return [(event.kind, event.cause, event.pod or event.pod_uid or event.machine) for event in journal.read(file)]
