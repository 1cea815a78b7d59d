"""The images of images/, built on this machine.

docker builds them where its engine answers; elsewhere buildah does, which needs no daemon, on a Debian base that
mmdebstrap makes, so that the same Dockerfiles build without any image registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import httpx

from infra import image_sources
from infra.image_sources import VERSIONS, Source
from infra.local import cgroups, mounts, paths, toolchain
from infra.local.errors import LocalError
from infra.local.progress import Progress

BASE = "docker.io/library/debian:bookworm-slim"
REGISTRY = "tidepool.local"  # no registry: the prefix of what only exists on this machine
PAUSE = f"{REGISTRY}/pause:1"
_PAUSE_DOCKERFILE = f'FROM {BASE}\nCMD ["sleep", "infinity"]\n'
_CA_BUNDLE = "/run/build-ca.crt"
_CONSTRAINTS = "/run/build-constraints.txt"


class ImageError(LocalError):
    """An image can't be built or unpacked; the message says which, and has the builder's last words."""


def reference(name: str) -> str:
    """An image's reference: its tag is a digest of all that goes into it. Raises ImageError where there is none."""
    return f"{REGISTRY}/{name}:{_source(name).tag()}"


def name_of(reference: str) -> str:
    """The image's name, of a reference made here."""
    return reference.removeprefix(f"{REGISTRY}/").partition(":")[0]


def _source(name: str) -> Source:
    try:
        return image_sources.source(name)
    except KeyError as error:
        raise ImageError(f"no image {name!r}; there are {', '.join(image_sources.names())}") from error


class Builder:
    """docker or buildah. An image that is there already, of the same sources, takes a second.

    grouped: what takes minutes is ended with the `up` that started it; that needs root.
    """

    def __init__(self, progress: Progress, grouped: bool = True) -> None:
        self._progress = progress
        self._builder = _Docker(grouped) if docker_answers() else _Buildah(progress)

    def build(self, image: str) -> str:
        """Build one image of images/; its reference."""
        source, made = _source(image), reference(image)
        with self._progress.step(f"building the image {image} (once for each change of what goes into it)"):
            self._builder.build(source.dockerfile, made, source)
        return made

    def build_pause(self) -> str:
        """Build the image that holds a pod's network; its reference."""
        self._builder.build(_PAUSE_DOCKERFILE, PAUSE, None)
        return PAUSE

    def save(self, made: str, archive: Path, blobs: Path) -> None:
        """Write an image as an archive that containerd can import. blobs: a folder of what containerd has already."""
        self._builder.save(made, archive, blobs)


def build(images: Iterable[str], progress: Progress) -> dict[str, int]:
    """Build images of images/ by name; for each reference its layers' bytes, unpacked. Raises ImageError."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    try:
        builder = Builder(progress, grouped=not docker_answers())
        return {made: _size(made) for made in [builder.build(image) for image in images]}
    finally:
        mounts.unmount_below(paths.cache())  # buildah leaves its storage mounted


def _size(made: str) -> int:
    if docker_answers():
        command = ["docker", "image", "inspect", "--format", "{{.Size}}", made]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    command = [*buildah(), "images", "--json", made]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    number, unit = told[0]["size"].split()
    return int(float(number) * {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit.upper()])


def buildah() -> list[str]:
    """The beginning of a buildah command line on the local cloud's own storage."""
    return ["buildah", "--root", str(paths.cache() / "buildah"), "--runroot", str(paths.RUN / "buildah")]


def docker_answers() -> bool:
    """Whether docker builds the images: it is there, and this user may ask it."""
    return bool(shutil.which("docker")) and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


class _Docker:
    def __init__(self, grouped: bool) -> None:
        self._grouped = grouped

    def build(self, dockerfile: str, made: str, source: Source | None) -> None:
        arguments = _arguments(source.versions()) if source else []
        with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as file:
            file.write(dockerfile)
            file.flush()
            run(
                ["docker", "build", "-f", file.name, "-t", made, *arguments, str(paths.REPOSITORY)],
                made,
                grouped=self._grouped,
            )

    def save(self, made: str, archive: Path, blobs: Path) -> None:
        run(["docker", "save", "-o", str(archive), made], made, grouped=self._grouped)


