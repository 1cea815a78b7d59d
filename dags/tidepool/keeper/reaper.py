"""What belongs to nobody any more: rules over what the API server, the ledger and Airflow say. Pure.

Nothing is found that is not tidepool's beyond doubt: all owner labels and annotations, which agree, in the namespace of
the team that they name. No pod is found whose owner lives. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tidepool.capacity import POOL_LABEL, Pool, Tenant, pool_of
from tidepool.cluster import ROLE_LABEL
from tidepool.keeper.facts import machine_id
from tidepool.keeper.ownership import (
    Owner,
    Word,
    claim_names,
    ended_at,
    is_main,
    main_reference,
    node_name,
    owner_of,
    ready,
    stamp,
)
from tidepool.labels import LEASE, LEASE_SECONDS, RENEW_SECONDS, utc
from tidepool.objects import Object, is_over

ANSWER_SECONDS = 40.0
"""A kubelet renews its Lease every 10 s; after 40 Kubernetes too says that it does not answer."""

SHUTDOWN_TAINTS = ("node.cloudprovider.kubernetes.io/shutdown", "node.kubernetes.io/out-of-service")
"""On the node of a machine that has ended, by who asked its cloud."""

_NEW_NODE_SECONDS = 60.0
_SAID = {Word.OVER: "Airflow says that its task is over", Word.UNHEARD: "Airflow knows no such task"}


class Action(StrEnum):
    """What is done about a finding. Pods are deleted with their grace period, or forced where nobody would heed it."""

    DELETE = "delete"
    FORCE_DELETE = "force-delete"
    REPORT = "report"


@dataclass(frozen=True)
class Rule:
    """grace: seconds that it must hold before anything is done. per_hour: at most so many removals. stop_seconds: for
    so long a pod's containers may go on when told to stop; None: as the pod itself says."""

    name: str
    grace: float
    action: Action
    per_hour: int
    stop_seconds: int | None = None


LOST = Rule("lost", 0.0, Action.FORCE_DELETE, 2000)
"""A pod whose machine has ended; Kubernetes alone would keep it for 6 minutes."""

OWNERLESS = Rule("ownerless", 120.0, Action.DELETE, 200, stop_seconds=15)
"""A pod whose task is over, as Airflow says, and whose lease has ended or was not renewed twice. From the last renewal
it has RENEW_SECONDS, the grace, a look and its time to stop: less than the 5 minutes that an orphan may live. Nobody
will go on with what it could still save."""

UNSCHEDULED = Rule("unscheduled", 900.0, Action.DELETE, 200)
"""A pod that waits longer than its schedule clock, whose lease has ended, while Airflow can't be asked."""

UNKNOWN_OWNER = Rule("unknown-owner", 6 * 3600.0, Action.DELETE, 50)
"""A pod whose lease has ended, while Airflow can't be asked."""

STRANDED = Rule("stranded", 60.0, Action.DELETE, 1000)
"""A member of a job (Spark's executor, Dask's worker) whose main pod has ended or is gone."""

CLAIM = Rule("claim", 900.0, Action.DELETE, 50)
"""A PersistentVolumeClaim of a job that is over."""

IDLE = Rule("idle-machine", 900.0, Action.REPORT, 0)
"""A machine for jobs that has none; the autoscaler should have given it back."""

OVERDUE = Rule("overdue", 300.0, Action.REPORT, 0)
"""A pod that waits longer than its schedule clock though its task lives, which should have given it up."""

RULES = {rule.name: rule for rule in (LOST, OWNERLESS, UNSCHEDULED, UNKNOWN_OWNER, STRANDED, CLAIM, IDLE, OVERDUE)}


