"""What approvers' votes make of the jobs that wait for an approval (rules V-902 to V-907).

The mark has ``approval`` (pending, approved, denied, expired), ``size`` (GPUs, seconds and array
tasks that are asked for, or were approved; ``0`` seconds is no limit), ``account`` and ``type`` (of
GPU) that it was approved for, and ``asked`` (Unix seconds since when votes count, where the job
was changed after it was first held). All else is in the votes, so
each tick comes to the same verdict anew. A release is done before it is marked: a controller that
dies in between leaves a job whose votes still say the same, never one that is approved and held.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.tag import CONTROLLER, read_tag
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.pending import controller_mark, points
from slurm_gpu_policy.policy.thresholds import (
    Size,
    Sizes,
    approvals_needed,
    as_one,
    exceeded,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.action import Verb, Vote
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.people import People
    from slurm_gpu_policy.model.snapshot import Snapshot

ADMIN_HOLD = "JobHeldAdmin"
"""Slurm's reason for a hold that only an operator can undo."""
Standing = Literal["pending", "approved", "denied", "expired"]


def is_approver(user: str, accounts: Sequence[str], policy: Policy, people: People) -> bool:
    """Rule V-903: whether *user* may vote on jobs of an account (with those above it)."""
    approvers = policy.approvals.approvers
    if user in approvers.users or people.groups.get(user, frozenset()) & {*approvers.groups}:
        return True
    return approvers.coordinators and any(
        user in people.coordinators.get(account, ()) for account in accounts
    )


def vote_key(job: Job) -> JobId:
    """Return the number that votes on a job go by: its array's or its group's, where it has one."""
    return job.array_job_id or job.het_job_id or job.job_id


def asked_at(job: Job) -> int:
    """Rule V-906: votes from after this moment count (Unix seconds); 0 for all."""
    return points(controller_mark(job), "asked") or 0


