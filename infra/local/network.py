"""The local cloud's network: a bridge on the host, and for each machine a network namespace plugged into it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from infra.local import addresses

NAMESPACE_PREFIX = "tidepool-"
_FORWARD_RULE = ["FORWARD", "-i", addresses.BRIDGE, "-o", addresses.BRIDGE, "-j", "ACCEPT"]


def ip(*arguments: str, check: bool = True) -> str:
    """Run iproute2's `ip`; raises CalledProcessError with its words unless `check` is off."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def problems() -> list[str]:
    """Why this machine can't make network namespaces or is using our addresses; empty if all is well."""
    probe = f"{NAMESPACE_PREFIX}probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        return [
            f"can't make a network namespace ({made.stderr.strip()}): the local cloud's machines are network "
            "namespaces; run on a Linux machine as root, or in a container with `--privileged`"
        ]
    ip("netns", "delete", probe)
    taken = [
        f"{route.get('dev')} ({route.get('dst')})"
        for route in json.loads(ip("-j", "route", "show", "root", str(addresses.MACHINE_NETWORK)) or "[]")
        if route.get("dev") != addresses.BRIDGE
    ]
    if taken:
        return [f"the network {addresses.MACHINE_NETWORK} of the local cloud is in use here by {', '.join(taken)}"]
    return []


def up() -> None:
    """Make the bridge and its address."""
    if not _exists(addresses.BRIDGE):
        ip("link", "add", addresses.BRIDGE, "type", "bridge")
        ip("addr", "add", f"{addresses.HOST}/{addresses.MACHINE_NETWORK.prefixlen}", "dev", addresses.BRIDGE)
    ip("link", "set", addresses.BRIDGE, "up")
    # With an engine such as docker on the host the FORWARD policy is DROP, also for what stays on our bridge.
    if _iptables("-C", *_FORWARD_RULE).returncode:
        _iptables("-I", *_FORWARD_RULE, check=True)


def down() -> None:
    """Undo `up` and remove every machine's namespace and link; what is not there is no error."""
    for name in namespaces():
        ip("netns", "delete", name)
    for name in _links():
        ip("link", "delete", name, check=False)
    while _iptables("-D", *_FORWARD_RULE).returncode == 0:
        pass
    if _exists(addresses.BRIDGE):
        ip("link", "delete", addresses.BRIDGE)


def plug(machine: str, index: int) -> None:
    """Make the machine's namespace, its address on the bridge, and the host's route to its pods.

    What a killed hypervisor left half made is made anew.
    """
    namespace, link = NAMESPACE_PREFIX + machine, _link(index)
    if not _is_whole(namespace):
        unplug(machine, index)
        ip("netns", "add", namespace)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("link", "set", link, "master", addresses.BRIDGE, "up")
        address = f"{addresses.machine_address(index)}/{addresses.MACHINE_NETWORK.prefixlen}"
        ip("-n", namespace, "addr", "add", address, "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "route", "add", "default", "via", addresses.HOST)
    ip("route", "replace", addresses.pod_range(index), "via", addresses.machine_address(index))


def _is_whole(namespace: str) -> bool:
    """Whether it has what `plug` makes last."""
    return namespace in namespaces() and bool(ip("-n", namespace, "route", "show", "default", check=False))


def unplug(machine: str, index: int) -> None:
    """Undo `plug`."""
    ip("route", "delete", addresses.pod_range(index), check=False)
    ip("link", "delete", _link(index), check=False)
    ip("netns", "delete", NAMESPACE_PREFIX + machine, check=False)


def namespaces() -> list[str]:
    """The network namespaces of the local cloud's machines."""
    listed = [line.split()[0] for line in ip("netns", "list", check=False).splitlines() if line]
    return [name for name in listed if name.startswith(NAMESPACE_PREFIX)]


def leftovers() -> list[str]:
    """What of the network is still there, in words; empty after `down`."""
    rules = _iptables("-S", "FORWARD").stdout.decode() if _has_iptables() else ""
    return (
        [f"network namespace {name}" for name in namespaces()]
        + [f"link {name}" for name in _links()]
        + ([f"bridge {addresses.BRIDGE}"] if _exists(addresses.BRIDGE) else [])
        + [f"iptables rule {line}" for line in rules.splitlines() if addresses.BRIDGE in line]
    )


def _link(index: int) -> str:
    return f"tidepool-m{index}"


def _links() -> list[str]:
    listed = re.findall(r"^\d+: (tidepool-m\d+)[@:]", ip("-o", "link", "show", check=False), re.MULTILINE)
    return list(listed)


def _exists(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


def _has_iptables() -> bool:
    return subprocess.run(["sh", "-c", "command -v iptables"], capture_output=True).returncode == 0


def _iptables(*arguments: str, check: bool = False) -> subprocess.CompletedProcess[bytes]:
    if not _has_iptables():
        return subprocess.CompletedProcess(arguments, 127, b"", b"")
    return subprocess.run(["iptables", "-w", *arguments], capture_output=True, check=check)
