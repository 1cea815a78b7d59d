"""Where the local cloud keeps things: a cache that any run may reuse, and the state of the one that is up."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = Path("/run/tidepool")
"""Machine-wide and gone after a reboot: sockets, the lock, and the note of which state folder is in use."""


def cache() -> Path:
    """The cache folder (XDG_CACHE_HOME/tidepool): binaries, images and downloads, by version."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state() -> Path:
    """The state folder of this user's local cloud (XDG_STATE_HOME/tidepool/local)."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "local"


def _xdg(variable: str, default: str) -> Path:
    root = os.environ.get(variable)
    return (Path(root) if root else Path.home() / default) / "tidepool"
