"""HDFS through the API server's proxy: what is asked of whom, and what an answer means."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from urllib3.exceptions import ProtocolError

from infra.local.status import hdfs_problems
from infra.local.webhdfs import HdfsError, NotThereError, WebHdfs

SERVER = "https://10.0.0.1:6443"
PODS = "/api/v1/namespaces/tidepool/pods"


class Answer:
    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.data = body if isinstance(body, bytes) else json.dumps(body).encode()


class Client:
    """A Kubernetes client whose pool gives the answers in turn, and keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), []
        self.configuration = type("", (), {"host": SERVER})
        self.rest_client = type("", (), {"pool_manager": self})

    def request(self, method: str, url: str, **more: Any) -> Any:
        self.asked.append((method, url, more["body"]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


LOCATION = "http://hdfs-datanode-1.hdfs-datanode.tidepool.svc.cluster.local:9864/webhdfs/v1/a%20b?op=X&offset=0"


def test_a_file_is_written_to_the_datanode_that_the_namenode_names() -> None:
    client = Client(Answer(200, {"Location": LOCATION}), Answer(201, b""))
    WebHdfs(client).write("/a b", b"content")
    (first, asked, nothing), (second, sent, content) = client.asked
    assert (first, second) == ("PUT", "PUT")
    assert urlsplit(asked).path == f"{PODS}/hdfs-namenode-0:9870/proxy/webhdfs/v1/a%20b"
    query = parse_qs(urlsplit(asked).query)
    assert (query["op"], query["user.name"], query["noredirect"]) == (["CREATE"], ["hdfs"], ["true"])
    assert sent == f"{SERVER}{PODS}/hdfs-datanode-1:9864/proxy/webhdfs/v1/a%20b?op=X&offset=0"
    assert (nothing, content) == (None, b"content")


def test_a_file_is_read_from_the_datanode() -> None:
    client = Client(Answer(200, {"Location": LOCATION}), Answer(200, b"content"))
    assert WebHdfs(client, user="spark").read("/a b") == b"content"
    assert "user.name=spark" in client.asked[0][1]


def test_what_is_not_there_is_no_other_error() -> None:
    told = {"RemoteException": {"exception": "FileNotFoundException", "message": "File does not exist: /a"}}
    with pytest.raises(NotThereError, match="File does not exist: /a"):
        WebHdfs(Client(Answer(404, told))).read("/a")
    assert WebHdfs(Client(Answer(404, told))).exists("/a") is False
    assert WebHdfs(Client(Answer(200, {"FileStatus": {}}))).exists("/a") is True


def test_what_was_refused_is_said_with_its_reason() -> None:
    told = {"RemoteException": {"exception": "SafeModeException", "message": "Name node is in safe mode."}}
    with pytest.raises(HdfsError, match="403: Name node is in safe mode"):
        WebHdfs(Client(Answer(403, told))).make_folder("/a")


@pytest.mark.parametrize("away", [Answer(503, b"no endpoints"), Answer(404, {"message": "pods not found"})])
def test_a_namenode_that_does_not_answer_yet_can_be_waited_for(away: Any) -> None:
    with pytest.raises(NotThereError):
        WebHdfs(Client(away)).figures("NameNodeInfo")
    with pytest.raises(NotThereError, match="does not answer"):
        WebHdfs(Client(ProtocolError("gone"))).figures("NameNodeInfo")
    with pytest.raises(NotThereError, match="no figures NameNodeInfo yet"):
        WebHdfs(Client(Answer(200, {"beans": []}))).figures("NameNodeInfo")


def test_a_folder_that_is_there_is_not_renamed_over() -> None:
    with pytest.raises(HdfsError, match="may be there already"):
        WebHdfs(Client(Answer(200, {"boolean": False}))).rename("/a", "/b")


def test_status_says_what_is_not_well_with_hdfs() -> None:
    well = {"FSState": "Operational", "NumLiveDataNodes": 2}, {"MissingBlocks": 0, "UnderReplicatedBlocks": 0}
    assert hdfs_problems(*well, replication=2) == []
    ill = {"FSState": "safeMode", "NumLiveDataNodes": 1}, {"MissingBlocks": 3, "UnderReplicatedBlocks": 4}
    safe_mode, live, missing, few = hdfs_problems(*ill, replication=2)
    assert "safe mode" in safe_mode
    assert live == "1 DataNodes are live, 2 replicas of each block are wanted"
    assert missing.startswith("3 blocks have no replica")
    assert few.startswith("4 blocks have too few")
