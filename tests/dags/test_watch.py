import contextlib
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.dags.watched import CREATED, STAMP, ApiServer, kinds, node, pod, pull
from tidepool.capacity import Pool
from tidepool.keeper import watch
from tidepool.keeper.facts import node_events, pod_events
from tidepool.keeper.observers import Nodes, Pods, Pulls
from tidepool.ledger import events, journal
from tidepool.ledger.attribution import Window, attribute
from tidepool.ledger.buffer import Buffer
from tidepool.ledger.events import Event
from tidepool.ledger.journal import Recorder
from tidepool.ledger.lives import lives
from tidepool.ledger.store import Store
from tidepool.outcome import VERDICT
from tidepool.prices.book import PriceBook

LIFE = ["pod.queued", "pod.scheduled", "pod.running", "pod.ended", "pod.gone"]


def test_a_pod_tells_its_owner_its_machine_and_why_it_ended() -> None:
    told = pod_events(pod("ended", exit_code=3), "i-1", now=CREATED + 60, live=False)
    assert kinds(told) == ["pod.queued", "pod.scheduled", "pod.running", "pod.ended"]
    assert [event.time - CREATED for event in told] == [0, 3, 5, 9]
    last = told[-1]
    assert (last.dag, last.task, last.run) == ("flights_daily", "clean", "manual__2026-01-01T00:00:00+00:00")
    assert (last.attempt, last.pool, last.machine, last.cause) == (2, "spot-small", "i-1", "app_error")
    assert "3" in last.message
    assert last.map_index == ""


@pytest.mark.parametrize(("label", "told"), [("3", "3"), ("-1", ""), ("x", ""), ("9" * 80, "")])
def test_a_pod_of_a_mapped_task_tells_which_instance_it_is_of(label: str, told: str) -> None:
    mapped = pod("ended")
    mapped["metadata"]["labels"]["map_index"] = label
    assert {event.map_index for event in pod_events(mapped, "i-1", now=CREATED + 60, live=False)} == {told}


def test_what_is_seen_as_it_happens_gets_the_time_of_seeing_but_no_later_than_its_stamp_allows() -> None:
    assert pod_events(pod(), "", now=CREATED + 0.25, live=True)[0].time == CREATED + 0.25
    assert pod_events(pod(), "", now=CREATED + 7, live=True)[0].time == CREATED + 1
    assert pod_events(pod(), "", now=CREATED + 7, live=False)[0].time == CREATED


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("after", [0.1, 3.5, 9.2, 500.0])
def test_times_of_a_pod_never_go_backwards(live: bool, after: float) -> None:
    told = pod_events(pod("ended"), "i-1", now=CREATED + after, live=live, gone=True)
    assert [event.time for event in told] == sorted(event.time for event in told)


def test_a_pod_that_is_deleted_before_it_ended_ends_with_it_and_not_well() -> None:
    told = pod_events(pod("running"), "i-1", now=CREATED + 20, live=True, gone=True)
    assert kinds(told)[-2:] == ["pod.ended", "pod.gone"]
    assert told[-2].cause not in ("", "ok")


def ended(stage: str, verdict: Any, deleted: bool = True, **more: Any) -> Event:
    """How a pod ended on which something was written, and which was deleted."""
    given_up = pod(stage, **more)
    given_up["metadata"]["annotations"][VERDICT] = verdict
    if deleted:
        given_up["metadata"]["deletionTimestamp"] = STAMP(8)
    told = pod_events(given_up, "i-1", now=CREATED + 20, live=True, gone=deleted)
    return next(event for event in told if event.kind == "pod.ended")


@pytest.mark.parametrize("stage", ["queued", "scheduled", "running"])
@pytest.mark.parametrize("verdict", ["image_pull", "unschedulable", "timed_out", "cancelled"])
def test_a_pod_that_its_task_gave_up_ended_for_what_the_task_says(stage: str, verdict: str) -> None:
    assert ended(stage, verdict).cause == verdict


def test_a_program_that_was_told_to_stop_because_its_time_was_up_was_not_cancelled() -> None:
    assert ended("ended", "timed_out", exit_code=143).cause == "timed_out"


@pytest.mark.parametrize(
    "verdict", ["ok", "spot_reclaim", "app_error", "", "TIMED_OUT", "x" * 200_000, None, 7, ["ok"]]
)
def test_what_no_deletion_is_for_is_not_believed(verdict: Any) -> None:
    assert ended("running", verdict).cause == "cancelled"


