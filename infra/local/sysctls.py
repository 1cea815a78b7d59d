"""The host's kernel settings that the local cloud or a kubelet changes: kept before, put back after."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

_ROOT = Path("/proc/sys")
_IP_FORWARD = "net/ipv4/ip_forward"
# A kubelet sets all of these but the first (pkg/kubelet/cm, setupKernelTunables).
_CHANGED = (
    _IP_FORWARD,
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def change(saved: Path) -> None:
    """Keep today's values in `saved`, unless it is there, and let packets pass between machines."""
    if not saved.exists():
        values = {name: (_ROOT / name).read_text().strip() for name in _CHANGED if (_ROOT / name).exists()}
        saved.write_text(json.dumps(values))
    (_ROOT / _IP_FORWARD).write_text("1")


def restore(saved: Path) -> None:
    """Put back what `change` kept; nothing kept is no error."""
    with contextlib.suppress(FileNotFoundError):
        for name, value in json.loads(saved.read_text()).items():
            (_ROOT / name).write_text(value)
        saved.unlink()
