"""Why a job's attempt ended: one cause for every end, read from what was seen of its pod, its machine and its events.

The cause, not the exit code, decides what happens next. Pods, nodes and events are plain dicts, as the API server's
JSON has them. What the evidence does not tell is `unknown`: nothing here guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tidepool.capacity import LABEL_PREFIX, Market
from tidepool.objects import Object, condition

SPARK_OUT_OF_MEMORY = 52
"""SparkExitCode.OOM: the heap was too small, though the pod was not."""

STOPPING_SIGNALS = {143: "SIGTERM", 137: "SIGKILL"}

SPOT_TAINTS = ("aws-node-termination-handler/spot-itn", "cloud.google.com/impending-node-termination")
"""On a machine that its cloud is about to take back, by who watches for the notice."""

DRAIN_TAINTS = {
    "ToBeDeletedByClusterAutoscaler": "the autoscaler gave its machine back",
    "aws-node-termination-handler/scheduled-maintenance": "its machine is due for maintenance",
    "aws-node-termination-handler/asg-lifecycle-termination": "its Auto Scaling Group ended its machine",
    "aws-node-termination-handler/rebalance-recommendation": "its machine was likely to be taken back",
}
"""On a machine that is drained, and why."""

LOST_TAINTS = (
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/out-of-service",
    "node.cloudprovider.kubernetes.io/shutdown",
)


class Cause(StrEnum):
    """Every end that a job's attempt can have."""

    OK = "ok"
    APP_ERROR = "app_error"
    OUT_OF_MEMORY = "out_of_memory"
    SPOT_RECLAIM = "spot_reclaim"
    NODE_LOST = "node_lost"
    EVICTED = "evicted"
    IMAGE_PULL = "image_pull"
    UNSCHEDULABLE = "unschedulable"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


VERDICT = LABEL_PREFIX + "verdict"
"""Annotation of a pod: the cause for which its task gave it up, written before the task deleted it."""

VERDICTS = (Cause.IMAGE_PULL, Cause.UNSCHEDULABLE, Cause.TIMED_OUT, Cause.CANCELLED)
"""What a deletion may have been for. Whoever may write a pod can write the annotation: it is heard where the pod was
deleted and nothing else is evident, and nowhere else."""


@dataclass(frozen=True)
class Outcome:
    """A cause, and the evidence for it in words. of_members: it is about the job's other pods, such as executors."""

    cause: Cause
    message: str
    of_members: bool = False


@dataclass(frozen=True)
class Seen:
    """Everything that is known of an attempt at its end.

    pod: the last that was seen of it, whether or not it still exists. container: the job's own in it. gone: the pod
    object is no longer there. node: its machine's Node, read after the end; None where it could not be read.
    node_gone: there is no such Node any more, or its machine has ended. events: of the pod and of its machine, oldest
    first. market: of its pool, where that is known. stopped: why Airflow or a person ended the attempt.
    overtime: which limit of Airflow's it ran into.
    """

    pod: Object | None = None
    container: str = "base"
    gone: bool = False
    node: Object | None = None
    node_gone: bool = False
    events: Sequence[Object] = field(default=())
    market: Market | None = None
    stopped: str = ""
    overtime: str = ""