def test_a_container_that_never_was_ended_for_what_its_pod_was_deleted_for() -> None:
    """A kubelet that is to end a container whose image it has not says that it can't locate it."""
    given_up = pod("ended", exit_code=137)
    given_up["status"]["containerStatuses"][1]["state"]["terminated"]["reason"] = "ContainerStatusUnknown"
    given_up["metadata"] |= {"deletionTimestamp": STAMP(8), "annotations": {VERDICT: "image_pull"}}
    assert pod_events(given_up, "i-1", now=CREATED + 20, live=True)[-1].cause == "image_pull"
    del given_up["metadata"]["annotations"]
    assert pod_events(given_up, "i-1", now=CREATED + 20, live=True)[-1].cause == "cancelled"
    del given_up["metadata"]["deletionTimestamp"]
    assert pod_events(given_up, "i-1", now=CREATED + 20, live=True)[-1].cause == "unknown"


def test_what_is_written_on_a_pod_does_not_hide_how_it_ended_by_itself() -> None:
    assert ended("ended", "cancelled", deleted=False, exit_code=3).cause == "app_error"
    assert ended("ended", "cancelled", exit_code=3).cause == "app_error"
    assert ended("ended", "timed_out", deleted=False).cause == "ok"


def test_a_machine_is_ready_when_its_node_is_and_not_before() -> None:
    assert node_events(node(ready=False), CREATED + 2.4, live=True) == []
    (ready,) = node_events(node(), CREATED + 2.4, live=True)
    assert (ready.kind, ready.machine, ready.pool, ready.time) == ("machine.ready", "i-1", "spot-small", CREATED + 2.4)


def test_a_machine_of_a_cluster_that_was_there_before_is_of_the_pool_whose_labels_it_carries(
    tmp_path: Path, pool: Callable[..., Pool]
) -> None:
    recorder = Recorder(tmp_path / "events.jsonl")
    batch = dataclasses.replace(pool("batch"), labels={"group": "b"})
    labelled = node()
    labelled["metadata"]["labels"] = {"group": "b"}
    Nodes(recorder, lambda name: labelled, lambda: [batch]).listed([labelled], CREATED + 5)
    assert [event.pool for event in journal.read(tmp_path / "events.jsonl")] == ["batch"]


@pytest.mark.parametrize("provider", ["", "azure:///subscriptions/s/virtualMachineScaleSets/v/virtualMachines/0"])
def test_a_node_whose_provider_id_names_no_one_machine_for_all_time_is_one_by_its_name_and_uid(provider: str) -> None:
    stranger = node()
    stranger["metadata"]["uid"] = "0f3c7a52-1111-2222"
    stranger["spec"] = {"providerID": provider} if provider else {}
    (ready,) = node_events(stranger, CREATED, live=True)
    assert ready.machine == "node-1-0f3c7a52"
    stranger["spec"] = {"taints": [{"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"}]}
    assert node_events(stranger, CREATED, live=True) == [], "its cloud has not said yet what it is"


def existing(path: Path, pool: Pool, clouds: tuple[str, ...] = ()) -> Nodes:
    """What watches the nodes of a cluster that was there before."""
    return Nodes(Recorder(path), lambda name: node(name), lambda: [pool], clouds)


def of_machines(path: Path) -> list[Event]:
    return [event for event in journal.read(path) if event.kind.startswith("machine.")]


def test_where_no_cloud_is_asked_a_machine_ends_with_its_node_and_has_its_pools_price(
    tmp_path: Path, pool: Callable[..., Pool]
) -> None:
    path = tmp_path / "events.jsonl"
    nodes = existing(path, pool("spot-small", usd_per_hour=0.05))
    nodes.changed("ADDED", node(), CREATED + 2.5)
    nodes.changed("DELETED", node(), CREATED + 3602.5)
    ready, gone = of_machines(path)
    assert (ready.kind, ready.market, ready.usd_per_hour) == ("machine.ready", "spot", 0.05)
    assert (gone.kind, gone.machine, gone.time - CREATED) == ("machine.gone", "i-1", 3602.5)
    assert (gone.usd_per_hour, gone.reconstructed) == (0.05, False)
    parts = attribute(lives([ready, gone]), PriceBook(), Window(0, 10**15))
    assert sum(each.amount.usd or 0 for each in parts) == pytest.approx(0.05)


