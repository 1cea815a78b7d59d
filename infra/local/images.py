"""The images, built on this machine, and the golden root: a containerd root that has them all, the local AMI.

docker builds them where its engine answers; elsewhere buildah does, which needs no daemon, on a Debian base that
mmdebstrap makes, so that the same Dockerfiles build without any image registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from infra import versions
from infra.local import cgroups, mounts, paths
from infra.local.errors import LocalError
from infra.local.progress import Progress

BASE = "docker.io/library/debian:bookworm-slim"
REGISTRY = "tidepool.local"  # no registry: the prefix of what only exists on this machine
PAUSE = f"{REGISTRY}/pause:1"
_PAUSE_DOCKERFILE = f'FROM {BASE}\nCMD ["sleep", "infinity"]\n'
_CA_BUNDLE = "/run/build-ca.crt"


class ImageError(LocalError):
    """An image can't be built or unpacked; the message says which, and has the builder's last words."""


@dataclass(frozen=True)
class GoldenRoot:
    """A containerd root folder that machines are cloned from, and the references of the job images in it."""

    folder: Path
    images: dict[str, str]


def spark_reference() -> str:
    """The Spark image's reference: its tag is a digest of all that goes into it."""
    digest = hashlib.sha256(versions.SPARK.encode())
    sources = [paths.REPOSITORY / "images" / "spark" / "Dockerfile"]
    sources += sorted((paths.REPOSITORY / "dags" / "jobs").glob("**/*.py"))
    for source in sources:
        digest.update(str(source.relative_to(paths.REPOSITORY)).encode() + source.read_bytes())
    return f"{REGISTRY}/spark:{digest.hexdigest()[:12]}"


def golden_root(progress: Progress) -> GoldenRoot:
    """The golden root for today's images; builds what is missing and drops the roots of older images."""
    spark = spark_reference()
    key = hashlib.sha256(f"{spark} {PAUSE} {_containerd_version()}".encode()).hexdigest()[:12]
    folder = paths.cache() / "golden" / key
    if not folder.exists():
        builder = _Docker() if _Docker.answers() else _Buildah(progress)
        archives = paths.cache() / "archives"
        shutil.rmtree(archives, ignore_errors=True)
        archives.mkdir(parents=True)
        with progress.step("building the image spark (once for each change of images/spark or dags/jobs)"):
            builder.build(_PAUSE_DOCKERFILE, PAUSE, archives / "pause.tar")
            dockerfile = (paths.REPOSITORY / "images" / "spark" / "Dockerfile").read_text()
            builder.build(dockerfile, spark, archives / "spark.tar")
        with progress.step("baking the images into the machines' root"):
            _bake([archives / "pause.tar", archives / "spark.tar"], folder)
        mounts.unmount_below(paths.cache())  # buildah leaves its storage mounted
        shutil.rmtree(archives)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
    return GoldenRoot(folder, {"spark": spark})


def buildah() -> list[str]:
    """The beginning of a buildah command line on the local cloud's own storage."""
    return ["buildah", "--root", str(paths.cache() / "buildah"), "--runroot", str(paths.RUN / "buildah")]


class _Docker:
    @staticmethod
    def answers() -> bool:
        return bool(shutil.which("docker")) and subprocess.run(["docker", "info"], capture_output=True).returncode == 0

    def build(self, dockerfile: str, reference: str, archive: Path) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as file:
            file.write(dockerfile)
            file.flush()
            build = ["docker", "build", "-f", file.name, "-t", reference, *_build_arguments(), str(paths.REPOSITORY)]
            _run(build, reference)
        _run(["docker", "save", "-o", str(archive), reference], reference)


class _Buildah:
    def __init__(self, progress: Progress) -> None:
        self._command = buildah()
        if self._quiet("inspect", "--type", "image", BASE):
            return
        archive = paths.cache() / "debian.tar"
        with progress.step("making the base image debian:bookworm-slim"):
            packages = ["--variant=minbase", "--include=ca-certificates", "bookworm"]
            _run(["mmdebstrap", "--quiet", *packages, str(archive)], BASE)
            self._bud(f"FROM scratch\nADD {archive.name} /\n", BASE, archive.parent)
            archive.unlink()

    def build(self, dockerfile: str, reference: str, archive: Path) -> None:
        self._bud(dockerfile, reference, paths.REPOSITORY)
        _run([*self._command, "push", "--quiet", reference, f"docker-archive:{archive}:{reference}"], reference)

    def _bud(self, dockerfile: str, reference: str, context: Path) -> None:
        options = ["--isolation=chroot", "--network=host", "--pull-never", "--layers"]
        options += ["--ignorefile", str(paths.REPOSITORY / ".dockerignore")] if context == paths.REPOSITORY else []
        if bundle := _ca_bundle():
            options += ["-v", f"{bundle}:{_CA_BUNDLE}:ro", "--build-arg", f"PIP_CERT={_CA_BUNDLE}"]
        command = [*self._command, "bud", *options, *_build_arguments(), "-f", "-", "-t", reference, str(context)]
        _run(command, reference, stdin=dockerfile)

    def _quiet(self, *arguments: str) -> bool:
        return subprocess.run([*self._command, *arguments], capture_output=True).returncode == 0


def _build_arguments() -> list[str]:
    return ["--build-arg", f"SPARK_VERSION={versions.SPARK}"]


def _ca_bundle() -> str | None:
    """The CA bundle that this environment sets for pip, where the network has a certificate authority of its own."""
    return os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")


def _run(command: list[str], what: str, stdin: str | None = None) -> None:
    log = paths.cache() / "images.log"
    with log.open("a") as output:
        inside = cgroups.build_command(command)
        done = subprocess.run(inside, input=stdin, text=True, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
        raise ImageError(f"{what}: `{command[0]}` failed (whole output: {log}). Its last words:\n{last}")


def _containerd_version() -> str:
    return subprocess.run(["containerd", "--version"], capture_output=True, text=True).stdout.strip()


def _bake(archives: list[Path], folder: Path) -> None:
    """Import the archives into a containerd of our own and keep its root."""
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
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
        for archive in archives:
            importing = ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import"]
            _run([*importing, "--snapshotter", "overlayfs", str(archive)], archive.stem)
    finally:
        cgroups.kill("bake")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(state)
        config.unlink(missing_ok=True)
    new.rename(folder)
