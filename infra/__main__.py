"""The Pulumi program: one environment, from its stack file."""

import pulumi
import pulumi_kubernetes as kubernetes

from infra import capacity_document, naming, settings
from infra.aws import asg_tags, cluster
from infra.aws.pool import Pool, PoolArgs
from infra.services.autoscaler import Autoscaler
from infra.services.jobs import Jobs
from infra.services.platform import Platform
from tidepool import capacity

stack = settings.from_pulumi()
zones = sorted({zone for pool in stack.pools.values() for zone in pool.zones})
home = cluster.look_up(stack.cluster.name, stack.region, zones)
groups = {name: naming.group_name(home.name, name) for name in stack.pools}

for name, pool in stack.pools.items():
    labels, taints = naming.node_labels(name), naming.node_taints(name, pool.jobs)
    Pool(
        name,
        PoolArgs(
            pool=pool,
            group_name=groups[name],
            image=stack.machines.image,
            instance_profile=stack.machines.instance_profile,
            user_data=home.user_data(max_pods=pool.max_pods, labels=labels, taints=taints),
            subnet_ids=home.subnets(pool.zones),
            security_group_ids=[home.security_group_id],
            tags=asg_tags.render(
                cluster=home.name,
                group=groups[name],
                owner=stack.owner,
                environment=stack.environment,
                pool=name,
                labels=labels,
                taints=taints,
                resources=capacity_document.resources(pool),
                gpus=pool.instance_types[0].gpus,
                unneeded_time=pool.unneeded_time,
            ),
            ownership=asg_tags.ownership(stack.owner, stack.environment, name),
        ),
    )

inside = pulumi.ResourceOptions(provider=kubernetes.Provider("cluster", kubeconfig=home.kubeconfig))
document = capacity.dumps(capacity_document.build(stack))
Platform("platform", capacity=document, opts=inside)
Jobs("jobs", pod_security=stack.jobs.pod_security, opts=inside)
Autoscaler("autoscaler", priorities={groups[name]: pool.priority for name, pool in stack.pools.items()}, opts=inside)

pulumi.export("capacity", document)