def test_a_machine_whose_node_went_while_nobody_looked_is_gone_between_the_last_look_and_now(
    tmp_path: Path, pool: Callable[..., Pool]
) -> None:
    path = tmp_path / "events.jsonl"
    before = existing(path, pool("spot-small"))
    before.listed([node(), node("node-2", "i-2")], CREATED + 10)
    before.changed("MODIFIED", node("node-3", "i-3"), CREATED + 20)
    before.in_step(CREATED + 50)
    before.listed([node("node-2", "i-2"), node("node-3", "i-3")], CREATED + 90)
    existing(path, pool("spot-small")).listed([node("node-2", "i-2")], CREATED + 200)  # another keeper
    gone = {event.machine: event for event in of_machines(path) if event.kind == "machine.gone"}
    assert {name: (each.earliest - CREATED, each.time - CREATED) for name, each in gone.items()} == {
        "i-1": (50, 90),
        "i-3": (90, 200),
    }
    assert all(each.reconstructed and each.usd_per_hour == 0.04 for each in gone.values())


def test_when_a_machine_ended_is_left_to_the_cloud_that_is_asked_and_to_whoever_writes_of_it(
    tmp_path: Path, pool: Callable[..., Pool]
) -> None:
    asked = existing(tmp_path / "asked.jsonl", pool("spot-small"), ("aws:",))
    asked.listed([node("node-2", "i-2")], CREATED + 5)
    asked.changed("ADDED", node(), CREATED + 9)
    asked.changed("DELETED", node(), CREATED + 60)
    asked.listed([], CREATED + 90)
    assert [(event.kind, event.usd_per_hour) for event in of_machines(tmp_path / "asked.jsonl")] == [
        ("machine.ready", None)
    ] * 2
    store = Store.open(str(tmp_path / "ledger.db"))
    nodes = Nodes(Buffer(store), lambda name: node(name), lambda: [pool("spot-small")])
    nodes.changed("ADDED", node(), CREATED + 9)
    store.record(Event(CREATED, "machine.asked", "i-1"))  # by another process, and late
    nodes.changed("DELETED", node(), CREATED + 60)
    nodes.in_step(CREATED + 60)
    nodes.listed([], CREATED + 90)
    nodes.in_step(CREATED + 90)
    assert {event.kind for event in store.about(["i-1"])} == {"machine.asked", "machine.ready"}
    store.close()


def test_nodes_that_are_gone_are_not_kept_for_ever_and_their_pods_watch_may_be_late(tmp_path: Path) -> None:
    reads: list[str] = []

    def read(name: str) -> dict[str, Any]:
        reads.append(name)
        raise ApiException(status=404, reason="Not Found")

    nodes = Nodes(Recorder(tmp_path / "events.jsonl"), read)
    for number in range(3000):
        nodes.changed("ADDED", node(f"node-{number}", f"i-{number}", ready=False), CREATED)
        if number % 2:
            nodes.changed("DELETED", node(f"node-{number}", f"i-{number}"), CREATED + 1)
    assert nodes.machine("node-2999") == "i-2999"
    assert reads == []
    nodes.listed([node("node-0", "i-0")], CREATED + 2)
    assert (list(nodes._machines), len(nodes._departed)) == (["node-0"], 1000)


def handler(path: Path, read: Callable[[str], dict[str, Any]] = lambda name: node(name)) -> Pods:
    recorder = Recorder(path)
    return Pods(recorder, Nodes(recorder, read).machine)


def test_a_restart_of_the_watch_records_nothing_twice_and_what_vanished_meanwhile_as_gone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    before = handler(path)
    before.changed("ADDED", pod(), CREATED + 0.5)
    before.changed("MODIFIED", pod("scheduled"), CREATED + 3.625)
    after = handler(path)
    after.listed([pod("running")], CREATED + 30)
    after.listed([], CREATED + 40)
    told = journal.read(path)
    assert kinds(told) == ["pod.queued", "pod.scheduled", "pod.running", "machine.idle", "pod.ended", "pod.gone"]
    assert [event.time - CREATED for event in told] == [0.5, 3.625, 5, 40, 40, 40]
    assert [event.reconstructed for event in told] == [False, False, True, True, True, True]
    assert [event.earliest for event in told] == [0, 0, 0, CREATED + 30, CREATED + 30, CREATED + 30]


