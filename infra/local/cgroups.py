"""The control group that every process of the local cloud lives in.

One tree, `/tidepool`, in every hierarchy: what is in it was started by the local cloud, directly or as a descendant,
so `kill` ends exactly that, by id, with no pid files that a crash could leave stale. Works on cgroup v1 (also the
hybrid layout) and v2.

    /tidepool/services                  supervisord and what it runs
    /tidepool/<instance>/{containerd,kubelet,kube-proxy}
    /tidepool/<instance>/kubepods       made by the kubelet
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NAME = "tidepool"
BUILD = "build"
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def version() -> int:
    """2 where the unified hierarchy is mounted at /sys/fs/cgroup, else 1."""
    return 2 if (ROOT / "cgroup.controllers").exists() else 1


def problems() -> list[str]:
    """Why this machine's control groups can't hold the local cloud; empty if they can."""
    if version() == 2:
        have = (ROOT / "cgroup.controllers").read_text().split()
        missing = [name for name in V2_CONTROLLERS if name not in have]
    else:
        missing = [name for name in ("cpu", "cpuset", "memory", "pids") if not (ROOT / name / "cgroup.procs").exists()]
    if missing:
        return [
            f"no control group for {', '.join(missing)} under {ROOT}: mount them (a container needs "
            "`--privileged --cgroupns=host`), then try again"
        ]
    if not os.access(_hierarchies()[0], os.W_OK):
        return [f"{ROOT} is read-only here: run outside of a container, or with `--privileged --cgroupns=host`"]
    return []


def create(name: str, cpus: float | None = None) -> None:
    """Make group `/tidepool/<name>` in every hierarchy; `cpus` bounds the whole group's CPU time."""
    for hierarchy in _hierarchies():
        group = hierarchy / NAME / name
        group.mkdir(parents=True, exist_ok=True)
        for level in reversed([group, *group.parents][: len(group.relative_to(hierarchy).parts)]):
            if version() == 2:
                enabled = " ".join(f"+{controller}" for controller in V2_CONTROLLERS)
                (level.parent / "cgroup.subtree_control").write_text(enabled)
            elif hierarchy.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (level / file).write_text((level.parent / file).read_text())
    if cpus is None:
        return
    if version() == 2:
        (ROOT / NAME / name / "cpu.max").write_text(f"{int(cpus * 100_000)} 100000")
    else:
        (ROOT / "cpu" / NAME / name / "cpu.cfs_quota_us").write_text(str(int(cpus * 100_000)))


def spawn(
    name: str, command: Iterable[str], log: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in group `/tidepool/<name>`; its output goes to `log`. It never runs outside of the group."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [*enter(name), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def enter(name: str) -> list[str]:
    """The beginning of a command line whose process runs in group `/tidepool/<name>`, which is made."""
    tracking().joinpath(name).mkdir(parents=True, exist_ok=True)
    return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(tracking() / name / "cgroup.procs")]


def build_command(command: list[str]) -> list[str]:
    """The command inside the group `build`: what takes minutes is ended with the `up` that started it."""
    return [*enter(BUILD), *command]


def tracking() -> Path:
    """The tree by which processes are found: one hierarchy is enough, as every process is in all of them."""
    return (ROOT if version() == 2 else ROOT / "pids") / NAME


def pids(name: str = "") -> list[int]:
    """The processes in `/tidepool/<name>` and below; all of the local cloud's by default."""
    found: list[int] = []
    for folder, _, _ in os.walk(tracking() / name):
        with contextlib.suppress(OSError):  # a group may go while we look
            found += [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
    return found


def running(name: str, executable: str) -> int | None:
    """The process of that executable in `/tidepool/<name>` itself, also while it is being started; or None."""
    names = (executable[:15], "nsenter", "unshare", "sh")
    with contextlib.suppress(OSError):
        for pid in (tracking() / name / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text()
                comm, state = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2]
                if comm in names and state != "Z":
                    return int(pid)
    return None


def kill(name: str = "", limit_seconds: float = 20) -> None:
    """End every process in `/tidepool/<name>` and below, then remove the groups. Raises TimeoutError past the limit."""
    deadline = time.monotonic() + limit_seconds
    while alive := [pid for pid in pids(name) if pid != os.getpid() and not _zombie(pid)]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {alive} of the local cloud did not end in {limit_seconds:.0f} s")
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / NAME / name, topdown=False):
            _remove(Path(folder), deadline)


def _remove(group: Path, deadline: float) -> None:
    """A group stays busy for a moment after its last process ended."""
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat[stat.rindex(")") + 2] == "Z"


@functools.cache
def _hierarchies() -> list[Path]:
    if version() == 2:
        return [ROOT]
    return [ROOT / name for name in V1_CONTROLLERS if (ROOT / name / "cgroup.procs").exists()]