@dataclass(frozen=True)
class Finding:
    """One thing that a rule speaks against.

    kind: Pod, PersistentVolumeClaim or Node. since: when that began, where the object itself says so; else it counts
    from when it was first noticed. version: its resourceVersion. machine: the node that it is, or is on.
    """

    rule: Rule
    kind: str
    name: str
    uid: str
    evidence: str
    namespace: str = ""
    version: str = ""
    since: float | None = None
    machine: str = ""
    pool: str = ""
    owner: Owner | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The rule and the object."""
        return self.rule.name, self.uid


@dataclass(frozen=True)
class World:
    """Everything that the rules look at, as of `now`.

    pods: all that carry tidepool's team label. nodes: all. claims: PersistentVolumeClaims with the label.
    renewed: when each kubelet last renewed its Lease, by node; one that is not there has none. busy: nodes on which
    others' pods run. ended: the machine (by its id in the cloud) has, as the ledger knows. word: Airflow's.
    """

    now: float
    tenants: Mapping[str, Tenant]
    pools: Iterable[Pool] = ()
    schedule_seconds: float = 1800.0
    pods: Iterable[Object] = ()
    nodes: Iterable[Object] = ()
    claims: Iterable[Object] = ()
    renewed: Mapping[str, float] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    ended: Callable[[str], bool] = lambda machine: False
    word: Callable[[Owner], Word] = lambda owner: Word.SILENT


def look(world: World) -> list[Finding]:
    """Everything that a rule speaks against now, whether or not its grace time has passed; lost pods first."""
    return list(_Look(world).findings())


def lost(world: World) -> list[Finding]:
    """Only pods whose machine has ended: neither Airflow nor claims are needed for that."""
    well = {str(node["metadata"]["name"]) for node in world.nodes if ready(node) == "True"}
    astray = [pod for pod in world.pods if (name := node_name(pod)) and name not in well and not is_over(pod)]
    silent = replace(world, pods=astray, claims=(), pools=(), word=lambda owner: Word.SILENT)
    return [found for found in look(silent) if found.rule is LOST]


def others(world: World) -> list[Finding]:
    """Everything else."""
    return [found for found in look(world) if found.rule is not LOST]


def is_any_unwell(pods: Iterable[Object], nodes: Iterable[Object]) -> bool:
    """Whether any pod's node is gone or not ready, so that the kubelets' Leases matter."""
    well = {node["metadata"]["name"] for node in nodes if ready(node) == "True"}
    return any(not is_over(pod) and (name := node_name(pod)) and name not in well for pod in pods)


class _Look:
    """One look at the world, with what several rules need."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pods = {str(pod["metadata"]["uid"]): pod for pod in world.pods}
        self._nodes = {str(node["metadata"]["name"]): node for node in world.nodes}
        owners = {uid: owner_of(pod, world.tenants) for uid, pod in self._pods.items()}
        self._owners = {uid: owner for uid, owner in owners.items() if owner is not None}
        self._of_job: dict[tuple[str, ...], list[Object]] = {}
        for uid, owner in self._owners.items():
            self._of_job.setdefault(owner.job, []).append(self._pods[uid])

    def findings(self) -> Iterator[Finding]:
        """All of them."""
        of_pods = []
        for uid, owner in self._owners.items():
            if not is_over(self._pods[uid]) and (found := self._pod(self._pods[uid], owner)) is not None:
                of_pods.append(found)
        yield from sorted(of_pods, key=lambda found: found.rule is not LOST)
        yield from self._claims()
        yield from self._machines({found.uid for found in of_pods})

    def _pod(self, pod: Object, owner: Owner) -> Finding | None:
        if not (pod["metadata"].get("labels") or {}).get(POOL_LABEL):
            return None
        if why := self._lost(pod):
            return _finding(LOST, pod, owner, why)
        if pod["metadata"].get("deletionTimestamp"):
            return None
        main = main_reference(pod)
        if main is not None or (pod["metadata"].get("labels") or {}).get(ROLE_LABEL):
            return self._member(pod, owner, main)
        return self._main(pod, owner) or self._overdue(pod, owner)

    def _lost(self, pod: Object) -> str:
        """Why the pod's machine is known to have ended; empty where it is not, or where its kubelet still answers."""
        name = node_name(pod)
        if not name or self._world.now - self._world.renewed.get(name, 0.0) < ANSWER_SECONDS:
            return ""
        node = self._nodes.get(name)
        if node is None:
            return f"its node {name} is gone"
        state = ready(node)
        # Without a Lease only Kubernetes' own word counts: Unknown, its kubelet has stopped to tell.
        if state == "True" or (state != "Unknown" and name not in self._world.renewed):
            return ""
        taints = {taint.get("key") for taint in (node.get("spec") or {}).get("taints") or []}
        if taint := next((key for key in SHUTDOWN_TAINTS if key in taints), ""):
            return f"its node {name} is not ready, and its machine has ended (taint {taint})"
        machine = machine_id(node)
        if machine and self._world.ended(machine):
            return f"its node {name} is not ready, and its machine {machine} has ended"
        return ""

    def _member(self, pod: Object, owner: Owner, main: Object | None) -> Finding | None:
        """A member lives as long as its main pod runs, whose owner is Airflow's task."""
        if main is not None:
            found = self._pods.get(str(main.get("uid")))
            mains = [] if found is None else [found]
        else:
            mains = [each for each in self._of_job[owner.job] if is_main(each)]
        if any(not is_over(each) for each in mains):
            return None
        if not mains:
            return _finding(STRANDED, pod, owner, "its main pod is gone")
        ends = [end for each in mains if (end := ended_at(each)) is not None]
        name = mains[0]["metadata"]["name"]
        return _finding(STRANDED, pod, owner, f"its main pod {name} has ended", max(ends, default=None))

    def _main(self, pod: Object, owner: Owner) -> Finding | None:
        """A main pod lives as long as its lease does, or its task as Airflow says."""
        now = self._world.now
        annotations = pod["metadata"].get("annotations") or {}
        created = stamp(pod["metadata"].get("creationTimestamp")) or now
        told = stamp(annotations.get(LEASE))
        ends = created + LEASE_SECONDS if told is None else told
        words = f"its lease ended at {utc(ends)}" if told is not None else "it has no lease"
        is_deferred = ends > now + LEASE_SECONDS
        runs = not is_deferred and now < ends + OWNERLESS.grace
        # When a worker that lives would have renewed it.
        missed = ends if told is None else ends - LEASE_SECONDS + RENEW_SECONDS
        if runs and now < missed + OWNERLESS.grace:
            return None
        word = self._world.word(owner)
        if word is Word.LIVES or (word is Word.SILENT and told is None):
            return None
        if is_deferred:
            # What another Airflow deferred, or a test, this one has never heard of.
            over = f"{_SAID[Word.OVER]}, which left it a lease until {utc(ends)}"
            return _finding(OWNERLESS, pod, owner, over) if word is Word.OVER else None
        if runs:
            quiet = f"nobody has renewed its lease since {utc(missed - RENEW_SECONDS)}, and {_SAID[Word.OVER]}"
            return _finding(OWNERLESS, pod, owner, quiet, missed) if word is Word.OVER else None
        if word is not Word.SILENT:
            return _finding(OWNERLESS, pod, owner, f"{words}, and {_SAID[word]}", ends)
        if not node_name(pod) and now >= created + self._world.schedule_seconds:
            waits = f"it waits for a machine since {utc(created)}"
            return _finding(UNSCHEDULED, pod, owner, f"{waits}, {words}, and Airflow can't be asked")
        return _finding(UNKNOWN_OWNER, pod, owner, f"{words}, and Airflow can't be asked")

    def _overdue(self, pod: Object, owner: Owner) -> Finding | None:
        """A pod that somebody should have given up: who did not is not the reaper's to judge."""
        created = stamp(pod["metadata"].get("creationTimestamp")) or self._world.now
        due = created + self._world.schedule_seconds
        if node_name(pod) or self._world.now < due:
            return None
        words = f"it waits for a machine since {utc(created)}, and its task, which is not over, has not given it up"
        return _finding(OVERDUE, pod, owner, words, due)

    def _claims(self) -> Iterator[Finding]:
        mounted = {
            (pod["metadata"].get("namespace"), name)
            for pod in self._pods.values()
            if not is_over(pod)
            for name in claim_names(pod)
        }
        for claim in self._world.claims:
            metadata = claim["metadata"]
            owner = owner_of(claim, self._world.tenants)
            if owner is None or metadata.get("deletionTimestamp"):
                continue
            if (metadata["namespace"], metadata["name"]) in mounted:
                continue
            if any(not is_over(pod) for pod in self._of_job.get(owner.job, ())):
                continue
            word = self._world.word(owner)
            if word in _SAID:
                words = f"no pod of its job is left, and {_SAID[word]}"
                yield _finding(CLAIM, claim, owner, words, kind="PersistentVolumeClaim")

    def _machines(self, found: set[str]) -> Iterator[Finding]:
        """Machines of pools for jobs without a pod of one; `found`: pods that are as good as gone."""
        jobs = {pool.name for pool in self._world.pools if pool.jobs}
        used = {node_name(pod) for uid, pod in self._pods.items() if not is_over(pod) and uid not in found}
        for name, node in self._nodes.items():
            metadata = node["metadata"]
            pool = pool_of(metadata.get("labels") or {}, self._world.pools)
            new = self._world.now - (stamp(metadata.get("creationTimestamp")) or 0.0) < _NEW_NODE_SECONDS
            if pool not in jobs or new or name in used or name in self._world.busy or metadata.get("deletionTimestamp"):
                continue
            words = f"no job is left on this machine of {pool}, and the autoscaler has not given it back"
            yield Finding(IDLE, "Node", name, str(metadata.get("uid")), words, machine=machine_id(node), pool=pool)


def _finding(
    rule: Rule, thing: Object, owner: Owner, evidence: str, since: float | None = None, kind: str = "Pod"
) -> Finding:
    metadata = thing["metadata"]
    return Finding(
        rule,
        kind,
        str(metadata["name"]),
        str(metadata["uid"]),
        evidence,
        namespace=str(metadata["namespace"]),
        version=str(metadata.get("resourceVersion", "")),
        since=since,
        machine=node_name(thing),
        pool=str((metadata.get("labels") or {}).get(POOL_LABEL, "")),
        owner=owner,
    )
