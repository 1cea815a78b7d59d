"""A machine of the local cloud: a network namespace with a containerd, a kubelet and a kube-proxy of its own.

It stands in for an EC2 instance: started from the launch template's user data, on a clone of the golden root.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.aws import instance_types
from infra.local import addresses, cgroups, golden, hardware, machine_files, mounts, network, paths, waiting
from infra.local.errors import LocalError
from infra.local.images import PAUSE
from infra.local.machine_files import Size
from infra.local.pki import Authority, write_kubeconfig

PROCESSES = ("containerd", "kubelet", "kube-proxy")
DEVICE_PLUGIN = "device-plugin"
"""Of a machine with GPUs."""

_SOCKET_SECONDS = 20


class MachineError(LocalError):
    """A machine can't start; the message says which one and why."""


@dataclass(frozen=True)
class Instance:
    """What EC2 and the Auto Scaling Group say of an instance; size is its pool's promise to pods.

    launched: Unix seconds.
    """

    id: str
    pool: str
    market: str
    instance_type: str
    zone: str
    vcpu: int
    size: Size
    node_config: dict[str, Any]
    launched: float


@dataclass(frozen=True)
class Home:
    """What machines share: the state folder, the binaries and the golden root."""

    state: Path
    binaries: Path
    containerd: str
    golden: Path


