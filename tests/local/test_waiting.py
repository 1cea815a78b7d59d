from __future__ import annotations

import time

import pytest

from infra.local import waiting


def test_it_returns_at_the_first_look_that_finds_the_condition_true() -> None:
    looks = iter([False, False, True, False])
    waiting.until(lambda: next(looks), 60, TimeoutError("too late"), 0)
    assert next(looks) is False


def test_past_the_limit_the_failure_is_raised_after_one_look_at_least() -> None:
    waiting.until(lambda: True, 0, TimeoutError("too late"))
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="too late"):
        waiting.until(lambda: False, 0.05, TimeoutError("too late"), 0.01)
    assert time.monotonic() - begun > 0.05
