"""`python -m infra.local.airflow_process scheduler …`: one part of Airflow as a process that takes its children along.

In a container everything ends with its first process. On the host the scheduler's workers would outlive a killed
scheduler and go on as a second owner of its tasks; so each child asks the kernel to be killed when its parent is gone.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import runpy
import signal
import sys

PRELOADED = ("airflow.providers.cncf.kubernetes.operators.pod",)
"""What the DAG processor imports before it forks. It does so by itself for what a DAG file imports of Airflow's, but
our files name only `tidepool`: each parse of each file would begin with most of a second of this import."""

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Run Airflow's command line with the arguments of this process."""
    os.register_at_fork(after_in_child=_die_with_parent)
    # Airflow's imports make millions of objects that all stay: a fifth of its start would be collecting none of them.
    gc.set_threshold(50_000, 50, 50)
    if sys.argv[1:2] == ["dag-processor"]:
        for module in PRELOADED:
            importlib.import_module(module)
    runpy.run_module("airflow", run_name="__main__")


if __name__ == "__main__":
    main()