class Judge:
    """Judges the jobs of one snapshot.

    *people* holds the groups of all who voted, and the accounts' coordinators where the policy
    lets them vote. *uncovered* jobs stay held when their approval is there: rule B-006 has them
    from then on.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        policy: Policy,
        people: People,
        uncovered: Collection[JobId] = (),
    ) -> None:
        self.now = snapshot.time
        self.policy = policy
        self.people = people
        self._uncovered = uncovered
        self._sizes = Sizes(snapshot, policy)
        self.size = self._sizes.of

    def may_vote(self, user: str, job: Job) -> bool:
        """Rule V-903: whether *user* may approve and deny a job, on each account that it is on."""
        lines = map(self._sizes.line, self._sizes.payers(job))
        return user != job.user and all(
            is_approver(user, line, self.policy, self.people) for line in lines
        )

    def counting(self, job: Job, votes: Iterable[Vote]) -> tuple[Vote, ...]:
        """Rule V-903: the votes on a job that count, the latest of each approver.

        Not the owner's own, not those of people who are no approvers any more, not those on
        another job that had the same number, and none from before the job was made larger.
        """
        since, key = asked_at(job), vote_key(job)
        first = read_tag(job.admin_comment, CONTROLLER).get("first", "")
        submitted = {str(job.submit_time), first}
        latest: dict[str, Vote] = {}
        for vote in sorted(votes, key=lambda one: one.time):
            is_on_this = vote.job_id == key and str(vote.submit_time) in submitted
            if is_on_this and vote.time > since and self.may_vote(vote.approver, job):
                latest[vote.approver] = vote
        return tuple(latest.values())

    def standing(self, job: Job, valid: Sequence[Vote]) -> Standing:
        """Rules V-903 to V-905: what valid votes make of a job. One denial outweighs approvals."""
        if any(vote.verdict == "deny" for vote in valid):
            return "denied"
        needed = approvals_needed(self.size(job), self.policy)
        if sum(vote.verdict == "approve" for vote in valid) >= needed:
            return "approved"
        expires = self.policy.approvals.expires
        submitted = self.now if job.submit_time is None else job.submit_time
        if expires is not None and self.now >= submitted + expires:
            return "expired"
        return "pending"

    def judge(self, job: Job, votes: Iterable[Vote]) -> Action | None:
        """Return what approvals make of one job (of ``as_one``) that waits or runs."""
        mark = read_tag(job.admin_comment, CONTROLLER)
        state = mark.get("approval", "")
        if not job.state.is_pending and state != "pending":
            return None
        size = self.size(job)
        stays = job.job_id in self._uncovered
        if not exceeded(size, self.policy):
            return _let_go(job, size, state, self.now, stays=stays) if state else None
        if "size" in mark and not is_within(size, mark["size"]):
            change = f"made larger and asks for {size.words} now"
            return _ask_anew(job, size, self.now, mark["size"], change)
        if state == "approved":
            moved = self._moved(job, mark)
            return _ask_anew(job, size, self.now, state, moved) if moved else None
        valid = self.counting(job, votes)
        verdict = self.standing(job, valid)
        if verdict == "approved":
            place = {"account": self._account(job), "type": _markable(job.gpu_type)}
            return _approve(job, size, valid, place, stays=stays)
        return _keep(job, size, verdict, valid, self.policy) if job.state.is_pending else None

    def _account(self, job: Job) -> str:
        return _markable("_".join(self._sizes.payers(job)))

    def _moved(self, job: Job, mark: Mapping[str, str]) -> str:
        """Rule V-906: whose expense it is now, if not whose it was when it was approved."""
        if mark.get("account", now := self._account(job)) != now:
            return f"moved from account {mark['account']} to {now}"
        then = mark.get("type", "")
        if not then or then == _markable(job.gpu_type):
            return ""
        is_dearer = (self._sizes.price(job.gpu_type) or 0) > (self._sizes.price(then) or 0)
        return f"changed from {then} to dearer GPUs" if is_dearer else ""


def _markable(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", text)


def verdicts(
    snapshot: Snapshot,
    policy: Policy,
    votes: Sequence[Vote],
    people: People,
    uncovered: Collection[JobId] = (),
) -> tuple[Action, ...]:
    """Return what approvals make of the waiting jobs; *people*, *uncovered*: :class:`Judge`."""
    asks = bool(policy.approvals.thresholds)
    if not asks and not any("approval=" in job.admin_comment for job in snapshot.jobs):
        return ()
    by_job: dict[JobId, list[Vote]] = {}
    for vote in votes:
        by_job.setdefault(vote.job_id, []).append(vote)
    judge = Judge(snapshot, policy, people, uncovered).judge
    wanted = (
        judge(job, by_job.get(vote_key(job), ()))
        for job in as_one(snapshot.jobs)
        if job.state.is_pending or job.state is JobState.RUNNING
    )
    return tuple(action for action in wanted if action is not None)


def is_within(size: Size, text: str) -> bool:
    """Rule V-906: whether a job asks for no more than *text*, a size in the mark, says."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):  # noqa: PLR2004
        return False
    gpus, seconds, tasks = map(int, parts)
    fits_time = not seconds or (size.seconds is not None and size.seconds <= seconds)
    return size.gpus <= gpus and fits_time and size.tasks <= tasks


def _approve(
    job: Job, size: Size, valid: Sequence[Vote], place: Mapping[str, str], *, stays: bool
) -> Action:
    """Rule V-903: let a job go that enough approvers agreed to; once it is let go, mark it so."""
    names = ", ".join(sorted(vote.approver for vote in valid))
    is_held = job.state.is_pending and job.priority == 0
    if is_held and stays:
        return _action(
            "modify",
            job,
            rules.APPROVAL_GIVEN,
            f"{size.words}: approved by {names}; held until its budget covers it",
            after="held, approved",
            mark={"approval": "approved", "size": size.text, **place, "money": "held"},
        )
    return _action(
        "release" if is_held else "modify",
        job,
        rules.APPROVAL_GIVEN,
        f"{size.words}: approved by {names}",
        after="released" if is_held else "approved",
        mark={
            "approval": "pending" if is_held else "approved",
            "size": size.text,
            **({} if is_held else place),
        },
    )


