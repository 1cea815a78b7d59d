"""The mounts that pods and containers leave below the local cloud's folders."""

from __future__ import annotations

import subprocess
from pathlib import Path

_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def below(*folders: Path) -> list[Path]:
    """Mount points below the folders, the innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        name = line.split(" ")[4]
        for escape, character in _ESCAPES.items():
            name = name.replace(escape, character)
        point = Path(name)
        if any(point.is_relative_to(folder) for folder in folders):
            found.append(point)
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def unmount_below(*folders: Path) -> None:
    """Unmount all of them; a mount that is busy is detached and goes when its last user does."""
    for point in below(*folders):
        subprocess.run(["umount", "--lazy", str(point)], check=True, capture_output=True)


def bind(source: Path, target: Path) -> None:
    """Show the folder `source` at `target` too, which is made; what is mounted below one does not show at the other."""
    if target in below(target):
        return
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True, capture_output=True)
    subprocess.run(["mount", "--make-private", str(target)], check=True, capture_output=True)