def test_a_stamp_from_a_list_never_lies_before_what_was_seen_happening(tmp_path: Path) -> None:
    pods = handler(tmp_path / "events.jsonl")
    late = pod()
    late["metadata"]["creationTimestamp"] = STAMP(3)
    pods.changed("ADDED", late, CREATED + 3.875)
    late = pod("scheduled")
    late["metadata"]["creationTimestamp"] = STAMP(3)
    pods.listed([late], CREATED + 30)
    assert [event.time - CREATED for event in journal.read(tmp_path / "events.jsonl")] == [3.875, 3.875]


def test_a_pod_whose_machine_is_gone_keeps_the_machine_it_ran_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    handler(path).changed("ADDED", pod("running"), CREATED + 5.5)

    def not_found(name: str) -> dict[str, Any]:
        raise ApiException(status=404, reason="Not Found")

    handler(path, not_found).changed("MODIFIED", pod("ended"), CREATED + 9.5)
    assert {event.machine for event in journal.read(path)} == {"", "i-1"}
    assert journal.read(path)[-1].machine == "i-1"


def test_a_pod_ends_with_its_machine_though_its_object_stays(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    pods = handler(path)
    nodes = Nodes(Recorder(path), lambda name: node(name))
    nodes.lost = pods.lost
    pods.changed("MODIFIED", pod("running", uid="u-1"), CREATED + 5.5)
    pods.changed("MODIFIED", pod("scheduled", uid="u-2"), CREATED + 5.5)
    pods.changed("MODIFIED", pod("ended", uid="u-3"), CREATED + 9.5)
    nodes.changed("DELETED", node("node-1"), CREATED + 20)
    pods.changed("DELETED", pod("running", uid="u-1"), CREATED + 60)
    told = {event.pod_uid: event for event in journal.read(path) if event.kind == "pod.ended"}
    assert {uid: (event.cause, event.time - CREATED) for uid, event in told.items()} == {
        "u-1": ("node_lost", 20),
        "u-2": ("node_lost", 20),
        "u-3": ("ok", 9.5),
    }
    gone = [(event.pod_uid, event.time - CREATED) for event in journal.read(path) if event.kind == "pod.gone"]
    assert gone == [("u-1", 60)]


def test_the_watch_outlives_the_api_server_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(watch.time, "sleep", pauses.append)
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}
    away = ApiException(status=503, reason="Service Unavailable")
    server = ApiServer(
        [],
        [{"type": "ADDED", "object": pod()}, bookmark],
        [{"type": "MODIFIED", "object": pod("scheduled")}, bookmark],
        OSError("connection refused"),
        away,
        away,
        [{"type": "MODIFIED", "object": pod("running")}, {"type": "DELETED", "object": pod("ended")}, bookmark],
        [],
    )
    path = tmp_path / "events.jsonl"
    with pytest.raises(KeyboardInterrupt):
        watch.follow(server, handler(path), "pods")
    assert kinds(journal.read(path)) == [*LIFE[:3], "machine.idle", "pod.ended", "pod.gone"]
    assert not any(event.reconstructed for event in journal.read(path)), "all of it as it happened"
    assert server.versions == ["7", "99", "99", "99"]
    assert server.seconds == [60, 60, 1, 60], "what came meanwhile is known at once, and that it is all"
    assert pauses == [0.2, 0.4, 0.8]


