"""The local cloud as a whole: up, down, and what a client of it needs to know.

`up` leaves either a cloud that works or nothing; `down` leaves nothing, whatever happened before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from infra import settings
from infra.local import (
    autoscaler_binary,
    cgroups,
    golden,
    images,
    mounts,
    network,
    paths,
    preflight,
    sysctls,
    toolchain,
)
from infra.local.errors import LocalError
from infra.local.golden import GoldenRoot
from infra.local.progress import Progress
from infra.local.start import STACK, start
from infra.local.state import Cloud, CloudError
from infra.local.supervisor import GROUP
from infra.local.toolchain import Toolchain
from tidepool import capacity

__all__ = [
    "Cloud",
    "CloudError",
    "attach",
    "build_images",
    "down",
    "is_up",
    "leftovers",
    "prepare",
    "up",
    "warn_if_stale",
]

_LOCK = Path("/run/tidepool.lock")
_OWNER = paths.RUN / "cloud.json"
_MENDABLE = (LocalError, settings.SettingsError, subprocess.SubprocessError, RuntimeError, OSError)
_KEPT = ("ledger.db", "ledger.db-wal", "log")  # of the state folder, to be read after `down`


def attach() -> Cloud:
    """The local cloud that is up. Raises CloudError if there is none, or if it is another user's."""
    cloud = Cloud(paths.state())
    if not cgroups.pids(GROUP):
        raise CloudError("the local cloud is not up: `tidepool local up` (or `tidepool demo`) starts it")
    _require_ours()
    return cloud


def is_up() -> bool:
    """Whether a local cloud of this user is up."""
    try:
        attach()
    except CloudError:
        return False
    return True


def up(progress: Progress, autoscaler: Path | None = None, further: Collection[str] = ()) -> Cloud:
    """Start the local cloud and wait until its system machines are ready; one that is up is left as it is.

    HDFS is still starting then: lake.fill waits for it, while a caller starts something else.

    autoscaler: a cluster-autoscaler binary to run; without one, the official image's where a registry answers, else the
    stand-in. further: images that machines have besides golden.BAKED. Raises CloudError; nothing is left then.
    """
    with _lock():
        cloud = Cloud(paths.state())
        _require_ours()
        if cgroups.pids(GROUP) and (cloud.state / "ready").exists():
            if autoscaler is not None:
                raise CloudError("the local cloud is up already, with its own autoscaler: `tidepool local down` first")
            if lacking := sorted(set(further) - set(capacity.load(cloud.capacity).images)):
                raise CloudError(
                    f"the local cloud is up already, and its machines lack the image {', '.join(lacking)}: "
                    "`tidepool local down` first"
                )
            progress.say("the local cloud is up already")
            warn_if_stale(cloud, progress)
            return cloud
        _clean(cloud.state, ())
        try:
            _require_fit()
            deployed = settings.load(STACK)  # a wrong stack file is said before anything starts
            tools, root = _prepare(progress, further)
            autoscaler = autoscaler or autoscaler_binary.find(progress)
            with progress.step("starting the local cloud"):
                paths.RUN.mkdir(parents=True, exist_ok=True)
                _OWNER.write_text(json.dumps({"state": str(cloud.state)}))
                start(cloud, deployed.cloud.cluster.name, tools, root, autoscaler)
        except BaseException as error:
            _clean(cloud.state, _KEPT)
            if isinstance(error, _MENDABLE):
                raise CloudError(f"the local cloud did not start, and nothing of it is left: {error}") from error
            raise
        return cloud


def prepare(progress: Progress) -> None:
    """Fill the cache with all that `up` needs, so that `up` takes seconds; nothing else stays. Raises LocalError."""
    with _lock():
        _require_ours()
        _require_fit()
        try:
            _prepare(progress)
        finally:
            _clean(paths.state(), _KEPT)


def build_images(names: list[str], progress: Progress) -> dict[str, int]:
    """Build images of images/ by name: bytes by reference. A cloud that is up stays up. Raises LocalError.

    What docker builds is docker's own, and has nothing to do with the local cloud; buildah's storage is part of it.
    """
    if images.docker_answers():
        return images.build(names, progress)
    if preflight.root_problems():
        raise CloudError(
            "docker does not answer here, and buildah, which builds without it, needs Linux and root: start docker "
            "(and be in the group docker), or run `sudo ./tidepool images build`"
        )
    with _lock():
        _require_ours()
        try:
            return images.build(names, progress)
        finally:
            if not cgroups.pids(GROUP):
                _clean(paths.state(), _KEPT)


def warn_if_stale(cloud: Cloud, progress: Progress) -> None:
    """Say so if jobs would run an image older than its sources."""
    for name, reference in capacity.load(cloud.capacity).images.items():
        if not golden.is_today(name, reference):
            progress.say(
                f"what goes into the image {name} changed since the local cloud came up; it runs as it was until "
                "`tidepool local down` and `tidepool local up`"
            )


def down(progress: Progress) -> None:
    """End everything that the local cloud started and made; nothing to end is no error."""
    with _lock(), progress.step("taking the local cloud down"):
        _require_ours()
        _clean(paths.state(), _KEPT)


def leftovers() -> list[str]:
    """What of the local cloud is still on this machine, in words; empty after `down`."""
    found = [f"process {pid}" for pid in cgroups.pids()] + network.leftovers()
    found += [f"mount {point}" for point in mounts.below(paths.RUN, paths.state(), paths.cache())]
    if cgroups.tracking().exists():
        found.append(f"control group {cgroups.tracking()}")
    if paths.RUN.exists():
        found.append(f"folder {paths.RUN}")
    return found


def _require_fit() -> None:
    if found := preflight.problems():
        raise CloudError("the local cloud can't start here:\n" + "\n".join(f"- {each}" for each in found))


def _prepare(progress: Progress, further: Collection[str] = ()) -> tuple[Toolchain, GoldenRoot]:
    """Kubernetes and the images, side by side: one computes, the other mostly waits for packages."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    toolchain.require_mirror()
    toolchain.install_packages(progress)
    with ThreadPoolExecutor(max_workers=2) as workers:
        tools = workers.submit(toolchain.prepare, progress)
        root = workers.submit(golden.golden_root, progress, further)
        try:
            for first in as_completed((tools, root)):
                first.result()
        except BaseException:
            cgroups.kill(cgroups.BUILD)  # else the other one would be waited for
            raise
        return tools.result(), root.result()


def _clean(state: Path, kept: tuple[str, ...]) -> None:
    """End and remove all of it, in the order in which it depends on each other; safe to repeat after any crash."""
    cgroups.kill()
    if shutil.which("ip"):
        network.down()
    sysctls.restore(state / "sysctls.json")
    mounts.unmount_below(paths.RUN, state, paths.cache())
    shutil.rmtree(paths.RUN, ignore_errors=True)
    for entry in state.iterdir() if state.exists() else ():
        if entry.name in kept:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One `up` or `down` at a time on this machine."""
    if found := preflight.root_problems():
        raise CloudError("\n".join(found))
    with _LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CloudError("another `tidepool local up` or `down` is at work on this machine; wait for it") from error
        yield


def _require_ours() -> None:
    """Only one local cloud is up on a machine; it belongs to the state folder that started it."""
    with contextlib.suppress(FileNotFoundError):
        owner = json.loads(_OWNER.read_text())["state"]
        if owner != str(paths.state()):
            raise CloudError(
                f"another local cloud is up on this machine, with its state in {owner}; only one can be. Take it down "
                f"first: `XDG_STATE_HOME={Path(owner).parents[1]} ./tidepool local down`"
            )
