"""`tidepool hdfs …`: HDFS's own tools, run in the NameNode's pod of the cluster that the kubeconfig names."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Annotated

import kubernetes
import typer
from urllib3.exceptions import HTTPError

from infra.cli import hdfs_restore
from infra.cli.namenode import HdfsCommandError, NameNode
from infra.cli.options import ContextOption
from infra.cli.told import told
from infra.services.hdfs_config import DATANODE, host

app = typer.Typer(
    help="Look after HDFS: its own tools, run in the NameNode's pod.", no_args_is_help=True, rich_markup_mode=None
)

KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig", metavar="FILE", help="Of the cluster; else $KUBECONFIG, else ~/.kube/config.", exists=True
    ),
]
_POLL_SECONDS = 5.0
_EXCLUDED = "/data/excluded"


@app.command()
def report(kubeconfig: KubeconfigOption = None, context: ContextOption = None) -> None:
    """Show capacity, replication, and each DataNode's state (hdfs dfsadmin -report).

    \b
    Examples:
      tidepool hdfs report
    """
    _tool(kubeconfig, context, "hdfs", "dfsadmin", "-report")


@app.command()
def fsck(
    path: Annotated[str, typer.Argument(help="Where to begin.")] = "/",
    files: Annotated[bool, typer.Option("--files", help="Each file with its blocks and where they are.")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Check every file for missing, corrupt and under-replicated blocks. Exits with 1 if a file is not whole.

    \b
    Examples:
      tidepool hdfs fsck
      tidepool hdfs fsck /lake/raw --files
    """
    _tool(kubeconfig, context, "hdfs", "fsck", path, *(("-files", "-blocks", "-locations") if files else ()))


@app.command()
def balancer(
    threshold: Annotated[int, typer.Option(help="How many percent of its disk a DataNode may be off the mean.")] = 10,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Move blocks until all DataNodes are about equally full, such as after one was added.

    \b
    Examples:
      tidepool hdfs balancer
      tidepool hdfs balancer --threshold 5
    """
    _tool(kubeconfig, context, "hdfs", "balancer", "-threshold", str(threshold))


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def dfs(
    arguments: Annotated[list[str], typer.Argument(help="Of `hdfs dfs`.")],
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Look at files and change them, as HDFS's superuser (hdfs dfs …).

    \b
    Examples:
      tidepool hdfs dfs -ls /lake
      tidepool hdfs dfs -du -h /
    """
    _tool(kubeconfig, context, "hdfs", "dfs", *arguments)


@app.command()
def decommission(
    datanode: Annotated[str, typer.Argument(help=f"The pod, such as {DATANODE}-2.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take it into service again.")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Copy a DataNode's blocks to the others and wait for it, so that it can be taken away.

    Before fewer DataNodes are deployed: the highest number goes first. Afterwards deploy, then undo it: the number may
    come back one day.

    \b
    Examples:
      tidepool hdfs decommission hdfs-datanode-2
      tidepool hdfs decommission hdfs-datanode-2 --undo
    """
    with told("hdfs decommission"):
        namenode = NameNode(kubeconfig, context)
        states = namenode.datanodes()
        ordinal = datanode.removeprefix(f"{DATANODE}-")
        if not ordinal.isdigit() or (datanode not in states and not undo):
            raise HdfsCommandError(f"no DataNode {datanode!r} is live; there are {', '.join(sorted(states))}")
        wanted = int(namenode.must("hdfs", "getconf", "-confKey", "dfs.replication"))
        left = [name for name, state in states.items() if state == "In Service" and name != datanode]
        if not undo and len(left) < wanted:
            raise HdfsCommandError(
                f"{len(left)} DataNodes would be left for {wanted} replicas of each block: it would never end. Add one "
                "first, or lower tidepool:hdfs.replication"
            )
        change = f"sed -i '/^{host(DATANODE, int(ordinal))}$/d' {_EXCLUDED}"
        if not undo:
            change += f" && echo {host(DATANODE, int(ordinal))} >>{_EXCLUDED}"
        for pod in namenode.pods:
            namenode.must("sh", "-c", change, pod=pod)
        namenode.must("hdfs", "dfsadmin", "-refreshNodes")
        state = ""
        while state not in ("Decommissioned", "In Service") or (state == "In Service") != undo:
            if (now := namenode.datanodes().get(datanode, "not there")) != state:
                state = now
                typer.echo(f"{datanode}: {state}")
            if undo and state == "not there":
                break
            time.sleep(_POLL_SECONDS)


@app.command("save-metadata")
def save_metadata(
    file: Annotated[Path, typer.Argument(help="Where to write it: a tar file.", dir_okay=False)],
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Save the NameNode's metadata, without which the blocks are worth nothing. HDFS is read-only for those seconds.

    Put it where the cluster's disks are not; restore-metadata puts it back.

    \b
    Examples:
      tidepool hdfs save-metadata hdfs-2026-11-23.tar
    """
    with told("hdfs save-metadata"):
        text = NameNode(kubeconfig, context).must("bash", "-o", "pipefail", "-c", "hdfs-metadata | base64")
        content = base64.b64decode(text)
        file.write_bytes(content)
        typer.echo(f"{file}: {len(content):,} bytes")


@app.command("restore-metadata")
def restore_metadata(
    file: Annotated[Path, typer.Argument(help="What save-metadata wrote.", exists=True, dir_okay=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Put saved metadata back: the NameNode is stopped and started. What was written to HDFS since then is lost.

    The metadata that was there stays on the volume, as name.<time>. With high availability both NameNodes are stopped,
    and all JournalNodes, which begin a new journal, must run.

    \b
    Examples:
      tidepool hdfs restore-metadata hdfs-2026-11-23.tar
    """
    if not yes:
        typer.confirm("Files that were written since this was saved are lost. Go on?", abort=True)
    with told("hdfs restore-metadata"):
        try:
            kubernetes.config.load_kube_config(str(kubeconfig) if kubeconfig else None, context)
            count = hdfs_restore.restore(file, kubernetes.client.ApiClient(), typer.echo)
            hdfs_restore.leave_safe_mode(lambda: NameNode(kubeconfig, context), count)
            typer.echo("DataNodes delete the blocks that no file has")
            hdfs_restore.drop_lost_blocks(NameNode(kubeconfig, context))
        except (kubernetes.config.ConfigException, kubernetes.client.ApiException, HTTPError) as error:
            raise HdfsCommandError(f"the cluster did not do it: {error}") from error


def _tool(kubeconfig: Path | None, context: str | None, *command: str) -> None:
    with told("hdfs"):
        code, _ = NameNode(kubeconfig, context).run(*command)
    raise typer.Exit(code)
