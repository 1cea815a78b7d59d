"""`tidepool jobs`: which jobs take long, which waste, what to change, and the changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from infra.cli import jobs_view, ledgers, moments, stacks
from infra.cli.ledgers import DatabaseOption, EventsOption, LedgerError
from infra.cli.options import ContextOption, JsonOption, SinceOption, StackOption
from infra.cli.overrides import KubeconfigOption, Overrides
from infra.cli.told import told
from infra.settings.strict import near
from tidepool import overrides
from tidepool.capacity import Capacity
from tidepool.history import Sums, TaskRun, runs
from tidepool.ledger import history
from tidepool.ledger.history import Order
from tidepool.ledger.store import Store
from tidepool.report import tasks
from tidepool.report.tasks import Slow, Waste

app = typer.Typer(
    help="Which jobs take long, which waste, and what to change.", no_args_is_help=True, rich_markup_mode=None
)

DagOption = Annotated[str, typer.Option("--dag", metavar="DAG", help="Only of this DAG.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most jobs.")]
Row = TypeVar("Row", Slow, Waste)


@app.command()
def slow(
    since: SinceOption = "30d",
    dag: DagOption = "",
    limit: LimitOption = 20,
    file: EventsOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the jobs that took most time, with how that moves.

    Half of a job's runs took no longer than P50 and nine of ten no longer than P90, from when the first pod was asked
    for: with the wait for a machine and all attempts. The trend compares the later half of the runs with the earlier.
    Of a job with more than 500 pods these, and the longest, are of its last ones; all else is of all.

    \b
    Examples:
      tidepool jobs slow
      tidepool jobs slow --since 7d --dag flights_daily
      tidepool jobs slow --json
    """
    with told("jobs slow"):
        now, begin = _period(since)
        with ledgers.opened(file, database) as store:
            rows = [tasks.slow(*each) for each in _runs(store, "seconds", begin, now, limit, dag)]
            empty = ledgers.why_empty(store, file, database)
    _print(rows, jobs_view.slow, empty or _none(begin, now, dag), as_json)


