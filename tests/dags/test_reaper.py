"""The reaper's rules: what is found, and above all what never is."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.dags.reaper_objects import NOW, TENANTS, WORDS, claim, ended, job, member, node
from tidepool.capacity import LABEL_PREFIX, POOL_LABEL, Pool
from tidepool.keeper.ownership import Owner, Word, owner_of
from tidepool.keeper.reaper import ANSWER_SECONDS, OWNERLESS, RULES, Action, Finding, World, look, lost, others
from tidepool.keeper.reaping import EVERY_SECONDS
from tidepool.labels import LEASE, RENEW_SECONDS, utc

Object = dict[str, Any]


def find(*pods: Object, lives: bool | Word | None = False, **world: Any) -> list[Finding]:
    """What is found among these pods on machines that are well, as Airflow says so of everything."""
    nodes = world.pop("nodes", [node("node-1"), node("node-2")])
    word = lives if isinstance(lives, Word) else WORDS[lives]
    return look(World(NOW, TENANTS, pods=pods, nodes=nodes, word=lambda owner: word, **world))


def rules(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.rule.name, each.name) for each in found]


def test_a_pod_whose_lease_has_ended_and_whose_task_is_over_is_found_after_its_grace() -> None:
    assert find(job(lease=NOW - 119), lives=Word.UNHEARD) == []
    (found,) = find(job(lease=NOW - 120))
    assert (found.rule.name, found.uid, found.version, found.since) == ("ownerless", "uid-clean", "7", NOW - 120)
    assert "Airflow says that its task is over" in found.evidence
    assert found.owner == Owner("analytics", "flights", "clean", "manual__1", 1, 1)


def test_a_pod_that_airflow_says_somebody_works_on_is_never_found() -> None:
    waits = job(lease=NOW - 90_000, phase="Pending", node="", created=NOW - 1700)
    for pod in (job(lease=NOW - 90_000), job(lease=None), waits):
        assert find(pod, lives=True) == []


def test_a_pod_whose_lease_nobody_renews_is_found_in_minutes_if_its_task_is_over_and_only_then() -> None:
    renewed = NOW - 240
    (found,) = find(job(lease=renewed + 900))
    assert (found.rule.name, found.since) == ("ownerless", NOW - 120), (
        "removed at once: it has been as long as its grace"
    )
    assert f"nobody has renewed its lease since {utc(renewed)}" in found.evidence
    assert find(job(lease=renewed + 901)) == []
    for word in (Word.LIVES, Word.UNHEARD, Word.SILENT):
        assert find(job(lease=renewed + 900), lives=word) == []


def test_a_pod_whose_lease_somebody_renews_is_never_found_and_airflow_is_not_even_asked() -> None:
    asked: list[Owner] = []

    def word(owner: Owner) -> Word:
        asked.append(owner)
        return Word.OVER

    for pod in (
        job(lease=NOW + 900),
        job(lease=NOW + 661),
        job(lease=NOW + 800, phase="Pending", node="", created=NOW - 1700),
    ):
        assert look(World(NOW, TENANTS, pods=[pod], nodes=[node()], word=word)) == []
    assert asked == []


def test_without_airflows_word_a_pod_is_found_by_a_rule_of_hours_and_one_without_a_lease_not_at_all() -> None:
    (found,) = find(job(lease=NOW - 300), lives=None)
    assert (found.rule.name, found.rule.grace, found.since) == ("unknown-owner", 6 * 3600, None)
    assert find(job(lease=None), lives=None) == []


def test_a_pod_that_never_had_a_lease_counts_from_its_creation() -> None:
    assert find(job(lease=None, created=NOW - 1000)) == []
    (found,) = find(job(lease=None, created=NOW - 1020))
    assert (found.rule.name, found.since) == ("ownerless", NOW - 120)
    assert "no lease" in found.evidence


@pytest.mark.parametrize("said", ["soon", "", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_lease_that_is_no_time_is_none(said: str) -> None:
    pod = job(created=NOW - 60)
    pod["metadata"]["annotations"][LEASE] = said
    assert find(pod) == []


def test_a_deferred_tasks_pod_is_found_before_its_long_lease_ends_only_if_the_task_is_over() -> None:
    deferred = job(lease=NOW + 20 * 3600)
    assert find(deferred, lives=True) == []
    assert find(deferred, lives=None) == []
    (found,) = find(deferred)
    assert (found.rule.name, found.since) == ("ownerless", None)


def test_a_task_that_airflow_has_never_heard_of_keeps_its_pod_only_as_long_as_somebody_renews_it_a_lease() -> None:
    """A DAG file that is tried by hand is in another Airflow, or in none."""
    assert find(job(lease=NOW + 600), lives=Word.UNHEARD) == []
    assert find(job(lease=NOW + 20 * 3600), lives=Word.UNHEARD) == []
    (found,) = find(job(lease=NOW - 120), lives=Word.UNHEARD)
    assert found.evidence.endswith("and Airflow knows no such task")


def test_a_pod_that_waits_past_its_schedule_clock_without_owner_is_not_kept_for_hours() -> None:
    waits = job(phase="Pending", node="", created=NOW - 1801, lease=NOW - 300)
    assert rules(find(waits, lives=None)) == [("unscheduled", "clean")]
    early = job(phase="Pending", node="", created=NOW - 1799, lease=NOW - 300)
    assert rules(find(early, lives=None)) == [("unknown-owner", "clean")]
    starts = job(phase="Pending", node="node-1", created=NOW - 1801, lease=NOW - 300)
    assert rules(find(starts, lives=None)) == [("unknown-owner", "clean")]


@pytest.mark.parametrize("lives", [Word.LIVES, Word.SILENT, Word.OVER])
def test_a_pod_that_waits_past_its_schedule_clock_though_its_task_lives_is_reported_and_never_removed(
    lives: Word,
) -> None:
    waits = job(phase="Pending", node="", created=NOW - 1800, lease=NOW + 850)
    (found,) = find(waits, lives=lives)
    assert (found.rule.name, found.rule.action, found.rule.per_hour, found.since) == ("overdue", Action.REPORT, 0, NOW)
    assert find(job(phase="Pending", node="", created=NOW - 1799, lease=NOW + 850), lives=lives) == []
    assert find(job(phase="Pending", created=NOW - 1800, lease=NOW + 850), lives=lives) == [], "it has its machine"


def test_whatever_is_wrong_is_found_in_one_of_the_two_looks_and_lost_pods_without_asking_airflow() -> None:
    def silent(owner: Owner) -> Word:
        raise AssertionError("asked")

    pods = [job("lost", NOW - 900, node="node-9"), job("b", NOW - 900), member(job("absent"), "exec-2", node="node-9")]
    pods += [member(job("absent"), "exec-1", node="node-1"), job("lost-too", NOW + 800, node="node-2")]
    nodes = [node("node-1"), node("node-2", ready="Unknown")]
    world = World(NOW, TENANTS, pods=pods, nodes=nodes, claims=[claim()], ended={"i-node-2"}.__contains__)
    hasty = lost(dataclasses.replace(world, word=silent))
    assert sorted(rules(hasty)) == [("lost", "exec-2"), ("lost", "lost"), ("lost", "lost-too")]
    rest = others(dataclasses.replace(world, word=lambda owner: Word.OVER))
    assert sorted(rules(rest)) == [("ownerless", "b"), ("stranded", "exec-1")]
    assert sorted(rules(hasty + rest)) == sorted(rules(look(dataclasses.replace(world, word=lambda owner: Word.OVER))))


def test_an_orphan_is_gone_five_minutes_after_its_worker_last_renewed_its_lease_at_the_latest() -> None:
    assert OWNERLESS.stop_seconds is not None
    assert RENEW_SECONDS + OWNERLESS.grace + EVERY_SECONDS + OWNERLESS.stop_seconds <= 270, (
        "and half a minute in which things may go wrong"
    )


def test_a_pod_that_has_ended_or_is_on_its_way_out_is_left_alone() -> None:
    leaving = job(lease=NOW - 900)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert find(ended(job(lease=NOW - 900), NOW - 800), ended(job("b", NOW - 900), NOW - 800, "Failed"), leaving) == []


def _without(part: str, key: str) -> Callable[[Object], None]:
    return lambda pod: pod["metadata"][part].pop(key)


def _with(part: str, key: str, value: str) -> Callable[[Object], None]:
    return lambda pod: pod["metadata"][part].update({key: value})


OWNER_KEYS = [LABEL_PREFIX + key for key in ("owner-dag", "owner-task", "owner-run", "attempt", "team")]
FOREIGN = {
    **{f"label {key} missing": _without("labels", key) for key in OWNER_KEYS},
    **{f"annotation {key} missing": _without("annotations", key) for key in OWNER_KEYS},
    "label of another task": _with("labels", OWNER_KEYS[1], "other"),
    "empty run": _with("annotations", OWNER_KEYS[2], ""),
    "no number": lambda pod: [_with(part, OWNER_KEYS[3], "one")(pod) for part in ("labels", "annotations")],
    "unknown team": lambda pod: [_with(part, OWNER_KEYS[4], "sales")(pod) for part in ("labels", "annotations")],
    "another team's": lambda pod: [_with(part, OWNER_KEYS[4], "research")(pod) for part in ("labels", "annotations")],
    "in kube-system": lambda pod: pod["metadata"].update(namespace="kube-system"),
    "no pool": _without("labels", POOL_LABEL),
    "no labels": lambda pod: pod["metadata"].pop("labels"),
    "no annotations": lambda pod: pod["metadata"].pop("annotations"),
    "odd map index": _with("labels", "map_index", "x"),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("gone", [False, True])
def test_what_is_not_tidepools_beyond_doubt_is_never_found(change: Callable[[Object], None], gone: bool) -> None:
    pods = [job(lease=NOW - 90_000), member(job("absent"))]
    nodes = [] if gone else [node("node-1"), node("node-2")]
    assert len(find(*pods, nodes=nodes)) == 2
    for pod in pods:
        change(pod)
    assert find(*pods, nodes=nodes) == []


def test_the_owner_of_a_mapped_task_has_its_map_index_and_of_a_pod_taken_over_its_holder() -> None:
    pod = job(attempt=2, holder=3)
    pod["metadata"]["labels"]["map_index"] = "4"
    assert owner_of(pod, TENANTS) == Owner("analytics", "flights", "clean", "manual__1", 2, 3, 4)


def test_an_owner_too_long_for_a_label_is_read_from_the_annotations() -> None:
    run = "scheduled__2026-01-01T00:00:00+00:00"
    found = owner_of(job(run=run), TENANTS)
    assert found is not None
    assert found.run == run


def test_the_guides_table_of_rules_is_so() -> None:
    guide = (Path(__file__).resolve().parents[2] / "dags" / "README.md").read_text(encoding="utf-8")
    section = guide.split("### What the keeper removes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (none|\d+ (?:min|h))\b[^|]* \| (\d+) \|$", section, re.MULTILINE)
    seconds = {"none": 0, "min": 60, "h": 3600}
    told = {
        name: (int(grace.split()[0]) * seconds[grace.split()[1]] if " " in grace else 0, int(most))
        for name, grace, most in rows
    }
    assert told == {name: (rule.grace, rule.per_hour) for name, rule in RULES.items()}
    assert f"within {ANSWER_SECONDS:.0f} s" in section
    assert f"every {EVERY_SECONDS:.0f} s" in section.replace("\n", " ")


# Members


def test_an_executor_lives_as_long_as_its_driver_whatever_airflow_says() -> None:
    driver = job("driver", lease=NOW + 800)
    assert find(driver, member(driver)) == []
    assert rules(find(driver, member(job("another")))) == [("stranded", "exec-1")]
    (found,) = find(ended(driver, NOW - 30), member(driver), lives=True)
    assert (found.rule.name, found.since) == ("stranded", NOW - 30)
    assert find(driver, ended(member(job("another")), NOW)) == []


def test_an_executor_whose_owner_reference_is_missing_lives_as_long_as_any_main_pod_of_its_task() -> None:
    driver = job("driver", lease=NOW + 800)
    lone = member(driver, referred=False)
    assert find(driver, lone) == []
    assert rules(find(job("driver", task="other"), lone)) == [("stranded", "exec-1")]
    assert rules(find(lone, member(driver, "exec-2", referred=False))) == [
        ("stranded", "exec-1"),
        ("stranded", "exec-2"),
    ]


# Machines that are gone


def test_a_pod_whose_machine_has_ended_is_lost_although_its_owner_lives() -> None:
    away = node("node-1", ready="Unknown")
    (found,) = find(job(), nodes=[away], lives=True, ended=lambda machine: machine == "i-node-1")
    assert (found.rule.name, found.rule.action, found.rule.grace) == ("lost", "force-delete", 0)
    assert rules(find(job(), nodes=[], lives=True)) == [("lost", "clean")]
    shut = node("node-1", ready="Unknown", taints=[{"key": "node.cloudprovider.kubernetes.io/shutdown"}])
    assert rules(find(job(), nodes=[shut], lives=True)) == [("lost", "clean")]


@pytest.mark.parametrize("nodes", [[], [node("node-1", ready="False")], [node("node-1", ready="Unknown")]])
def test_a_pod_is_never_lost_while_its_kubelet_still_answers(nodes: list[Object]) -> None:
    answers = {"node-1": NOW - ANSWER_SECONDS + 1}
    assert find(job(), nodes=nodes, lives=True, renewed=answers, ended=lambda machine: True) == []
    silent = {"node-1": NOW - ANSWER_SECONDS}
    assert rules(find(job(), nodes=nodes, lives=True, renewed=silent, ended=lambda machine: True)) == [
        ("lost", "clean")
    ]


def test_a_machine_that_only_does_not_answer_has_not_ended() -> None:
    """It may be cut off and still write: a second pod of the job would write beside it."""
    assert find(job(), nodes=[node("node-1", ready="Unknown")], lives=True) == []
    assert find(job(), nodes=[node("node-1")], lives=True, ended=lambda machine: True) == []
    unwell = node("node-1", ready="False")
    assert find(job(), nodes=[unwell], lives=True, ended=lambda machine: True) == []


def test_a_lost_pod_that_is_being_deleted_is_lost_all_the_same_and_one_that_ended_is_not() -> None:
    leaving = job()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert rules(find(leaving, nodes=[], lives=True)) == [("lost", "clean")]
    assert find(ended(job(), NOW), nodes=[]) == []


def test_lost_pods_come_first() -> None:
    found = find(job("a", lease=NOW - 900, node="node-2"), job("b"), nodes=[node("node-2")], lives=False)
    assert rules(found) == [("lost", "b"), ("ownerless", "a")]


# Volumes and machines


def test_a_claim_is_found_once_its_task_is_over_and_no_pod_of_it_is_left() -> None:
    (found,) = find(claims=[claim()])
    assert (found.rule.name, found.kind, found.uid) == ("claim", "PersistentVolumeClaim", "uid-scratch")
    assert find(claims=[claim()], lives=True) == []
    assert find(claims=[claim()], lives=None) == []
    assert find(job(), claims=[claim()]) == []
    assert rules(find(ended(job(), NOW), claims=[claim()])) == [("claim", "scratch")]


def test_a_claim_that_somebody_mounts_or_that_is_nobodys_of_tidepools_is_left_alone() -> None:
    foreign = {
        "metadata": {"name": "other", "uid": "u", "namespace": "tidepool-analytics"},
        "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "scratch"}}]},
        "status": {"phase": "Running"},
    }
    assert find(foreign, claims=[claim()]) == []
    unowned = copy.deepcopy(claim())
    unowned["metadata"]["annotations"] = {}
    assert find(claims=[unowned]) == []


def test_a_machine_for_jobs_that_has_none_is_reported_and_never_removed(pool: Callable[..., Pool]) -> None:
    pools = [pool("spot-small"), pool("system", jobs=False)]
    nodes = [node("node-1"), node("node-2", pool="system"), node("node-3", pool="")]
    (found,) = find(nodes=nodes, pools=pools)
    assert (found.rule.name, found.rule.action, found.name, found.machine) == (
        "idle-machine",
        "report",
        "node-1",
        "i-node-1",
    )
    assert find(job(), nodes=nodes, pools=pools) == []
    assert find(nodes=nodes, pools=pools, busy=frozenset({"node-1"})) == []
    assert rules(find(ended(job(), NOW), nodes=nodes, pools=pools)) == [("idle-machine", "node-1")]
    assert rules(find(job(lease=NOW - 900), nodes=nodes, pools=pools)) == [
        ("ownerless", "clean"),
        ("idle-machine", "node-1"),
    ]


def test_a_machine_that_has_just_come_waits_for_its_pod(pool: Callable[..., Pool]) -> None:
    new = node("node-1")
    new["metadata"]["creationTimestamp"] = utc(NOW - 30)
    assert find(nodes=[new], pools=[pool("spot-small")]) == []
