"""The image of a job kind, where its author names none."""

from __future__ import annotations

from tidepool.capacity import Capacity
from tidepool.job import JobError


def default_image(task: str, name: str, capacity: Capacity) -> str:
    """The environment's image for a kind of jobs, such as "dask". Raises JobError where it has none."""
    if name not in capacity.images:
        known = ", ".join(sorted(capacity.images)) or "none"
        raise JobError(f"task {task!r}: no image given, and the capacity document has no {name!r} ({known})")
    return capacity.images[name]
