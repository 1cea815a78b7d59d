"""Jobs that are disturbed at every step by each killer, and jobs that end in every way; the tests decide when and how.

Each attempt writes in HDFS that it started, waits to be told its exit code, and writes that it ended.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from tidepool import JobPodOperator, capacity

KILLERS = ("worker", "lost_answer", "scheduler", "triggerer", "api_server", "reclaim", "spot_notice", "node_lost")
STEPS = ("before_create", "after_create", "pending", "running", "finishing")
MODES = ("sync", "deferrable")
JOB = """\
import json, os, sys, time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

folder = "/lake/tests/" + sys.argv[1].replace(":", "-")  # HDFS has no colons in names

def ask(method, path, operation, **more):
    query = urlencode({"op": operation, "user.name": "spark", **more})
    url = f"http://hdfs-namenode.tidepool.svc.cluster.local:9870/webhdfs/v1{quote(folder)}/{path}?{query}"
    return json.load(urlopen(Request(url, method=method), timeout=30))

def say(what):
    path = what + "/" + os.environ["HOSTNAME"]
    where = ask("PUT", path, "CREATE", noredirect="true")["Location"]
    urlopen(Request(where, data=b"", method="PUT"), timeout=30).close()

def told(what):
    try:
        return [each["pathSuffix"] for each in ask("GET", what, "LISTSTATUS")["FileStatuses"]["FileStatus"]]
    except HTTPError as error:
        if error.code != 404:
            raise
        return []

say("started")
print("waiting", flush=True)
while not (code := told("go")):
    time.sleep(0.3)
if code == ["0"]:
    say("ended")
    Path("/dev/termination-log").write_text(json.dumps({"pod": os.environ["HOSTNAME"], "folder": folder}))
sys.exit(int(code[0]))
"""
HUNGRY = "held = [bytearray(1 << 20) for _ in range(1 << 20)]"
COMMON: dict[str, Any] = {
    "image": capacity.load().images["spark"],
    "arguments": ["python3", "-c", JOB, "chaos/{{ run_id }}/{{ task.task_id }}"],
    "exclusive": False,
    "market": "spot",  # one rung: where the attempts after a lost machine go is the ladder's, not this test's
    "memory": "256Mi",
    "retries": 0,
    "memory_retries": 0,
    "retry_delay": timedelta(seconds=1),
    "poll_interval": 1,
    "startup_check_interval_seconds": 1,
    "do_xcom_push": True,
    "pool_slots": 2,  # of Airflow's default pool, then: the pools' queue has 8 slots, and more are held at once
}
OPTIONS: dict[str, Any] = {"schedule": None, "catchup": False, "max_active_tasks": 32, "doc_md": __doc__}
ENDS: dict[str, dict[str, Any]] = {
    "ok": {},
    "app_error": {},
    "out_of_memory": {"arguments": ["python3", "-c", HUNGRY]},
    "image_pull": {"image": "127.0.0.1:1/not/there:1", "startup_timeout_seconds": 15},
    "unschedulable": {"node_selector": {"chaos": "nowhere"}, "schedule_timeout_seconds": 15},
    "timed_out": {"execution_timeout": timedelta(seconds=20)},
    "cancelled": {},
}

for killer in KILLERS:
    with DAG(f"chaos_{killer}", **OPTIONS):
        for mode in MODES:
            for step in STEPS:
                if (killer, mode) == ("worker", "deferrable") and step in ("pending", "running"):
                    continue  # nothing of it runs in a worker then
                JobPodOperator(task_id=f"{mode}.{step}", deferrable=mode == "deferrable", **COMMON)

with DAG("chaos_ends", **OPTIONS):
    for mode in MODES:
        for end, given in ENDS.items():
            JobPodOperator(task_id=f"{mode}.{end}", deferrable=mode == "deferrable", **{**COMMON, **given})
