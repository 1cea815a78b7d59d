"""Bringing a local cloud up: its processes, the Pulumi program on it, and the wait until it is what it says it is."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kubernetes
from urllib3.exceptions import HTTPError

from infra import naming
from infra.local import addresses, airflow, cgroups, control_plane, network, paths, rbac, sysctls, waiting
from infra.local.golden import GoldenRoot
from infra.local.kube import core_api
from infra.local.machine import host_size
from infra.local.machine_files import Size, TooSmallError, reservations
from infra.local.pki import Authority, write_kubeconfig
from infra.local.state import Cloud, CloudError
from infra.local.supervisor import GROUP, Program
from infra.local.toolchain import Toolchain
from infra.local.world_kubernetes import ApiServer
from tidepool import capacity
from tidepool.capacity import POOL_LABEL, Capacity, Pool
from tidepool.requests import amount

STACK = paths.REPOSITORY / "stacks" / "Pulumi.local.yaml"
_START_SECONDS = 120.0
_TOKEN_SECONDS = 30 * 24 * 3600


def start(cloud: Cloud, cluster: str, tools: Toolchain, golden: GoldenRoot, autoscaler: Path | None) -> None:
    """Start everything and wait until the system machines are ready; `autoscaler`: a binary instead of the stand-in.

    cluster: its name, as the settings have it.
    """
    state = cloud.state
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    sysctls.change(state / "sysctls.json")
    network.up()  # before anything dials the bridge's address
    cgroups.create(GROUP)
    world = _deploy(cloud, golden)
    try:
        Authority(state / "pki").kubeconfig(cloud.kubeconfig, "admin", "system:masters")
        programs = control_plane.programs(state, tools.kubernetes, tools.etcd)
        cloud.supervisor.launch([*programs, *_own_programs(cloud, cluster, tools, golden, autoscaler)])
        server = ApiServer(cloud.kubeconfig, _START_SECONDS)
        for manifest in rbac.manifests():
            server.apply(manifest)
        output, errors = world.communicate(timeout=_START_SECONDS)
        if world.returncode:
            raise CloudError(f"deploying {STACK.name} failed:\n{errors.strip()}")
    finally:
        world.kill()
    deployed = json.loads(output)
    cloud.not_here.write_text(json.dumps(deployed["not_here"]))
    document = capacity.loads(deployed["outputs"]["capacity"], "the program's output")
    document = dataclasses.replace(document, queues=True)  # its Airflow is on the host, with the same pools
    cloud.capacity.write_text(capacity.dumps(document))
    _require_room(cloud, document)
    _airflow_kubeconfig(cloud)
    _wait_for_system_machines(cloud, document)
    _wait_for_keeper(cloud)
    (state / "ready").touch()


def _deploy(cloud: Cloud, golden: GoldenRoot) -> subprocess.Popen[str]:
    """The Pulumi program, started first: its imports take as long as the control plane's start."""
    values = {f"images.references.{name}": reference for name, reference in golden.images.items()}
    command = [*cgroups.enter(GROUP), sys.executable, "-m", "infra.local.world"]  # there `down` finds it too
    command += ["--stack", str(STACK), "--moto", addresses.MOTO]
    command += ["--kubeconfig", str(cloud.kubeconfig)]
    command += [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=paths.REPOSITORY, process_group=0
    )


def _own_programs(
    cloud: Cloud, cluster: str, tools: Toolchain, golden: GoldenRoot, autoscaler: Path | None
) -> list[Program]:
    state, python = cloud.state, sys.executable
    authority = Authority(state / "pki")
    authority.kubeconfig(state / "kube-proxy.kubeconfig", "system:kube-proxy")
    scaler_user = f"system:serviceaccount:{naming.AUTOSCALER_NAMESPACE}:cluster-autoscaler"
    authority.kubeconfig(state / "cluster-autoscaler.kubeconfig", scaler_user)
    keeper = authority.kubeconfig(
        state / "keeper.kubeconfig",
        f"system:serviceaccount:{naming.PLATFORM_NAMESPACE}:{naming.KEEPER_SERVICE_ACCOUNT}",
    )
    hypervisor = ("--binaries", str(tools.kubernetes), "--containerd", tools.containerd, "--golden", str(golden.folder))
    commands = {
        "hypervisor": (python, "-m", "infra.local.hypervisor", *hypervisor, "--cluster", cluster),
        "keeper": keeper_command(cloud, keeper),
        "cluster-autoscaler": autoscaler_command(state, cluster, autoscaler),
    }
    page = {"TIDEPOOL_PAGE_TOKEN_FILE": str(airflow.page_token(state))}
    environment = {
        "PYTHONUNBUFFERED": "1",
        "TIDEPOOL_AIRFLOW_USER": airflow.USER,
        **control_plane.AWS_ENVIRONMENT,
        **page,
    }
    return [Program(name, command, environment, paths.REPOSITORY) for name, command in commands.items()]


