"""Kubernetes quantities as numbers: `500m`, `2Gi`, `1e3`. Standard library only.

Source: k8s.io/apimachinery, pkg/api/resource/quantity.go; a unit or an exponent, never both.
"""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:(?P<exponent>[eE][+-]?[0-9]{1,9})|(?P<unit>[numkMGTPE]|[KMGTPE]i))?"
)
_FACTORS = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
_FACTORS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
_FACTORS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}

LARGEST = 2**63 - 1
"""What is more counts as so much, as in Kubernetes."""


def parse(text: object) -> Decimal:
    """A quantity as text, or as YAML's number, in base units; raises ValueError for what is none."""
    match = _NUMBER.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no Kubernetes quantity, such as 500m or 2Gi")
    value = Decimal(match["number"] + (match["exponent"] or ""))
    if match["unit"]:
        value *= _FACTORS[match["unit"]]
    return max(min(value, Decimal(LARGEST)), Decimal(-LARGEST))
