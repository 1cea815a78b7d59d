"""The reaper's loop with a clock of its own: grace times, limits, dry run, what is written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.cli.view import board
from tests.dags.reaper_objects import NOW, claim, job, member, node
from tests.dags.reaper_sight import Ledger, Sight, reaper, told, watch
from tidepool.capacity import Pool
from tidepool.keeper.reaper import Finding, World
from tidepool.keeper.reaping import EVERY_SECONDS, Reaper
from tidepool.ledger import journal
from tidepool.ledger.events import Event
from tidepool.ledger.journal import Recorder
from tidepool.ledger.lives import lives
from tidepool.ledger.store import Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_an_orphan_is_written_down_and_removed_two_minutes_after_its_lease_should_have_been_renewed(file: Path) -> None:
    sight = Sight(job(lease=NOW + 750), job("fine", lease=NOW + 850))
    watch(reaper(sight, file), sight, 180)
    assert sight.removed == [("ownerless", "clean", NOW + 90)]
    assert told(file) == [("reaper.found", "ownerless", "clean"), ("reaper.removed", "ownerless", "clean")]
    found, removed = journal.read(file)
    assert (found.dag, found.task, found.run, found.attempt, found.team) == (
        *("flights", "clean", "manual__1", 1),
        "analytics",
    )
    assert removed.message.startswith("delete: nobody has renewed its lease since 2025-12-31T23:57:30Z, and")


def test_a_restart_of_the_keeper_keeps_no_orphan_alive(file: Path) -> None:
    sight = Sight(job(lease=NOW + 780))
    while sight.now < NOW + 200:
        reaper(sight, file).look()
        sight.now += EVERY_SECONDS
    assert sight.removed == [("ownerless", "clean", NOW + 120)]


def test_what_was_remembered_only_is_waited_for_once_more_after_a_restart(file: Path) -> None:
    sight = Sight(member(job("absent")))
    made = reaper(sight, file)
    watch(made, sight, 60)
    made = reaper(sight, file)
    watch(made, sight, 60)
    assert sight.removed == []
    watch(made, sight, 20)
    assert sight.removed == [("stranded", "exec-1", NOW + 120)]


def test_a_pod_on_a_machine_that_has_ended_is_lost_within_90_seconds(file: Path) -> None:
    """The kubelet's last renewal, the ledger's word and Kubernetes' own at their slowest."""
    sight = Sight(job(lease=NOW + 9000))
    sight.lives = lambda owner: True
    made = reaper(sight, file)
    watch(made, sight, 3)
    died = sight.now
    sight.renewed = {"node-1": died}
    while sight.now < died + 90 and not sight.removed:
        if sight.now >= died + 30:
            sight.ended = {"i-node-1"}
        if sight.now >= died + 55:
            sight.nodes[0] = node("node-1", ready="Unknown")
        made.look()
        sight.now += EVERY_SECONDS
    assert [rule for rule, *_ in sight.removed] == ["lost"]
    assert sight.removed[0][2] - died <= 90


def test_while_airflow_is_away_a_pod_without_a_lease_stays_for_six_hours_after_its_last_word(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    sight.lives = lambda owner: None
    made = reaper(sight, file)
    watch(made, sight, 5.9 * 3600)
    sight.lives = lambda owner: True
    watch(made, sight, EVERY_SECONDS)
    sight.lives = lambda owner: None
    back = sight.now
    watch(made, sight, 5.9 * 3600)
    assert sight.removed == []
    watch(made, sight, 3600)
    assert sight.removed == [("unknown-owner", "clean", back + 6 * 3600)]


def test_a_dry_run_writes_each_case_down_once_and_removes_nothing(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900), member(job("absent")))
    watch(reaper(sight, file, dry_run=True), sight, 300)
    assert sight.removed == []
    assert told(file) == [("reaper.found", "ownerless", "clean"), ("reaper.found", "stranded", "exec-1")]
    assert {event.message.split(":")[0] for event in journal.read(file)} == {"dry run"}


def test_what_is_still_there_is_told_of_as_long_as_it_is_so_and_from_when_it_was_found(
    file: Path, pool: Callable[..., Pool]
) -> None:
    sight = Sight(job(lease=NOW - 900), job("b", lease=NOW - 900), job("waits", NOW + 900, "Pending", "", run="r"))
    sight.pools, sight.lives = (pool("spot-small"),), lambda owner: owner.run == "r" or sight.now >= NOW + 200_000
    made = reaper(sight, file, dry_run=True)
    made.look()
    assert made.present() == {"ownerless": (2, NOW)}, "what somebody owns is no orphan"
    sight.now += 100_000
    made.look()
    assert made.present() == {"ownerless": (2, NOW)}, "also after a day"
    again = reaper(sight, file, dry_run=True)
    again.look()
    assert again.present() == {"ownerless": (2, NOW)}, "a keeper that is started again has it from the ledger"
    sight.pods.pop("uid-b")
    again.look()
    assert again.present() == {"ownerless": (1, NOW)}
    sight.now += 100_000
    again.look()
    assert again.present() == {}, "somebody works on it again"
    sight.lives = lambda owner: owner.run == "r"
    removing = reaper(sight, file)
    removing.look()
    assert (len(sight.removed), removing.present()) == (1, {})


