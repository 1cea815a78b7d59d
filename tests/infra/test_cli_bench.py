"""`tidepool bench`: what is compared, and how."""

from __future__ import annotations

import pytest

from infra import contract, settings
from infra.cli import bench_parse
from infra.cli.ratios import ratio
from infra.local.paths import REPOSITORY

OPERATORS = 1000
BOUND = 1.8
"""Generous: the promise is 1.3, of 1,000 operators on a machine that has nothing else to do."""


def test_a_ratio_is_that_of_the_medians_with_the_least_and_the_most_of_the_rounds() -> None:
    found = ratio([2.0, 3.0, 8.0], [1.0, 2.0, 2.0])
    assert (found.medians, found.least, found.most) == (1.5, 1.5, 4.0)
    assert str(found) == "1.50 (1.50-4.00)"


def test_a_ratio_needs_rounds_and_as_many_of_both() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        ratio([], [])
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_a_dag_file_of_our_operators_costs_the_dag_processor_hardly_more_than_one_of_plain_ones() -> None:
    document = contract.planned(settings.load(REPOSITORY / "stacks" / "Pulumi.local.yaml"))
    figures = bench_parse.measure(document, OPERATORS, 3)
    for ours, stock in bench_parse.AGAINST.items():
        assert 0 < min(figures[ours]) < BOUND * min(figures[stock]), figures