@pytest.mark.parametrize(
    "answer",
    [
        [{"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}],
        [{"type": "ERROR", "object": {"code": 504, "message": "Too large resource version: 99, current: 7"}}],
        ApiException(status=410, reason="Gone"),
    ],
    ids=["too old", "of another life of etcd", "gone"],
)
def test_where_the_api_server_cannot_go_on_the_watch_lists_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    server = ApiServer(
        [pod()],
        [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}],
        answer,
        [pod("ended")],
        [{"type": "DELETED", "object": pod("ended")}],
    )
    path = tmp_path / "events.jsonl"
    with pytest.raises(KeyboardInterrupt):
        watch.follow(server, handler(path), "pods")
    assert kinds(journal.read(path))[-1] == "pod.gone"
    assert server.versions[0] == server.versions[-1] == "7", "that of a list"


def test_lines_are_whole_whatever_the_pieces() -> None:
    assert list(watch.lines(iter([b'{"a"', b":1}\n", b'{"b":2}\n{"c"', b":3}\n\n", b'{"torn"']))) == [
        b'{"a":1}',
        b'{"b":2}',
        b'{"c":3}',
    ]


def test_what_a_watch_that_was_killed_did_not_see_lies_between_its_last_event_and_now(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    handler(path).changed("MODIFIED", pod("running"), CREATED + 5.5)
    handler(path).changed("MODIFIED", pod("running", uid="u-2"), CREATED + 5.75)
    handler(path).listed([], CREATED + 60)
    ended = [event for event in journal.read(path) if event.kind == "pod.ended"]
    assert {(event.reconstructed, event.earliest - CREATED, event.time - CREATED) for event in ended} == {
        (True, 5.75, 60)
    }


def test_a_quiet_watch_knows_that_nothing_has_changed(tmp_path: Path) -> None:
    pods = handler(tmp_path / "events.jsonl")
    pods.changed("MODIFIED", pod("running"), CREATED + 5.5)
    pods.in_step(CREATED + 50)
    pods.listed([], CREATED + 60)
    assert {event.earliest - CREATED for event in journal.read(tmp_path / "events.jsonl") if event.reconstructed} == {
        50
    }


def test_a_machine_idles_when_its_last_job_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    pods = handler(path)
    for uid in ("u-1", "u-2"):
        pods.changed("MODIFIED", pod("running", uid=uid), CREATED + 5.5)
    pods.changed("MODIFIED", pod("ended", uid="u-1"), CREATED + 9.25)
    assert "machine.idle" not in kinds(journal.read(path))
    pods.changed("MODIFIED", pod("ended", uid="u-2"), CREATED + 9.5)
    pods.changed("MODIFIED", pod("running", uid="u-3"), CREATED + 20)
    pods.changed("DELETED", pod("running", uid="u-3"), CREATED + 30)
    idle = [(event.occurrence, event.time - CREATED) for event in journal.read(path) if event.kind == "machine.idle"]
    assert idle == [("u-2", 9.5), ("u-3", 30)]


@pytest.mark.parametrize("pod_first", [True, False])
def test_an_image_pull_is_recorded_whichever_watch_is_ahead(tmp_path: Path, pod_first: bool) -> None:
    path = tmp_path / "events.jsonl"
    pods = handler(path)
    pulls = Pulls(pods)
    if pod_first:
        pods.changed("MODIFIED", pod("scheduled"), CREATED + 3.5)
    pulls.changed("ADDED", pull(), CREATED + 4.25)
    pulls.changed("ADDED", pull("stranger"), CREATED + 4.25)
    pulls.changed("ADDED", pull(), CREATED + 6)
    pods.changed("MODIFIED", pod("scheduled"), CREATED + 4.5)
    (pulled,) = (event for event in journal.read(path) if event.kind == "pod.pulling")
    assert (pulled.pod_uid, pulled.machine, pulled.time - CREATED, pulled.dag) == ("u-1", "i-1", 4.25, "flights_daily")


def test_two_watches_at_once_do_not_end_the_keeper(tmp_path: Path) -> None:
    """That of pods forgets one between the other's asking whether it is there and reading it."""
    pods = handler(tmp_path / "events.jsonl")
    pods.changed("MODIFIED", pod("scheduled"), CREATED + 3.5)
    forgotten = threading.Event()

    class Forgetting(dict[str, Any]):
        def __contains__(self, uid: object) -> bool:
            there = super().__contains__(uid)
            threading.Thread(target=forget).start()
            forgotten.wait(0.5)
            return there

    def forget() -> None:
        pods.changed("DELETED", pod("ended"), CREATED + 9)
        forgotten.set()

    pods._last = Forgetting(pods._last)
    pods.pulling(pull(), CREATED + 4, live=True)
    assert forgotten.wait(10)


def test_pulls_of_other_pods_are_not_kept_for_ever(tmp_path: Path) -> None:
    pods = handler(tmp_path / "events.jsonl")
    for number in range(3000):
        pods.pulling(pull(f"stranger-{number}"), CREATED, live=True)
    assert len(pods._pulls) <= 1000


def test_a_node_tells_its_size_and_that_it_is_cordoned_or_reclaimed() -> None:
    told = node()
    told["metadata"]["labels"] |= {"topology.kubernetes.io/zone": "us-east-1a"}
    told["status"]["allocatable"] = {"cpu": "1930m", "memory": "7Gi"}
    told["spec"]["taints"] = [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": STAMP(30)},
        {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"},
        {"key": "tidepool.dev/pool", "value": "spot-small", "effect": "NoSchedule"},
    ]
    ready, cordoned, reclaimed = node_events(told, CREATED + 30.5, live=True)
    assert (ready.cpu_millis, ready.memory_bytes, ready.zone) == (1930, 7 << 30, "us-east-1a")
    assert (cordoned.kind, cordoned.occurrence, cordoned.time) == ("machine.cordoned", STAMP(30), CREATED + 30.5)
    assert (reclaimed.kind, reclaimed.time) == ("machine.reclaimed", CREATED + 30.5)
    assert {event.reconstructed for event in node_events(told, CREATED + 90, live=False)} == {True}


@pytest.mark.parametrize(
    ("taint", "cause"),
    [("aws-node-termination-handler/spot-itn", "spot_reclaim"), ("", "evicted")],
)
def test_the_end_of_a_drained_pod_has_the_cause_that_its_node_says(tmp_path: Path, taint: str, cause: str) -> None:
    path = tmp_path / "events.jsonl"
    told = node()
    told["spec"]["taints"] = [{"key": "tidepool.dev/pool", "value": "spot-small", "effect": "NoSchedule"}]
    told["spec"]["taints"] += [{"key": taint, "effect": "NoSchedule"}] * bool(taint)
    recorder = Recorder(path)
    nodes = Nodes(recorder, lambda name: told)
    nodes.changed("MODIFIED", told, CREATED + 7)
    pods = Pods(recorder, nodes.machine, nodes.tainted)
    evicted = pod("ended", exit_code=143)
    evicted["metadata"]["deletionTimestamp"] = STAMP(8)
    evicted["status"]["conditions"].append(
        {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    )
    pods.changed("MODIFIED", evicted, CREATED + 9.5)
    (end,) = (event for event in journal.read(path) if event.kind == "pod.ended")
    assert end.cause == cause


def test_a_pod_tells_its_team_and_what_it_asks_for() -> None:
    asking = pod()
    asking["metadata"]["labels"]["tidepool.dev/team"] = "analytics"
    asking["spec"]["containers"] = [
        {"name": "base", "resources": {"requests": {"cpu": "1500m", "memory": "5Gi"}}},
        {"name": "sidecar", "resources": {"requests": {"cpu": ".1", "memory": "64Mi"}}},
    ]
    asking["spec"]["initContainers"] = [
        {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
        {"name": "setup", "resources": {"requests": {"cpu": "1", "memory": "8Gi"}}},
    ]
    (told,) = pod_events(asking, "", CREATED, live=True)
    assert (told.team, told.cpu_millis, told.memory_bytes) == ("analytics", 1650, 8 << 30)


@pytest.mark.parametrize("attempt", ["9" * 5000, "-1", "1; DROP TABLE", "\u0663", ""])
def test_no_annotation_stops_the_watch(attempt: str) -> None:
    odd = pod()
    odd["metadata"]["annotations"] = {"tidepool.dev/attempt": attempt, "tidepool.dev/owner-dag": "d" * 200_000}
    odd["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1" * 5000, "memory": "9e99Ei"}}
    (told,) = pod_events(odd, "", CREATED, live=True)
    assert told.attempt in (0, 3)
    assert len(told.dag) == 250
    assert told.memory_bytes < 2**63
    assert events.loads(events.dumps(told)) == told


class Killed(Exception):
    """In place of SIGKILL."""


@pytest.mark.parametrize("writes", range(6))
def test_killed_between_any_two_writes_the_next_watch_records_the_rest(tmp_path: Path, writes: int) -> None:
    path = tmp_path / "events.jsonl"
    left = writes

    class Dying(Recorder):
        def record(self, event: Event) -> bool:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return super().record(event)

    pods = Pods(Dying(path), lambda name: "i-1")
    with contextlib.suppress(Killed):
        pods.changed("MODIFIED", pod("ended"), CREATED + 9.5)
        pods.changed("DELETED", pod("ended"), CREATED + 10)
    handler(path).listed([pod("ended")], CREATED + 20)
    handler(path).listed([], CREATED + 30)
    assert kinds(journal.read(path)) == [*LIFE[:3], "machine.idle", "pod.ended", "pod.gone"]
