"""The local cloud as a whole: up, down, and what a client of it needs to know.

`up` leaves either a cloud that works or nothing; `down` leaves nothing, whatever happened before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import kubernetes
from urllib3.exceptions import HTTPError

from infra import naming
from infra.local import (
    addresses,
    airflow,
    autoscaler_binary,
    cgroups,
    control_plane,
    images,
    lake,
    mounts,
    network,
    paths,
    preflight,
    rbac,
    sysctls,
    toolchain,
)
from infra.local.images import GoldenRoot
from infra.local.kube import core_api
from infra.local.machine import host_size
from infra.local.machine_files import Size, TooSmallError, reservations
from infra.local.pki import Authority, write_kubeconfig
from infra.local.progress import Progress
from infra.local.supervisor import GROUP, Program, Supervisor
from infra.local.toolchain import Toolchain
from infra.local.world_kubernetes import ApiServer
from tidepool import capacity
from tidepool.capacity import POOL_LABEL, Capacity

STACK = paths.REPOSITORY / "stacks" / "Pulumi.local.yaml"
CLUSTER = "local"
_LOCK = Path("/run/tidepool.lock")
_OWNER = paths.RUN / "cloud.json"
_START_SECONDS = 120.0
_TOKEN_SECONDS = 30 * 24 * 3600
_KEPT_UP = ("lake",)  # of the state folder, at the next `up`
_KEPT_DOWN = ("events.jsonl", "lake", "log")  # to be read after `down`


class CloudError(Exception):
    """The local cloud can't do this; the message says why and what to do."""


@dataclass(frozen=True)
class Cloud:
    """A local cloud that is up: the files that its clients read."""

    state: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.state / "admin.kubeconfig"

    @property
    def airflow_kubeconfig(self) -> Path:
        """Of the service account that may launch jobs and nothing else."""
        return self.state / "airflow.kubeconfig"

    @property
    def capacity(self) -> Path:
        """The capacity document."""
        return self.state / "capacity.json"

    @property
    def events(self) -> Path:
        """What happened to machines and pods."""
        return self.state / "events.jsonl"

    @property
    def lake(self) -> Path:
        """The folder that jobs see as their lake."""
        return self.state / "lake"

    @property
    def supervisor(self) -> Supervisor:
        """Runs the processes."""
        return Supervisor(self.state / "supervisor", paths.RUN / "supervisor.sock", self.state / "log")

    def start_airflow(self, dags: Path = paths.REPOSITORY / "dags") -> None:
        """Start Airflow on the DAG files of `dags`, if it does not run yet."""
        home = self.state / "airflow"
        airflow.prepare(home, dags, paths.cache())
        parts = airflow.programs(home, self.capacity, self.airflow_kubeconfig, naming.JOBS_NAMESPACE)
        self.supervisor.start(parts)


def attach() -> Cloud:
    """The local cloud that is up. Raises CloudError if there is none, or if it is another user's."""
    cloud = Cloud(paths.state())
    if not cgroups.pids(GROUP):
        raise CloudError("the local cloud is not up: `tidepool local up` (or `tidepool demo`) starts it")
    _require_ours()
    return cloud


def is_up() -> bool:
    """Whether a local cloud of this user is up."""
    try:
        attach()
    except CloudError:
        return False
    return True


def up(progress: Progress, autoscaler: Path | None = None) -> Cloud:
    """Start the local cloud and wait until its system machine is ready; one that is up is left as it is.

    autoscaler: a cluster-autoscaler binary to run; without one, the official image's where a registry answers, else the
    stand-in. Raises CloudError; nothing is left then.
    """
    with _lock():
        cloud = Cloud(paths.state())
        _require_ours()
        if cgroups.pids(GROUP) and (cloud.state / "ready").exists():
            if autoscaler is not None:
                raise CloudError("the local cloud is up already, with its own autoscaler: `tidepool local down` first")
            progress.say("the local cloud is up already")
            return cloud
        _clean(cloud.state, _KEPT_UP)
        first = not (paths.cache() / "kubernetes").exists()
        if found := preflight.problems(first):
            raise CloudError("the local cloud can't start here:\n" + "\n".join(f"- {each}" for each in found))
        try:
            tools, golden = _prepare(progress)
            autoscaler = autoscaler or autoscaler_binary.find(progress)
            with progress.step("starting the local cloud"):
                _start(cloud, tools, golden, autoscaler)
        except BaseException as error:
            _clean(cloud.state, _KEPT_DOWN)
            if isinstance(
                error, toolchain.ToolchainError | images.ImageError | lake.LakeError | RuntimeError | OSError
            ):
                raise CloudError(f"the local cloud did not start, and nothing of it is left: {error}") from error
            raise
        return cloud


