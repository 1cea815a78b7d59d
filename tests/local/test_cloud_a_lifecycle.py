"""Up and down, whatever happens on the way: a cloud that works or nothing. Before the tests' shared cloud starts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local import addresses, cgroups, cloud, mounts, network, paths
from infra.local.progress import Progress
from infra.local.supervisor import GROUP

pytestmark = pytest.mark.local_cloud

UP_SECONDS = 120
OWN = ("infra.local.", "tidepool.keeper.", "supervisor.supervisord", "moto.server", "/kubernetes/", "containerd")


def command(*words: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(paths.REPOSITORY / "tidepool"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and all that it printed."""
    output, errors = process.communicate(timeout=UP_SECONDS)
    return process.returncode, output + errors


def ours() -> list[str]:
    """The command lines of this machine that look like the local cloud's, in its control group or not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(folder.name) != os.getpid() and any(word in line for word in OWN) and "pytest" not in line:
            found.append(line)
    return found


@pytest.fixture
def nothing(state_home: Path) -> Iterator[None]:
    """Before the test nothing is up and nothing of this machine looks like it; after it, again."""
    before = ours()
    yield
    cloud.down(Progress())
    assert cloud.leftovers() == []
    assert [line for line in ours() if line not in before] == []


def begun() -> bool:
    """The first process of the cloud runs."""
    return bool(cgroups.pids(GROUP))


def wired() -> bool:
    """The bridge is there."""
    return Path(f"/sys/class/net/{addresses.BRIDGE}").exists()


def booting() -> bool:
    """The first machine's containerd runs."""
    return any(cgroups.pids(entry.name) for entry in paths.RUN.glob("i-*"))


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("point", [wired, begun, booting])
def test_down_leaves_nothing_of_an_up_that_was_killed(point: Callable[[], bool], wait_until: Any) -> None:
    up = command("local", "up")
    try:
        wait_until(point, UP_SECONDS, point.__doc__)
    finally:
        up.kill()
        up.communicate()
    assert cloud.leftovers() != []
    code, said = finished(command("local", "down"))
    assert code == 0, said
    assert cloud.leftovers() == []


@pytest.mark.usefixtures("nothing")
def test_up_after_a_killed_up_works_and_twice_is_once_and_a_second_cloud_is_refused(
    wait_until: Any, tmp_path: Path
) -> None:
    killed = command("local", "up")
    wait_until(begun, UP_SECONDS, begun.__doc__)
    killed.kill()
    killed.communicate()

    code, said = finished(command("local", "up"))
    assert code == 0, said
    processes = cgroups.pids(GROUP)
    code, said = finished(command("local", "up"))
    assert (code, "up already" in said) == (0, True), said
    assert set(processes) <= set(cgroups.pids(GROUP)), "nothing was started again"

    for verb in ("up", "down", "status"):
        code, said = finished(command("local", verb, XDG_STATE_HOME=str(tmp_path)))
        assert code == 1
        assert f"another local cloud is up on this machine, with its state in {paths.state()}" in said
    code, said = finished(command("local", "status"))
    assert code == 0, said

    (supervisord,) = [pid for pid in processes if b"supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(supervisord, signal.SIGKILL)
    code, said = finished(command("local", "status"))
    assert code == 1
    assert "supervisord does not answer" in said
    code, said = finished(command("local", "down"))
    assert code == 0, said
    assert cloud.leftovers() == []


def reboot() -> None:
    """Leave of the cloud what a reboot leaves: its files on the disk."""
    cgroups.kill()
    network.down()
    mounts.unmount_below(paths.RUN, paths.state())
    shutil.rmtree(paths.RUN)


@pytest.mark.usefixtures("nothing")
def test_up_works_after_a_reboot_in_the_middle_of_up(wait_until: Any) -> None:
    killed = command("local", "up")
    wait_until(booting, UP_SECONDS, booting.__doc__)
    killed.kill()
    killed.communicate()
    reboot()
    assert list(paths.state().glob("machines/*/machine.json")), "a machine of before the reboot is still on the disk"
    code, said = finished(command("local", "up"))
    assert code == 0, said
    code, said = finished(command("local", "status"))
    assert code == 0, said


@pytest.mark.usefixtures("nothing")
def test_a_port_in_use_is_said_before_anything_is_made() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 5555))
        other.listen()
        code, said = finished(command("local", "up"))
    assert code == 1
    assert "port 5555 of 127.0.0.1, which moto (the AWS API) needs, is in use" in said
    assert cloud.leftovers() == []
