"""The golden root: a containerd root that has the images of what runs on machines, the local AMI."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from infra.local import cgroups, images, mounts, paths
from infra.local.images import Builder, ImageError
from infra.local.progress import Progress

BAKED = ("spark", "hdfs")
"""The images that are on every machine from its start; others are built on demand."""


@dataclass(frozen=True)
class GoldenRoot:
    """A containerd root folder that machines are cloned from, and the references of the images in it, by name."""

    folder: Path
    images: dict[str, str]


def golden_root(progress: Progress) -> GoldenRoot:
    """The golden root for today's images; builds what is missing and drops the roots of older images."""
    references = {name: images.reference(name) for name in BAKED}
    key = hashlib.sha256(f"{references} {images.PAUSE} {_containerd_version()}".encode()).hexdigest()[:12]
    folder = paths.cache() / "golden" / key
    if not folder.exists():
        archives = paths.cache() / "archives"
        shutil.rmtree(archives, ignore_errors=True)
        archives.mkdir(parents=True)
        builder = Builder(progress)
        made = [builder.build_pause(), *(builder.build(name) for name in BAKED)]
        with progress.step("baking the images into the machines' root"):
            _bake(builder, made, archives, folder)
        mounts.unmount_below(paths.cache())  # buildah leaves its storage mounted
        shutil.rmtree(archives)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
    return GoldenRoot(folder, references)


def _bake(builder: Builder, made: list[str], archives: Path, folder: Path) -> None:
    """Import the images into a containerd of our own and keep its root. Layers that they share are there once.

    It begins with the last root, if there is one: layers that did not change need not be unpacked again.
    """
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    roots = (root for root in folder.parent.glob("*") if root.suffix != ".new" and (root / "complete").exists())
    last = next(roots, None)
    if last is not None:
        clone(last, new)
    new.mkdir(parents=True, exist_ok=True)
    state = paths.RUN / "bake"
    state.mkdir(parents=True, exist_ok=True)
    socket = state / "containerd.sock"
    config = new.with_suffix(".toml")
    config.write_text(
        f'version = 2\nroot = "{new}"\nstate = "{state}"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{socket}"\n'
    )
    log = paths.cache() / "images.log"
    cgroups.create("bake")
    try:
        cgroups.spawn("bake", ["containerd", "-c", str(config)], log)
        deadline = time.monotonic() + 30
        while not socket.exists():
            if time.monotonic() > deadline:
                raise ImageError(f"containerd did not start; see {log}")
            time.sleep(0.05)
        ctr = ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images"]
        there = set(subprocess.run([*ctr, "list", "--quiet"], capture_output=True, text=True).stdout.split())
        for number, image in enumerate(set(made) - there):
            archive = archives / f"{number}.tar"
            builder.save(image, archive)
            images.run([*ctr, "import", "--snapshotter", "overlayfs", str(archive)], image)
            archive.unlink()
        if old := there - set(made):
            images.run([*ctr, "remove", "--sync", *sorted(old)], "old images")
    finally:
        cgroups.kill("bake")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(state)
        config.unlink(missing_ok=True)
    (new / "complete").touch()
    new.rename(folder)


def clone(root: Path, new: Path) -> None:
    """A copy of a containerd root by hard links, which takes no space: its layers are only read. Raises OSError.

    Its databases are written, so they are copied.
    """
    same_disk = root.stat().st_dev == new.parent.stat().st_dev
    subprocess.run(["cp", "-al" if same_disk else "-a", str(root), str(new)], check=True)
    if same_disk:
        for database in new.rglob("*.db"):
            database.unlink()
            shutil.copy2(root / database.relative_to(new), database)


def _containerd_version() -> str:
    return subprocess.run(["containerd", "--version"], capture_output=True, text=True).stdout.strip()
