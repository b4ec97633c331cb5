"""A small honest cluster in memory, with Slurm's answers and refusals.

It places jobs on free GPUs in order of priority, numbers the GPUs, ends jobs after the
``sleep`` lines of their script, at their time limit or when a test says so, keeps ended jobs
for MinJobAge and their accounting for ever. It does not do: backfill by time, preemption, fair
share, reservations.

    clock = FakeClock()
    slurm = FakeSlurm(clock=clock)           # as user u1, on the local cluster's nodes
    slurm.user = "root"                      # from here on an operator asks
    slurm.finish(job_id, exit_code=1)        # a job ends
    slurm.unavailable(times=3)               # the next three calls fail
    slurm.time_out_after_queueing()          # the next submission takes effect, unanswered
    slurm.refuse("QOSMaxGRESPerUser")        # the next submission is refused in these words
    slurm.on_change = do                     # is called with the address before each change of many
"""

from __future__ import annotations

from dataclasses import replace

from slurm_gpu_policy.errors import (
    JobNotFound,
    SlurmError,
    SlurmRefused,
    SlurmTimeout,
)
from slurm_gpu_policy.model.hostlist import expand
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobDetail, JobState
from slurm_gpu_policy.model.snapshot import Part, Snapshot

from .accounting import overlaps, record_of, tres_text
from .cluster import (
    CHANGES,
    DENIED,
    FINISHED,
    OPERATORS,
    OPERATORS_FIELDS,
    STARTED,
    SUBMISSION_FAILED,
    WAITING_FIELDS,
    FakeCluster,
)
from .queue import FakeJob, Placement, array_tasks, read_size