class JobFailed(Exception):
    """A job's attempt did not end well; `cause` says how.

    pool, market: where it was. memory_bytes: its limit; largest_bytes: what an attempt after it could have at most.
    seconds: for which its program ran, as far as is known.
    """

    def __init__(
        self,
        pod: str,
        outcome: Outcome,
        *,
        pool: str = "",
        market: str = "",
        memory_bytes: int = 0,
        largest_bytes: int = 0,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(f"pod {pod}: {outcome.cause}: {outcome.message}")
        self.pod = pod
        self.cause = outcome.cause
        self.message = outcome.message
        self.of_members = outcome.of_members
        self.pool = pool
        self.market = market
        self.memory_bytes = memory_bytes
        self.largest_bytes = largest_bytes
        self.seconds = seconds


def outcome(pod: Object | None, container: str = "base", node_gone: bool = False) -> Outcome:
    """The cause of a pod's end where nothing else than the pod, and whether its machine is gone, is known."""
    return conclude(Seen(pod=pod, container=container, node_gone=node_gone))


def conclude(seen: Seen) -> Outcome:
    """The one cause of an attempt's end, and its evidence."""
    status = (seen.pod or {}).get("status") or {}
    if seen.stopped:
        return Outcome(Cause.CANCELLED, seen.stopped)
    if status.get("phase") == "Succeeded":
        return Outcome(Cause.OK, "succeeded")
    if seen.overtime:
        return Outcome(Cause.TIMED_OUT, seen.overtime)
    if seen.pod is None:
        return Outcome(Cause.UNKNOWN, "the pod was never seen")
    state = _container_state(status, seen.container)
    ended = state.get("terminated") or {}
    for rule in (_finished, _disrupted, _refused):
        found = rule(seen, status, ended)
        if found is not None:
            return found
    if ended:
        return _exited(seen, ended)
    if status.get("phase") == "Pending":
        return _pending(seen, status, state.get("waiting") or {})
    return _vanished(seen, status)


def _container_state(status: Object, container: str) -> Object:
    for item in status.get("containerStatuses") or []:
        if item.get("name") == container:
            return item.get("state") or {}
    return {}


def _finished(seen: Seen, status: Object, ended: Object) -> Outcome | None:
    """Ends that the container itself tells, whatever happened to the pod around it."""
    if ended.get("reason") == "OOMKilled" and ended.get("exitCode") != 0:
        return Outcome(Cause.OUT_OF_MEMORY, "the pod reached its memory limit (OOMKilled)")
    # A program that is told to stop before it is done must not exit 0: nothing else tells its end from a good one.
    if ended.get("exitCode") == 0 and status.get("reason") is None:
        return Outcome(Cause.OK, "exit code 0")
    return None


def _disrupted(seen: Seen, status: Object, ended: Object) -> Outcome | None:
    """What the DisruptionTarget condition says; the kubelet's own reason covers very different ends."""
    found = condition(seen.pod, "DisruptionTarget")
    if found.get("status") != "True":
        return None
    reason, message = found.get("reason") or "", found.get("message") or status.get("message") or ""
    if reason == "TerminationByKubelet":
        if status.get("reason") == "Evicted" or _is_pressure(message):
            return _pressure(seen.container, status.get("message") or message)
        if status.get("reason") == "Preempting":
            return Outcome(Cause.EVICTED, f"put out by the kubelet for a critical pod: {message}")
        return _shut_down(seen, message)
    if reason == "EvictionByEvictionAPI":
        return _notice(seen) or Outcome(Cause.EVICTED, _drain(seen))
    if reason == "DeletionByTaintManager":
        if (why := _unwell(seen)) is None and _ready(seen.node) == "True":
            return _notice(seen) or Outcome(Cause.EVICTED, "its machine is well, and was tainted NoExecute by somebody")
        return Outcome(Cause.NODE_LOST, why or "its machine was tainted NoExecute: not ready or unreachable")
    if reason == "DeletionByPodGC":
        return _notice(seen) or Outcome(Cause.NODE_LOST, f"its machine is gone ({message or 'PodGC'})")
    if reason == "PreemptionByScheduler":
        return Outcome(Cause.EVICTED, f"preempted by a pod of higher priority: {message}".rstrip(": "))
    return Outcome(Cause.EVICTED, f"{reason}: {message}".rstrip(": "))


def _refused(seen: Seen, status: Object, ended: Object) -> Outcome | None:
    """What the pod's own reason says where there is no condition: the kubelet refused it or ran out of something."""
    reason, message = status.get("reason") or "", status.get("message") or ""
    if reason == "Evicted":
        return _pressure(seen.container, message)
    if reason == "Preempting":
        return Outcome(Cause.EVICTED, f"put out by the kubelet for a critical pod: {message}")
    if reason == "DeadlineExceeded":
        return Outcome(Cause.TIMED_OUT, f"activeDeadlineSeconds: {message}")
    if reason in ("NodeShutdown", "Terminated", "Shutdown"):
        return _shut_down(seen, message)
    if reason == "NodeLost":
        return Outcome(Cause.NODE_LOST, message or "its machine no longer answers")
    if reason.startswith("OutOf") or reason in _REFUSALS:
        return Outcome(Cause.UNSCHEDULABLE, f"refused by its machine: {reason}: {message}")
    return None


_REFUSALS = (
    "NodeAffinity",
    "NodeName",
    "NodePorts",
    "NodeUnschedulable",
    "PodOSNotSupported",
    "TaintToleration",
    "TopologyAffinityError",
    "UnexpectedAdmissionError",
)
"""The kubelet's reasons not to take a pod, beside OutOfcpu and its like."""


def _pressure(container: str, message: str) -> Outcome:
    """An eviction by the kubelet: the job's own doing where it used more than it had, else somebody else's."""
    told = message.strip()
    if re.search(rf"^The node was low on resource: memory\b.*Container {container} was using ", told, re.DOTALL):
        return Outcome(Cause.OUT_OF_MEMORY, f"it used more memory than it had: {told}")
    own_limit = (
        "Pod ephemeral local storage usage exceeds" in told
        or "Usage of EmptyDir volume" in told
        or f"Container {container} exceeded its local ephemeral storage" in told
    )
    # Disk, inodes and process ids: on a machine of its own nobody else fills them.
    if own_limit or f"Container {container} was using " in told:
        return Outcome(Cause.APP_ERROR, f"it filled its machine: {told}")
    return Outcome(Cause.EVICTED, f"put out by the kubelet: {told}")


def _is_pressure(message: str) -> bool:
    return message.startswith(("The node was low on resource", "The node had condition", "Usage of EmptyDir")) or (
        "ephemeral" in message and "exceed" in message
    )


def _shut_down(seen: Seen, message: str) -> Outcome:
    """The kubelet was told that its machine goes down: on spot that is a reclaim, elsewhere a loss."""
    words = f"its machine was shut down: {message}".rstrip(": ")
    if seen.market == "on-demand":
        return Outcome(Cause.NODE_LOST, words)
    return Outcome(Cause.SPOT_RECLAIM, words)


def _exited(seen: Seen, ended: Object) -> Outcome:
    """What the container's exit says, now that neither the pod nor its conditions say anything."""
    code, reason = ended.get("exitCode"), ended.get("reason") or ""
    said = (ended.get("message") or "").strip()
    machine = _notice(seen) or _machine_lost(seen)
    if reason == "ContainerStatusUnknown":
        if machine is None and _deleted(seen):  # what the kubelet says of a container that never was, too
            return _event_outcome(seen) or _given_up(seen, "the pod was deleted, and its container is not known")
        return machine or Outcome(Cause.UNKNOWN, "the kubelet no longer knows the container, and nothing says why")
    if code == SPARK_OUT_OF_MEMORY:
        return Outcome(Cause.OUT_OF_MEMORY, "Spark's heap was too small (exit code 52)")
    if _EXECUTOR_OUT_OF_MEMORY.search(said):
        return Outcome(Cause.OUT_OF_MEMORY, f"an executor ran out of memory; exit code {code}\n{said}", of_members=True)
    if _ran_out(said):
        return Outcome(Cause.OUT_OF_MEMORY, f"exit code {code}\n{said}")
    message = "\n".join(filter(None, (f"exit code {code}", said)))
    if code not in STOPPING_SIGNALS:
        return Outcome(Cause.APP_ERROR, message)
    signal = f"{STOPPING_SIGNALS[code]} (exit code {code})"
    if machine is not None:
        return replace(machine, message=f"{machine.message}; the container got {signal}")
    killed = _event(seen, "OOMKilling", "SystemOOM")
    if killed:
        return Outcome(Cause.OUT_OF_MEMORY, f"the container got {signal}: {killed}")
    if _deleted(seen):
        return _event_outcome(seen) or _given_up(seen, f"the pod was deleted, and got {signal}")
    if _ready(seen.node) == "True":
        return Outcome(Cause.APP_ERROR, f"{message}: a signal from inside, on a machine that is well")
    return Outcome(Cause.UNKNOWN, f"the container got {signal}, and nothing says from whom\n{said}".strip())


_OUT_OF_MEMORY = re.compile(
    r"^(?:Exception in thread .*|Caused by: )?java\.lang\.OutOfMemoryError(?!: unable to create)", re.MULTILINE
)
_EXECUTOR_OUT_OF_MEMORY = re.compile(
    r"ExecutorLostFailure \(executor \S+ exited caused by one of the running tasks\) Reason:\s+"
    r"The executor with id \S+ exited with exit code (?:137\(SIGKILL, possible container OOM\)|52\(JVM OOM\))"
    r"|\(\S+ executor \d+\): java\.lang\.OutOfMemoryError(?!: unable to create)"
)
"""Spark's words, in its driver, for the end of a job whose task had no memory in an executor's pod, as often as it was
tried (TaskSchedulerImpl, ExecutorPodsLifecycleManager). A machine that is lost has others."""
_PYTHON_OUT_OF_MEMORY = re.compile(r"(?:numpy\.\S*\._)?(?:Array)?MemoryError\b")


def _ran_out(said: str) -> bool:
    """Whether a program's last words are that it had no memory. (A GPU's memory is another, which no pod's is.)"""
    last = said.rsplit("\n", 1)[-1]
    return bool(_OUT_OF_MEMORY.search(said) or _PYTHON_OUT_OF_MEMORY.match(last))


_PULL_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
)
_OWN_START_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError")


