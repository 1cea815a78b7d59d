"""The hypervisor does what the AWS API says, and nothing that it does not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from infra.local.aws import Alive, Group
from infra.local.hypervisor import Hypervisor
from infra.local.machine import Home, Machine
from tidepool.ledger import tail
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

LAUNCHED = 1_790_000_000.5

GROUP = Group(
    name="local-spot",
    minimum=0,
    maximum=4,
    desired=1,
    instances=("i-1",),
    instance_types=("m5.large",),
    market="spot",
    zones=("us-east-1a",),
    launch_template="lt-1",
    labels={"tidepool.dev/pool": "spot"},
    taints={},
    resources={"cpu": 1930, "memory": 7 * 1024**3, "ephemeral-storage": 16 * 1024**3, "pods": 20},
    unneeded_seconds=10,
)


class AtOnce:
    """Does the work where it is submitted: no waiting in tests."""

    def submit(self, work: Callable[[], None]) -> None:
        work()


class Cloud:
    """The AWS API and the API server, with what was done to machines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
        self.state = state
        self.answer: Any = ([GROUP], {"i-1": Alive("", LAUNCHED)})
        self.stamps: dict[str, float] = {}
        self.done: list[str] = []
        self.deleted: list[str] = []
        monkeypatch.setattr(Machine, "boot", lambda machine: self.done.append(f"boot {machine.instance.id}"))
        monkeypatch.setattr(Machine, "end", lambda machine: self._end(machine))
        monkeypatch.setattr(Machine, "down_processes", lambda machine: [])

    def _end(self, machine: Machine) -> None:
        self.done.append(f"end {machine.instance.id}")
        (machine.folder / "machine.json").unlink()

    def groups(self, cluster: str) -> list[Group]:
        return list(self._ask()[0])

    def instances(self) -> dict[str, Alive]:
        return dict(self._ask()[1])

    def ended(self, instance: str) -> float | None:
        return self.stamps.get(instance)

    def _ask(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def node_config(self, launch_template: str) -> dict[str, Any]:
        return {}

    def delete_node(self, name: str, **_: Any) -> None:
        self.deleted.append(name)

    def hypervisor(self) -> Hypervisor:
        home = Home(self.state, Path("/b"), "containerd", Path("/golden"))
        made = Hypervisor(home, "local", self, self)  # type: ignore[arg-type]
        made._workers = AtOnce()  # type: ignore[assignment]
        return made

    def told(self) -> list[tuple[str, str]]:
        return [(event.kind, event.machine) for event in tail.read(self.state / "ledger.db")]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cloud:
    return Cloud(monkeypatch, tmp_path)


def test_an_instance_becomes_a_machine_of_the_groups_first_type_and_ends_with_it(cloud: Cloud) -> None:
    hypervisor = cloud.hypervisor()
    hypervisor.step()
    hypervisor.step()
    assert cloud.done == ["boot i-1"]
    [asked] = tail.read(cloud.state / "ledger.db")
    assert (asked.pool, asked.market, asked.instance_type) == ("spot", "spot", "m5.large")
    assert asked.usd_per_hour > 0
    assert asked.time == LAUNCHED
    cloud.answer = ([GROUP], {})
    hypervisor.step()
    hypervisor.step()
    assert cloud.done == ["boot i-1", "end i-1"]
    assert cloud.told() == [("machine.asked", "i-1"), ("machine.gone", "i-1")]
    assert cloud.deleted == ["i-1"]


def test_an_aws_api_that_does_not_answer_changes_nothing(cloud: Cloud) -> None:
    hypervisor = cloud.hypervisor()
    hypervisor.step()
    cloud.answer = EndpointConnectionError(endpoint_url="http://127.0.0.1:5555")
    with pytest.raises(EndpointConnectionError):
        hypervisor.step()
    assert cloud.done == ["boot i-1"]


def test_a_new_hypervisor_takes_the_machines_over_and_starts_none_twice(cloud: Cloud) -> None:
    cloud.hypervisor().step()
    cloud.hypervisor().step()
    assert cloud.done == ["boot i-1"]


def test_an_end_that_was_not_written_down_is_recorded_by_the_next_hypervisor(cloud: Cloud) -> None:
    cloud.answer = ([], {})
    store = Store.open(str(cloud.state / "ledger.db"))
    store.record(Event(1.0, "machine.asked", "i-0", pool="spot", usd_per_hour=0.04))
    store.close()
    cloud.hypervisor().step()
    assert cloud.told() == [("machine.asked", "i-0"), ("machine.gone", "i-0")]
    gone = tail.read(cloud.state / "ledger.db")[-1]
    assert (gone.reconstructed, gone.earliest) == (True, 1.0)
    assert cloud.deleted == ["i-0"]


def test_a_machine_is_gone_when_ec2_ended_it_however_late_that_is_noticed(cloud: Cloud) -> None:
    cloud.hypervisor().step()
    cloud.answer, cloud.stamps = ([], {}), {"i-1": LAUNCHED + 60, "i-0": LAUNCHED + 30}
    cloud.hypervisor().step()
    gone = tail.read(cloud.state / "ledger.db")[-1]
    assert (gone.kind, gone.time, gone.reconstructed) == ("machine.gone", LAUNCHED + 60.5, False)
    store = Store.open(str(cloud.state / "ledger.db"))
    store.record(Event(LAUNCHED, "machine.asked", "i-0", pool="spot"))
    store.close()
    cloud.hypervisor()
    gone = tail.read(cloud.state / "ledger.db")[-1]
    assert (gone.machine, gone.time, gone.reconstructed, gone.earliest) == ("i-0", LAUNCHED + 30, True, 0.0)