def down(progress: Progress) -> None:
    """End everything that the local cloud started and made; nothing to end is no error."""
    if found := [each for each in preflight.problems(first=False) if "root" in each]:
        raise CloudError("\n".join(found))
    with _lock(), progress.step("taking the local cloud down"):
        _require_ours()
        _clean(paths.state(), _KEPT_DOWN)


def leftovers() -> list[str]:
    """What of the local cloud is still on this machine, in words; empty after `down`."""
    found = [f"process {pid}" for pid in cgroups.pids()] + network.leftovers()
    found += [f"mount {point}" for point in mounts.below(paths.RUN, paths.state())]
    if cgroups.tracking().exists():
        found.append(f"control group {cgroups.tracking()}")
    if paths.RUN.exists():
        found.append(f"folder {paths.RUN}")
    return found


def _prepare(progress: Progress) -> tuple[Toolchain, GoldenRoot]:
    """Kubernetes and the images, side by side: one computes, the other mostly waits for packages."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    toolchain.install_packages(progress)
    with ThreadPoolExecutor(max_workers=2) as workers:
        tools = workers.submit(toolchain.prepare, progress)
        golden = workers.submit(images.golden_root, progress)
        return tools.result(), golden.result()


def _start(cloud: Cloud, tools: Toolchain, golden: GoldenRoot, autoscaler: Path | None) -> None:
    state = cloud.state
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    paths.RUN.mkdir(parents=True, exist_ok=True)
    _OWNER.write_text(json.dumps({"state": str(state)}))
    lake.seed(cloud.lake)
    sysctls.change(state / "sysctls.json")
    network.up()  # before anything dials the bridge's address
    cgroups.create(GROUP)
    world = _deploy(cloud, golden)
    try:
        Authority(state / "pki").kubeconfig(cloud.kubeconfig, "admin", "system:masters")
        programs = control_plane.programs(state, tools.kubernetes, tools.etcd)
        cloud.supervisor.launch([*programs, *_own_programs(cloud, tools, golden, autoscaler)])
        server = ApiServer(cloud.kubeconfig, _START_SECONDS)
        for manifest in rbac.manifests():
            server.apply(manifest)
        output, errors = world.communicate(timeout=_START_SECONDS)
        if world.returncode:
            raise CloudError(f"deploying {STACK.name} failed:\n{errors.strip()}")
    finally:
        world.kill()
    document = capacity.loads(json.loads(output)["capacity"], "the program's output")
    cloud.capacity.write_text(capacity.dumps(document))
    _require_room(cloud, document)
    _airflow_kubeconfig(cloud)
    _wait_for_system_machines(cloud, document)
    (state / "ready").touch()


def _deploy(cloud: Cloud, golden: GoldenRoot) -> subprocess.Popen[str]:
    """The Pulumi program, started first: its imports take as long as the control plane's start."""
    values = {f"images.{name}": reference for name, reference in golden.images.items()}
    values["lake.host_path"] = str(cloud.lake)
    command = [sys.executable, "-m", "infra.local.world", "--stack", str(STACK), "--moto", addresses.MOTO]
    command += ["--kubeconfig", str(cloud.kubeconfig)]
    command += [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=paths.REPOSITORY, process_group=0
    )


def _own_programs(cloud: Cloud, tools: Toolchain, golden: GoldenRoot, autoscaler: Path | None) -> list[Program]:
    state, python = cloud.state, sys.executable
    authority = Authority(state / "pki")
    authority.kubeconfig(state / "kube-proxy.kubeconfig", "system:kube-proxy")
    scaler_user = f"system:serviceaccount:{naming.AUTOSCALER_NAMESPACE}:cluster-autoscaler"
    authority.kubeconfig(state / "cluster-autoscaler.kubeconfig", scaler_user)
    keeper = authority.kubeconfig(state / "keeper.kubeconfig", "system:serviceaccount:tidepool:keeper")
    hypervisor = ("--binaries", str(tools.kubernetes), "--containerd", tools.containerd, "--golden", str(golden.folder))
    recorder = ("--kubeconfig", str(keeper), "--events", str(cloud.events))
    commands = {
        "hypervisor": (python, "-m", "infra.local.hypervisor", *hypervisor, "--cluster", CLUSTER),
        "recorder": (python, "-m", "tidepool.keeper.watch", *recorder),
        "cluster-autoscaler": _autoscaler_command(state, autoscaler),
    }
    environment = {"PYTHONUNBUFFERED": "1", **control_plane.AWS_ENVIRONMENT}
    return [Program(name, command, environment, paths.REPOSITORY) for name, command in commands.items()]


