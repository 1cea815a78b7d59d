"""A real etcd, kube-apiserver and, where asked for, controllers, of a test's own, on free ports of loopback."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import versions
from infra.local import api_server, paths, toolchain

_FIRST = ("PriorityClass", "Namespace", "ServiceAccount", "ConfigMap")


def first_things_first(manifests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In an order in which they can be applied: a program registers what does not wait for each other in any order."""
    order = {kind: place for place, kind in enumerate(_FIRST)}
    return sorted(manifests, key=lambda each: order.get(each["kind"], len(order)))


@contextlib.contextmanager
def started(folder: Path, controllers: str = "") -> Iterator[Path]:
    """The kubeconfig of a client that may do everything. Ready or not: infra.local.world_kubernetes.ApiServer waits.

    controllers: as kube-controller-manager's flag of that name takes them. Skips the test where binaries are missing.
    """
    etcd, binaries = shutil.which("etcd"), _binaries()
    if etcd is None or binaries is None:
        pytest.skip("etcd or kube-apiserver is not here; `tidepool local up` gets them")
    with api_server.started(folder, etcd, binaries, controllers) as kubeconfig:
        yield kubeconfig


def _binaries() -> Path | None:
    """Where this version's Kubernetes lies in the cache."""
    pattern = f"{versions.KUBERNETES}-{toolchain.architecture()}-*/complete"
    found = sorted((paths.cache() / "kubernetes").glob(pattern), key=lambda each: each.stat().st_mtime)
    return found[-1].parent if found else None
