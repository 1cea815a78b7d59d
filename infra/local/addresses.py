"""The addresses of the local cloud: all of its own making, all on this machine.

The bridge and its address exist before anything dials it: a packet to an address that is not up yet would leave
this machine by the default route. Hence `require_local` before every first connection.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from urllib.parse import urlsplit

from infra.local.errors import LocalError

BRIDGE = "tidepool0"
HOST = "10.200.0.1"
MACHINE_NETWORK = ipaddress.ip_network("10.200.0.0/24")
SERVICE_NETWORK = ipaddress.ip_network("10.96.0.0/16")
POD_NETWORK = ipaddress.ip_network("10.244.0.0/16")
KUBERNETES_SERVICE = "10.96.0.1"

API_SERVER = f"https://{HOST}:6443"
MOTO = "http://127.0.0.1:5555"
ETCD = "https://127.0.0.1:23790"
ETCD_PEER = "https://127.0.0.1:23800"
AIRFLOW = "http://127.0.0.1:8088"
KEEPER = "http://127.0.0.1:8089"
CLUSTER_DOMAIN = "cluster.local"

HOST_PORTS = {
    "moto (the AWS API)": ("127.0.0.1", 5555),
    "etcd": ("127.0.0.1", 23790),
    "etcd's peer port": ("127.0.0.1", 23800),
    "Airflow's API server": ("127.0.0.1", 8088),
    "the keeper's page": ("127.0.0.1", 8089),
}


class NotLocalError(LocalError):
    """An address is not on a local interface of this machine; nothing was sent to it."""


def require_local(url: str) -> str:
    """Return `url` if its host is an address of this machine, else raise NotLocalError. Resolves no names."""
    host = urlsplit(url).hostname or ""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # the kernel binds local addresses only
    except (ValueError, OSError) as error:
        raise NotLocalError(
            f"{url}: {host or 'no host'} is not an address of this machine ({error}); the local cloud talks only to "
            "addresses that it made itself. Is it up? `tidepool local status` tells."
        ) from error
    return url


def ports_in_use() -> list[str]:
    """A sentence for each port of the local cloud that another process listens on."""
    problems = []
    for what, (host, port) in HOST_PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                problems.append(
                    f"port {port} of {host}, which {what} needs, is in use: end what listens there "
                    f"(`ss -ltnp 'sport = :{port}'` names it) and try again"
                )
    return problems


def machine_address(index: int) -> str:
    """The address of machine number `index` (2 to 254) on the bridge."""
    return str(MACHINE_NETWORK[index])


def pod_range(index: int) -> str:
    """The pod range of machine number `index`."""
    return f"10.244.{index}.0/24"
