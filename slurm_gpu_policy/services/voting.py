"""Approving and denying jobs that wait for it, and showing which do (rules V-9xx)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from slurm_gpu_policy.errors import NotAllowed, RequestError
from slurm_gpu_policy.model.action import Action, Vote
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.tag import CONTROLLER, read_tag
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.approval import (
    Judge,
    asked_at,
    is_within,
    vote_key,
)
from slurm_gpu_policy.policy.thresholds import (
    approvals_needed,
    approvers_words,
    as_one,
    exceeded,
    needs_approval,
)
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.policy.thresholds import Size
    from slurm_gpu_policy.services.deeds import Deeds
    from slurm_gpu_policy.services.directory import Directory
    from slurm_gpu_policy.services.ports import Clock, RecordsPort, SlurmPort

_PARTS: Final = (Part.JOBS, Part.ASSOCIATIONS, Part.CONFIG)
_LONGEST_REASON: Final = 500
_ONCE_MORE: Final = 2
"""An approval is a release and then its mark."""


class Voting:
    """Takes votes, and acts on them at once."""

    def __init__(  # noqa: PLR0913 - what it needs, by name
        self,
        *,
        slurm: SlurmPort,
        records: RecordsPort,
        clock: Clock,
        directory: Directory,
        deeds: Deeds,
        uncovered: Callable[[Policy], Collection[JobId]] = lambda _: (),
    ) -> None:
        """*uncovered* are jobs that stay held for their budget when they are approved (B-006)."""
        self._uncovered = uncovered
        self._slurm = slurm
        self._records = records
        self._clock = clock
        self._directory = directory
        self._deeds = deeds

    def vote(
        self,
        caller: Caller,
        job_id: str,
        verdict: Literal["approve", "deny"],
        reason: object,
        policy: Policy,
    ) -> dict[str, Any]:
        """Rules V-903, V-904: take a vote on a job, and do what all votes then make of it.

        Raises:
            RequestError: no reason, or nothing to vote on.
            NotAllowed: the caller is no approver, or the job's owner.
        """
        words = _reason(reason)
        job, waiting, judge = self._look(caller, job_id, policy)
        _check_voter(caller, job, judge)
        marked = [self._was_marked(caller, one, judge) for one in waiting if _asks(one, judge)]
        if any(marked):
            job, waiting, judge = self._look(caller, job_id, policy)
        size = judge.size(job)
        voted = self._records.votes([vote_key(job)])
        now = self._clock.now()
        before = judge.counting(job, voted)
        if judge.standing(job, before) == "expired":
            msg = f"job {job.display_id} waited too long: its approval expired (rule V-905)"
            raise RequestError(msg)
        submitted = now if job.submit_time is None else job.submit_time
        cast = max(now, *(asked_at(one) + 1 for one in waiting))  # larger already by then
        vote = Vote(vote_key(job), submitted, caller.user, verdict, words, cast)
        needed = approvals_needed(size, policy)
        self._keep(caller, _voted(job, vote, before, needed), vote)
        votes = (*voted, vote)
        for one in waiting:
            self._act(caller, one, votes, judge)
        valid = judge.counting(job, votes)
        return {
            "job_id": vote_key(job),
            "state": judge.standing(job, valid),
            "approvals": sum(one.verdict == "approve" for one in valid),
            "approvals_needed": needed,
            "asks_for": size.words,
            "level": rules.level_of(rules.APPROVAL_NEEDED, policy),
        }

    def waiting(self, caller: Caller, policy: Policy) -> list[dict[str, Any]]:
        """Return what waits for an approval: the caller's own, those they may vote on, or all."""
        snapshot = self._slurm.read(*_PARTS)
        votes = self._records.votes()
        users = {caller.user, *(one.approver for one in votes)}
        judge = Judge(snapshot, policy, self._directory.people(users, policy))
        sees_all = self._directory.is_operator(caller, policy, snapshot.config)
        listed = []
        for job in as_one(snapshot.jobs):
            if not job.state.is_pending:
                continue
            state = read_tag(job.admin_comment, CONTROLLER).get("approval", "")
            size = judge.size(job)
            if state == "approved" or not exceeded(size, policy):
                continue
            may = judge.may_vote(caller.user, job)
            if sees_all or may or job.user == caller.user:
                listed.append({**_waits(job, size, votes, judge), "may_vote": may})
        return listed

    def _look(
        self, caller: Caller, job_id: str, policy: Policy
    ) -> tuple[Job, tuple[Job, ...], Judge]:
        """Return the waiting record of a job to vote on, all of them, and what judging them needs.

        What waits of an array may differ, since its owner can change its tasks one by one: the
        one to vote on is the first that needs an approval.
        """
        snapshot, jobs = self._deeds.find(job_id)
        waiting = tuple(job for job in jobs if job.state.is_pending)
        if not waiting:
            msg = (
                f"job {jobs[0].display_id} is {jobs[0].state.value}: nothing waits for an approval"
            )
            raise RequestError(msg)
        voted = self._records.votes([vote_key(waiting[0])])
        users = {caller.user, *(vote.approver for vote in voted)}
        people = self._directory.people(users, policy)
        judge = Judge(snapshot, policy, people, self._uncovered(policy))
        return min(waiting, key=lambda job: _settled(job, judge)), waiting, judge

    def _was_marked(self, caller: Caller, job: Job, judge: Judge) -> bool:
        """Rule V-906: mark what is voted on before the vote, so that what grows then is seen.

        Raises:
            RequestError: it grew since it was marked: nobody approves, unseen, more than that.
        """
        size = judge.size(job)
        held = read_tag(job.admin_comment, CONTROLLER).get("size")
        if held == size.text:
            return False
        self._act(caller, job, self._records.votes([vote_key(job)]), judge)
        if held is None or is_within(size, held):
            return True
        msg = (
            f"job {job.display_id} was made larger after it was held, and asks for {size.words} "
            "now: look again (gpu-policy approvals), then repeat this"
        )
        raise RequestError(msg)

    def _keep(self, caller: Caller, action: Action, vote: Vote) -> None:
        """Put a vote where it counts, and into the audit log."""
        now = self._clock.now()
        (entry,) = self._records.begin(caller.user, now, [(action, "enforce")])
        self._records.vote(vote)
        self._records.finish(now, {entry: ("done", "")})

    def _act(self, caller: Caller, job: Job, votes: Sequence[Vote], judge: Judge) -> None:
        """Do what the votes make of a job, as the next tick would; it does what is left."""
        for _ in range(_ONCE_MORE):
            action = judge.judge(job, votes)
            if action is None or not self._deeds.do(caller, job, action, judge.policy):
                return
            if action.verb != "release":
                return
            now = self._slurm.jobs([str(vote_key(job))])
            job = next((one for one in as_one(now) if one.job_id == job.job_id), job)