def _autoscaler_command(state: Path, binary: Path | None) -> tuple[str, ...]:
    """The real cluster-autoscaler's command line where there is a binary, else the stand-in's."""
    if binary is None:
        return (sys.executable, "-m", "infra.local.autoscaler", "--cluster", CLUSTER)
    sections = "".join(
        f'[ServiceOverride "{number}"]\nService = {service}\nRegion = us-east-1\nURL = {addresses.MOTO}\n'
        "SigningRegion = us-east-1\n"
        for number, service in enumerate(("autoscaling", "ec2", "eks"))
    )
    config = state / "cluster-autoscaler.conf"
    config.write_text(f"[Global]\nZone = us-east-1a\n{sections}")
    tags = f"k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/{CLUSTER}"
    return (
        str(binary),
        "--cloud-provider=aws",
        f"--cloud-config={config}",
        f"--kubeconfig={state}/cluster-autoscaler.kubeconfig",
        f"--node-group-auto-discovery=asg:tag={tags}",
        f"--namespace={naming.AUTOSCALER_NAMESPACE}",
        "--expander=priority,least-waste",
        "--scan-interval=1s",
        "--scale-down-delay-after-add=0s",  # a pool's scaledownunneededtime tag is the only delay
        "--skip-nodes-with-system-pods=false",
        "--leader-elect=false",
        "--address=127.0.0.1:8085",
    )


def _airflow_kubeconfig(cloud: Cloud) -> None:
    """Airflow gets a token of its own service account, as a pod of it would."""
    request = {"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": _TOKEN_SECONDS}}
    answer = core_api(cloud.kubeconfig).create_namespaced_service_account_token(
        naming.AIRFLOW_SERVICE_ACCOUNT, naming.PLATFORM_NAMESPACE, request
    )
    authority = Authority(cloud.state / "pki").certificate.read_bytes()
    write_kubeconfig(cloud.airflow_kubeconfig, addresses.API_SERVER, authority, {"token": answer.status.token})


def _require_room(cloud: Cloud, document: Capacity) -> None:
    """This host must be as large as the largest machine of each pool, or the pool could never start one."""
    host = host_size(cloud.state)
    problems = []
    for pool in document.pools.values():
        try:
            reservations(host, Size(pool.cpu_millis, pool.memory_bytes, pool.ephemeral_storage_bytes))
        except TooSmallError as error:
            problems.append(f"pool {pool.name}: {error}")
    if problems:
        raise CloudError("\n".join(problems))


def _wait_for_system_machines(cloud: Cloud, document: Capacity) -> None:
    """Wait until a machine of each pool that must have one is Ready and offers what the capacity document says."""
    api = core_api(cloud.kubeconfig)
    pools = {name for name, pool in document.pools.items() if not pool.jobs}

    def ready() -> bool:
        nodes = api.list_node(label_selector=f"{POOL_LABEL} in ({','.join(pools)})").items
        good = [node for node in nodes if any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)]
        return {node.metadata.labels[POOL_LABEL] for node in good} == pools

    _wait(ready, _START_SECONDS, f"no machine of {', '.join(pools)} got ready; see {cloud.state}/log/hypervisor.log")


def _wait(condition: Callable[[], bool], limit_seconds: float, failure: str) -> None:
    deadline = time.monotonic() + limit_seconds
    while True:
        with contextlib.suppress(HTTPError, kubernetes.client.ApiException):
            if condition():
                return
        if time.monotonic() > deadline:
            raise CloudError(failure)
        time.sleep(0.1)


def _clean(state: Path, kept: tuple[str, ...]) -> None:
    """End and remove all of it, in the order in which it depends on each other; safe to repeat after any crash."""
    cgroups.kill()
    if shutil.which("ip"):
        network.down()
    sysctls.restore(state / "sysctls.json")
    mounts.unmount_below(paths.RUN, state)
    shutil.rmtree(paths.RUN, ignore_errors=True)
    for entry in state.iterdir() if state.exists() else ():
        if entry.name in kept:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One `up` or `down` at a time on this machine."""
    try:
        file = _LOCK.open("w")
    except PermissionError as error:
        raise CloudError("\n".join(preflight.problems(first=False))) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CloudError("another `tidepool local up` or `down` is at work on this machine; wait for it") from error
        yield


def _require_ours() -> None:
    """Only one local cloud is up on a machine; it belongs to the state folder that started it."""
    with contextlib.suppress(FileNotFoundError):
        owner = json.loads(_OWNER.read_text())["state"]
        if owner != str(paths.state()):
            raise CloudError(
                f"another local cloud is up on this machine, with its state in {owner}; only one can be. Take it down "
                f"first: `XDG_STATE_HOME={Path(owner).parents[1]} ./tidepool local down`"
            )
