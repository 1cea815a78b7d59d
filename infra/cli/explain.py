"""`tidepool explain`: how a task came to its machine, its memory and its price."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.cli import dag_pods, stacks
from infra.cli.options import DagsOption, JsonOption, StackOption
from infra.cli.overrides import ClusterError, KubeconfigOption, Overrides
from infra.cli.told import CommandError, told
from infra.local import cloud
from infra.local.paths import REPOSITORY
from infra.settings.strict import near
from tidepool import capacity, overrides
from tidepool import explain as words
from tidepool.capacity import Capacity

OVERRIDES_VARIABLE = "TIDEPOOL_OVERRIDES"  # as tidepool.operators.explanation, which imports Airflow


class ExplainError(CommandError):
    """There is no such job; the message says what there is."""


def explain(
    dag: Annotated[str, typer.Argument(metavar="DAG", help="The DAG's id.")],
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id, with those of its task groups.")],
    stack: StackOption = "local",
    dags: DagsOption = REPOSITORY / "dags",
    kubeconfig: KubeconfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain where a task of a DAG runs in an environment, and how large its pod is, with all arithmetic.

    Shows the pools that it fits, and why not the others; CPU; how its memory is shared out; the ladder of its attempts;
    how often it is retried after what; what its deadline is reckoned with; and its price. Imports the DAG files as
    Airflow does. Needs no cluster and no credentials; with --kubeconfig, or for the local cloud while it is up, the
    task's override (tidepool jobs right-size) counts. The log of each attempt begins with the same lines.

    \b
    Examples:
      tidepool explain flights_daily clean
      tidepool explain flights_daily clean --stack prod
      tidepool explain flights_daily clean --json
    """
    document = stacks.planned(stack)
    with told("explain"):
        found = figures(document, dags, dag, task, _overridden(document, kubeconfig, stack))
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(words.lines(found)))


def kept(document: Capacity, kubeconfig: Path | None) -> dict[str, dict[str, str]]:
    """The overrides of the teams' namespaces in a cluster, as they are kept there. Raises ClusterError."""
    cluster = Overrides(kubeconfig)
    spaces = {tenant.namespace for tenant in document.tenants.values()}
    found = {space: cluster.read(space) for space in sorted(spaces)}
    return {
        space: {overrides.key(each.dag, each.task): overrides.dump(each) for each in own}
        for space, own in found.items()
    }


def _overridden(document: Capacity, kubeconfig: Path | None, stack: str) -> dict[str, dict[str, str]]:
    """The overrides of the cluster that was named, or of the local cloud while that is up."""
    if kubeconfig is not None:
        return kept(document, kubeconfig)
    if stack != "local" or not cloud.is_up():
        return {}
    try:
        return kept(document, None)
    except ClusterError as error:
        typer.echo(f"without overrides: {error}", err=True)
        return {}


def figures(
    document: Capacity, dags: Path, dag: str, task: str, overridden: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, Any]:
    """The figures of a task with a capacity document. overridden: as `kept`. Raises ExplainError and DagPodsError."""
    texts = {capacity.PATH_VARIABLE: capacity.dumps(document), OVERRIDES_VARIABLE: json.dumps(overridden or {})}
    answer = dag_pods.ask("tidepool.operators.explanation", dags, [dag, task], texts)
    if "error" in answer:
        raise ExplainError(_message(answer["error"], dag, task, dags))
    found: dict[str, Any] = answer["figures"]
    return found


def no_dag(error: dict[str, Any], dag: str, dags: Path) -> str:
    """That there is no such DAG, which there are, and which files could not be imported."""
    known = ", ".join(error["dags"]) or "none"
    told = f"there is no DAG {dag!r} in {dags}{near(dag, error['dags'])}; there are: {known}"
    failed = [f"  {file}: {message}" for file, message in sorted(error["files"].items())]
    return "\n".join([told, *(["files that Airflow cannot import:"] if failed else []), *failed])


def _message(error: dict[str, Any], dag: str, task: str, dags: Path) -> str:
    if error["what"] == "dag":
        return no_dag(error, dag, dags)
    known = ", ".join(error.get("tasks", ())) or "none"
    if error["what"] == "task":
        return f"DAG {dag!r} has no task {task!r}{near(task, error['tasks'])}; its tasks are: {known}"
    if error["what"] == "mapped":
        return f"task {task!r} of DAG {dag!r}: {error['message']}"
    return f"task {task!r} of DAG {dag!r} is not a job of tidepool's but a {error['kind']}; the DAG's jobs are: {known}"