class _Buildah:
    def __init__(self, progress: Progress) -> None:
        self._command = buildah()
        if subprocess.run([*self._command, "inspect", "--type", "image", BASE], capture_output=True).returncode == 0:
            return
        archive = paths.cache() / "debian.tar"
        with progress.step("making the base image debian:bookworm-slim"):
            packages = ["--variant=minbase", "--include=ca-certificates", "bookworm"]
            run(["mmdebstrap", "--quiet", *packages, str(archive)], BASE)
            self._bud(f"FROM scratch\nADD {archive.name} /\n", BASE, archive.parent, [])
            archive.unlink()

    def build(self, dockerfile: str, made: str, source: Source | None) -> None:
        options = ["--ignorefile", str(paths.REPOSITORY / ".dockerignore")]
        values = source.versions() if source else {}
        declared = source.arguments if source else frozenset()
        if bundle := _ca_bundle():
            options += ["-v", f"{bundle}:{_CA_BUNDLE}:ro"]
            values |= {name: _CA_BUNDLE for name in ("PIP_CERT", "CA_BUNDLE") if name in declared}
        with tempfile.TemporaryDirectory() as folder:
            if "CONSTRAINTS" in declared and not _reachable(_default(dockerfile, "CONSTRAINTS")):
                file = Path(folder) / "constraints.txt"
                file.write_text(locked_constraints())
                options += ["-v", f"{file}:{_CONSTRAINTS}:ro"]
                values["CONSTRAINTS"] = f"file://{_CONSTRAINTS}"
            self._bud(dockerfile, made, paths.REPOSITORY, [*options, *_arguments(values)])

    def save(self, made: str, archive: Path, blobs: Path) -> None:
        there = {each.name for each in blobs.iterdir()} if blobs.exists() else set()
        layers = self._layers(made)
        if 2 * len(there.intersection(layers)) < len(layers):
            run([*self._command, "push", "--quiet", made, f"docker-archive:{archive}:{made}"], made)
        else:
            self._save_rest(made, archive, blobs, sorted(there))

    def _layers(self, made: str) -> list[str]:
        """The digests of an image's layers as they are in an archive, which is not compressed."""
        command = [*self._command, "inspect", "--type", "image", made]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return [str(each).removeprefix("sha256:") for each in told["OCIv1"]["rootfs"]["diff_ids"]]

    def _save_rest(self, made: str, archive: Path, blobs: Path, there: list[str]) -> None:
        """As an OCI layout without the blobs that are there already: of an image that changed a little, seconds less.

        Not for one that is new: buildah compresses what it puts into an OCI layout, which takes longer than writing it.
        """
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            layout = Path(folder)
            store = layout / "blobs" / "sha256"
            store.mkdir(parents=True)
            for digest in there:
                (store / digest).hardlink_to(blobs / digest)
            run([*self._command, "push", "--quiet", made, f"oci:{layout}"], made)
            index = json.loads((layout / "index.json").read_text())
            index["manifests"][0]["annotations"] = {"io.containerd.image.name": made}
            (layout / "index.json").write_text(json.dumps(index))
            for digest in there:
                (store / digest).unlink()
            with tarfile.open(archive, "w") as tar:
                tar.add(layout, arcname="")

    def _bud(self, dockerfile: str, made: str, context: Path, options: list[str]) -> None:
        how = ["--isolation=chroot", "--network=host", "--pull-never", "--layers"]
        run([*self._command, "bud", *how, *options, "-f", "-", "-t", made, str(context)], made, stdin=dockerfile)


def locked_constraints() -> str:
    """What uv.lock pins for Airflow, as pip's constraints: for a build that can't reach Airflow's own file."""
    export = ["export", "--quiet", "--frozen", "--only-group", "airflow", "--no-hashes", "--no-emit-project"]
    command = [toolchain.uv(), *export]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.REPOSITORY)
    if done.returncode:
        raise ImageError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def _default(dockerfile: str, argument: str) -> str:
    """The default of a build argument, with the pinned versions put in."""
    found = re.search(rf"^ARG {argument}=(\S+)$", dockerfile, re.MULTILINE)
    text = found[1] if found else ""
    for name, version in VERSIONS.items():
        text = text.replace(f"${{{name}}}", version)
    return text


def _reachable(url: str) -> bool:
    try:
        return httpx.head(url, timeout=5, follow_redirects=True).status_code == 200
    except httpx.HTTPError:
        return False


def _arguments(values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")]


def _ca_bundle() -> str | None:
    """The CA bundle that this environment sets for pip, where the network has a certificate authority of its own."""
    return os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")


def run(command: list[str], what: str, stdin: str | None = None, grouped: bool = True) -> None:
    """Run a builder's command with its output in images.log. Raises ImageError with its last words."""
    log = paths.cache() / "images.log"
    with log.open("a") as output:
        inside = cgroups.build_command(command) if grouped else command
        done = subprocess.run(inside, input=stdin, text=True, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
        raise ImageError(f"{what}: `{command[0]}` failed (whole output: {log}). Its last words:\n{last}")
