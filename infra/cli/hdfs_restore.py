"""`tidepool hdfs restore-metadata`: what save-metadata saved, put back on the NameNode's volume."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError

from infra import naming
from infra.cli.namenode import HdfsCommandError, NameNode
from infra.local.errors import LocalError
from infra.local.waiting import until
from infra.services.hdfs_config import HIGH_AVAILABILITY, NAMENODE, NAMENODES

POD = "hdfs-restore"
NEW_JOURNAL = "hdfs namenode -initializeSharedEdits -force -nonInteractive"
_SECONDS = 300.0
_CHUNK = 64 * 1024


class RestoreError(LocalError):
    """Metadata can't be restored; the message says why, and in what state HDFS is left."""


def restore(file: Path, api: kubernetes.client.ApiClient, say: Callable[[str], None]) -> int:
    """Stop the NameNode, replace its metadata by the tar file's, and start it. What was there is kept beside it.

    With high availability both NameNodes, and the JournalNodes begin a new journal; all of these must run. Returns how
    many NameNodes there are. What was written to HDFS since the file was saved is lost: blocks that no file has are
    deleted. Whatever fails in between, the NameNodes are started again.
    """
    core, apps = kubernetes.client.CoreV1Api(api), kubernetes.client.AppsV1Api(api)
    server = api.sanitize_for_serialization(apps.read_namespaced_stateful_set(NAMENODE, naming.PLATFORM_NAMESPACE))
    is_pair = _has_high_availability(server)
    count = NAMENODES if is_pair else 1
    content = _content(file)
    try:
        say("the NameNode stops")
        _scale(apps, 0)
        _wait(
            lambda: not any(_there(core, f"{NAMENODE}-{number}") for number in range(count)),
            "the NameNode's pod is gone",
        )
        # The first one last: until the journal is begun anew, it has what was there, and the other one follows it.
        for number in reversed(range(count)):
            _remove(core)  # of a restore that was ended, or of the NameNode before
            core.create_namespaced_pod(naming.PLATFORM_NAMESPACE, pod(server, number))
            _wait(lambda: _there(core, POD) == "Running", f"pod {POD} runs")
            say(f"{file} goes onto the volume of {NAMENODE}-{number}")
            _unpack(api, content, NEW_JOURNAL if is_pair and number == 0 else "true")
    finally:
        try:
            _remove(core)
        finally:
            # One that was stopped is started too: who restores wants a file system.
            _start(apps, server["spec"].get("replicas") or count)
    say("the NameNode starts")
    return count


def leave_safe_mode(connect: Callable[[], NameNode], count: int) -> None:
    """Wait until as many NameNodes take files. connect: to their pods, which may not be there yet.

    Blocks that are newer than the metadata keep them in safe mode, in case that the metadata was the wrong one.
    """

    def left() -> bool:
        try:
            namenode = connect()
            reasons = [namenode.safe_mode(each) for each in namenode.pods]
            if any("generation stamps in future" in reason for reason in reasons):
                namenode.must("hdfs", "dfsadmin", "-safemode", "forceExit")
        except HdfsCommandError:
            return False
        return len(reasons) >= count and not any(reasons)

    _wait(left, "the NameNode is out of safe mode")


def drop_lost_blocks(namenode: NameNode) -> None:
    """Wait until no DataNode keeps blocks that the metadata does not know.

    A NameNode that starts lets them be until the next full report, six hours later. Until then it gives their numbers
    to new blocks, and whoever writes those is refused (ReplicaAlreadyExistsException).
    """
    namenode.report_blocks()
    _wait(lambda: not namenode.unknown_blocks(), "DataNodes have deleted the blocks that no file has")


def pod(server: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """A pod with a NameNode's volume, container and rights that waits; `server`: the NameNode's StatefulSet."""
    spec = server["spec"]["template"]["spec"]
    container = next(each for each in spec["containers"] if each["name"] == "namenode")
    kept = ("nodeSelector", "tolerations", "securityContext", "serviceAccountName", "priorityClassName")
    own = ("image", "env", "resources", "securityContext", "volumeMounts")
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{NAMENODE}-{number}"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            **{key: spec[key] for key in kept if key in spec},
            "hostname": f"{NAMENODE}-{number}",  # the image's `hdfs` knows by it which one it is
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "namenode",
                    "args": ["sleep", "3600"],
                    **{key: container[key] for key in own if key in container},
                }
            ],
            "volumes": [*spec.get("volumes", []), claim],
        },
    }


