"""The real cluster-autoscaler, taken out of its official image where an image registry answers."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx

from infra import versions
from infra.local import paths
from infra.local.images import buildah
from infra.local.progress import Progress

REGISTRY = "registry.k8s.io"
IMAGE = f"{REGISTRY}/autoscaling/cluster-autoscaler:v{versions.CLUSTER_AUTOSCALER}"
_ASK_AGAIN_SECONDS = 24 * 3600
_PULL_SECONDS = 300


def find(progress: Progress) -> Path | None:
    """The binary from the cache or the official image; None where no registry answers (asked once a day)."""
    folder = paths.cache() / "cluster-autoscaler" / versions.CLUSTER_AUTOSCALER
    binary, asked = folder / "cluster-autoscaler", folder / "no-registry"
    if binary.exists():
        return binary
    if asked.exists() and time.time() - asked.stat().st_mtime < _ASK_AGAIN_SECONDS:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        httpx.get(f"https://{REGISTRY}/v2/", timeout=httpx.Timeout(10, connect=3), follow_redirects=True)
        with progress.step(f"taking cluster-autoscaler {versions.CLUSTER_AUTOSCALER} out of its official image"):
            _extract(binary)
    except (httpx.HTTPError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        progress.say(f"no {IMAGE} here ({reason.strip()}): the stand-in autoscaler takes its place")
        asked.touch()
        return None
    return binary


def _extract(binary: Path) -> None:
    """Pull the image with buildah, which needs no daemon, and copy the one file that is in it."""

    def run(*arguments: str) -> str:
        command = [*buildah(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PULL_SECONDS)
        return done.stdout.strip()

    container = run("from", "--quiet", IMAGE)
    try:
        copied = binary.with_suffix(".new")
        copied.write_bytes(Path(run("mount", container), "cluster-autoscaler").read_bytes())
        copied.chmod(0o755)
        copied.rename(binary)
    finally:
        run("rm", container)
