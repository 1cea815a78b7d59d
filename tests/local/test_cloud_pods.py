"""What a job's pod can reach on its machine, and what it can't; what Airflow may do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes.client import ApiException

from infra import naming
from infra.local import addresses
from infra.local.kube import core_api

pytestmark = pytest.mark.local_cloud

LOOK = """\
import json, os, socket, ssl, urllib.error, urllib.request
name = "kubernetes.default.svc.cluster.local"
address = socket.gethostbyname(name)
try:
    urllib.request.urlopen(f"https://{address}/api", context=ssl._create_unverified_context(), timeout=10)
    answer = 200
except urllib.error.HTTPError as error:
    answer = error.code
found = {
    "address": address,
    "answer": answer,
    "token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount"),
    "user": os.getuid(),
}
url = "http://hdfs-namenode.tidepool.svc.cluster.local:9870/webhdfs/v1/lake/raw/nycflights13?op=LISTSTATUS"
listed = json.load(urllib.request.urlopen(url, timeout=10))["FileStatuses"]["FileStatus"]
found["lake"] = sorted(each["pathSuffix"] for each in listed)
print(json.dumps(found))
"""


def test_a_job_resolves_services_and_reaches_them_and_has_no_rights(local: Any) -> None:
    local.create(local.job_pod("look", LOOK, memory="512Mi"))
    local.wait_until(lambda: local.pod("look").status.phase in ("Succeeded", "Failed"), 60, "the pod has looked")
    space = naming.tenant_namespace("jobs")
    # As it is: what is JSON the client would read, and hand out as Python writes it.
    log = local.api.read_namespaced_pod_log("look", space, _preload_content=False).data.decode()
    assert local.pod("look").status.phase == "Succeeded", log
    found = json.loads(log)
    assert found["address"] == addresses.KUBERNETES_SERVICE
    assert found["answer"] == 401, "the API server answers, and asks who it is"
    assert found["token"] is False
    assert found["user"] == 185
    assert "flights.csv" in found["lake"]
    local.delete("look")
    local.drains()


def test_airflow_may_run_pods_of_jobs_and_read_no_secrets(local: Any) -> None:
    airflow = core_api(local.cloud.airflow_kubeconfig)
    assert airflow.list_namespaced_pod(naming.tenant_namespace("jobs")).items == []
    refused = [
        lambda: airflow.list_namespaced_secret(naming.tenant_namespace("jobs")),
        lambda: airflow.list_secret_for_all_namespaces(),
        lambda: airflow.list_namespaced_pod("kube-system"),
        lambda: airflow.list_node(),
        lambda: airflow.create_namespaced_service_account_token("default", "kube-system", {}),
    ]
    for call in refused:
        with pytest.raises(ApiException) as error:
            call()
        assert error.value.status == 403