@app.command()
def waste(
    since: SinceOption = "30d",
    dag: DagOption = "",
    limit: LimitOption = 20,
    stack: StackOption = "local",
    file: EventsOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the jobs that cost most for nothing, and what to change.

    Lost is what attempts cost that failed; unused, what good ones held of their machines and did not use: of CPU or
    memory, whichever they used more of. What to change follows from the last 20 runs: the memory's p99 with a fifth of
    headroom, the cores that were busy, and the machines and prices of the stack. What was used, and what to change, is
    of the last 500 pods where a job had more; money and attempts are of all.

    \b
    Examples:
      tidepool jobs waste
      tidepool jobs waste --since 7d --stack prod --database postgresql+psycopg://keeper@db/tidepool
      tidepool jobs waste --json
    """
    with told("jobs waste"):
        now, begin = _period(since)
        rows, empty = _wasteful(file, database, stack, begin, now, limit, dag)
    _print(rows, jobs_view.waste, empty or _none(begin, now, dag), as_json)


@app.command("right-size")
def right_size(
    dag: Annotated[str, typer.Argument(metavar="DAG", help="The DAG's id.")],
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="The task's id; without it all tasks of the DAG.")] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Write it: the next attempts have that size.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it back: the author's size again.")] = False,
    since: SinceOption = "30d",
    stack: StackOption = "local",
    file: EventsOption = None,
    database: DatabaseOption = "",
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the size that a DAG's jobs should have, and with --apply give it to them, without a change of the DAG file.

    An override is kept in the ConfigMap tidepool-overrides of the team's namespace; the log of each attempt says that
    it holds. It is rolled back by the first attempt that runs out of memory, and no longer holds once the author asks
    for another size. Spot, and sharing a machine, are for the author to allow: they are shown, and never applied.

    \b
    Examples:
      tidepool jobs right-size flights_daily
      tidepool jobs right-size flights_daily clean --apply
      tidepool jobs right-size flights_daily clean --remove
    """
    if apply and remove:
        raise typer.BadParameter("give one of --apply and --remove")
    with told("jobs right-size"):
        now, begin = _period(since)
        rows, empty = _wasteful(file, database, stack, begin, now, 1000, dag)
        found = [row for row in rows if task in ("", row.task)]
        if not found:
            known = sorted({row.task for row in rows})
            hint = f"{near(task, known)}; its jobs are {', '.join(known)}" if known else ""
            which = f"{dag}.{task}" if task else dag
            raise LedgerError(empty or f"no job of {which} has ended since {moments.shown(begin)}{hint}")
        done = _write(Overrides(kubeconfig, context), found, remove) if apply or remove else {}
        if as_json:
            typer.echo(json.dumps([tasks.document(row) | {"done": done.get(row.task)} for row in found], indent=2))
        else:
            jobs_view.right_size(found, done, Console(highlight=False))


@app.command("overrides")
def list_overrides(
    stack: StackOption = "local",
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the sizes that jobs have instead of what their authors asked for, and those that were rolled back.

    \b
    Examples:
      tidepool jobs overrides
      tidepool jobs overrides --stack prod --kubeconfig ~/.kube/prod --json
    """
    with told("jobs overrides"):
        cluster = Overrides(kubeconfig, context)
        spaces = sorted({tenant.namespace for tenant in _capacity(stack).tenants.values()})
        found = [(space, each) for space in spaces for each in cluster.read(space)]
        if as_json:
            listed = [{"namespace": space, **json.loads(overrides.dump(each))} for space, each in found]
            typer.echo(json.dumps(listed, indent=2))
        elif found:
            jobs_view.overrides([each for _, each in found], Console(highlight=False))
        else:
            typer.echo(f"no job has an override in {', '.join(spaces)}", err=True)


def _write(cluster: Overrides, rows: Sequence[Waste], remove: bool) -> dict[str, str]:
    """Write or remove the overrides; what was done, by task."""
    done = {}
    known = {space: cluster.read(space) for space in {row.namespace for row in rows}}
    for row in rows:
        own = next((each for each in known[row.namespace] if (each.dag, each.task) == (row.dag, row.task)), None)
        wanted = next((each.override for each in row.advice if each.override is not None), None)
        if remove:
            if own is not None:
                cluster.remove(row.namespace, row.dag, row.task)
                done[row.task] = f"removed: {own.words}"
        elif own is not None and own.rolled_back:
            done[row.task] = f"nothing, as {own.words} was rolled back ({own.rolled_back}); --remove it to try again"
        elif wanted is not None:
            made = overrides.rebased(wanted, own)
            cluster.write(row.namespace, made)
            done[row.task] = f"written: {made.words}"
    return done


def _wasteful(
    file: Path | None, database: str, stack: str, begin: float, now: float, limit: int, dag: str
) -> tuple[list[Waste], str]:
    """The most wasteful jobs, and why the ledger has none of any time."""
    capacity = _capacity(stack)
    with ledgers.opened(file, database) as store:
        found = _runs(store, "waste", begin, now, limit, dag)
        rows = [tasks.waste(last, capacity, now, sums) for last, sums in found]
        return rows, ledgers.why_empty(store, file, database)


def _runs(
    store: Store, order: Order, begin: float, now: float, limit: int, dag: str
) -> Iterator[tuple[list[TaskRun], Sums]]:
    """The last runs of each of the heaviest tasks, and the sums of all."""
    for task in history.heaviest(store, order, begin, now, limit, dag):
        if found := runs(history.pods(store, task, begin, now)).get(task):
            yield found, history.sums(store, task, begin, now)


def _capacity(stack: str) -> Capacity:
    return stacks.planned(stack)


def _period(since: str) -> tuple[float, float]:
    now = time.time()
    return now, moments.parse(since, now, "--since")


def _print(rows: list[Row], show: Callable[[Sequence[Row], Console], None], none: str, as_json: bool) -> None:
    """The rows; none: what is said where there are none."""
    if not rows:
        typer.echo(none, err=True)
    if as_json:
        typer.echo(json.dumps([tasks.document(row) for row in rows], indent=2))
    elif rows:
        show(rows, Console(highlight=False))


def _none(begin: float, now: float, dag: str) -> str:
    whose = f"no job of {dag}" if dag else "no job"
    return f"{whose} has ended between {moments.shown(begin)} and {moments.shown(now)}"
