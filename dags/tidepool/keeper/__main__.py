"""`python -m tidepool.keeper`: records what happens to machines and pods, and removes what belongs to nobody.

One keeper is active, by a Lease of Kubernetes; others wait. It can be killed at any moment: what it has to know stands
in the ledger and in the objects.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes import client, config

from tidepool import capacity
from tidepool.capacity import Capacity, CapacityError, Pool
from tidepool.keeper import aws, election, reaper, reaping, watch
from tidepool.keeper.airflow import Airflow
from tidepool.keeper.election import Election
from tidepool.keeper.facts import AWS
from tidepool.keeper.ownership import Owner, Word
from tidepool.keeper.pace import Pace
from tidepool.keeper.reaping import Reaper
from tidepool.keeper.snapshot import Cluster, Mirror
from tidepool.keeper.usage import Kubelets, Usage
from tidepool.ledger.journal import Recorder

if TYPE_CHECKING:
    from tidepool.keeper.page.server import Site
    from tidepool.ledger.store import Store

TOKEN_VARIABLE = "TIDEPOOL_AIRFLOW_TOKEN"  # noqa: S105 (names of variables)
USER_VARIABLE, PASSWORD_VARIABLE = "TIDEPOOL_AIRFLOW_USER", "TIDEPOOL_AIRFLOW_PASSWORD"
LEASE = "tidepool/tidepool-keeper"

_log = logging.getLogger("tidepool.keeper")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tidepool.keeper", description=__doc__)
    made.add_argument("--kubeconfig", type=Path, help="instead of the pod's own ServiceAccount")
    watch.add_ledger_arguments(made)
    made.add_argument("--capacity", type=Path, help=f"capacity document; else the one {capacity.PATH_VARIABLE} names")
    made.add_argument(
        "--airflow",
        metavar="URL",
        help=f"Airflow's API server, asked with {TOKEN_VARIABLE}, or {USER_VARIABLE} and {PASSWORD_VARIABLE}; without "
        "it a pod whose lease has ended stays for hours",
    )
    made.add_argument(
        "--airflow-passwords",
        type=Path,
        metavar="FILE",
        help=f"instead of {PASSWORD_VARIABLE}: the passwords by user that Airflow's simple auth manager writes (JSON)",
    )
    made.add_argument("--listen", metavar="HOST:PORT", help="serve the page, /metrics and /healthz there; else nowhere")
    aws.add_arguments(made)
    made.add_argument("--dry-run", action="store_true", help="write down what would be removed, and remove nothing")
    made.add_argument(
        "--lease",
        default=LEASE,
        metavar="NAMESPACE/NAME",
        help="held by the active keeper; empty: it is the only one",
    )
    made.add_argument("--identity", help="the Lease's holder; one that comes again under its name need not wait")
    return made


def main() -> None:
    """Run until ended by a signal; leaves with an error, to be restarted, where it is the active one no more."""
    arguments = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    api_client = connect(arguments.kubeconfig)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the client made it report every try
    logging.getLogger("alembic").setLevel(logging.WARNING)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    # A container that is started again is in the same pod, under the same name.
    own = socket.gethostname() if arguments.kubeconfig is None else f"{socket.gethostname()}-{os.getpid()}"
    chosen = None
    if arguments.lease:
        namespace, _, name = arguments.lease.partition("/")
        leases = client.CoordinationV1Api(api_client)
        chosen = Election(leases, namespace, name, arguments.identity or own)
    ledger = watch.open_ledger(arguments)  # one that can't be used is said before it leads
    site = serve(arguments.listen, ledger) if arguments.listen else None
    pace = Pace()
    is_over = lead(chosen, stopped, lambda: start(arguments, api_client, chosen, ledger, site, pace), pace.trouble)
    if chosen is not None:
        chosen.release()
    os._exit(0 if is_over else 1)  # the watches would go on forever


def lead(
    chosen: Election | None,
    stopped: threading.Event,
    begin: Callable[[], Iterable[threading.Thread]],
    trouble: Callable[[], str] = str,
    step_seconds: float = election.STEP_SECONDS,
) -> bool:
    """Wait to be the active one, begin, and stay it: True when stopped, False when it is not the active one any more,
    one of its threads has ended, or they are in trouble, which is asked for its words."""
    threads: list[threading.Thread] = []
    while not stopped.is_set():
        is_active = chosen is None or chosen.step()
        if is_active and not threads:
            threads = list(begin())
        elif threads and not is_active:
            _log.error("another keeper is the active one now, or the API server is away: this one ends")
            return False
        if any(not thread.is_alive() for thread in threads):
            _log.error("a part of the keeper has ended: it should be restarted")
            return False
        if threads and (words := trouble()):
            _log.error("%s: another keeper may do better, and this one should be restarted", words)
            return False
        stopped.wait(step_seconds)
    return True


def serve(listen: str, ledger: Recorder | Store) -> Site:
    """Serve the page, also while another keeper is the active one: it only reads. Leaves where it can't listen."""
    from tidepool.keeper.page import server  # whoever records into a file needs no SQLAlchemy

    try:
        site = server.Site(None if isinstance(ledger, Recorder) else ledger.beside(), server.token())
        listening = server.PageServer(listen, site)
    except server.ListenError as error:
        raise SystemExit(str(error)) from error
    threading.Thread(target=listening.run, name="page", daemon=True).start()
    return site


