"""The files of a local cloud: what `up` makes and its clients read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.local import airflow, paths
from infra.local.errors import LocalError
from infra.local.supervisor import Supervisor
from tidepool import capacity


class CloudError(LocalError):
    """The local cloud can't do this; the message says why and what to do."""


@dataclass(frozen=True)
class Cloud:
    """A local cloud that is up: the files that its clients read."""

    state: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.state / "admin.kubeconfig"

    @property
    def airflow_kubeconfig(self) -> Path:
        """Of the service account that may launch jobs and nothing else."""
        return self.state / "airflow.kubeconfig"

    @property
    def capacity(self) -> Path:
        """The capacity document."""
        return self.state / "capacity.json"

    @property
    def cluster(self) -> str:
        """The cluster's name, which its Auto Scaling Groups carry."""
        return capacity.load(self.capacity).cluster

    @property
    def events(self) -> Path:
        """The ledger: what happened to machines and pods, a SQLite database."""
        return self.state / "ledger.db"

    @property
    def not_here(self) -> Path:
        """What of the stack can't be had on this machine, with the reasons."""
        return self.state / "not-here.json"

    @property
    def supervisor(self) -> Supervisor:
        """Runs the processes."""
        return Supervisor(self.state / "supervisor", paths.RUN / "supervisor.sock", self.state / "log")

    def start_airflow(self, dags: Path = paths.REPOSITORY / "dags") -> None:
        """Start Airflow on the DAG files of `dags`, if it does not run yet."""
        home = self.state / "airflow"
        airflow.prepare(home, dags, paths.cache())
        document = capacity.load(self.capacity)
        airflow.set_pools(home, document)
        namespace = document.tenants[document.default_tenant].namespace
        parts = airflow.programs(home, self.capacity, self.airflow_kubeconfig, namespace)
        self.supervisor.start(parts)
