"""kwok, which plays the kubelets of any number of nodes: built from its Go module at its pinned version, once.

Its checksums, and those of all that it is made of, are in infra/local/kwok/go.sum; Go refuses what is otherwise.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from infra import versions
from infra.local import paths, toolchain
from infra.local.progress import Progress

SOURCES = Path(__file__).parent / "kwok"
PROGRAM = "sigs.k8s.io/kwok/cmd/kwok"


def find(progress: Progress) -> Path:
    """The program, from the cache or built now. Raises ToolchainError."""
    folder = paths.cache() / "kwok" / f"{versions.KWOK}-{toolchain.architecture()}"
    binary = folder / "kwok"
    if not binary.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _build(folder, progress)
    return binary


def _build(folder: Path, progress: Progress) -> None:
    go = toolchain.go(progress)
    flags = ["-trimpath", "-pgo=off", "-gcflags=all=-dwarf=false -l", "-ldflags", "-s -w"]
    command = [go, "build", *flags, "-o", str(folder / "kwok.new"), PROGRAM]
    with progress.step(f"building kwok {versions.KWOK} from its Go module (once; about 2 min on 2 cores)"):
        done = subprocess.run(
            command, cwd=SOURCES, env=toolchain.build_environment(folder), capture_output=True, text=True
        )
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise toolchain.ToolchainError(f"building kwok failed; `{' '.join(command)}` said:\n{last}")
    shutil.rmtree(folder / "go-build")
    shutil.rmtree(folder / "go-modules")
    (folder / "kwok.new").rename(folder / "kwok")
