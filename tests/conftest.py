"""What all tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def event_loop_of_session() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all tests that run Pulumi programs."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def event_loop_for_pulumi(event_loop_of_session: asyncio.AbstractEventLoop) -> None:
    """Pulumi's runtime takes the thread's event loop; `asyncio.run` in an earlier test leaves none behind."""
    asyncio.set_event_loop(event_loop_of_session)