class Machine:
    """One machine; all that it is can be read again from its folder, so that any process may take it over."""

    def __init__(self, home: Home, instance: Instance, index: int) -> None:
        self.home, self.instance, self.index = home, instance, index
        self.folder = home.state / "machines" / instance.id
        self.run = paths.RUN / instance.id
        self.namespace = f"{network.NAMESPACE_PREFIX}{instance.id}"
        self.type = instance_types.table()[instance.instance_type]

    @classmethod
    def create(cls, home: Home, instance: Instance) -> Machine:
        """Take a free number and write the machine's folder."""
        taken = {machine.index for machine in cls.all(home)}
        index = next(number for number in range(2, 255) if number not in taken)
        machine = cls(home, instance, index)
        machine.folder.mkdir(parents=True, exist_ok=True)
        record = {"index": index, "instance": dataclasses.asdict(instance)}
        temporary = machine.folder / "machine.json.new"
        temporary.write_text(json.dumps(record))
        temporary.rename(machine.folder / "machine.json")
        return machine

    @classmethod
    def all(cls, home: Home) -> list[Machine]:
        """The machines that have a folder."""
        machines = []
        for file in sorted(home.state.glob("machines/*/machine.json")):
            record = json.loads(file.read_text())
            body = record["instance"]
            instance = Instance(**(body | {"size": Size(**body["size"])}))
            machines.append(cls(home, instance, record["index"]))
        return machines

    def boot(self) -> None:
        """Bring the machine up, or back up: whatever of it is there already is left as it is."""
        cgroups.create(self.instance.id, cpus=self.instance.vcpu)
        network.plug(self.instance.id, self.index)
        self.run.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "containerd").exists():
            self._write_files()
            self._clone()  # last: a hypervisor that comes after a killed one sees by it that the files are whole
        self._spawn("containerd", [self.home.containerd, "-c", f"{self.folder}/containerd.toml"])
        self._wait_for_socket()
        address = addresses.machine_address(self.index)
        root = self._kubelet_root()
        kubelet = machine_files.kubelet_flags(
            self.instance.node_config,
            binaries=self.home.binaries,
            folder=self.folder,
            root=root,
            instance=self.instance.id,
            zone=self.instance.zone,
            address=address,
        )
        sees = hardware.command(self._hardware, root) if self.type.gpus else []
        self._spawn("kubelet", [*sees, *kubelet])
        proxy_config = self.home.state / "kube-proxy.kubeconfig"
        proxy = machine_files.proxy_flags(self.home.binaries, self.instance.id, proxy_config)
        self._spawn("kube-proxy", proxy)
        if self.type.gpus:
            socket = root / "plugins_registry" / f"{DEVICE_PLUGIN}.sock"
            what = ["--socket", str(socket), "--machine", self.instance.id, "--gpus", str(self.type.gpus)]
            self._spawn(DEVICE_PLUGIN, [sys.executable, "-m", "infra.local.device_plugin", *what])

    def down_processes(self) -> list[str]:
        """The processes of the machine that should run and don't."""
        names = (*PROCESSES, DEVICE_PLUGIN) if self.type.gpus else PROCESSES
        return [name for name in names if not self._runs(name)]

    def end(self) -> None:
        """Power off: every process is killed at once, then nothing of the machine is left."""
        cgroups.kill(self.instance.id)
        network.unplug(self.instance.id, self.index)
        mounts.unmount_below(self.folder, self.run)
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.folder)

    @property
    def _hardware(self) -> Path:
        return self.folder / "hardware"

    def _kubelet_root(self) -> Path:
        """The kubelet's folder by a short name: it makes sockets there, and their paths end at 107 characters."""
        kept, root = self.folder / "kubelet", self.run / "kubelet"
        kept.mkdir(exist_ok=True)
        mounts.bind(kept, root)
        return root

    def _clone(self) -> None:
        new = self.folder / "containerd.new"
        shutil.rmtree(new, ignore_errors=True)
        golden.clone(self.home.golden, new)
        new.rename(self.folder / "containerd")

    def _write_files(self) -> None:
        instance, cluster = self.instance, self.instance.node_config["spec"]["cluster"]
        address = addresses.machine_address(self.index)
        authority = Authority(self.home.state / "pki")
        seen = host_size(self.folder)
        if self.type.gpus:
            hardware.write(self._hardware, self.type)
            seen = hardware.size(self.type, seen)
        reserved = machine_files.reservations(seen, instance.size)
        kubelet = machine_files.kubelet_config(
            instance.node_config,
            folder=self.folder,
            group=f"/{cgroups.NAME}/{instance.id}",
            socket=self.run / "containerd.sock",
            authority=authority.certificate,
            certificate=authority.issue(f"{instance.id}-serving", f"system:node:{instance.id}", hosts=(address,)),
            reserved=reserved,
        )
        (self.folder / "kubelet.json").write_text(json.dumps(kubelet, indent=1))
        client, key = authority.issue(instance.id, f"system:node:{instance.id}", "system:nodes")
        credentials = {"client-certificate": str(client), "client-key": str(key)}
        trusted = base64.b64decode(cluster["certificateAuthority"])
        write_kubeconfig(self.folder / "kubelet.kubeconfig", cluster["apiServerEndpoint"], trusted, credentials)
        toml = machine_files.containerd_config(self.folder, self.run, PAUSE)
        (self.folder / "containerd.toml").write_text(toml)
        (self.folder / "cni").mkdir(exist_ok=True)
        network_config = machine_files.cni_config(self.folder, addresses.pod_range(self.index))
        (self.folder / "cni" / "10-bridge.conflist").write_text(network_config)

    def _spawn(self, name: str, command: list[str]) -> None:
        group = f"{self.instance.id}/{name}"
        if self._runs(name):
            return
        cgroups.create(group)
        log = self.home.state / "log" / f"{self.instance.id}-{name}.log"
        environment = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        cgroups.spawn(group, ["nsenter", f"--net=/run/netns/{self.namespace}", *command], log, environment)

    def _runs(self, name: str) -> bool:
        executable = Path(sys.executable).name if name == DEVICE_PLUGIN else name
        return cgroups.running(f"{self.instance.id}/{name}", executable) is not None

    def _wait_for_socket(self) -> None:
        log = self.home.state / "log" / f"{self.instance.id}-containerd.log"
        failure = MachineError(f"machine {self.instance.id}: containerd did not start; its log: {log}")
        waiting.until((self.run / "containerd.sock").exists, _SOCKET_SECONDS, failure, 0.02)


def host_size(folder: Path) -> Size:
    """What a kubelet sees of this host: its cores, its memory and the disk below `folder`."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    disk = os.statvfs(folder)
    return Size((os.cpu_count() or 1) * 1000, int(memory.split()[1]) * 1024, disk.f_blocks * disk.f_frsize)