class FakeSlurm(FakeCluster):
    """Implements :class:`slurm_gpu_policy.services.ports.SlurmPort`."""

    @property
    def description(self):
        return "a fake Slurm in memory"

    def read(self, *parts, user=None, fresh=False):
        self._begin("read", *parts)
        found = {}
        if Part.JOBS in parts:
            found["jobs"] = tuple(
                shown
                for shown in self._shown(self.records.values())
                if Part.ENDED in parts or not shown.state.is_over
            )
        if Part.NODES in parts:
            found["nodes"] = self._shown_nodes()
        if Part.PRIORITIES in parts:
            found["priorities"] = tuple(
                self._factors(job)
                for job in self.records.values()
                if job.state.is_pending and not job.is_held
            )
        if {Part.ASSOCIATIONS, Part.SHARES, Part.USAGE} & set(parts):
            found["associations"] = self._associations_of(user)
        for part, name in (
            (Part.PARTITIONS, "partitions"),
            (Part.QOS, "qos"),
            (Part.RESERVATIONS, "reservations"),
            (Part.CONFIG, "config"),
        ):
            if part in parts:
                found[name] = getattr(self, name)
        return Snapshot(time=self.clock.now(), **found)

    def read_ahead(self, *parts, user=None):
        """Do nothing, as a reader may."""

    def jobs(self, job_ids):
        self._begin("jobs")
        wanted = {id(job) for text in job_ids for job in self._named(text, missing_ok=True)}
        return self._shown(job for job in self.records.values() if id(job) in wanted)

    def job(self, job_id):
        self._begin("job")
        job = self._named(job_id)[0]
        shown = next(
            one for one in self._shown([job]) if one.job_id == job.job_id or job.task is not None
        )
        pattern = "slurm-%A_%a.out" if job.task is not None else "slurm-%j.out"
        work_dir = job.options.get("chdir") or f"/home/{job.user}"
        output = (job.options.get("output") or f"{work_dir}/{pattern}").replace(
            "%j", str(job.job_id)
        )
        output = output.replace("%A", str(job.array_id)).replace("%a", str(job.task))
        return JobDetail(
            job=shown,
            allocations=self._held(job),
            work_dir=work_dir,
            std_out=output,
            std_err=job.options.get("error") or output,
            command="",
            exit_code=job.exit_code,
            exit_signal=job.exit_signal,
            restarts=job.restarts,
            submit_host="localhost",
            requested_tres=tres_text(job),
            excluded_nodes=job.excluded,
        )

    def allocations(self, job_ids=()):
        self._begin("allocations", *job_ids)
        wanted = {id(job) for text in job_ids for job in self._named(text, missing_ok=True)}
        return {
            JobId(job.job_id): self._held(job)
            for job in self.records.values()
            if job.state.is_active and (not job_ids or id(job) in wanted)
        }

    def estimated_starts(self, job_ids):
        self._begin("estimated_starts")
        return {
            job.job_id: job.start_time
            for job in self.jobs(job_ids)
            if job.state.is_pending and job.start_time is not None
        }

    def script(self, job_id):
        self._begin("script")
        job = self._named(job_id)[0]
        if not job.script:
            raise JobNotFound(job_id)
        return job.script

    def submit(self, submission):
        self._begin("submit")
        lost, self._lose_next = self._lose_next, None
        if lost == "before":
            msg = "Socket timed out on send/recv operation"
            raise SlurmTimeout(msg)
        job_id = self._queue(submission, submission.script)
        if lost == "after":
            msg = "Socket timed out on send/recv operation"
            raise SlurmTimeout(msg)
        return job_id

    def submit_many(self, submissions):
        answers = []
        for submission in submissions:
            try:
                answers.append(self.submit(submission))
            except SlurmError as error:
                answers.append(error)
        return tuple(answers)

    def allocate(self, submission, timeout_seconds=None):
        self._begin("allocate")
        job_id = self._queue(submission, "")
        self._settle()
        job = self.records[job_id]
        if not job.state.is_active and timeout_seconds is not None:
            self.clock.sleep(timeout_seconds)
            self._settle()
        if not job.state.is_active:
            self._end(job, JobState.CANCELLED)
            msg = f"no allocation within {timeout_seconds} s; the request was withdrawn"
            raise SlurmTimeout(msg)
        return job_id

    def find(self, token):
        self._begin("find")
        return tuple(
            sorted(
                {
                    JobId(job.array_id or job.job_id)
                    for job in (*self.records.values(), *self._past)
                    if self.user in {job.user, "root"} and token in job.comment
                }
            )
        )

    def would_start(self, submission):
        self._begin("would_start")
        job = self._read(submission, submission.script)
        job.time_limit = job.time_limit or 3600
        if self._place(job):
            return self.clock.now()
        if not Placement([node for node in self.nodes if node.usable], ()).find(job, empty=True):
            return None
        ends = [one.end_time for one in self.records.values() if one.state.is_active]
        return max(ends, default=self.clock.now())

    def _queue(self, submission, script):
        if self._refusal is not None:
            words, self._refusal = self._refusal, None
            raise SlurmRefused(words)
        job = self._read(submission, script)
        self.submissions.append(submission)
        if spec := job.options.get("array"):
            tasks, throttle = array_tasks(spec)
            base = self._next_id
            for task in tasks:
                number = self._take_id()
                self.records[number] = replace(
                    job, job_id=number, array_id=base, task=task, throttle=throttle
                )
            return JobId(base)
        job.job_id = self._take_id()
        self.records[job.job_id] = job
        return JobId(job.job_id)

    def _read(self, submission, script):
        options = dict(submission.script_options) | dict(submission.options)
        user = submission.submit_as or self.user
        if submission.submit_as and self.user != "root":
            raise SlurmRefused(SUBMISSION_FAILED + DENIED)
        account, qos = self._association(user, options)
        names = options.get("partition") or next(p.name for p in self.partitions if p.default)
        partitions = {partition.name: partition for partition in self.partitions}
        if any(name not in partitions for name in names.split(",")):
            raise SlurmRefused(SUBMISSION_FAILED + "Invalid partition name specified")
        per_node, kind, nodes, cpus, memory, seconds = read_size(options)
        job = FakeJob(
            job_id=0,
            user=user,
            script=script,
            options=options,
            account=account,
            partitions=tuple(names.split(",")),
            qos=qos,
            gpus_per_node=per_node,
            gpu_type=kind,
            nodes=nodes,
            cpus_per_node=cpus,
            memory_per_node=memory,
            time_limit=seconds or partitions[names.split(",")[0]].default_time_seconds,
            submit_time=self.clock.now(),
            name=options.get("job-name") or "sbatch",
            comment=options.get("comment") or "",
            dependency=options.get("dependency") or "",
            features=options.get("constraint") or "",
            excluded=",".join(expand(options.get("exclude") or "")),
            nice=int(options.get("nice") or 0),
            is_held="hold" in options,
        )
        if Placement(self.nodes, ()).find(job, empty=True) is None:
            words = "Requested node configuration is not available"
            raise SlurmRefused(SUBMISSION_FAILED + words)
        return job

    def _association(self, user, options):
        mine = [one for one in self.associations if one.user == user]
        account = options.get("account")
        found = next(
            (one for one in mine if (one.account == account if account else one.is_default)), None
        )
        if found is None:
            words = "Invalid account or account/partition combination specified"
            raise SlurmRefused(SUBMISSION_FAILED + words)
        qos = options.get("qos") or found.default_qos
        if qos not in found.qos:
            raise SlurmRefused(SUBMISSION_FAILED + "Invalid qos specification")
        return found.account, qos

    def cancel(self, job_id, *, signal=None):
        self._begin("cancel")
        for job in self._owned(job_id):
            if job.state.is_over:
                continue
            if signal is not None:
                job.signals.append(signal)
            else:
                self._end(job, JobState.CANCELLED)

    def hold(self, job_id):
        self._begin("hold")
        self._steer(job_id, "hold")

    def release(self, job_id):
        self._begin("release")
        self._steer(job_id, "release")

    def requeue(self, job_id, *, hold=False):
        self._begin("requeue")
        self._steer(job_id, "requeue_held" if hold else "requeue")

    def _steer(self, job_id, verb):
        for job in self._owned(job_id):
            if verb in {"hold", "release"}:
                if job.state.is_over:
                    raise SlurmRefused(FINISHED)
                if not job.state.is_pending:
                    raise SlurmRefused(STARTED)
                job.is_held, job.is_requeued_held = verb == "hold", False
            else:
                if job.state.is_pending:
                    msg = "Job is pending execution"
                    raise SlurmRefused(msg)
                self._requeue(job)
                job.is_held = job.is_requeued_held = verb == "requeue_held"

    def modify(self, job_id, changes):
        self._begin("modify")
        for key in changes:
            if key not in CHANGES:
                msg = f"a job has no changeable field {key!r}"
                raise ValueError(msg)
        self._change(job_id, changes)

    def _change(self, job_id, changes):
        """Change all that is wanted, or nothing; of an array, its tasks that wait."""
        jobs = self._owned(job_id)
        if changes.keys() & OPERATORS_FIELDS and self.user not in OPERATORS:
            raise SlurmRefused(DENIED)
        living = [job for job in jobs if not job.state.is_over]
        if not living:
            raise SlurmRefused(FINISHED)
        if changes.keys() & WAITING_FIELDS:
            living = [job for job in living if job.state.is_pending]
        if not living:
            raise SlurmRefused(STARTED)
        for key, value in changes.items():
            name, read = CHANGES[key]
            for job in living:
                setattr(job, name, read(value))

    def notify(self, job_id, message):
        self._begin("notify")
        for job in self._owned(job_id):
            job.messages.append(message)

    def set_site_factors(self, factors):
        wanted = {str(job_id): {"site_factor": n} for job_id, n in factors.items()}
        return {JobId(int(one)): words for one, words in self.modify_many(wanted).items()}

    def modify_many(self, changes):
        for wanted in changes.values():
            if not wanted.keys() <= CHANGES.keys():
                msg = f"a job has no changeable field {min(wanted.keys() - CHANGES.keys())!r}"
                raise ValueError(msg)
        self._begin("modify_many", len(changes))
        return self._each(changes, lambda address: self._change(address, changes[address]))

    def steer_many(self, verb, addresses):
        self._begin("steer_many", verb, len(addresses))
        return self._each(addresses, lambda address: self._steer(address, verb))

    def _each(self, addresses, do):
        refused = {}
        for address in addresses:
            self.on_change(address)
            try:
                do(address)
            except JobNotFound:
                refused[address] = "Invalid job id specified"
            except SlurmRefused as error:
                refused[address] = str(error)
        return refused

    @property
    def calls_made(self):
        return len(self.calls)

    def accounting(self, *, start=None, end=None, job_ids=(), users=(), accounts=()):
        self._begin("accounting")
        runs = [*self._past, *self.records.values()]
        runs.sort(key=lambda job: (job.submit_time, job.job_id, job.restarts))
        found = []
        for job in runs:
            if users and job.user not in users:
                continue
            if accounts and job.account not in accounts:
                continue
            if job_ids and not {job.display_id, str(job.array_id), str(job.job_id)} & set(job_ids):
                continue
            times = (job.start_time, job.end_time)
            if (start is not None or end is not None) and not overlaps(times, start, end):
                continue
            found.append(record_of(job, self.clock.now()))
        return tuple(found)

    def accounting_backlog(self):
        self._begin("accounting_backlog")
        return self.backlog

    def _owned(self, text):
        jobs = self._named(text)
        if any(self.user not in {job.user, *OPERATORS} for job in jobs):
            raise SlurmRefused(DENIED)
        return jobs