def start(
    arguments: argparse.Namespace,
    api_client: client.ApiClient,
    chosen: Election | None,
    ledger: Recorder | Store,
    site: Site | None = None,
    pace: Pace | None = None,
) -> list[threading.Thread]:
    """Recorder and reaper, each watch and the reaper in a thread of its own."""
    core = client.CoreV1Api(api_client)

    def document() -> Capacity:
        return capacity.load(arguments.capacity)

    def pools() -> Iterable[Pool]:
        try:
            return document().pools.values()
        except CapacityError:  # the reaper says so; what happens is recorded all the same
            return ()

    clouds = (AWS,) if arguments.aws_cluster else ()
    (list_nodes, nodes, _), (list_pods, pods, _), pulls = watch.watches(core, ledger, pools, clouds)
    kept_nodes, kept_pods = Mirror(nodes), Mirror(pods)
    watching = ((list_nodes, kept_nodes, "nodes"), (list_pods, kept_pods, "pods"), pulls)
    leases = client.CoordinationV1Api(api_client)
    seen = (core, leases, kept_pods, kept_nodes, document, ledger)
    cluster = Cluster(*seen, word(arguments.airflow, arguments.airflow_passwords))
    machines = Cluster(*seen, lambda owner: Word.SILENT, has_claims=False)
    may_act = chosen.leads if chosen is not None else lambda: True
    # An Airflow that takes long to answer keeps no pod on a machine that has ended.
    hasty = Reaper(machines, ledger, dry_run=arguments.dry_run, may_act=may_act, find=reaper.lost)
    patient = Reaper(cluster, ledger, dry_run=arguments.dry_run, may_act=may_act, find=reaper.others)
    pace = pace or Pace()
    pace.begin()
    if site is not None:
        site.trouble = pace.trouble
    threads = [
        threading.Thread(target=watch.follow, args=(*each, pace), name=each[2], daemon=True) for each in watching
    ]
    threads += [
        threading.Thread(target=each.run, name=name, daemon=True)
        for name, each in (("lost pods", hasty), ("reaper", patient))
    ]
    measured = Usage(kept_nodes, kept_pods, ledger, Kubelets(api_client.configuration).summary)
    threads.append(threading.Thread(target=measured.run, name="usage", daemon=True))
    if not isinstance(ledger, Recorder):
        from tidepool.keeper.metrics import Metrics
        from tidepool.keeper.spending import Publisher  # a file needs no SQLAlchemy
        from tidepool.ledger.attribution import Billing
        from tidepool.ledger.books import Books
        from tidepool.prices import table

        billing = aws.BILLING if arguments.aws_cluster else Billing()
        books = Books(ledger, table.bundled(), billing)
        threads.append(threading.Thread(target=books.run, name="books", daemon=True))
        if site is not None and site.store is not None:

            def orphans() -> dict[str, tuple[int, float]]:
                return hasty.present() | patient.present()

            site.metrics = Metrics(site.store, document, pace, kept_pods.things, orphans).render
        published = Publisher(ledger, core, document, may_act)
        threads.append(threading.Thread(target=published.run, name="spending", daemon=True))
    of_aws = aws.parts(arguments, ledger, lambda: {each for pool in pools() for each in pool.instance_types})
    threads += [threading.Thread(target=run, name=name, daemon=True) for name, run in of_aws]
    for thread in threads:
        thread.start()
    _log.info("looking every %g s for what belongs to nobody%s", reaping.EVERY_SECONDS, _mode(arguments.dry_run))
    return threads


def word(url: str | None, passwords: Path | None = None) -> Callable[[Owner], Word]:
    """Airflow's word; without an address, none."""
    if not url:
        _log.warning("no --airflow: nobody can be asked whether a task is over")
        return lambda owner: Word.SILENT
    token, user, password = (os.environ.get(name, "") for name in (TOKEN_VARIABLE, USER_VARIABLE, PASSWORD_VARIABLE))
    return Airflow(url, token, user, password, passwords).word


def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A client by a kubeconfig, else by the pod's ServiceAccount."""
    if kubeconfig is not None:
        return config.new_client_from_config(str(kubeconfig))
    settings = client.Configuration()
    config.load_incluster_config(client_configuration=settings)
    return client.ApiClient(settings)


def _mode(dry_run: bool) -> str:
    return " (dry run: it is reported and stays)" if dry_run else ""


if __name__ == "__main__":
    main()
