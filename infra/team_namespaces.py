"""What every team's namespace says to a pod: its defaults, and the priorities that no team may use. Pure data.

The namespaces are made of it (infra/services/tenants.py), and the contract knows by it what they admit.
"""

from __future__ import annotations

from infra import naming

DEFAULT_REQUESTS = {"cpu": "100m", "memory": "512Mi", "ephemeral-storage": "1Gi"}
DEFAULT_LIMITS = {"memory": "512Mi"}
"""For containers that say nothing, such as sidecars. CPU and disk have no limit: a job has its machine to itself."""

SERVICES_PRIORITY_CLASSES = (naming.PLATFORM_PRIORITY_CLASS, "system-cluster-critical", "system-node-critical")
"""What would put out the platform's own pods."""
