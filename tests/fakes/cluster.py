"""The machine room behind FakeSlurm: nodes, jobs and the passing of time.

Jobs start on free GPUs in order of priority, with numbered GPUs, and end after the ``sleep`` lines
of their script, at their time limit, or when a test says so.
"""

from __future__ import annotations

from dataclasses import replace

from slurm_gpu_policy.errors import (
    JobNotFound,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.hostlist import expand
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import (
    JobState,
    NodeAllocation,
    PriorityFactors,
)

from . import world
from .clock import FakeClock
from .queue import Placement, array_tasks, script_run, task_text

OPERATORS = frozenset({"root", "slurm"})
MIN_JOB_AGE = 300
SUBMISSION_FAILED = "Batch job submission failed: "
DENIED = "Access/permission denied"
FINISHED = "Job has already finished"
STARTED = "Job is no longer pending execution"
OPERATORS_FIELDS = frozenset({"priority", "site_factor", "admin_comment"})
WAITING_FIELDS = frozenset({"qos", "partition", "account", "excluded_nodes", "begin_time"})
"""What Slurm changes of a waiting job only (seen on 22.05)."""
CHANGES = {
    "time_limit": ("time_limit", int),
    "nice": ("nice", int),
    "priority": ("priority", int),
    "qos": ("qos", str),
    "partition": ("partitions", lambda text: tuple(text.split(","))),
    "account": ("account", str),
    "name": ("name", str),
    "comment": ("comment", str),
    "admin_comment": ("admin_comment", str),
    "features": ("features", str),
    "excluded_nodes": ("excluded", lambda text: ",".join(expand(text))),
    "site_factor": ("site", int),
    "deadline": ("extra", lambda text: {"deadline": text}),
    "begin_time": ("extra", lambda text: {"begin_time": text}),
}


class FakeCluster:
    """What the fake's controller knows, and what a test can do to it."""

    def __init__(
        self,
        *,
        nodes=None,
        partitions=None,
        associations=None,
        qos=None,
        reservations=(),
        config=None,
        clock=None,
        user="u1",
        first_job_id=1,
    ):
        self.nodes = tuple(nodes) if nodes is not None else world.default_nodes()
        self.partitions = (
            tuple(partitions) if partitions is not None else world.default_partitions(self.nodes)
        )
        self.associations = (
            tuple(associations) if associations is not None else world.default_associations()
        )
        self.qos = tuple(qos) if qos is not None else world.default_qos()
        self.reservations = tuple(reservations)
        self.config = config or world.default_config()
        self.clock = clock or FakeClock()
        self.user = user
        self.records = {}
        self.submissions = []
        self.calls = []
        self._past = []
        self.backlog = 0
        self._next_id = first_job_id
        self._failures = []
        self._refusal = None
        self._lose_next = None
        self.on_change = lambda _address: None

    def unavailable(self, times=1, error=None):
        """Let the next *times* calls find no controller."""
        error = error or SlurmUnavailable("Unable to contact slurm controller (connect failure)")
        self._failures += [error] * times

    def refuse(self, words):
        """Let the next submission be refused in these *words*."""
        self._refusal = words

    def time_out_after_queueing(self):
        """Let the next submission take effect and its answer be lost."""
        self._lose_next = "after"

    def time_out_before_queueing(self):
        """Let the next submission be lost on its way."""
        self._lose_next = "before"

    def finish(self, job_id, state=JobState.COMPLETED, exit_code=0, exit_signal=0):
        """End a running job now."""
        self._settle()
        for job in self._named(str(job_id)):
            self._end(job, state, exit_code, exit_signal)
        self._settle()

    def drain(self, name, reason="test"):
        """Let no job start on a node."""
        self._set_node(name, flags=frozenset({"DRAIN"}), reason=reason)

    def resume(self, name):
        """Undo :meth:`drain`."""
        self._set_node(name, flags=frozenset(), reason="")

    def fail_node(self, name):
        """Let a node go down: its jobs go back to the queue."""
        self._settle()
        self._set_node(name, state="DOWN", flags=frozenset({"NOT_RESPONDING"}))
        for job in self.records.values():
            if job.state.is_active and name in job.held:
                self._requeue(job, JobState.NODE_FAIL)

    def _set_node(self, name, **changes):
        self.nodes = tuple(
            replace(node, **changes) if node.name == name else node for node in self.nodes
        )

    def _associations_of(self, user):
        """Return everything, or a user's own rows and those of the accounts above them."""
        if user is None:
            return self.associations
        accounts = {one.account: one for one in self.associations if not one.user}
        mine = [one for one in self.associations if one.user == user]
        above = set()
        for name in {one.account for one in mine}:
            while name in accounts and name not in above:
                above.add(name)
                name = accounts[name].parent  # noqa: PLW2901 - one step up the tree
        return (*mine, *(one for name, one in accounts.items() if name in above))

    def _take_id(self):
        self._next_id += 1
        return self._next_id - 1

    def _begin(self, name, *what):
        self.calls.append((name, *what))
        if self._failures:
            raise self._failures.pop(0)
        self._settle()

    def _settle(self):
        """Bring the cluster up to the clock: ends first, then starts."""
        now = self.clock.now()
        for job in self.records.values():
            if job.state is JobState.RUNNING and job.end_time is not None and job.end_time <= now:
                seconds, code = script_run(job.script)
                if seconds is None or seconds > job.end_time - job.start_time:
                    self._end(job, JobState.TIMEOUT, at=job.end_time)
                else:
                    state = JobState.FAILED if code else JobState.COMPLETED
                    self._end(job, state, code, at=job.start_time + seconds)
        waiting = [job for job in self.records.values() if job.state.is_pending]
        waiting.sort(key=lambda job: (-job.effective_priority, job.job_id))
        for job in waiting:
            job.reason = self._why_not(job)
            if job.reason == "None":
                self._start(job, self._place(job), now)
        for number, job in list(self.records.items()):
            if job.state.is_over and job.end_time + MIN_JOB_AGE <= now:
                self._past.append(self.records.pop(number))

    def _why_not(self, job):
        if job.is_requeued_held:
            return "job requeued in held state"
        if job.is_held:
            return "JobHeldAdmin" if self.user in OPERATORS else "JobHeldUser"
        if job.dependency and not self._is_fulfilled(job.dependency):
            return "Dependency"
        if job.throttle:
            siblings = [one for one in self.records.values() if one.array_id == job.array_id]
            if sum(one.state.is_active for one in siblings) >= job.throttle:
                return "JobArrayTaskLimit"
        return "None" if self._place(job) else "Resources"

    def _is_fulfilled(self, dependency):
        for part in dependency.split(","):
            kind, *ids = part.split(":")
            for text in ids:
                jobs = self._named(text, missing_ok=True)
                if kind == "afterok" and any(j.state is not JobState.COMPLETED for j in jobs):
                    return False
                if any(not job.state.is_over for job in jobs):
                    return False
        return True

    def _place(self, job):
        active = [one for one in self.records.values() if one.state.is_active]
        return Placement(self.nodes, active).find(job)

    def _start(self, job, held, now):
        job.state, job.held, job.start_time = JobState.RUNNING, held, now
        seconds, _code = script_run(job.script)
        limits = [limit for limit in (seconds, job.time_limit) if limit is not None]
        job.end_time = now + min(limits) if limits else None
        job.partitions = job.partitions[:1]

    def _end(self, job, state, exit_code=0, exit_signal=0, at=None):
        job.start_time = self.clock.now() if job.start_time is None else job.start_time
        job.state, job.end_time = state, self.clock.now() if at is None else at
        job.exit_code, job.exit_signal = exit_code, exit_signal

    def _requeue(self, job, state=JobState.REQUEUED):
        past = replace(job, state=state, end_time=self.clock.now())
        self._past.append(past)
        job.state, job.held, job.start_time, job.end_time = JobState.PENDING, {}, None, None
        job.restarts += 1
        job.submit_time = max(
            self.clock.now(), job.submit_time + 1
        )  # as batch_requeue_fini() has it

    def _named(self, text, *, missing_ok=False):
        """Return the jobs an id stands for: one, or all tasks or some (``7_[1-3]``) of an array."""
        base, sign, tasks = text.partition("_[")
        if sign:
            numbers, _ = array_tasks(tasks.rstrip("]"))
            rest = self._named(base, missing_ok=missing_ok)
            return [job for job in rest if job.task in numbers]
        found = [
            job
            for job in self.records.values()
            if text in {job.display_id, str(job.job_id), str(job.array_id)}
        ]
        exact = [job for job in found if text in {job.display_id, str(job.job_id)}]
        if not found and not missing_ok:
            raise JobNotFound(text)
        return found if any(str(job.array_id) == text for job in found) else exact

    def _shown(self, jobs):
        """Return jobs as squeue has them: the waiting tasks of an array are one record."""
        now, found, rests = self.clock.now(), [], {}
        for job in jobs:
            if job.task is not None and job.state.is_pending:
                rests.setdefault(job.array_id, []).append(job)
            else:
                found.append(job.shown(now))
        for base, waiting in rests.items():
            text = task_text(job.task for job in waiting)
            if waiting[0].throttle:
                text += f"%{waiting[0].throttle}"
            found.append(
                replace(
                    waiting[0].shown(now),
                    job_id=JobId(base),
                    display_id=f"{base}_[{text}]",
                    array_task=text,
                )
            )
        return tuple(found)

    def _held(self, job):
        if not job.state.is_active:
            return ()
        kinds = {node.name: [item.type for item in node.gpus] for node in self.nodes}
        return tuple(
            NodeAllocation(
                node,
                (job.gpu_type or kinds[node][0]) if indexes else "",
                indexes,
                f"0-{job.cpus_per_node - 1}" if job.cpus_per_node > 1 else "0",
                job.memory_per_node,
            )
            for node, indexes in job.held.items()
        )

    def _shown_nodes(self):
        active = [job for job in self.records.values() if job.state.is_active]
        used = Placement(self.nodes, active)
        shown = []
        for node in self.nodes:
            taken = len(used.taken[node.name])
            cpus = used.cpus[node.name]
            state = node.state
            if state == "IDLE" and cpus:
                state = "ALLOCATED" if cpus == node.cpus else "MIXED"
            shown.append(
                replace(
                    node,
                    state=state,
                    cpus_used=cpus,
                    memory_used_mb=used.memory[node.name],
                    gpus=tuple(replace(item, used=taken) for item in node.gpus),
                )
            )
        return tuple(shown)

    def _factors(self, job):
        return PriorityFactors(
            job_id=JobId(job.job_id),
            partition=job.partitions[0],
            qos=job.qos,
            priority=job.effective_priority,
            age=0.0,
            association=0.0,
            fair_share=float(job.priority),
            job_size=0.0,
            partition_factor=0.0,
            qos_factor=0.0,
            nice=job.nice,
            site=job.site,
        )
