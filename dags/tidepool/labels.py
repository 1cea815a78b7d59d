"""The labels and annotations of a job's pod by which its task and the keeper understand each other, and their times.

Whoever writes one and whoever reads it take its name from here. The pool's and the team's label are the capacity
document's; what one module alone writes and reads is named there.
"""

from __future__ import annotations

from datetime import UTC, datetime

from tidepool.capacity import LABEL_PREFIX, TEAM_LABEL

OWNER_DAG = LABEL_PREFIX + "owner-dag"
OWNER_TASK = LABEL_PREFIX + "owner-task"
OWNER_RUN = LABEL_PREFIX + "owner-run"
ATTEMPT = LABEL_PREFIX + "attempt"

OWNER_NAMES = (OWNER_DAG, OWNER_TASK, OWNER_RUN, ATTEMPT, TEAM_LABEL)
"""Labels and annotations that every pod of a job has: whose it is."""

LEASE = LABEL_PREFIX + "lease"
"""Annotation: RFC 3339, until when the pod has an owner."""

LEASE_SECONDS = 900.0
"""For how long a worker renews its pod's lease; a longer one is of a deferred task, which nobody renews.

Longer than Airflow takes to find a dead worker (300 s) and to start the attempt that takes its pod over."""

RENEW_SECONDS = 120.0
"""How often."""

HOLDER = LABEL_PREFIX + "holder"
"""Annotation: the attempt that took the pod over from the one that made it."""

DEADLINE = LABEL_PREFIX + "deadline"
"""Annotation of a main pod: RFC 3339, when its task must be done."""


def utc(moment: float) -> str:
    """Unix seconds as RFC 3339, cut off to whole seconds as Kubernetes' own times."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