def _pending(seen: Seen, status: Object, waiting: Object) -> Outcome:
    """How far a pod came that never started."""
    reason, message = waiting.get("reason") or "", waiting.get("message") or ""
    if reason in _PULL_REASONS:
        return Outcome(Cause.IMAGE_PULL, f"{reason}: {message}")
    if reason in _OWN_START_REASONS:
        return Outcome(Cause.APP_ERROR, f"{reason}: {message}")
    scheduled = condition(seen.pod, "PodScheduled")
    lost = _notice(seen) or _machine_lost(seen)
    if lost is not None:
        return lost
    if _deleted(seen):
        return _event_outcome(seen) or _given_up(seen, "the pod was deleted before it started")
    if scheduled.get("status") != "True":
        told = scheduled.get("message") or "the scheduler has not looked at the pod"
        if seen.gone:
            return Outcome(Cause.UNKNOWN, f"the pod is gone before it had a machine; last: {told}")
        buyer = _event(seen, "NotTriggerScaleUp", "FailedScaleUp")
        return Outcome(Cause.UNSCHEDULABLE, f"{told}; the autoscaler: {buyer}" if buyer else told)
    if seen.gone:
        return _drained(seen) or Outcome(Cause.UNKNOWN, "the pod is gone before it started, and nothing says why")
    if _event(seen, "Pulling") and not _event(seen, "Pulled"):
        return Outcome(Cause.IMAGE_PULL, f"still pulling: {_event(seen, 'Failed', 'Pulling')}")
    why = _event(seen, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Failed")
    return Outcome(Cause.TIMED_OUT, "the pod has a machine but did not start on it" + (f": {why}" if why else ""))


def _vanished(seen: Seen, status: Object) -> Outcome:
    """What happened to a pod that ran when it was seen last: only what is evident."""
    found = _notice(seen) or _machine_lost(seen) or _event_outcome(seen)
    if found is not None:
        return found
    if _deleted(seen):
        return _given_up(seen, "the pod was deleted")
    if drained := _drained(seen):
        return drained
    phase, machine = status.get("phase", "Unknown"), _machine(seen)
    if phase == "Failed":
        return Outcome(Cause.UNKNOWN, f"the pod failed on machine {machine}, and nothing says why")
    what = "the pod is gone" if seen.gone else "no end was seen of the pod"
    return Outcome(Cause.UNKNOWN, f"{what}, last seen {phase} on machine {machine}, and nothing says why")


def _given_up(seen: Seen, words: str) -> Outcome:
    """Why a pod was deleted: what its task wrote on it, else nobody knows more than that."""
    said = (((seen.pod or {}).get("metadata") or {}).get("annotations") or {}).get(VERDICT)
    cause = next((cause for cause in VERDICTS if cause.value == said), None)
    return Outcome(cause or Cause.CANCELLED, f"{words} by its task ({cause})" if cause else words)


def _notice(seen: Seen) -> Outcome | None:
    """A reclaim that somebody announced: on the machine, or as an event."""
    taint = next((key for key in _taints(seen.node) if key in SPOT_TAINTS), None)
    if taint is not None:
        return Outcome(Cause.SPOT_RECLAIM, f"its machine {_machine(seen)} was taken back (taint {taint})")
    told = _event(seen, "SpotInterruption", "SpotInterrupted")
    return Outcome(Cause.SPOT_RECLAIM, f"its machine {_machine(seen)} was taken back: {told}") if told else None


def _drained(seen: Seen) -> Outcome | None:
    """A pod of which no end was seen was evicted where its machine is being emptied: nobody deletes pods meanwhile."""
    if not ((seen.node or {}).get("spec") or {}).get("unschedulable"):
        return None
    return Outcome(Cause.EVICTED, f"the pod is gone, and its machine {_machine(seen)} is cordoned: it was drained")


def _drain(seen: Seen) -> str:
    why = next((DRAIN_TAINTS[key] for key in _taints(seen.node) if key in DRAIN_TAINTS), "")
    return f"evicted through the Eviction API: {why or 'its machine was drained'}"


def _machine_lost(seen: Seen) -> Outcome | None:
    why = _unwell(seen)
    return None if why is None else Outcome(Cause.NODE_LOST, why)


def _unwell(seen: Seen) -> str | None:
    """What is known to be wrong with the machine; None where it is well or nobody looked."""
    name = _machine(seen)
    if seen.node_gone:
        return f"its machine {name} is gone"
    if seen.node is None:
        return None
    if "deletionTimestamp" in (seen.node.get("metadata") or {}):
        return f"its machine {name} is being removed"
    taint = next((key for key in _taints(seen.node) if key in LOST_TAINTS), None)
    if _ready(seen.node) in ("False", "Unknown") or taint is not None:
        return f"its machine {name} is not ready" + (f" (taint {taint})" if taint else "")
    return None


def _event_outcome(seen: Seen) -> Outcome | None:
    """What the events of a pod tell whose last status was not seen."""
    for event in reversed(seen.events):
        reason, message = event.get("reason") or "", (event.get("message") or "").strip()
        if reason == "Preempted":
            return Outcome(Cause.EVICTED, f"preempted by a pod of higher priority: {message}")
        if reason == "TaintManagerEviction" and not message.startswith("Cancelling"):
            return Outcome(Cause.NODE_LOST, f"its machine was tainted NoExecute: {message}")
        if reason == "Evicted":
            return _pressure(seen.container, message)
    return None


def _event(seen: Seen, *reasons: str) -> str:
    """The newest event's message that has one of the reasons; empty for none."""
    told = (
        event.get("message") or event["reason"] for event in reversed(seen.events) if event.get("reason") in reasons
    )
    return str(next(told, "")).strip()


def _ready(node: Object | None) -> str:
    """The Node's Ready condition: True, False, Unknown, or empty where it was not read."""
    return str(condition(node, "Ready").get("status") or "")


def _taints(node: Object | None) -> Iterator[str]:
    for taint in ((node or {}).get("spec") or {}).get("taints") or []:
        yield str(taint.get("key"))


def _deleted(seen: Seen) -> bool:
    return "deletionTimestamp" in ((seen.pod or {}).get("metadata") or {})


def _machine(seen: Seen) -> str:
    return str(((seen.pod or {}).get("spec") or {}).get("nodeName") or "unknown")