def keeper_command(cloud: Cloud, kubeconfig: Path) -> tuple[str, ...]:
    """The keeper's command line, as images/keeper starts it but for where things are."""
    return (
        *(sys.executable, "-m", "tidepool.keeper", "--kubeconfig", str(kubeconfig)),
        *("--database", str(cloud.events), "--capacity", str(cloud.capacity)),
        *("--airflow", addresses.AIRFLOW, "--airflow-passwords", str(cloud.state / "airflow" / airflow.PASSWORDS)),
        *("--listen", addresses.KEEPER.removeprefix("http://")),
        *("--identity", "local"),  # one that comes again under its name need not wait for its own Lease to end
    )


def autoscaler_command(state: Path, cluster: str, binary: Path | None) -> tuple[str, ...]:
    """The real cluster-autoscaler's command line where there is a binary, else the stand-in's."""
    if binary is None:
        return (sys.executable, "-m", "infra.local.autoscaler", "--cluster", cluster)
    sections = "".join(
        f'[ServiceOverride "{number}"]\nService = {service}\nRegion = us-east-1\nURL = {addresses.MOTO}\n'
        "SigningRegion = us-east-1\n"
        for number, service in enumerate(("autoscaling", "ec2", "eks"))
    )
    config = state / "cluster-autoscaler.conf"
    config.write_text(f"[Global]\nZone = us-east-1a\n{sections}")
    tags = f"k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/{cluster}"
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
    """This host must be as large as the largest machine of each pool, or the pool could never start one.

    Save for machines with GPUs, which see another size than this host's (infra/local/hardware.py).
    """
    host = host_size(cloud.state)
    problems = []
    for pool in (each for each in document.pools.values() if not each.gpus):
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
        for node in good:
            if wrong := difference(document.pools[node.metadata.labels[POOL_LABEL]], node.status.allocatable):
                raise CloudError(f"machine {node.metadata.name} {wrong}")
        return {node.metadata.labels[POOL_LABEL] for node in good} == pools

    _wait(ready, f"no machine of {', '.join(pools)} got ready; see {cloud.state}/log/hypervisor.log")


def _wait_for_keeper(cloud: Cloud) -> None:
    """Wait until the keeper is the active one, so that what happens from now on is seen as it happens."""
    leases = kubernetes.client.CoordinationV1Api(core_api(cloud.kubeconfig).api_client)

    def leads() -> bool:
        return bool(leases.read_namespaced_lease(naming.KEEPER_LEASE, naming.PLATFORM_NAMESPACE).spec.holder_identity)

    _wait(leads, f"no keeper became the active one; see {cloud.state}/log/keeper.log")


def difference(pool: Pool, allocatable: dict[str, str]) -> str:
    """How a node's allocatable differs from its pool's promise; empty if it does not."""
    promised = {"cpu": pool.cpu_millis, "memory": pool.memory_bytes, "ephemeral-storage": pool.ephemeral_storage_bytes}
    wrong = [
        f"{name} {offered} instead of {promised[name]}"
        for name in promised
        if (offered := amount(allocatable[name], name)) != promised[name]
    ]
    return f"offers {', '.join(wrong)}; pool {pool.name} promises it" if wrong else ""


def _wait(condition: Callable[[], bool], failure: str) -> None:
    """An API server that does not answer yet is waited for too."""

    def holds() -> bool:
        with contextlib.suppress(HTTPError, kubernetes.client.ApiException):
            return condition()
        return False

    waiting.until(holds, _START_SECONDS, CloudError(failure))
