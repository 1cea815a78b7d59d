"""What this machine must have before the local cloud starts: all that is missing, at once, before anything is made."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from infra.local import addresses, cgroups, network, paths

DISK_BYTES = 4 * 1024**3
FIRST_DISK_BYTES = 20 * 1024**3  # building Kubernetes and the images once
GIB = 1024**3


def problems() -> list[str]:
    """A sentence for each thing that is missing, with what to do."""
    found = root_problems()
    if found:
        return found
    found = cgroups.problems() + disk_problems()
    if shutil.which("ip"):  # else it is installed with the other packages, and the network is checked after that
        found += network.problems()
    return found + addresses.ports_in_use()


def root_problems() -> list[str]:
    """Whether this is Linux, and we are root."""
    if sys.platform != "linux":
        return [f"the local cloud needs Linux (network namespaces, control groups); this is {sys.platform}"]
    if os.geteuid() != 0:
        return [
            "the local cloud needs root: it makes network namespaces, mounts and control groups. "
            "Run `sudo ./tidepool …`; what needs no root is `./tidepool test --fast`"
        ]
    return []


def disk_problems() -> list[str]:
    """Too little disk under the cache or the state folder; the first time needs more."""
    needed = DISK_BYTES if (paths.cache() / "kubernetes").exists() else FIRST_DISK_BYTES
    found = []
    for name, folder in (("cache", paths.cache()), ("state", paths.state())):
        free = shutil.disk_usage(_existing(folder)).free
        if free < needed:
            found.append(
                f"{free / GIB:.1f} GiB are free under the {name} folder {folder}, {needed / GIB:.0f} GiB are needed: "
                f"free some, or set XDG_{name.upper()}_HOME to a folder on a larger disk"
            )
    return found


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
