"""One DAG run from its start to the last machine given back, shown while it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live

from infra.cli import view
from infra.cli.view import Board, MachineNow
from infra.local.airflow_api import AirflowApi, AirflowApiError, TaskState
from tidepool.ledger.events import Event
from tidepool.ledger.tail import Tail

DAG_SEEN_SECONDS = 60.0
RUN_SECONDS = 3600.0
DRAIN_SECONDS = 180.0
_LOOK_SECONDS = 0.25
_ASK_SECONDS = 1.0
_LOG_LINES = 15


@dataclass(frozen=True)
class Finished:
    """A DAG run that is over. started: Unix seconds; left: machines of the pools for jobs that are still there."""

    dag: str
    run: str
    state: str
    started: float
    tasks: tuple[TaskState, ...]
    left: tuple[MachineNow, ...]

    @property
    def succeeded(self) -> bool:
        """All jobs did well and every machine was given back."""
        return self.state == "success" and not self.left


class Screen:
    """Machines and jobs as they change: two tables on a terminal, a line for every change elsewhere."""

    def __init__(self, events: Path, console: Console, since: float) -> None:
        self._tail = Tail(events)
        self._events: list[Event] = []
        self._console = console
        self._since = since
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.board = Board()

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tail.close()
        if self._live:
            self._live.stop()

    def look(self) -> Board:
        """Take in what happened since the last look, and show it."""
        self._events += self._tail.new()
        board = self._recent(view.board(self._events))
        if self._live:
            self._live.update(view.tables(board, time.time()), refresh=True)
        else:
            for moment, sentence in view.changes(self.board, board):
                self._console.print(f"{moment - self._since:7.1f} s  {sentence}", markup=False, highlight=False)
        self.board = board
        return board

    def _recent(self, board: Board) -> Board:
        """Without what was over before this screen's time."""
        return Board(
            tuple(one for one in board.machines if one.state != "gone" or one.since >= self._since),
            tuple(one for one in board.jobs if one.state != "done" or one.since >= self._since),
        )


def execute(api: AirflowApi, dag: str, events: Path, pools: Sequence[str], console: Console) -> Finished:
    """Start the DAG, follow it to its end, wait until the machines of `pools` are given back.

    Raises AirflowApiError if the DAG can't be started or its run is not over after RUN_SECONDS.
    """
    api.wait_dag(dag, DAG_SEEN_SECONDS)
    started = time.time()
    run = api.trigger(dag)
    with Screen(events, console, started) as screen:
        state = _until_over(lambda: api.state(dag, run), screen)
        if state not in ("success", "failed"):
            raise AirflowApiError(
                f"run {run} of {dag} is {state} after {RUN_SECONDS:.0f} s; it goes on without a watch"
            )
        left = _until_drained(screen, pools)
    return Finished(dag, run, state, started, tuple(api.tasks(dag, run)), tuple(left))


def explain_failures(api: AirflowApi, finished: Finished, console: Console) -> None:
    """Print the last lines of the log of each task that failed, and the machines that are left."""
    for task in finished.tasks:
        if task.state == "failed":
            console.print(f"\ntask {task.task} failed at try {task.attempt}; the end of its log:", markup=False)
            for line in api.log(finished.dag, finished.run, task.task, task.attempt)[-_LOG_LINES:]:
                console.print(f"  {line}", markup=False, highlight=False)
    for machine in finished.left:
        console.print(
            f"machine {machine.id} of {machine.pool} is still {machine.state} after {DRAIN_SECONDS:.0f} s: "
            "`tidepool local logs` tells what the autoscaler did",
            markup=False,
        )


def _until_over(state: Callable[[], str], screen: Screen) -> str:
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        asked = time.monotonic()
        now = state()
        if now in ("success", "failed") or asked > deadline:
            screen.look()
            return now
        while time.monotonic() < asked + _ASK_SECONDS:
            screen.look()
            time.sleep(_LOOK_SECONDS)


def _until_drained(screen: Screen, pools: Sequence[str]) -> list[MachineNow]:
    deadline = time.monotonic() + DRAIN_SECONDS
    while left := screen.look().left(pools):
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_SECONDS)
    return left