def _reason(reason: object) -> str:
    if not isinstance(reason, str) or not reason.strip():
        msg = "a reason is needed: --reason TEXT"
        raise RequestError(msg)
    if len(reason) > _LONGEST_REASON:
        msg = f"the reason has {len(reason)} characters; {_LONGEST_REASON} are allowed"
        raise RequestError(msg)
    return reason.strip()


def _settled(job: Job, judge: Judge) -> tuple[bool, bool]:
    """Return what sorts the records that need an approval, and have none, before the others."""
    return not exceeded(judge.size(job), judge.policy), _is_approved(job)


def _asks(job: Job, judge: Judge) -> bool:
    return not any(_settled(job, judge))


def _is_approved(job: Job) -> bool:
    return read_tag(job.admin_comment, CONTROLLER).get("approval") == "approved"


def _check_voter(caller: Caller, job: Job, judge: Judge) -> None:
    """Rule V-903."""
    policy, size = judge.policy, judge.size(job)
    if not exceeded(size, policy):
        msg = f"job {job.display_id} needs no approval"
        raise RequestError(msg)
    if caller.user == job.user:
        msg = f"job {job.display_id} is {caller.user}'s own: an approver must vote on it"
        raise NotAllowed(msg)
    if not judge.may_vote(caller.user, job):
        who = approvers_words(policy)
        msg = f"{caller.user} is no approver of job {job.display_id}; who may: {who}"
        raise NotAllowed(msg)
    if _is_approved(job):
        msg = f"job {job.display_id} is approved already"
        raise RequestError(msg)


def _voted(job: Job, vote: Vote, before: Sequence[Vote], needed: int) -> Action:
    """Return the audit log's entry of a vote, which in itself changes nothing in Slurm."""
    had = sum(one.verdict == "approve" for one in before)
    others = sum(one.verdict == "approve" and one.approver != vote.approver for one in before)
    has = others + (vote.verdict == "approve")
    return Action(
        "modify",
        job.job_id,
        job.address,
        rules.APPROVAL_GIVEN if vote.verdict == "approve" else rules.APPROVAL_DENIED,
        vote.reason,
        before=f"{had} of {counted(needed, 'approval')}",
        after=f"{has} of {counted(needed, 'approval')}"
        + ("" if vote.verdict == "approve" else ", denied"),
        user=job.user,
    )


def _waits(job: Job, size: Size, votes: Sequence[Vote], judge: Judge) -> dict[str, Any]:
    policy, now = judge.policy, judge.now
    valid = judge.counting(job, votes)
    submitted = now if job.submit_time is None else job.submit_time
    expires = policy.approvals.expires
    why = needs_approval(size, policy)
    return {
        "job_id": vote_key(job),
        "user": job.user,
        "account": job.account,
        "name": job.name,
        "gpus": job.gpus,
        "array_tasks": size.tasks,
        "time_limit_seconds": job.time_limit_seconds,
        "asks_for": size.words,
        "cost_micros": size.cost_micros,
        "reason": why.message if why else "",
        "state": judge.standing(job, valid),
        "is_held": job.priority == 0,
        "submit_time": job.submit_time,
        "expires": None if expires is None else submitted + expires,
        "approvals_needed": approvals_needed(size, policy),
        "votes": [
            {
                "approver": vote.approver,
                "verdict": vote.verdict,
                "reason": vote.reason,
                "time": vote.time,
            }
            for vote in valid
        ],
    }
