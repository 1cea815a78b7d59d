"""The simulated machines, the pods on them, and what both leave behind in the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidepool.ladder import Rung
from tidepool.ledger.events import Event
from tidepool.retries import Attempt
from tidepool.simulator.policies import ZONE, MachinePool
from tidepool.simulator.workloads import Job
from tidepool.sizing import DAEMON_CPU_MILLIS, DAEMON_MEMORY_BYTES, SMALLEST_JOB_CPU_MILLIS

EPOCH = 1_767_571_200.0
"""Monday 2026-01-05, midnight UTC: when a workload begins. The ledger's and the ladder's times are Unix seconds."""


@dataclass(slots=True, eq=False)
class Pod:
    """An attempt of a job. rungs: where it may go, one after the other; nominated: the machine that comes for it."""

    job: int
    attempt: int
    uid: str
    cpu: int
    memory: int
    rungs: list[Rung]
    made: float
    step: int = 0
    stepped: float = 0.0
    nominated: Machine | None = None
    is_over: bool = False

    @property
    def rung(self) -> Rung:
        """Where it is now."""
        return self.rungs[self.step]

    @property
    def pools(self) -> list[str]:
        """That it may land on."""
        return [pool.name for pool in self.rung.pools]


@dataclass(slots=True, eq=False)
class Machine:
    """cpu, memory: free for jobs now; while it comes, what is not yet meant for a pod."""

    id: str
    pool: MachinePool
    instance_type: str
    cpu: int
    memory: int
    is_ready: bool = False
    is_cordoned: bool = False
    is_gone: bool = False
    has_image: bool = False
    last_pod: str = ""
    idle_since: float | None = None
    pods: dict[str, Pod] = field(default_factory=dict)

    def has_room(self, pod: Pod) -> bool:
        """Whether the pod fits beside those that are there; fragments too small for any job count as none."""
        return pod.cpu <= self.cpu and pod.memory <= self.memory

    @property
    def is_full(self) -> bool:
        """No pod of any size fits."""
        return self.cpu < SMALLEST_JOB_CPU_MILLIS

    def take(self, pod: Pod) -> None:
        """Less room by the pod's requests."""
        self.cpu -= pod.cpu
        self.memory -= pod.memory

    def give(self, pod: Pod) -> None:
        """Room again."""
        self.cpu += pod.cpu
        self.memory += pod.memory


def new(number: int, pool: MachinePool, instance_type: str) -> Machine:
    """An empty machine of the pool; its DaemonSets have their part already."""
    room_cpu = pool.pool.cpu_millis - DAEMON_CPU_MILLIS
    room_memory = pool.pool.memory_bytes - DAEMON_MEMORY_BYTES
    return Machine(f"i-{number:06}", pool, instance_type, room_cpu, room_memory)


class Record:
    """The events, as the keeper would write them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def machine(self, kind: str, time: float, machine: Machine, market: str, occurrence: str = "") -> None:
        """A fact about a machine."""
        if kind == "machine.launched":
            pool = machine.pool.pool
            usd = next(usd for name, usd in machine.pool.types if name == machine.instance_type)
            event = Event(
                EPOCH + time,
                kind,
                machine=machine.id,
                pool=pool.name,
                market=market,
                instance_type=machine.instance_type,
                zone=ZONE,
                usd_per_hour=usd,
                volume_gib=machine.pool.volume_gib,
                cpu_millis=pool.cpu_millis,
                memory_bytes=pool.memory_bytes,
            )
        else:
            event = Event(EPOCH + time, kind, machine=machine.id, pool=machine.pool.pool.name, occurrence=occurrence)
        self.events.append(event)

    def queued(self, time: float, pod: Pod, job: Job) -> None:
        """It was created."""
        self.events.append(
            Event(
                EPOCH + time,
                "pod.queued",
                pod=pod.uid,
                pod_uid=pod.uid,
                dag="simulation",
                task=job.name,
                run="1",
                attempt=pod.attempt,
                cpu_millis=pod.cpu,
                memory_bytes=pod.memory,
            )
        )

    def pod(self, kind: str, time: float, pod: Pod, machine: Machine, cause: str = "") -> None:
        """A later fact about it."""
        pool = machine.pool.pool.name
        self.events.append(Event(EPOCH + time, kind, machine=machine.id, pool=pool, pod_uid=pod.uid, cause=cause))


@dataclass(slots=True)
class Progress:
    """How far a job has come. submitted, done: seconds from the start of the workload; done is None while it is not.
    failed: why there is no further attempt."""

    submitted: float | None = None
    done: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    failed: str = ""
