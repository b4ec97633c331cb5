"""What ``scontrol -d show job`` adds to squeue: GPU indexes on each node, and a few settings.

scontrol prints free text unquoted, so a job's name may look like anything else in the record.
Two anchors make it safe: the name is known from squeue and stands first, and all that is read
here stands between it and ``MinCPUsNode=``, before the paths and comments.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.adapters.slurm.gres import gpus
from slurm_gpu_policy.model.hostlist import expand
from slurm_gpu_policy.model.job import JobDetail, NodeAllocation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job

_NODES = re.compile(r"\n +Nodes=(\S+) CPU_IDs=(\S*) Mem=(\d+) GRES=(\S*)")
_IDS = re.compile(r"(?:^|\n)JobId=(\d+) [^\n]*?JobName=")
_LAST = "\n   MinCPUsNode="


def detail(text: str, job: Job, free: tuple[str, ...]) -> JobDetail:
    """Read one job's record; *free* are its work_dir, std_out, std_err and command.

    Raises:
        SlurmUnreadable: the record is not there in the form expected.
    """
    starts = [found.end() for found in _IDS.finditer(text) if found[1] == str(job.job_id)]
    trusted = _trusted(text, job, starts)
    if not trusted:
        q.unreadable("JobName", text[:60], f"job {job.job_id}")
    fields = dict(part.split("=", 1) for part in trusted.split() if "=" in part)
    try:
        code, signal = q.exit_status(fields.get("ExitCode", ""))
        restarts = q.count(fields.get("Restarts", ""))
        allocations = _allocations(trusted)
    except ValueError as error:
        q.unreadable("ExitCode, Restarts or Nodes", str(error), f"job {job.job_id}")
    work_dir, std_out, std_err, command = free
    return JobDetail(
        job=job,
        allocations=allocations if job.state.is_active else (),
        work_dir=work_dir,
        std_out=filled(std_out, job, work_dir),
        std_err=filled(std_err or std_out, job, work_dir),
        command=command,
        exit_code=code,
        exit_signal=signal,
        restarts=restarts,
        submit_host=q.word(fields.get("AllocNode:Sid", "").partition(":")[0]),
        requested_tres=q.word(fields.get("ReqTRES", fields.get("TRES", ""))),
        excluded_nodes=q.word(fields.get("ExcNodeList", "")),
    )


def filled(path: str, job: Job, work_dir: str) -> str:
    """Return *path* with sbatch's patterns filled in, as later releases do themselves.

    What is not known yet stays as it is: the task of waiting array tasks, the first node.
    """
    is_task = job.array_task.isdigit()
    if job.array_task and not is_task:
        path = path.replace(_NO_TASK, "%a")
    values = {
        "A": str(job.array_job_id or job.job_id),
        "J": str(job.job_id),
        "j": str(job.job_id),
        "u": job.user,
        "x": job.name,
        "%": "%",
    }
    if is_task:
        values |= {"a": job.array_task, "b": str(int(job.array_task) % 10)}
    if job.node_list:
        values["N"] = expand(job.node_list)[0]

    def fill(found: re.Match[str]) -> str:
        value = values.get(found[2])
        return found[0] if value is None else value.zfill(min(int(found[1] or 0), 10))

    path = _PATTERN.sub(fill, path)
    folder, slash, name = path.rpartition("/")
    if is_task and name == f"slurm-{job.job_id}.out":
        # What 22.05 calls a task's output where none was named; the file has Slurm's own name.
        path = f"{folder}{slash}slurm-{job.array_job_id}_{job.array_task}.out"
    return path if path.startswith("/") or not path else f"{work_dir}/{path}"


_PATTERN = re.compile(r"%(\d*)([%AJNabjux])", re.ASCII)
_NO_TASK = "4294967294"


def held(text: str, jobs: Iterable[Job]) -> dict[JobId, tuple[NodeAllocation, ...]]:
    """Return what each of *jobs* holds, from the records of all jobs.

    A job that is not there, or under another name, ended or changed between the two calls
    that told of it; it is left out.
    """
    starts: dict[str, list[int]] = {}
    for found in _IDS.finditer(text):
        starts.setdefault(found[1], []).append(found.end())
    layouts = {}
    for job in jobs:
        trusted = _trusted(text, job, starts.get(str(job.job_id), ()))
        if trusted and (allocations := _allocations(trusted)):
            layouts[job.job_id] = allocations
    return layouts


def _trusted(text: str, job: Job, starts: Iterable[int]) -> str:
    """Return the part of the job's record that only Slurm writes; ``""`` where it is not found.

    *starts* are the places behind ``JobName=`` of what looks like the job's record.
    """
    begin = next((at for at in starts if text.startswith(f"{job.name}\n   ", at)), -1)
    end = text.find(_LAST, begin + len(job.name))
    return text[begin + len(job.name) : end] if begin >= 0 <= end else ""


def _allocations(trusted: str) -> tuple[NodeAllocation, ...]:
    """Return one entry for each node and type of GPU; a node without GPUs has one too."""
    found = []
    for hosts, cpus, memory, gres in _NODES.findall(trusted):
        held = gpus(gres)
        for node in expand(hosts):
            if not held:
                found.append(NodeAllocation(node, "", (), cpus, int(memory)))
            found += [
                NodeAllocation(node, entry.kind, entry.indexes, cpus, int(memory)) for entry in held
            ]
    return tuple(found)
