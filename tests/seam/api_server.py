"""A real etcd, kube-apiserver and, where asked for, controllers, of a test's own, on free ports of loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import versions
from infra.local import paths, toolchain
from infra.local.addresses import SERVICE_NETWORK
from infra.local.pki import Authority, service_account_keys


@contextlib.contextmanager
def started(folder: Path, controllers: str = "") -> Iterator[Path]:
    """The kubeconfig of a client that may do everything. Ready or not: infra.local.world_kubernetes.ApiServer waits.

    controllers: as kube-controller-manager's flag of that name takes them. Skips the test where binaries are missing.
    """
    etcd, binaries = shutil.which("etcd"), _binaries()
    if etcd is None or binaries is None:
        pytest.skip("etcd or kube-apiserver is not here; `tidepool local up` gets them")
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
        ),
    ]
    if controllers:
        manager = str(binaries / "kube-controller-manager")
        options = (f"--kubeconfig={kubeconfig}", f"--controllers={controllers}", "--leader-elect=false")
        commands.append((manager, *options, "--secure-port=0", f"--root-ca-file={authority.certificate}"))
    with (folder / "log").open("wb") as log:
        running = [subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) for command in commands]
        try:
            yield kubeconfig
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()


def _binaries() -> Path | None:
    """Where this version's Kubernetes lies in the cache."""
    pattern = f"{versions.KUBERNETES}-{toolchain.architecture()}-*/complete"
    found = sorted((paths.cache() / "kubernetes").glob(pattern), key=lambda each: each.stat().st_mtime)
    return found[-1].parent if found else None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
