"""Run in a worker's pod before it is ended: its workers' results go to others. Its time is the pod's grace period.

python dask_retire.py SCHEDULER-ADDRESS OWN-HOST
"""

from __future__ import annotations

import sys

from distributed import Client


def main() -> None:
    """Retire the workers of this pod."""
    scheduler, host = sys.argv[1:]
    with Client(scheduler, timeout=10) as client:
        mine = [address for address, worker in client.scheduler_info(-1)["workers"].items() if worker["host"] == host]
        client.retire_workers(mine, close_workers=True)


if __name__ == "__main__":
    main()
