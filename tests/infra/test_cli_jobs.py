"""`tidepool jobs` on recorded events, and overrides written to a cluster in memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException, V1ConfigMap, V1ObjectMeta
from typer.testing import CliRunner, Result

from infra.cli import jobs as verb
from infra.cli.main import app
from infra.cli.overrides import Overrides
from tests.dags.conftest import make_capacity, make_pool
from tests.dags.fake_kubernetes import Kubernetes
from tidepool import overrides
from tidepool.capacity import OVERRIDES_CONFIG_MAP
from tidepool.ledger.events import Event
from tidepool.ledger.journal import append
from tidepool.ledger.store import Store
from tidepool.overrides import Override

GIB = 1 << 30
NOW = time.time()
LARGE = make_pool("spot-large", cpu_millis=7900, memory_bytes=30 * GIB, usd_per_hour=0.16, priority=60)
CAPACITY = make_capacity(LARGE, make_pool("spot-small"), make_pool("on-demand-small", "on-demand", usd_per_hour=0.096))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIDEPOOL_LEDGER", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(verb, "_capacity", lambda stack: CAPACITY)


def run(task: str, number: int, seconds: float = 600, cause: str = "ok", cpu: float = 700, **more: Any) -> list[Event]:
    """Alone on a large machine, an hour after the run before."""
    name, end = f"{task}-{number}", NOW - 3600 * (number + 1)
    whose: dict[str, Any] = {"pod": name, "pod_uid": name, "namespace": "tidepool-ads", "dag": "flights", "task": task}
    whose |= {"run": f"r{number:03}", "attempt": 1, "team": "ads", "pool": "spot-large"}
    whose |= {"cpu_millis": 7650, "memory_bytes": 29 * GIB} | more
    kind: dict[str, Any] = {"pool": "spot-large", "market": "spot", "usd_per_hour": 0.16}
    size: dict[str, Any] = {"cpu_millis": 7900, "memory_bytes": 30 * GIB}
    used: dict[str, Any] = {
        "cpu_seconds": cpu,
        "memory_p99_bytes": 3 * GIB,
        "memory_peak_bytes": 3 * GIB,
        "samples": 60,
    }
    begin = end - seconds
    return [
        Event(begin - 60, "machine.asked", f"i-{name}", **kind),
        Event(begin - 50, "pod.queued", **whose),
        Event(begin - 5, "machine.ready", f"i-{name}", **size),
        Event(begin, "pod.scheduled", f"i-{name}", **whose),
        Event(begin, "pod.running", f"i-{name}", **whose),
        Event(end, "pod.ended", f"i-{name}", cause=cause, **whose),
        Event(end, "pod.used", f"i-{name}", **whose | used),
        Event(end + 20, "machine.gone", f"i-{name}"),
    ]


HISTORY = [
    *(event for number in range(6) for event in run("clean", number)),
    *(event for number in range(6) for event in run("model", number, seconds=60 + 60 * (5 - number), cpu=2000)),
    *(event for number in range(2) for event in run("flaky", number, seconds=30, cause="app_error")),
]


@pytest.fixture
def events(tmp_path: Path) -> str:
    for event in HISTORY:
        append(tmp_path / "events.jsonl", event)
    return str(tmp_path / "events.jsonl")


def tidepool(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["jobs", *arguments])


def data(*arguments: str) -> Any:
    found = tidepool(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_the_slowest_come_first_with_how_that_moves(events: str) -> None:
    clean, model, flaky = data("slow", "--events", events)
    assert [row["task"] for row in (clean, model, flaky)] == ["clean", "model", "flaky"]
    assert (clean["p50"], clean["runs"], clean["failed"], clean["trend"]) == (650, 6, 0, 0)
    assert (model["longest"], model["waited"]) == (410, 50)
    assert model["trend"] == pytest.approx(350 / 170 - 1)
    assert (flaky["failed"], flaky["trend"]) == (2, None)
    shown = tidepool("slow", "--events", events).stdout
    assert "flights.clean" in shown
    assert "+106%" in shown


def test_the_most_wasteful_come_first_with_what_to_change_and_what_that_saves(events: str) -> None:
    rows = data("waste", "--events", events)
    assert [row["task"] for row in rows] == ["clean", "model", "flaky"]
    clean = rows[0]
    assert clean["memory"] == pytest.approx(3 / 29)
    assert clean["cpu"] == pytest.approx(700 / 600 / 7.65)
    assert clean["unused_usd"] == pytest.approx(600 / 3600 * 0.16 * 6 * (1 - 700 / 600 / 7.65), rel=1e-3)
    advice = clean["advice"][0]
    assert advice["override"]["pools"] == ["spot-small", "on-demand-small"]
    assert 0 < advice["saves_usd"] < 600 / 3600 * 0.16
    assert rows[2]["lost"] == {"app_error": 2}
    shown = tidepool("waste", "--events", events).stdout
    assert "What to change" in shown
    assert "flights.clean: a machine of spot-small" in shown
    assert "[memory=6912Mi, cores=2, pools=spot-small+on-demand-small]" in shown
    assert "flights.flaky: attempts lost: 2 by app_error" in shown


def test_a_job_with_more_pods_than_are_looked_at_has_the_sums_of_all_and_that_is_said(
    events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = {row["task"]: row for row in data("waste", "--events", events)}
    monkeypatch.setattr(verb.history.pods, "__defaults__", (0.0, None, 2))
    few = {row["task"]: row for row in data("waste", "--events", events)}
    assert (few["clean"]["pods"], few["clean"]["sampled"]) == (6, 2)
    for name in ("runs", "usd", "wasted_usd", "lost"):
        assert [row[name] for row in few.values()] == [row[name] for row in everything.values()]
    shown = tidepool("slow", "--events", events).stdout
    assert "flights.clean: P50, P90, longest, waited and trend are of its last 2 of 6 pods" in shown
    assert "flights.flaky: P50" not in shown


def test_a_database_is_read_as_the_keeper_left_it(events: str, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "ledger.db"))
    store.record_all(HISTORY)
    store.close()
    found = tidepool("slow", "--database", str(tmp_path / "ledger.db"))
    assert (found.exit_code, found.stdout) == (0, "")
    assert "no job has ended between" in found.stderr  # nobody has kept its books


@pytest.mark.parametrize("verb", ["slow", "waste"])
def test_an_empty_ledger_is_no_error_and_says_how_it_fills(tmp_path: Path, verb: str) -> None:
    Store.open(str(tmp_path / "ledger.db")).close()
    for given in ((), ("--json",)):
        found = tidepool(verb, "--database", str(tmp_path / "ledger.db"), *given)
        assert (found.exit_code, found.stdout) == (0, "[]\n" if given else "")
        assert "the ledger has no events yet: the keeper writes them" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("slow",), "there is no ledger"),
        (("waste", "--events", "/nowhere.jsonl"), "/nowhere.jsonl does not exist"),
        (("slow", "--database", "/nowhere/ledger.db"), "there is no ledger"),
        (("slow", "--since", "often"), "is not a time"),
    ],
)
def test_what_is_missing_or_wrong_is_said(arguments: tuple[str, ...], words: str) -> None:
    found = tidepool(*arguments)
    assert found.exit_code != 0
    assert words in found.output


@pytest.mark.parametrize("command", [("jobs", "overrides"), ("hdfs", "report")], ids=" ".join)
def test_without_a_cluster_it_is_said_how_to_name_one(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "empty").touch()
    found = CliRunner().invoke(app, [*command, "--kubeconfig", str(tmp_path / "empty")])
    assert found.exit_code == 1
    assert "no cluster: Invalid kube-config" in found.stderr
    assert found.stderr.endswith(". Name its kubeconfig with --kubeconfig\n")


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    found = Kubernetes()
    monkeypatch.setattr("kubernetes.config.new_client_from_config", lambda *_: None)
    monkeypatch.setattr("kubernetes.client.CoreV1Api", lambda _: found)
    return found


@pytest.fixture
def deployed(kubernetes: Kubernetes) -> Kubernetes:
    kubernetes.create_namespaced_config_map(
        "ns", V1ConfigMap(metadata=V1ObjectMeta(name=OVERRIDES_CONFIG_MAP), data={})
    )
    return kubernetes


def kept() -> list[Override]:
    return Overrides(None).read("tidepool-ads")


def test_without_apply_nothing_is_written(events: str, deployed: Kubernetes) -> None:
    found = tidepool("right-size", "flights", "clean", "--events", events)
    assert "a machine of spot-small" in found.stdout
    assert kept() == []


def test_an_override_is_written_listed_and_taken_back(events: str, deployed: Kubernetes) -> None:
    found = tidepool("right-size", "flights", "clean", "--events", events, "--apply")
    assert found.exit_code == 0, found.output
    assert "written: memory=6912Mi, cores=2, pools=spot-small+on-demand-small" in found.stdout
    [override] = kept()
    assert (override.dag, override.task, override.cpu_millis, override.memory_bytes) == (
        "flights",
        "clean",
        7650,
        29 * GIB,
    )
    listed = tidepool("overrides").stdout
    assert "flights.clean: memory=6912Mi" in listed.replace("\n", " ")
    assert "removed: memory=6912Mi" in tidepool("right-size", "flights", "clean", "--events", events, "--remove").stdout
    assert kept() == []


def test_an_override_of_a_job_that_has_one_holds_for_its_authors_size(events: str, deployed: Kubernetes) -> None:
    """The runs that it follows from had the size of the one before."""
    before = Override("flights", "clean", memory=f"{29 * 1024}Mi", cpu_millis=15_000, memory_bytes=60 * GIB)
    Overrides(None).write("tidepool-ads", before)
    tidepool("right-size", "flights", "clean", "--events", events, "--apply")
    [override] = kept()
    assert (override.cores, override.cpu_millis, override.memory_bytes) == (2, 15_000, 60 * GIB)


def test_a_mapped_task_has_a_recommendation_and_a_job_of_several_pods_is_told_why_it_has_none(tmp_path: Path) -> None:
    path = tmp_path / "parts.jsonl"
    for number in range(5):
        for part in range(2):
            owner = {"pod_uid": f"{number}-{part}", "run": f"r{number}"}
            for event in run("mapped", number, **owner | {"map_index": str(part)}):
                append(path, event)
            for event in run("members", number, **owner | {"pod_uid": f"m-{number}-{part}"}):
                append(path, event)
    mapped, members = sorted(data("right-size", "flights", "--events", str(path)), key=lambda row: str(row["task"]))
    assert (mapped["runs"], mapped["refused"]) == (5, "")
    assert mapped["advice"][0]["override"]["cores"] == 2
    assert members["advice"] == []
    told = tidepool("right-size", "flights", "members", "--events", str(path)).stdout
    assert "flights.members: no size is recommended: it has several pods at once" in told


def test_what_was_rolled_back_is_not_applied_again(events: str, deployed: Kubernetes) -> None:
    Overrides(None).write("tidepool-ads", Override("flights", "clean", memory="2Gi", rolled_back="it ran out"))
    found = tidepool("right-size", "flights", "--events", events, "--apply")
    assert "nothing, as memory=2Gi was rolled back (it ran out)" in found.stdout
    assert "rolled back: it ran out" in tidepool("overrides").stdout
    assert {each.rolled_back for each in kept() if each.task == "clean"} == {"it ran out"}


def test_a_job_that_is_not_there_is_said_with_those_that_are(events: str) -> None:
    found = tidepool("right-size", "flights", "claen", "--events", events)
    assert found.exit_code == 1
    assert "did you mean" in found.output
    assert "its jobs are clean, flaky, model" in found.output


def test_a_cluster_without_the_configmap_is_said(events: str, kubernetes: Kubernetes) -> None:
    found = tidepool("right-size", "flights", "clean", "--events", events, "--apply")
    assert found.exit_code == 1
    assert "there is no ConfigMap tidepool-ads/tidepool-overrides" in found.output


def test_a_refusal_of_the_cluster_is_said(events: str, deployed: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise ApiException(status=403, reason="Forbidden")

    monkeypatch.setattr(deployed, "patch_namespaced_config_map", forbidden)
    found = tidepool("right-size", "flights", "clean", "--events", events, "--apply")
    assert found.exit_code == 1
    assert "Forbidden" in found.output


def test_apply_and_remove_exclude_each_other(events: str) -> None:
    assert tidepool("right-size", "flights", "--events", events, "--apply", "--remove").exit_code == 2


def test_an_override_reads_back_whatever_its_task_is_called(deployed: Kubernetes) -> None:
    odd = Override("däg.‮", "t" * 250, memory="2Gi", why="\x1b[2J</script>")
    Overrides(None).write("ns", odd)
    assert Overrides(None).read("ns") == [odd]
    assert len(overrides.key(odd.dag, odd.task)) < 64
