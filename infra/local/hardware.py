"""What a machine sees of its hardware where that is not this host's: a machine with GPUs is larger than a laptop.

Its kubelet runs in a mount namespace of its own, in which files with the instance type's cores and memory cover the
host's. It then offers what the instance type would; the work still shares the host's cores and memory.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra.aws.instance_types import InstanceType
from infra.local.machine_files import Size

_COVERED = {
    "cpu": Path("/sys/devices/system/cpu"),
    "node": Path("/sys/devices/system/node"),  # empty: the kubelet then counts the cores in cpu
    "meminfo": Path("/proc/meminfo"),
    "device-plugins": Path("/var/lib/kubelet/device-plugins"),  # fixed in the kubelet, and one for all of this host's
}


def size(machine: InstanceType, host: Size) -> Size:
    """What the machine's kubelet sees: the instance type's cores and memory, and this host's disk."""
    return Size(machine.vcpu * 1000, machine.memory_bytes, host.storage_bytes)


def write(folder: Path, machine: InstanceType) -> None:
    """Write the files that cover the host's, as the kubelet reads them (cAdvisor's sysinfo and machine packages).

    Cores are counted and nothing is said of them: the kubelet would bind pods to cores that are not there.
    """
    for number in range(machine.vcpu):
        (folder / "cpu" / f"cpu{number}").mkdir(parents=True, exist_ok=True)
    (folder / "node").mkdir(exist_ok=True)
    (folder / "device-plugins").mkdir(exist_ok=True)
    (folder / "meminfo").write_text(f"MemTotal: {machine.memory_bytes // 1024} kB\nSwapTotal: 0 kB\n")


def command(folder: Path, kubelet_root: Path) -> list[str]:
    """The beginning of the kubelet's command line. What it mounts below its root shows outside as well."""
    subprocess.run(["mount", "--make-shared", str(kubelet_root)], check=True, capture_output=True)
    covers = [f"mount --bind '{folder / name}' {covered}" for name, covered in _COVERED.items()]
    steps = ["mount --make-private /", "mount --make-private /sys", "mount --make-private /proc"]
    steps += [f"mkdir -p {_COVERED['device-plugins']}", *covers, 'exec "$@"']
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", " && ".join(steps), "sh"]