def test_a_keeper_that_can_see_nothing_yet_looks_again_soon(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sight = Sight()
    made, pauses = reaper(sight, file), list[float]()

    def world(now: float) -> World | None:
        sight.away = len(pauses) == 1
        return None if not pauses else sight.fresh(None, now)

    monkeypatch.setattr(sight, "world", world)
    monkeypatch.setattr("tidepool.keeper.reaping.time.sleep", pauses.append)
    made.run(lambda: len(pauses) == 3)
    assert [round(pause) for pause in pauses] == [1, 1, EVERY_SECONDS]


def test_an_idle_machine_is_reported_each_time_that_it_idles(file: Path, pool: Callable[..., Pool]) -> None:
    sight = Sight()
    sight.pools, sight.nodes = (pool("spot-small"),), [node("node-1")]
    made = reaper(sight, file)
    watch(made, sight, 2000)
    sight.pods = {"u": job(lease=NOW + 2800)}
    watch(made, sight, 100)
    sight.pods = {}
    watch(made, sight, 2000)
    assert told(file) == [("reaper.found", "idle-machine", "i-node-1")] * 2
    assert sight.removed == []


def test_a_claim_is_removed_when_its_task_has_been_over_for_a_while(file: Path) -> None:
    sight = Sight()
    sight.claims = [claim()]
    watch(reaper(sight, file), sight, 1000)
    assert sight.removed == [("claim", "scratch", NOW + 900)]
    assert told(file)[-1] == ("reaper.removed", "claim", "uid-scratch")


def test_no_more_is_removed_in_an_hour_than_the_limit_and_that_is_written_down(file: Path) -> None:
    sight = Sight(*(job(f"p{number}", lease=NOW - 900) for number in range(5)))
    made = reaper(sight, file, per_hour={"ownerless": 2})
    watch(made, sight, 600)
    assert len(sight.removed) == 2
    assert [kind for kind, *_ in told(file)].count("reaper.held") == 3
    made = reaper(sight, file, per_hour={"ownerless": 2})
    watch(made, sight, 600)
    assert len(sight.removed) == 2, "a restart does not forget what was removed before it"
    watch(made, sight, 3600)
    assert len(sight.removed) == 4


def test_one_rules_limit_holds_no_other_back(file: Path) -> None:
    sight = Sight(job("a", lease=NOW - 900), job("b", node="node-9"))
    reaper(sight, file, per_hour={"ownerless": 0}).look()
    assert [(rule, name) for rule, name, _ in sight.removed] == [("lost", "b")]


def test_what_the_watches_say_is_looked_up_before_anything_is_removed(file: Path) -> None:
    """A watch may hang; the pod's worker renews its lease all the same."""
    sight = Sight(job(lease=NOW - 900))
    sight.stale = sight.fresh(None, NOW)
    sight.pods = {"uid-clean": job(lease=NOW + 900)}
    watch(reaper(sight, file), sight, 200)
    assert sight.removed == []
    assert told(file) == []


def test_what_has_changed_since_it_was_read_is_looked_at_again(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    sight.refuse = True
    made = reaper(sight, file)
    made.look()
    assert told(file) == [("reaper.found", "ownerless", "clean")]
    sight.lives = lambda owner: True
    sight.refuse = False
    made.look()
    assert sight.removed == []


def test_nothing_is_removed_whose_reason_could_not_be_written_down(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    ledger = Ledger(file)
    ledger.full = {"reaper.found"}
    made = Reaper(sight, ledger, now=lambda: sight.now)
    with pytest.raises(OSError, match="full"):
        made.look()
    assert sight.removed == []
    ledger.full = {"reaper.removed"}
    with pytest.raises(OSError, match="full"):
        made.look()
    assert len(sight.removed) == 1
    ledger.full = frozenset()
    made.look()
    assert told(file) == [("reaper.found", "ownerless", "clean"), ("reaper.removed", "ownerless", "clean")]


def test_an_error_with_one_finding_keeps_no_other_waiting(file: Path) -> None:
    class Halting(Sight):
        def remove(self, finding: Finding) -> bool:
            if finding.name == "a":
                raise OSError("no")
            return super().remove(finding)

    sight = Halting(job("a", lease=NOW - 900), job("b", lease=NOW - 900))
    with pytest.raises(OSError, match="no"):
        reaper(sight, file).look()
    assert [name for _, name, _ in sight.removed] == ["b"]


def test_errors_never_stop_the_loop(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    looks = iter([True, True, False])

    def world(now: float) -> World:
        sight.away = next(looks)
        return Sight.world(sight, now)

    sight.world = world  # type: ignore[method-assign]
    reaper(sight, file).run(stopped=lambda: bool(sight.removed), every=0.0)
    assert len(sight.removed) == 1


def test_a_keeper_that_is_not_the_active_one_removes_nothing(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    reaper(sight, file, may_act=lambda: False).look()
    assert sight.removed == []


def test_what_the_reaper_wrote_changes_no_figure_and_is_found_again_in_a_database(
    file: Path, tmp_path: Path, pool: Callable[..., Pool]
) -> None:
    sight = Sight(job(lease=NOW - 900))
    sight.pools = (pool("spot-small"),)
    watch(reaper(sight, file), sight, 1200)
    written = journal.read(file)
    assert {event.kind for event in written} == {"reaper.found", "reaper.removed"}
    assert {event.machine for event in written if event.cause == "idle-machine"} == {"i-node-1", "i-node-2"}
    others = [
        Event(NOW, "machine.launched", "i-node-1", "spot-small"),
        Event(NOW, "pod.queued", pod="clean", pod_uid="uid-clean"),
    ]
    assert lives([*others, *written]) == lives(others)
    assert board([*others, *written]) == board(others)
    store = Store.open(str(tmp_path / "ledger.db"))
    try:
        store.record_all([*others, *written])
        assert store.events("reaper.removed") == [event for event in written if event.kind == "reaper.removed"]
        for kind, subject in (("reaper.removed", "uid-clean"), ("reaper.found", "i-node-1")):
            found = store.known(kind, subject)
            assert found == Recorder(file).known(kind, subject)
            assert found is not None
        assert [event.kind for event in store.unfinished()] == ["pod.queued"]
    finally:
        store.close()