def _has_high_availability(server: dict[str, Any]) -> bool:
    """As its pods are told; the number of replicas is 0 where a NameNode was stopped."""
    containers = server["spec"]["template"]["spec"]["containers"]
    variables = [variable for container in containers for variable in container.get("env", [])]
    return any(each["name"] == HIGH_AVAILABILITY and each.get("value") for each in variables)


def _content(file: Path) -> bytes:
    """What is in the file, looked into before anything is stopped."""
    content = file.read_bytes()
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            if "name/current/VERSION" in archive.getnames():
                return content
    except tarfile.TarError as error:
        raise RestoreError(f"{file} is not a tar file ({error}); nothing was touched") from error
    raise RestoreError(f"{file} has no name/current/VERSION, so save-metadata did not write it; nothing was touched")


def script(length: int, then: str) -> str:
    """Puts the metadata onto the volume, from a tar file in base64 on standard input. length: of the text.

    then: what is to be run with it; where that fails, what was there is put back.
    """
    return (
        "set -euo pipefail; rm -rf /data/restored; mkdir /data/restored; "
        f"head -c {length} | base64 -d | tar -x -C /data/restored; test -e /data/restored/name/current/VERSION; "
        'old="/data/name.$(date +%s)"; [[ ! -e /data/name ]] || mv /data/name "$old"; '
        "mv /data/restored/name /data/name; rmdir /data/restored; "
        f'{then} </dev/null || {{ rm -rf /data/name; [[ ! -e "$old" ]] || mv "$old" /data/name; exit 1; }}'
    )


def _unpack(api: kubernetes.client.ApiClient, content: bytes, then: str) -> None:
    """The stream has no end of input, so the length is told."""
    text = base64.b64encode(content).decode()
    session = stream(
        # A stream takes its client over, so that it is good for nothing else.
        kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(api.configuration)).connect_get_namespaced_pod_exec,
        POD,
        naming.PLATFORM_NAMESPACE,
        command=["bash", "-c", script(len(text), then)],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    for start in range(0, len(text), _CHUNK):
        session.write_stdin(text[start : start + _CHUNK])
    session.run_forever(timeout=_SECONDS)
    code = session.returncode  # before read_all, which forgets it
    words = session.read_all()
    if code != 0:
        raise RestoreError(f"the file was not unpacked, and the NameNode starts as it was: {words.strip()}")


def _scale(apps: kubernetes.client.AppsV1Api, replicas: int) -> None:
    apps.patch_namespaced_stateful_set_scale(NAMENODE, naming.PLATFORM_NAMESPACE, {"spec": {"replicas": replicas}})


def _start(apps: kubernetes.client.AppsV1Api, replicas: int) -> None:
    try:
        _scale(apps, replicas)
    except (kubernetes.client.ApiException, HTTPError) as error:
        raise RestoreError(
            f"the NameNode is stopped, and could not be started ({error}): `kubectl -n {naming.PLATFORM_NAMESPACE} "
            f"scale statefulset {NAMENODE} --replicas={replicas}`"
        ) from error


def _remove(core: kubernetes.client.CoreV1Api) -> None:
    """The pod with the NameNode's volume goes, if there is one."""
    try:
        core.delete_namespaced_pod(POD, naming.PLATFORM_NAMESPACE, grace_period_seconds=0)
    except kubernetes.client.ApiException as error:
        if error.status != 404:
            raise
    _wait(lambda: not _there(core, POD), f"pod {POD} is gone")


def _there(core: kubernetes.client.CoreV1Api, name: str) -> str:
    """The pod's phase; empty if there is none."""
    found = core.list_namespaced_pod(naming.PLATFORM_NAMESPACE, field_selector=f"metadata.name={name}").items
    return str(found[0].status.phase) if found else ""


def _wait(condition: Callable[[], object], what: str) -> None:
    late = RestoreError(f"not within {_SECONDS:.0f} s: {what}; `kubectl -n tidepool get pods` shows how it is")
    until(condition, _SECONDS, late, look_seconds=0.5)
