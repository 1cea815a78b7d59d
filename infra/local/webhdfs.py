"""HDFS for this host's Python: WebHDFS and the servers' figures, through the API server's proxy.

No JVM has to start for it, and nothing outside of the API server's address is dialled.
"""

from __future__ import annotations

import contextlib
import json
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

import kubernetes
from urllib3.exceptions import HTTPError

from infra import naming
from infra.local.errors import LocalError
from infra.services.hdfs_config import DATANODE_PORTS, NAMENODE, NAMENODE_PORTS, USER

_SECONDS = 60.0


class HdfsError(LocalError):
    """HDFS did not do something; the message has its reason."""


class NotThereError(HdfsError):
    """The NameNode does not answer yet, or does not know the path."""


class WebHdfs:
    """The file system of the one NameNode, as HDFS's superuser or another user."""

    def __init__(self, client: kubernetes.client.ApiClient, user: str = USER) -> None:
        self._pool = client.rest_client.pool_manager
        self._pods = f"{client.configuration.host}/api/v1/namespaces/{naming.PLATFORM_NAMESPACE}/pods"
        self._user = user

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at this path."""
        try:
            self._namenode("GET", path, "GETFILESTATUS")
        except NotThereError:
            return False
        return True

    def names(self, path: str) -> list[str]:
        """What is in a folder. Raises NotThereError."""
        listed = self._namenode("GET", path, "LISTSTATUS")["FileStatuses"]["FileStatus"]
        return sorted(each["pathSuffix"] for each in listed)

    def make_folder(self, path: str) -> None:
        """Make a folder and what is missing above it."""
        self._namenode("PUT", path, "MKDIRS", permission="755")

    def write(self, path: str, content: bytes | IO[bytes]) -> None:
        """Write a file, over one that is there."""
        where = self._namenode("PUT", path, "CREATE", overwrite="true", permission="644", noredirect="true")
        self._datanode("PUT", where["Location"], content)

    def read(self, path: str) -> bytes:
        """A file's content. Raises NotThereError."""
        where = self._namenode("GET", path, "OPEN", noredirect="true")
        return self._datanode("GET", where["Location"])

    def rename(self, path: str, target: str) -> None:
        """Move a file or folder to a path where there is nothing. Raises HdfsError."""
        if not self._namenode("PUT", path, "RENAME", destination=target)["boolean"]:
            raise HdfsError(f"{path} was not renamed to {target}, which may be there already")

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with all that is in it; nothing to delete is no error."""
        self._namenode("DELETE", path, "DELETE", recursive="true")

    def figures(self, bean: str) -> dict[str, Any]:
        """The NameNode's own figures, such as NameNodeInfo. Raises NotThereError while it does not answer."""
        query = urlencode({"qry": f"Hadoop:service=NameNode,name={bean}"}, safe=":=,")
        answer = self._ask("GET", f"{NAMENODE}-0", NAMENODE_PORTS["http"], f"/jmx?{query}")
        beans: list[dict[str, Any]] = json.loads(answer)["beans"]
        if not beans:
            raise NotThereError(f"the NameNode has no figures {bean} yet")
        return beans[0]

    def _namenode(self, method: str, path: str, operation: str, **parameters: str) -> dict[str, Any]:
        query = urlencode({"op": operation, "user.name": self._user, **parameters})
        answer = self._ask(method, f"{NAMENODE}-0", NAMENODE_PORTS["http"], f"/webhdfs/v1{quote(path)}?{query}")
        told: dict[str, Any] = json.loads(answer or b"{}")
        return told

    def _datanode(self, method: str, location: str, content: bytes | IO[bytes] | None = None) -> bytes:
        """The NameNode names a DataNode's pod by its DNS name."""
        where = urlsplit(location)
        pod = (where.hostname or "").split(".")[0]
        return self._ask(method, pod, DATANODE_PORTS["http"], f"{where.path}?{where.query}", content)

    def _ask(self, method: str, pod: str, port: int, path: str, content: bytes | IO[bytes] | None = None) -> bytes:
        url = f"{self._pods}/{pod}:{port}/proxy{path}"
        headers = {"Content-Type": "application/octet-stream"}
        try:
            answer = self._pool.request(method, url, body=content, headers=headers, timeout=_SECONDS, redirect=False)
        except HTTPError as error:
            raise NotThereError(f"{pod} does not answer: {error}") from error
        if answer.status in (404, 503):  # no such path; no such pod, or it does not listen
            raise NotThereError(f"{pod}: {_reason(answer.data)}")
        if answer.status not in (200, 201):
            raise HdfsError(f"{pod} says {answer.status}: {_reason(answer.data)}")
        return bytes(answer.data)


def _reason(body: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(body)
        return str(told["RemoteException"]["message"] if "RemoteException" in told else told["message"])
    return body.decode(errors="replace")[:200]
