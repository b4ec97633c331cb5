"""The cluster of ``vagrant/cluster`` as data: what a :class:`FakeSlurm` starts with."""

from __future__ import annotations

from slurm_gpu_policy.model.account import Association, Qos
from slurm_gpu_policy.model.cluster import ClusterConfig, Node, NodeGpus, Partition

BILLING = {"CPU": "1.0", "Mem": "0.0655G", "GRES/gpu": "8.0"}
ALL_QOS = frozenset({"normal", "low", "high", "debug"})


def gpu_node(name, *, gpu_type="h100", gpus=8):
    """Return an idle GPU node of the local cluster's kind."""
    return Node(
        name=name,
        state="IDLE",
        flags=frozenset(),
        cpus=64,
        cpus_used=0,
        memory_mb=1_000_000,
        memory_used_mb=0,
        gpus=(NodeGpus(gpu_type, gpus, 0),),
        partitions=("gpu", "interactive"),
        features=frozenset({gpu_type or "h100", "simulated"}),
        weight=100,
    )


def cpu_node(name):
    """Return an idle node without GPUs."""
    return Node(
        name=name,
        state="IDLE",
        flags=frozenset(),
        cpus=64,
        cpus_used=0,
        memory_mb=500_000,
        memory_used_mb=0,
        gpus=(),
        partitions=("cpu",),
        features=frozenset({"cpu"}),
        weight=10,
    )


def default_nodes():
    """Return gpu01, gpu02 (8 H100 each) and cpu01."""
    return (cpu_node("cpu01"), gpu_node("gpu01"), gpu_node("gpu02"))


def default_partitions(nodes):
    """Return gpu (default), interactive and cpu over *nodes*."""
    with_gpus = tuple(node.name for node in nodes if "gpu" in node.partitions)
    without = tuple(node.name for node in nodes if "cpu" in node.partitions)

    def partition(name, hosts, hours, **more):
        return Partition(
            name=name,
            state="UP",
            default=name == "gpu",
            nodes=hosts,
            max_time_seconds=hours * 3600,
            default_time_seconds=3600,
            max_nodes=None,
            total_cpus=64 * len(hosts),
            **more,
        )

    return (
        partition("gpu", with_gpus, 168, billing_weights=BILLING),
        partition(
            "interactive",
            with_gpus,
            8,
            priority_tier=2,
            priority_job_factor=10,
            billing_weights=BILLING,
        ),
        partition("cpu", without, 168, billing_weights={"CPU": "0.125", "Mem": "0.0164G"}),
    )


def default_associations():
    """Return the accounts nlp-* and vision-* with users u1 to u4."""

    def account(name, parent, shares):
        return Association(
            account=name,
            user="",
            parent=parent,
            raw_shares=shares,
            qos=ALL_QOS,
            default_qos="normal",
        )

    def user(name, where, shares, *, default=False, qos=ALL_QOS):
        return Association(
            account=where,
            user=name,
            raw_shares=shares,
            qos=qos,
            default_qos="normal",
            is_default=default,
        )

    no_high = ALL_QOS - {"high"}
    return (
        account("root", "", 1),
        user("root", "root", 1, default=True),
        account("nlp", "root", 60),
        account("nlp-finetune", "nlp", 30),
        user("u1", "nlp-finetune", 10),
        user("u2", "nlp-finetune", 20, default=True),
        account("nlp-pretrain", "nlp", 70),
        user("u1", "nlp-pretrain", 10, default=True),
        user("u2", "nlp-pretrain", 20),
        account("vision", "root", 40),
        user("u1", "vision", 10),
        account("vision-seg", "vision", 50),
        user("u3", "vision-seg", 10, default=True),
        account("vision-seg-medical", "vision-seg", 50),
        user("u3", "vision-seg-medical", 10),
        user("u4", "vision-seg-medical", 10, default=True, qos=no_high),
    )


def default_qos():
    """Return normal, low, high (preempts low) and debug (half an hour, 2 GPUs)."""
    return (
        Qos("normal", priority=10, preempt_mode="cluster"),
        Qos("low", priority=1, preempt_mode="cluster"),
        Qos("high", priority=100, preempts=frozenset({"low"}), preempt_mode="cluster"),
        Qos(
            "debug",
            priority=50,
            flags=frozenset({"DenyOnLimit"}),
            preempt_mode="cluster",
            max_wall_seconds=1800,
            max_tres_per_user={"gres/gpu": 2},
        ),
    )


def default_config():
    """Return the settings that the policy layer looks at."""
    return ClusterConfig(
        name="fake",
        version="26.05.5",
        settings={
            "AccountingStorageEnforce": "associations,limits,qos,safe",
            "AccountingStorageTRES": "cpu,mem,energy,node,billing,gres/gpu,gres/gpu:h100",
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "ClusterName": "fake",
            "DefMemPerCPU": "8000",
            "GresTypes": "gpu",
            "JobSubmitPlugins": "lua",
            "MaxArraySize": "20001",
            "MaxJobCount": "50000",
            "MinJobAge": "300 sec",
            "PriorityType": "priority/multifactor",
            "PriorityWeightFairShare": "10000",
            "PriorityWeightQOS": "6000",
            "SLURM_VERSION": "26.05.5",
            "SelectType": "select/cons_tres",
        },
    )
