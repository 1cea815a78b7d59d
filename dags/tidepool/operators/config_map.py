"""One ConfigMap of a team's namespace, read and changed by many at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from tidepool.operators.pod_manager import CONFLICT_STATUS, GONE_STATUS

TIMEOUT = (3, 5)
WRITES = 20
"""So often it is tried to write where others write at the same time."""

LONGEST_PAUSE_SECONDS = 1.0
"""Between two tries, of random length: who tries again at once meets the same others again."""


class MissingError(Exception):
    """There is no such ConfigMap: the program that makes it was not deployed."""


class SharedMap:
    """The data of one ConfigMap."""

    def __init__(self, api: CoreV1Api, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name

    def read(self) -> dict[str, str]:
        """Its data. Raises MissingError, and whatever the client raises."""
        return self._read()[0]

    def change(self, change: Callable[[dict[str, str]], Mapping[str, str] | None]) -> None:
        """Put what `change` makes of its data in its place, if nobody changed it meanwhile; else again with what it is.

        change: None to leave it. Raises MissingError, whatever `change` and the client raise, and ApiException
        (conflict) where others were faster every time.
        """
        for tried in range(1, WRITES + 1):
            data, version = self._read()
            changed = change(dict(data))
            if changed is None or dict(changed) == data:
                return
            patch = {key: changed.get(key) for key in {*data, *changed} if data.get(key) != changed.get(key)}
            # With the version that was read: who wrote in between makes it a conflict.
            body = {"metadata": {"resourceVersion": version}, "data": patch}
            try:
                self._api.patch_namespaced_config_map(self._name, self._namespace, body, _request_timeout=TIMEOUT)
                return
            except ApiException as error:
                if error.status != CONFLICT_STATUS or tried == WRITES:
                    raise
            time.sleep(random.uniform(0, min(LONGEST_PAUSE_SECONDS, 0.05 * 2**tried)))  # noqa: S311 - no secret

    def _read(self) -> tuple[dict[str, str], str]:
        try:
            found = self._api.read_namespaced_config_map(self._name, self._namespace, _request_timeout=TIMEOUT)
        except ApiException as error:
            if error.status == GONE_STATUS:
                raise MissingError(f"there is no ConfigMap {self._namespace}/{self._name}") from error
            raise
        return dict(found.data or {}), str(found.metadata.resource_version)
