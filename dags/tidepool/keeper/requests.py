"""How much of a machine a pod asks for and a node gives: CPU in millicores, memory in bytes. Pure.

Nothing that an object says stops the watch: what is no quantity is 0, and nothing is more than the ledger can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tidepool import quantity, requests

_LARGEST = 2**62


def allocatable(node: Mapping[str, Any]) -> tuple[int, int]:
    """What a node's pods can have together."""
    return _sizes(requests.amounts((node.get("status") or {}).get("allocatable"), _read))


def requested(pod: Mapping[str, Any]) -> tuple[int, int]:
    """What the scheduler sets aside for a pod."""
    return _sizes(requests.requested(pod, _read))


def _read(text: object) -> Decimal:
    try:
        return max(quantity.parse(text), Decimal(0))
    except ValueError:
        return Decimal(0)


def _sizes(amounts: Mapping[str, int]) -> tuple[int, int]:
    return min(amounts.get("cpu", 0), _LARGEST), min(amounts.get("memory", 0), _LARGEST)
