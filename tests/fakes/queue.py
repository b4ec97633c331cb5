"""Jobs of the fake cluster: read from sbatch's options, placed on nodes, shown as model.Job."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from slurm_gpu_policy.adapters.slurm.gres import gpus
from slurm_gpu_policy.errors import SlurmRefused
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import Job, JobState
from slurm_gpu_policy.units import parse_duration, parse_memory

DEFAULT_MEMORY_PER_CPU = 8000


@dataclass
class FakeJob:
    """One job or array task. ``held`` maps a node to the GPU indexes held there."""

    job_id: int
    user: str
    script: str
    options: dict
    account: str
    partitions: tuple
    qos: str
    gpus_per_node: int
    gpu_type: str
    nodes: int
    cpus_per_node: int
    memory_per_node: int
    time_limit: int | None
    submit_time: int
    name: str = ""
    comment: str = ""
    dependency: str = ""
    array_id: int | None = None
    task: int | None = None
    throttle: int = 0
    state: JobState = JobState.PENDING
    reason: str = "None"
    priority: int = 1000
    site: int = 0
    nice: int = 0
    is_held: bool = False
    is_requeued_held: bool = False
    admin_comment: str = ""
    features: str = ""
    excluded: str = ""
    start_time: int | None = None
    end_time: int | None = None
    restarts: int = 0
    exit_code: int = 0
    exit_signal: int = 0
    held: dict = field(default_factory=dict)
    messages: list = field(default_factory=list)
    signals: list = field(default_factory=list)
    extra: dict = field(default_factory=dict)

    @property
    def gpus(self):
        return self.gpus_per_node * self.nodes

    @property
    def display_id(self):
        return str(self.job_id) if self.task is None else f"{self.array_id}_{self.task}"

    @property
    def effective_priority(self):
        return 0 if self.is_held else max(1, self.priority + self.site - self.nice)

    def shown(self, now):
        """Return the job as the model has it."""
        elapsed = 0
        if self.start_time is not None:
            elapsed = (self.end_time if self.state.is_over else now) - self.start_time
        return Job(
            job_id=JobId(self.job_id),
            display_id=self.display_id,
            name=self.name,
            user=self.user,
            account=self.account,
            partitions=self.partitions,
            qos=self.qos,
            state=self.state,
            reason="" if self.reason == "None" else self.reason,
            gpus=self.gpus,
            gpu_type=self.gpu_type,
            nodes=self.nodes,
            cpus=self.cpus_per_node * self.nodes,
            memory_mb=self.memory_per_node * self.nodes,
            time_limit_seconds=self.time_limit,
            submit_time=self.submit_time,
            eligible_time=self.submit_time,
            start_time=self.start_time,
            end_time=self.end_time,
            elapsed_seconds=elapsed,
            priority=self.effective_priority,
            nice=self.nice,
            node_list=",".join(self.held) if self.state.is_active else "",
            dependency=self.dependency,
            reservation=self.options.get("reservation") or "",
            comment=self.comment,
            array_job_id=None if self.array_id is None else JobId(self.array_id),
            array_task="" if self.task is None else str(self.task),
            features=self.features,
            accrue_time=None if self.is_held else self.submit_time,
            admin_comment=self.admin_comment,
            restarts=self.restarts,
            exit_code=self.exit_code,
            tres=self.tres,
        )

    @property
    def tres(self):
        """What it holds or asks for; memory in MiB."""
        counts = {
            "billing": max(8 * self.gpus, self.cpus_per_node * self.nodes),
            "cpu": self.cpus_per_node * self.nodes,
            "mem": self.memory_per_node * self.nodes,
            "node": self.nodes,
        }
        if self.gpus:
            counts |= {"gres/gpu": self.gpus, f"gres/gpu:{self.gpu_type or 'h100'}": self.gpus}
        return counts


def array_tasks(text):
    """Return (task numbers, throttle) of ``--array=0-9:2,12%3``."""
    spans, _, throttle = text.partition("%")
    tasks = []
    for span in spans.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", span)
        if match is None:
            msg = "Batch job submission failed: Invalid job array specification"
            raise SlurmRefused(msg)
        first, last, step = (int(part) if part else None for part in match.groups())
        tasks += range(first, (first if last is None else last) + 1, step or 1)
    return tasks, int(throttle or 0)


def task_text(tasks):
    """Return Slurm's text for pending task numbers: ``0-3,7``."""
    spans = []
    for number in sorted(tasks):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def read_size(options):
    """Return (GPUs per node, type, nodes, CPUs per node, MiB per node, seconds) of a request."""
    nodes = int(options.get("nodes") or 1)
    tasks = int(options.get("ntasks") or nodes)
    kind, per_node = "", 0
    if whole := options.get("gpus"):
        entry = gpus("gpu:" + whole)[0]
        per_node, kind = -(-entry.number // nodes), entry.kind
    if each := options.get("gpus-per-node"):
        entry = gpus("gpu:" + each)[0]
        per_node, kind = entry.number, entry.kind
    if each := options.get("gpus-per-task"):
        entry = gpus("gpu:" + each)[0]
        per_node, kind = entry.number * -(-tasks // nodes), entry.kind
    for entry in gpus(options.get("gres") or ""):
        per_node, kind = entry.number, entry.kind
    if any((options.get(name) or "").startswith("0") for name in ("nodes", "ntasks")):
        msg = "Batch job submission failed: Node count specification invalid"
        raise SlurmRefused(msg)
    cpus = int(options.get("cpus-per-task") or 1) * -(-tasks // nodes)
    memory = options.get("mem")
    memory_mb = parse_memory(memory) if memory else DEFAULT_MEMORY_PER_CPU * cpus
    time = options.get("time")
    return per_node, kind, nodes, cpus, memory_mb, parse_duration(time) if time else None


def script_run(script):
    """Return (seconds, exit code) of a script of ``sleep`` and ``exit`` lines.

    Seconds are ``None`` (until the time limit) where it has neither.
    """
    naps = [int(number) for number in re.findall(r"^sleep (\d+)", script, re.MULTILINE)]
    code = re.search(r"^exit (\d+)", script, re.MULTILINE)
    if not naps and code is None:
        return None, 0
    return sum(naps), int(code[1]) if code else 0


class Placement:
    """Which GPUs, CPUs and memory of which node are taken."""

    def __init__(self, nodes, jobs):
        self.nodes = nodes
        self.taken = {node.name: set() for node in nodes}
        self.cpus = {node.name: 0 for node in nodes}
        self.memory = {node.name: 0 for node in nodes}
        for job in jobs:
            for name, indexes in job.held.items():
                self.taken[name] |= set(indexes)
                self.cpus[name] += job.cpus_per_node
                self.memory[name] += job.memory_per_node

    def find(self, job, *, empty=False):
        """Return nodes and GPU indexes for *job*, or ``None``; on an *empty* cluster if said."""
        found = {}
        for node in sorted(self.nodes, key=lambda node: (node.weight, node.name)):
            if len(found) == job.nodes:
                break
            indexes = self._fit(node, job, empty=empty)
            if indexes is not None:
                found[node.name] = indexes
        return found if len(found) == job.nodes else None

    def _fit(self, node, job, *, empty):
        names = [part for part in job.partitions if part in node.partitions]
        kinds = [item for item in node.gpus if job.gpu_type in {"", item.type}]
        wanted = set(job.features.replace("&", ",").split(",")) - {""}
        if not names or not (empty or node.usable) or node.name in job.excluded.split(","):
            return None
        if not wanted <= node.features or (job.gpus_per_node and not kinds):
            return None
        taken = set() if empty else self.taken[node.name]
        free = [number for number in range(sum(g.total for g in kinds)) if number not in taken]
        cpus = node.cpus - (0 if empty else self.cpus[node.name])
        memory = node.memory_mb - (0 if empty else self.memory[node.name])
        if len(free) < job.gpus_per_node or cpus < job.cpus_per_node:
            return None
        return tuple(free[: job.gpus_per_node]) if memory >= job.memory_per_node else None
