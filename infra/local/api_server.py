"""A kube-apiserver with its etcd on free ports of loopback, without machines: for measurements and tests.

It is not the local cloud's and nothing of it outlives the `with`. Needs no root.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from infra.local.addresses import SERVICE_NETWORK
from infra.local.pki import Authority, service_account_keys


@contextlib.contextmanager
def started(
    folder: Path, etcd: str, binaries: Path, controllers: str = "", flags: Sequence[str] = ()
) -> Iterator[Path]:
    """The kubeconfig of a client that may do everything. Ready or not: infra.local.world_kubernetes.ApiServer waits.

    binaries: where Kubernetes' programs are. controllers: as kube-controller-manager's flag of that name takes them;
    none: it does not run. flags: more of kube-apiserver's. What they say goes to `folder`/log.
    """
    authority = Authority(folder / "pki")
    certificate, key = authority.issue("kube-apiserver", "kube-apiserver", hosts=("127.0.0.1",))
    public, private = service_account_keys(folder / "pki")
    client, peer, port = _free_ports(3)
    server = f"https://127.0.0.1:{port}"
    kubeconfig = authority.kubeconfig(folder / "admin", "admin", "system:masters", server=server)
    commands = [
        (
            etcd,
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ),
        (
            str(binaries / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--client-ca-file={authority.certificate}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            *flags,
        ),
    ]
    if controllers:
        manager = str(binaries / "kube-controller-manager")
        options = (f"--kubeconfig={kubeconfig}", f"--controllers={controllers}", "--leader-elect=false")
        commands.append((manager, *options, "--secure-port=0", f"--root-ca-file={authority.certificate}"))
    with (folder / "log").open("wb") as log, contextlib.ExitStack() as running:
        for command in commands:
            running.callback(_end, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
        yield kubeconfig


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
