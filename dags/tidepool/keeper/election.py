"""One keeper at a time: whoever holds a Lease of Kubernetes and renews it.

Times of others' clocks are never compared: a Lease counts as abandoned once it has not changed for as long as it is
good for while it was looked at.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes.client import ApiException, CoordinationV1Api
from urllib3.exceptions import HTTPError

_log = logging.getLogger("tidepool.election")

LEASE_SECONDS = 15
RENEW_SECONDS = 10.0
"""After so long without a renewal it leads no more; before anybody else can."""

STEP_SECONDS = 2.0
_REQUEST_SECONDS = (2, 3)


class Election:
    """One candidate. identity: unlike any other process's. clock: monotonic seconds."""

    def __init__(
        self,
        api: CoordinationV1Api,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._renewed: float | None = None
        self._seen: tuple[object, ...] | None = None
        self._seen_at = 0.0

    def leads(self) -> bool:
        """Whether it does at this moment."""
        return self._renewed is not None and self._clock() - self._renewed < RENEW_SECONDS

    def step(self) -> bool:
        """Renew the Lease, or try to get it; whether it leads. To be called every STEP_SECONDS."""
        began = self._clock()
        try:
            # From before the request on: its answer may have taken long.
            self._renewed = began if self._hold() else None
        except (ApiException, HTTPError, OSError) as error:
            _log.warning("the Lease %s/%s can't be renewed: %s", self._namespace, self._name, _reason(error))
        return self.leads()

    def release(self) -> None:
        """Give the Lease up, so that the next need not wait."""
        if not self.leads():
            return
        self._renewed = None
        try:
            lease = self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                self._replace(lease)
        except (ApiException, HTTPError, OSError) as error:
            _log.info("the Lease %s/%s stays until it ends: %s", self._namespace, self._name, _reason(error))

    def _hold(self) -> bool:
        """Whether the Lease is this one's now. What somebody else did at the same time wins (409)."""
        lease = self._read()
        try:
            if lease is None:
                body = {"metadata": {"name": self._name}, "spec": self._spec({})}
                self._api.create_namespaced_lease(self._namespace, body, _request_timeout=_REQUEST_SECONDS)
                return True
            spec = lease.get("spec") or {}
            holder = spec.get("holderIdentity") or ""
            if holder not in ("", self._identity) and not self._is_abandoned(spec):
                return False
            lease["spec"] = self._spec(spec)
            self._replace(lease)
        except ApiException as error:
            if error.status == 409:
                return False
            raise
        if holder != self._identity:
            _log.info("this keeper is the active one now%s", f"; before it was {holder}" if holder else "")
        return True

    def _is_abandoned(self, spec: dict[str, Any]) -> bool:
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        return self._clock() - self._seen_at >= max(LEASE_SECONDS, int(spec.get("leaseDurationSeconds") or 0))

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        is_new = before.get("holderIdentity") != self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": now if is_new else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + is_new,
        }

    def _read(self) -> dict[str, Any] | None:
        try:
            answer = self._api.read_namespaced_lease(
                self._name, self._namespace, _preload_content=False, _request_timeout=_REQUEST_SECONDS
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def _replace(self, lease: dict[str, Any]) -> None:
        """With the resourceVersion that was read: only if nobody else has changed it since."""
        self._api.replace_namespaced_lease(
            self._name, self._namespace, lease, _preload_content=False, _request_timeout=_REQUEST_SECONDS
        )


def _reason(error: Exception) -> str:
    return f"{error.status} {error.reason}" if isinstance(error, ApiException) else str(error) or type(error).__name__
