"""Small worlds for tests: policies through the real validation, snapshots of two H100 nodes."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import yaml

from slurm_gpu_policy.config.frozen import from_plain, to_plain
from slurm_gpu_policy.config.validation import validate
from slurm_gpu_policy.model.account import Association, Qos
from slurm_gpu_policy.model.cluster import ClusterConfig, Node, NodeGpus, Partition
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import Job, JobState
from slurm_gpu_policy.model.request import Request
from slurm_gpu_policy.model.snapshot import Snapshot

DAY = 86400
NOW = 1_800_000_000


def make_policy(**fields: Any):
    """A policy as the loader returns it, from the fields of a policy file."""
    return from_plain(to_plain(validate(yaml.safe_dump(fields).encode(), "policy.yaml")))


def make_node(name: str, gpu_type: str = "h100", gpus: int = 8, **fields: Any) -> Node:
    defaults: dict[str, Any] = {
        "state": "IDLE",
        "flags": frozenset(),
        "cpus": 64,
        "cpus_used": 0,
        "memory_mb": 1_000_000,
        "memory_used_mb": 0,
        "gpus": (NodeGpus(gpu_type, gpus, 0),) if gpus else (),
        "partitions": ("gpu", "interactive") if gpus else ("cpu",),
        "features": frozenset(),
    }
    return Node(name=name, **{**defaults, **fields})


def make_partition(name: str, *nodes: str, **fields: Any) -> Partition:
    defaults: dict[str, Any] = {
        "state": "UP",
        "default": name == "gpu",
        "max_time_seconds": 7 * DAY,
        "default_time_seconds": 3600,
        "max_nodes": None,
    }
    return Partition(name=name, nodes=nodes, **{**defaults, **fields})


def make_association(account: str = "nlp", user: str = "u1", **fields: Any) -> Association:
    defaults: dict[str, Any] = {
        "qos": frozenset({"normal", "high"}),
        "default_qos": "normal",
        "is_default": True,
    }
    return Association(account=account, user=user, **{**defaults, **fields})


def make_snapshot(**fields: Any) -> Snapshot:
    """Two nodes of 8 H100s, a CPU node; u1 may use account nlp, and Slurm enforces limits."""
    defaults: dict[str, Any] = {
        "time": NOW,
        "nodes": (make_node("gpu01"), make_node("gpu02"), make_node("cpu01", gpus=0)),
        "partitions": (
            make_partition("gpu", "gpu01", "gpu02"),
            make_partition("interactive", "gpu01", "gpu02", max_time_seconds=8 * 3600),
            make_partition("cpu", "cpu01"),
        ),
        "associations": (make_association(),),
        "qos": (Qos("normal"), Qos("high", priority=100)),
        "config": ClusterConfig(
            "cluster",
            "22.05.8",
            MappingProxyType({"AccountingStorageEnforce": "associations,limits,qos,safe"}),
        ),
    }
    return Snapshot(**{**defaults, **fields})


def make_request(**fields: Any) -> Request:
    defaults: dict[str, Any] = {"user": "u1", "command": ("true",)}
    if not fields.keys() & {"gpus", "gpus_per_node"}:
        defaults["gpus"] = 1
    return Request(**{**defaults, **fields})


_JOB = Job(
    job_id=JobId(1), display_id="1", name="job", user="u1", account="nlp", partitions=("gpu",),
    qos="normal", state=JobState.RUNNING, reason="", gpus=1, gpu_type="h100", nodes=1, cpus=1,
    memory_mb=1000, time_limit_seconds=3600, submit_time=NOW, eligible_time=NOW, start_time=NOW,
    end_time=None, elapsed_seconds=0, priority=1000, nice=0, node_list="gpu01",
)  # fmt: skip


def make_job(number: int = 1, **fields: Any) -> Job:
    return replace(_JOB, job_id=JobId(number), display_id=str(number), **fields)
