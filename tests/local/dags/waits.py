"""Jobs whose end the tests decide: each attempt says in HDFS that it started, waits for a file,
and says that it ended.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from tidepool import JobPodOperator, capacity

JOB = """\
import json, os, sys, time
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
        return ask("GET", what, "GETFILESTATUS")
    except HTTPError as error:
        if error.code != 404:
            raise

say("started")
print("waiting", flush=True)
while not told("go"):
    time.sleep(0.1)
say("ended")
"""

with DAG(dag_id="waits", schedule=None, catchup=False, doc_md=__doc__):
    JobPodOperator(
        task_id="wait",
        image=capacity.load().images["spark"],
        arguments=["python3", "-c", JOB, "{{ run_id }}"],
        memory="1Gi",
        retry_delay=timedelta(seconds=1),
    )
