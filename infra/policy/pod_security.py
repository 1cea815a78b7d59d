"""The Pod Security Standards: what a namespace's level refuses of a pod.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (Linux controls of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LEVELS = ("restricted", "baseline", "privileged")

BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
RESTRICTED_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
RESTRICTED_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)


def violations(pod: Mapping[str, Any], level: str) -> list[str]:
    """What of the pod the level (`restricted`, `baseline` or `privileged`) refuses, each as a phrase; in order."""
    if level == "privileged":
        return []
    spec = pod.get("spec") or {}
    found = list(_baseline(spec))
    if level == "restricted":
        found += _restricted(spec)
    return list(dict.fromkeys(found))


def _containers(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for key in ("initContainers", "containers", "ephemeralContainers") for each in spec.get(key) or []]


def _context(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    return holder.get("securityContext") or {}


def _baseline(spec: Mapping[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is true"
    for volume in spec.get("volumes") or []:
        if volume.get("hostPath"):
            yield f"volume {volume.get('name')} is a hostPath"
    for sysctl in _context(spec).get("sysctls") or []:
        if sysctl.get("name") not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl.get('name')} is not one of the safe ones"
    for where, context in _contexts(spec):
        profile = (context.get("seccompProfile") or {}).get("type")
        if profile == "Unconfined":
            yield f"{where}: seccompProfile is Unconfined"
        if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
            yield f"{where}: appArmorProfile is Unconfined"
        options = context.get("seLinuxOptions") or {}
        if options.get("user") or options.get("role"):
            yield f"{where}: seLinuxOptions sets a user or a role"
    for container in _containers(spec):
        name, context = f"container {container.get('name')}", _context(container)
        if context.get("privileged"):
            yield f"{name} is privileged"
        added = set((context.get("capabilities") or {}).get("add") or []) - BASELINE_CAPABILITIES
        if added:
            yield f"{name} adds the capabilities {', '.join(sorted(added))}"
        if any(port.get("hostPort") for port in container.get("ports") or []):
            yield f"{name} takes a hostPort"
        if context.get("procMount") not in (None, "", "Default"):
            yield f"{name}: procMount is {context['procMount']}"


def _restricted(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if kinds and not kinds & RESTRICTED_VOLUMES:
            yield f"volume {volume.get('name')} is of a kind that is not allowed ({', '.join(sorted(kinds))})"
    whole = _context(spec)
    for container in _containers(spec):
        name, context = f"container {container.get('name')}", _context(container)
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation is not false"
        if context.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot is not true"
        if context.get("runAsUser", whole.get("runAsUser")) == 0:
            yield f"{name} runs as user 0, which is root"
        profile = (context.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccompProfile is not RuntimeDefault"
        capabilities = context.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            yield f"{name} does not drop ALL capabilities"
        added = set(capabilities.get("add") or []) - RESTRICTED_CAPABILITIES
        if added:
            yield f"{name} adds the capabilities {', '.join(sorted(added))}"


def _contexts(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "pod", _context(spec)
    for container in _containers(spec):
        yield f"container {container.get('name')}", _context(container)
