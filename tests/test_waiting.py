"""Waiting gives what is waited for, and says at its limit what was not there."""

from __future__ import annotations

import pytest

from tests.waiting import wait_until


def test_what_the_condition_gives_is_returned_though_it_was_away_before() -> None:
    answers = iter([KeyError("away"), "", "here"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_until(ask, 10, "it is here", away=(KeyError,), look=0) == "here"


def test_at_the_limit_it_says_what_was_waited_for_and_the_last_error() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: a machine comes; the last error: division by zero"):
        wait_until(lambda: 1 / 0, 0, "a machine comes", away=(ZeroDivisionError,), look=0)
    with pytest.raises(AssertionError, match=r"not within 0 s: no answer$"):
        wait_until(lambda: False, 0, lambda: "no answer", look=0)


def test_an_error_that_is_not_expected_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, 10, "a machine comes")