def _keep(
    job: Job, size: Size, verdict: Standing, valid: Sequence[Vote], policy: Policy
) -> Action | None:
    """Rules V-901, V-902, V-904, V-905: keep a job from starting, or end it."""
    mark = read_tag(job.admin_comment, CONTROLLER)
    state = mark.get("approval", "")
    approvals = policy.approvals
    ends = {"denied": approvals.on_denial, "expired": approvals.on_expiry}.get(verdict) == "cancel"
    is_held = is_held_by_operator(job)
    if not ends and is_held and state == verdict and mark.get("size") == size.text:
        return None
    rule, reason = rules.APPROVAL_NEEDED, f"{size.words} is above what runs without an approval"
    if verdict == "denied":
        denial = next(vote for vote in valid if vote.verdict == "deny")
        rule, reason = rules.APPROVAL_DENIED, f"{denial.approver} denied it: {denial.reason}"
    elif verdict == "expired":
        rule, reason = rules.APPROVAL_EXPIRED, "nobody approved it in time"
    elif state:
        rule, reason = rules.APPROVAL_HOLD, f"{size.words}: only an approval releases it"
    return _action(
        "cancel" if ends else "modify" if is_held else "hold",
        job,
        rule,
        reason,
        after="cancelled" if ends else f"held, {verdict}",
        mark={"approval": verdict, "size": size.text},  # also of one that was made smaller
    )


def is_held_by_operator(job: Job) -> bool:
    """Whether its owner cannot release it: not from a hold of their own, nor after a requeue."""
    return job.priority == 0 and job.reason == ADMIN_HOLD


def _let_go(job: Job, size: Size, state: str, now: int, *, stays: bool) -> Action:
    """Rule V-907: a job that became smaller, or whose threshold went, needs no approval.

    Votes so far are void, should it be made larger again.
    """
    is_held = job.state.is_pending and job.priority == 0 and state != "approved"
    is_let_go = is_held and not stays
    void = {"approval": "", "size": "", "asked": str(now)}
    return _action(
        "release" if is_let_go else "modify",
        job,
        rules.APPROVAL_MOOT,
        f"{size.words} needs no approval any more",
        after="released" if is_let_go else "held for its budget" if is_held else "not asked",
        mark={} if is_let_go else {**void, "money": "held"} if is_held else void,
    )


def _ask_anew(job: Job, size: Size, now: int, was: str, change: str) -> Action | None:
    """Rule V-906: who makes a job larger asks anew; votes on the smaller one are void."""
    if not job.state.is_pending:
        return None
    return _action(
        "modify" if is_held_by_operator(job) else "hold",
        job,
        rules.APPROVAL_CHANGED,
        f"it was {change}: that needs an approval of its own",
        after=f"held, pending, {size.text}",
        mark={"approval": "pending", "size": size.text, "asked": str(now)},
        before=f", {was}",
    )


def _action(  # noqa: PLR0913 - an action's fields, by name
    verb: Verb,
    job: Job,
    rule: str,
    reason: str,
    *,
    after: str,
    mark: Mapping[str, str],
    before: str = "",
) -> Action:
    now = read_tag(job.admin_comment, CONTROLLER).get("approval", "not asked")
    phase = "runs" if not job.state.is_pending else "held" if job.priority == 0 else "waits"
    return Action(
        verb,
        job.job_id,
        job.address,
        rule,
        reason,
        before=f"{phase}, {now}{before}",
        after=after,
        user=job.user,
        mark=tuple(mark.items()),
    )
