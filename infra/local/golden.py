"""The golden root: a containerd root that has the images of what runs on machines, the local AMI."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from infra import image_sources
from infra.local import cgroups, images, mounts, paths, waiting
from infra.local.images import Builder, ImageError
from infra.local.progress import Progress

BAKED = ("spark", "hdfs")
"""The images that are on every machine from its start; further ones are baked where they are asked for."""

_BLOBS = Path("io.containerd.content.v1.content/blobs/sha256")
"""Where containerd keeps manifests, configurations and layers, by digest."""

_COMPLETE = "complete"
"""The file that says a root is whole: its images' references by name, and containerd's version, as JSON."""

_LEASE = "unused"


@dataclass(frozen=True)
class GoldenRoot:
    """A containerd root folder that machines are cloned from, and the references of the images in it, by name."""

    folder: Path
    images: dict[str, str]


def golden_root(progress: Progress, further: Collection[str] = ()) -> GoldenRoot:
    """A golden root with today's images of BAKED and `further`; builds what is missing and drops older roots.

    One that has more images than that will do, and gives those too where they are today's.
    """
    references = {name: images.reference(name) for name in sorted({*BAKED, *further})}
    folder = _there(references)
    if folder is None:
        archives = paths.cache() / "archives"
        shutil.rmtree(archives, ignore_errors=True)
        archives.mkdir(parents=True)
        builder = Builder(progress)
        builder.build_pause()
        references = {name: builder.build(name) for name in references}
        folder = _roots() / _key(references)
        with progress.step("baking the images into the machines' root"):
            _bake(builder, references, archives, folder)
        mounts.unmount_below(paths.cache())  # buildah leaves its storage mounted
        shutil.rmtree(archives)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
    found: dict[str, str] = json.loads((folder / _COMPLETE).read_text())["images"]
    # What is asked for is given though somebody has edited its sources meanwhile, as it was when this began.
    given = {name: each for name, each in found.items() if name in references or is_today(name, each)}
    return GoldenRoot(folder, given)


def is_today(name: str, reference: str) -> bool:
    """Whether nothing that goes into the image has changed since it was built. One of elsewhere is as it is."""
    return name not in image_sources.names() or reference == images.reference(name)


def _roots() -> Path:
    return paths.cache() / "golden"


def _key(references: dict[str, str]) -> str:
    return hashlib.sha256(f"{references} {images.PAUSE} {_containerd_version()}".encode()).hexdigest()[:12]


def _there(references: dict[str, str]) -> Path | None:
    """A whole root that has these images."""
    for folder in sorted(_roots().glob("*")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads((folder / _COMPLETE).read_text())
            if references.items() <= said["images"].items() and said["containerd"] == _containerd_version():
                return folder
    return None


def _bake(builder: Builder, references: dict[str, str], archives: Path, folder: Path) -> None:
    """Import the images into a containerd of our own and keep its root. Layers that they share are there once.

    It begins with the last root, if there is one: layers that did not change need not be unpacked again. An image in it
    that is not asked for now stays, whatever its age: whoever asks for it next has its layers.
    """
    made = {images.PAUSE, *references.values()}
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    roots = (root for root in folder.parent.glob("*") if root.suffix != ".new" and (root / _COMPLETE).exists())
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
        waiting.until(socket.exists, 30, ImageError(f"containerd did not start; see {log}"), 0.05)
        containerd = ["ctr", "--address", str(socket), "--namespace", "k8s.io"]
        # What the last bake left unused goes now, and not while an image relies on it: a lease that ends does that.
        images.run([*containerd, "leases", "create", "--id", _LEASE], _LEASE)
        images.run([*containerd, "leases", "delete", "--sync", _LEASE], _LEASE)
        ctr = [*containerd, "images"]
        there = set(subprocess.run([*ctr, "list", "--quiet"], capture_output=True, text=True).stdout.split())
        for number, image in enumerate(sorted(made - there)):
            archive = archives / f"{number}.tar"
            builder.save(image, archive, new / _BLOBS)
            images.run([*ctr, "import", "--snapshotter", "overlayfs", str(archive)], image)
            archive.unlink()
        kept = {each for each in there - made if images.name_of(each) not in references}
        if old := there - made - kept:
            images.run([*ctr, "remove", "--sync", *sorted(old)], "old images")
    finally:
        cgroups.kill("bake")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(state)
        config.unlink(missing_ok=True)
    said = {images.name_of(each): each for each in kept} | references
    (new / _COMPLETE).write_text(json.dumps({"images": said, "containerd": _containerd_version()}))
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
