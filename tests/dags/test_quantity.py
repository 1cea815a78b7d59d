"""Quantities are read as Kubernetes reads them, wherever they stand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tidepool import quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (1.5, "1.5"),
        (4, "4"),
        ("1.", "1"),
        (".5", "0.5"),
        ("+1", "1"),
        ("-1Ki", "-1024"),
        ("7n", "0.000000007"),
        ("3u", "0.000003"),
        ("1k", "1000"),
        ("2M", "2000000"),
        ("1G", "1000000000"),
        ("1T", "1000000000000"),
        ("1P", "1000000000000000"),
        ("1E", "1000000000000000000"),
        ("1Ki", "1024"),
        ("1.5Mi", "1572864"),
        ("1Gi", "1073741824"),
        ("1Ti", "1099511627776"),
        ("1Pi", "1125899906842624"),
        ("1Ei", "1152921504606846976"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("12e-1", "1.2"),
        ("8Ei", "9223372036854775807"),
        ("-9Ei", "-9223372036854775807"),
        ("1e999999999", "9223372036854775807"),
    ],
)
def test_quantities_are_read_as_kubernetes_does(text: Any, number: str) -> None:
    assert quantity.parse(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    ["2GB", "", " 1", "1 Gi", "Gi", "0x10", "1e", "1e3Ki", "1K", "1ki", "1mi", ".", "1.2.3", "\u0663", "1_000", "nan"],
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no Kubernetes quantity"):
        quantity.parse(text)
