"""The hypervisor: makes the machines of this host be what the AWS API says they are. A process of the local cloud.

It watches the Auto Scaling Groups and instances, starts a machine for each new instance and ends it when the instance
ends. It decides nothing: what an Auto Scaling Group does not ask for is not started, and an AWS API that does not
answer changes nothing. It also plays the cloud controller: the Node object of an ended instance is deleted; and beside
that it gives volumes to claims (infra/local/volumes.py).

    python -m infra.local.hypervisor --binaries DIR --containerd FILE --golden DIR --cluster NAME
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kubernetes
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from infra.aws import instance_types
from infra.local import paths
from infra.local.aws import Alive, Aws, Group
from infra.local.daemon import log, ready_to_stop
from infra.local.kube import core_api
from infra.local.machine import Home, Instance, Machine
from infra.local.machine_files import Size
from infra.local.state import Cloud
from infra.local.volumes import Volumes
from tidepool.capacity import POOL_LABEL
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

_INTERVAL_SECONDS = 0.3
_RESTART_SECONDS = 2.0


class Hypervisor:
    """Reconciles machines with instances; machines start and end side by side in threads."""

    def __init__(self, home: Home, cluster: str, aws: Aws, api: kubernetes.client.CoreV1Api) -> None:
        self._home, self._cluster, self._aws, self._api = home, cluster, aws, api
        self._recorder = Store.open(str(Cloud(home.state).events))
        self._machines = {machine.instance.id: machine for machine in Machine.all(home)}
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._looked = 0.0
        self._workers = ThreadPoolExecutor(max_workers=8)
        self._orphan_nodes: set[str] = set()
        self._catch_up()

    def step(self) -> None:
        """One look at the AWS API, and what follows from it."""
        groups = self._aws.groups(self._cluster)
        before, self._looked = self._looked, time.time()
        alive = self._aws.instances()
        for group in groups:
            for instance in group.instances:
                if instance in alive and instance not in self._machines:
                    self._launch(group, instance, alive[instance])
        for instance, machine in list(self._machines.items()):
            if instance not in alive:
                self._work(instance, functools.partial(self._end, seen=before, noticed=time.time()), machine)
            elif machine.down_processes():
                self._work(instance, self._revive, machine)
        self._delete_nodes()

    def _catch_up(self) -> None:
        """Record what an earlier hypervisor did and died before it could write down."""
        alive = self._recorder.last_time(("machine.asked", "machine.gone"))
        for machine in self._machines.values():
            self._record("machine.asked", machine.instance, machine.instance.launched)
        for asked in self._recorder.events("machine.asked"):
            if asked.machine not in self._machines:
                stamp = self._aws.ended(asked.machine)
                gone = dataclasses.replace(asked, kind="machine.gone", time=stamp or time.time(), reconstructed=True)
                self._recorder.record(dataclasses.replace(gone, earliest=0.0 if stamp else alive))
                self._orphan_nodes.add(asked.machine)

    def _launch(self, group: Group, instance: str, alive: Alive) -> None:
        # moto leaves the type of a mixed-instances group's machines empty
        instance_type = alive.instance_type or group.instance_types[0]
        described = Instance(
            id=instance,
            pool=group.labels[POOL_LABEL],
            market=group.market,
            instance_type=instance_type,
            zone=group.zones[0],
            vcpu=instance_types.table()[instance_type].vcpu,
            size=Size(group.resources["cpu"], group.resources["memory"], group.resources["ephemeral-storage"]),
            node_config=self._aws.node_config(group.launch_template),
            launched=alive.launched,
        )
        machine = Machine.create(self._home, described)
        self._machines[instance] = machine
        self._record("machine.asked", described, described.launched)
        log(f"{instance}: launching ({described.pool}, {described.market} {instance_type})")
        self._work(instance, self._boot, machine)

    def _boot(self, machine: Machine) -> None:
        machine.boot()
        log(f"{machine.instance.id}: booted")

    def _revive(self, machine: Machine) -> None:
        """What systemd does on a real machine: start again what has died, not too often."""
        if down := machine.down_processes():
            log(f"{machine.instance.id}: {', '.join(down)} does not run; starting it")
            machine.boot()
            time.sleep(_RESTART_SECONDS)

    def _end(self, machine: Machine, seen: float, noticed: float) -> None:
        machine.end()
        # It was billed until EC2 ended it, however late that was noticed; EC2's word has no fractions of a second.
        stamp = self._aws.ended(machine.instance.id)
        first, last = (seen, noticed) if stamp is None else (max(seen, stamp), min(noticed, stamp + 1.0))
        self._record("machine.gone", machine.instance, (min(first, last) + last) / 2)
        log(f"{machine.instance.id}: gone")
        with self._lock:
            self._orphan_nodes.add(machine.instance.id)
            del self._machines[machine.instance.id]

    def _work(self, instance: str, task: Callable[[Machine], None], machine: Machine) -> None:
        """Run one task at a time for a machine; a failure is logged, and the next look tries again."""
        with self._lock:
            if instance in self._busy:
                return
            self._busy.add(instance)

        def run() -> None:
            try:
                task(machine)
            except Exception as error:  # noqa: BLE001 - one machine's trouble must not stop the others
                log(f"{instance}: {type(error).__name__}: {error}")
                time.sleep(1)
            finally:
                with self._lock:
                    self._busy.discard(instance)

        self._workers.submit(run)

    def _delete_nodes(self) -> None:
        for node in list(self._orphan_nodes):
            try:
                self._api.delete_node(node, _request_timeout=5)
            except kubernetes.client.ApiException as error:
                if error.status != 404:
                    raise
            with self._lock:
                self._orphan_nodes.discard(node)

    def _record(self, kind: str, instance: Instance, when: float) -> None:
        price = instance_types.table()[instance.instance_type].price(instance.market)
        self._recorder.record(
            Event(
                time=when,
                kind=kind,
                machine=instance.id,
                pool=instance.pool,
                market=instance.market,
                instance_type=instance.instance_type,
                zone=instance.zone,
                usd_per_hour=price,
            )
        )


def main() -> None:
    """Reconcile until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--containerd", required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--cluster", required=True)
    arguments = parser.parse_args()
    state = paths.state()
    home = Home(state, arguments.binaries, arguments.containerd, arguments.golden)
    hypervisor = Hypervisor(home, arguments.cluster, Aws(), core_api(state / "admin.kubeconfig"))
    stop = ready_to_stop()
    volumes = Volumes(state / "volumes", core_api(state / "admin.kubeconfig"))
    threading.Thread(target=volumes.run, args=(stop,), daemon=True).start()
    while not stop.wait(_INTERVAL_SECONDS):
        try:
            hypervisor.step()
        except (BotoCoreError, ClientError, HTTPError, kubernetes.client.ApiException, OSError) as error:
            log(f"waiting: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
