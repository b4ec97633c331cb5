"""What people ask of the controller, on a cluster in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.errors import (
    JobNotFound,
    NotAllowed,
    RecordsUnavailable,
    RequestError,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.model.tag import read_tag
from slurm_gpu_policy.services.control import Control
from slurm_gpu_policy.services.directory import Directory
from tests.builders import make_policy
from tests.fakes.clock import FakeClock
from tests.fakes.people import FakePeople
from tests.fakes.records import FakeRecords
from tests.fakes.slurm import FakeSlurm

ROOT = Caller(0, "root")
U1, U2, U3, U4 = (Caller(6000 + n, f"u{n}") for n in range(1, 5))


def policy_with(**fields):
    site = {
        "enforcement": "enforce",
        "approvals": {"thresholds": [{"gpus": 2}], "approvers": {"users": ["u1", "u2", "u3"]}},
    }
    site["approvals"] |= fields.pop("approvals", {})
    return make_policy(**{**site, **fields})


class Site:
    """A cluster with a controller, as root."""

    def __init__(self, **fields):
        self.clock = FakeClock()
        self.slurm = FakeSlurm(clock=self.clock)
        self.records = FakeRecords()
        self.people = FakePeople()
        self.policy = policy_with(**fields)
        self.control = Control(
            slurm=self.slurm,
            records=self.records,
            policy=lambda: self.policy,
            clock=self.clock,
            directory=Directory(self.people, lambda user: (f"g-{user}",), self.clock),
        )

    def submit(self, user="u1", gpus=4, **options):
        self.slurm.user = user
        words = {"gres": f"gpu:h100:{gpus}", "time": "60", "hold": None, **options}
        made = Submission("#!/bin/bash\nsleep 60\n", tuple(words.items()), "token")
        job_id = self.slurm.submit(made)
        self.slurm.user = "root"
        return job_id

    def ask(self, caller, request, **fields):
        return self.control.handle(caller, {"request": request, **fields})

    def approve(self, caller, job, reason="fine"):
        return self.ask(caller, "approve", job=str(job), reason=reason)

    def deny(self, caller, job, reason="too much"):
        return self.ask(caller, "deny", job=str(job), reason=reason)

    def job(self, job_id):
        return self.slurm.job(str(job_id)).job

    def mark(self, job_id):
        return read_tag(self.job(job_id).admin_comment, "gpu-policy")

    def log(self):
        return [(e.actor, e.action.rule, e.action.verb, e.outcome) for e in self.records.entries()]


@pytest.fixture
def site():
    return Site()


# --- approve --------------------------------------------------------------------------------


def test_an_approval_lets_the_job_go_at_once_and_marks_it(site):
    job = site.submit()
    answer = site.approve(U2, job, "for the paper")
    assert (answer["state"], answer["approvals"], answer["approvals_needed"]) == ("approved", 1, 1)
    assert site.job(job).state is JobState.RUNNING
    assert site.mark(job) == {
        "approval": "approved", "size": "4:3600:1", "account": "nlp-pretrain", "type": "h100"
    }  # fmt: skip


def test_each_step_is_in_the_audit_log_under_the_approvers_name(site):
    job = site.submit()
    site.approve(U2, job, "for the paper")
    assert all(entry[0] == "u2" and entry[3] == "done" for entry in site.log())
    assert [entry[2] for entry in site.log()][-2:] == ["release", "modify"]
    vote = next(e for e in site.records.entries() if e.action.reason == "for the paper")
    assert (vote.action.before, vote.action.after) == ("0 of 1 approval", "1 of 1 approval")


def test_one_approval_of_two_keeps_the_job_waiting():
    site = Site(approvals={"needed": 2})
    job = site.submit()
    assert site.approve(U2, job)["state"] == "pending"
    assert site.approve(U2, job)["approvals"] == 1
    assert site.job(job).state is JobState.PENDING
    assert site.approve(U3, job)["state"] == "approved"
    assert site.job(job).state is JobState.RUNNING


def test_nobody_approves_their_own_job(site):
    job = site.submit("u1")
    with pytest.raises(NotAllowed, match="u1's own"):
        site.approve(U1, job)
    assert not site.records.votes()


@pytest.mark.parametrize("caller", [U4, ROOT, Caller(1, "#1")])
def test_who_is_no_approver_is_told_who_is(site, caller):
    job = site.submit()
    with pytest.raises(NotAllowed, match="u1, u2, u3"):
        site.approve(caller, job)
    assert site.log() == []


def test_a_groups_member_and_an_accounts_coordinator_may():
    site = Site(approvals={"approvers": {"groups": ["g-u4"], "coordinators": True}})
    site.people.named_coordinators = {"nlp": frozenset({"u3"})}
    assert site.approve(U4, site.submit())["state"] == "approved"
    assert site.approve(U3, site.submit())["state"] == "approved"  # nlp is above nlp-pretrain
    with pytest.raises(NotAllowed, match="g-u4 or a coordinator"):
        site.approve(U2, site.submit())


@pytest.mark.parametrize("reason", [None, "", "  ", 7, "x" * 501])
def test_a_vote_needs_a_reason_that_can_be_kept(site, reason):
    with pytest.raises(RequestError, match="reason"):
        site.approve(U2, site.submit(), reason)


def test_a_job_that_needs_none_or_has_one_or_runs_is_not_approved(site):
    with pytest.raises(RequestError, match="needs no approval"):
        site.approve(U2, site.submit(gpus=1))
    running = site.submit()
    site.approve(U2, running)
    with pytest.raises(RequestError, match="RUNNING"):
        site.approve(U3, running)
    with pytest.raises(JobNotFound):
        site.approve(U2, 999)
    with pytest.raises(RequestError):
        site.approve(U2, "rm -rf")


def test_an_approval_too_late_is_refused():
    site = Site(approvals={"expires": "1h"})
    job = site.submit()
    site.clock.advance(3600)
    with pytest.raises(RequestError, match="V-905"):
        site.approve(U2, job)


def test_nobody_approves_more_than_they_have_seen(site):
    site.policy = policy_with(approvals={"needed": 2})
    job = site.submit()
    site.approve(U2, job)
    site.slurm.modify(str(job), {"time_limit": "7200"})
    with pytest.raises(RequestError, match="made larger"):
        site.approve(U3, job)
    assert site.mark(job)["size"] == "4:7200:1"
    assert site.approve(U3, job)["approvals"] == 1  # u2's was on the shorter one
    assert site.job(job).state is JobState.PENDING


def test_a_raw_job_is_held_when_the_first_of_two_approves_it():
    """Its owner could make it larger, and it could start, before the next tick."""
    site = Site(approvals={"needed": 2})
    blocker = site.submit(gpus=8, exclusive=None)
    site.slurm.release(str(blocker))
    site.slurm.drain("gpu01")
    site.slurm.drain("gpu02")
    job = site.submit()
    site.slurm.release(str(job))
    assert site.job(job).priority > 0
    site.approve(U2, job)
    assert site.job(job).priority == 0
    assert site.mark(job)["approval"] == "pending"


def test_an_array_is_approved_as_a_whole(site):
    base = site.submit(array="0-2")
    assert site.approve(U2, f"{base}_1")["job_id"] == base
    states = {job.state for job in site.slurm.jobs([str(base)])}
    assert states == {JobState.RUNNING}


def test_under_observe_a_vote_is_kept_and_nothing_done():
    site = Site(enforcement="observe")
    job = site.submit()
    assert site.approve(U2, job)["level"] == "observe"
    assert site.job(job).priority == 0
    assert {outcome for _, _, verb, outcome in site.log() if verb == "release"} == {"skipped"}


def test_what_slurm_refuses_is_said_and_logged(site, monkeypatch):
    job = site.submit()

    def refuse(_job):
        msg = "Access/permission denied"
        raise SlurmRefused(msg)

    monkeypatch.setattr(site.slurm, "release", refuse)
    with pytest.raises(SlurmRefused):
        site.approve(U2, job)
    assert site.log()[-1] == ("u2", "V-903", "release", "refused")
    assert site.mark(job)["approval"] == "pending"  # so that the next tick tries again


def test_while_slurm_is_away_nothing_is_done(site):
    job = site.submit()
    site.slurm.unavailable()
    with pytest.raises(SlurmUnavailable):
        site.approve(U2, job)
    assert site.log() == []
    assert not site.records.votes()


def test_without_the_audit_log_nothing_is_done(site):
    job = site.submit()
    site.records.failing = "the disk is full"
    with pytest.raises(RecordsUnavailable):
        site.approve(U2, job)
    assert site.job(job).priority == 0


# --- deny -----------------------------------------------------------------------------------


def test_a_denied_job_is_cancelled(site):
    job = site.submit()
    assert site.deny(U2, job, "no budget")["state"] == "denied"
    assert site.job(job).state is JobState.CANCELLED
    assert site.log()[-1] == ("u2", "V-904", "cancel", "done")


def test_a_denied_job_that_is_kept_can_still_be_approved():
    site = Site(approvals={"on_denial": "keep"})
    job = site.submit()
    site.deny(U2, job)
    assert (site.job(job).state, site.mark(job)["approval"]) == (JobState.PENDING, "denied")
    assert site.approve(U2, job)["state"] == "approved"
    assert site.job(job).state is JobState.RUNNING


def test_the_owner_cannot_deny_either(site):
    with pytest.raises(NotAllowed):
        site.deny(U1, site.submit("u1"))


# --- set-priority ---------------------------------------------------------------------------


def test_an_operator_gives_a_class_and_takes_it_away(site):
    job = site.submit()
    assert site.ask(ROOT, "set_priority", job=str(job), **{"class": "critical"}) == {
        "job_id": job,
        "class": "critical",
    }
    assert site.mark(job) == {"class": "critical"}
    assert site.ask(ROOT, "set_priority", job=str(job), **{"class": "none"})["class"] is None
    assert site.mark(job) == {}
    assert [entry[:3] for entry in site.log()] == [("root", "V-908", "modify")] * 2


def test_a_class_that_it_has_is_no_change(site):
    job = site.submit()
    for _ in range(2):
        site.ask(ROOT, "set_priority", job=str(job), **{"class": "low"})
    assert len(site.log()) == 1


def test_an_operators_order_is_done_at_any_level():
    site = Site(enforcement="observe")
    job = site.submit()
    site.ask(ROOT, "set_priority", job=str(job), **{"class": "high"})
    assert site.mark(job) == {"class": "high"}


def test_users_set_no_classes_not_even_on_their_own_jobs(site):
    job = site.submit("u1")
    with pytest.raises(NotAllowed, match="operators"):
        site.ask(U1, "set_priority", job=str(job), **{"class": "critical"})


@pytest.mark.parametrize("name", ["urgent", "", None, 5, ["high"]])
def test_there_are_no_other_classes(site, name):
    job = site.submit()
    with pytest.raises(RequestError, match="critical, high, normal, low, none"):
        site.ask(ROOT, "set_priority", job=str(job), **{"class": name})


def test_a_job_that_is_over_takes_no_class(site):
    job = site.submit()
    site.slurm.cancel(str(job))
    with pytest.raises(RequestError, match="CANCELLED"):
        site.ask(ROOT, "set_priority", job=str(job), **{"class": "low"})


# --- approvals, audit -----------------------------------------------------------------------


def test_what_waits_is_shown_to_owners_approvers_and_operators():
    site = Site(approvals={"needed": 2, "expires": "1d", "approvers": {"users": ["u2", "u3"]}})
    job = site.submit("u1")
    site.submit("u1", gpus=1)
    site.approve(U3, job, "good")
    seen = {
        caller.user: site.ask(caller, "approvals")["approvals"] for caller in (U1, U2, U4, ROOT)
    }
    assert [len(seen[user]) for user in ("u1", "u2", "u4", "root")] == [1, 1, 0, 1]
    (entry,) = seen["u2"]
    assert (entry["job_id"], entry["user"], entry["state"]) == (job, "u1", "pending")
    assert entry["asks_for"] == "4 GPUs for 01:00:00"
    assert entry["votes"][0]["approver"] == "u3"
    assert entry["expires"] == entry["submit_time"] + 86_400
    assert entry["may_vote"]
    assert not seen["u1"][0]["may_vote"]


def test_an_approved_job_waits_for_no_approval_any_more(site):
    job = site.submit()
    site.approve(U2, job)
    assert site.ask(ROOT, "approvals") == {"approvals": []}


def test_the_audit_log_shows_users_what_is_theirs(site):
    mine, other = site.submit("u1"), site.submit("u4")
    site.approve(U2, mine)
    site.approve(U3, other)
    users = lambda caller: {e["user"] for e in site.ask(caller, "audit")["entries"]}  # noqa: E731
    assert users(ROOT) == {"u1", "u4"}
    assert users(U1) == {"u1"}
    assert users(U3) == {"u4"}  # what u3 did
    assert users(Caller(7, "stranger")) == set()


def test_the_audit_log_is_narrowed_by_job_and_time(site):
    first = site.submit()
    site.approve(U2, first)
    site.clock.advance(100)
    second = site.submit()
    site.approve(U2, second)
    jobs = {e["job_id"] for e in site.ask(ROOT, "audit", job=str(first))["entries"]}
    assert jobs == {first}
    since = site.clock.now() - 50
    assert {e["job_id"] for e in site.ask(ROOT, "audit", since=since)["entries"]} == {second}


@pytest.mark.parametrize("since", ["yesterday", True, 1.5])
def test_a_time_is_a_whole_number(site, since):
    with pytest.raises(RequestError, match="Unix seconds"):
        site.ask(ROOT, "audit", since=since)


@pytest.mark.parametrize("request_", [{}, {"request": "shutdown"}, {"request": ["approve"]}])
def test_what_is_no_request_is_refused(site, request_):
    with pytest.raises(
        RequestError, match=r"is no request: it is one of .*approve.*budget.*status"
    ):
        site.control.handle(ROOT, request_)


@pytest.mark.parametrize("job", [None, 5, ["1"], "1;2", "../1"])
def test_what_is_no_job_id_is_refused(site, job):
    with pytest.raises(RequestError):
        site.ask(U2, "approve", job=job, reason="fine")


# --- the tasks of an array, changed one by one --------------------------------------------------


class Split:
    """An array of which one task was changed: two records, as Slurm has them."""

    def __init__(self, site, base, **changes):
        (rest,) = site.slurm.jobs([str(base)])
        task = replace(rest, job_id=JobId(rest.job_id + 1), array_task="1", **changes)
        self.records = [replace(rest, array_task="0,2"), task]
        site.slurm.jobs = lambda _ids: list(self.records)


def test_a_task_that_was_made_small_does_not_stand_for_its_array(site):
    site.policy = policy_with(approvals={"needed": 2}, rules={"V-907": "observe"})
    base = site.submit(array="0-2")
    split = Split(site, base)
    split.records[0] = replace(split.records[0], gpus=1)
    assert site.approve(U2, base)["asks_for"].startswith("4 GPUs")


def test_a_task_that_was_made_larger_is_seen_before_its_array_is_approved(site):
    base = site.submit(array="0-2")
    held = "gpu-policy(approval=pending;size=4:3600:3)"
    split = Split(site, base, gpus=8, admin_comment=held)
    split.records[0] = replace(split.records[0], admin_comment=held)
    with pytest.raises(RequestError, match=r"made larger.*8 GPUs"):
        site.approve(U2, base)


def test_a_group_whose_second_part_pays_from_elsewhere_is_judged_by_both(site):
    site.policy = policy_with(approvals={"approvers": {"coordinators": True}})
    site.people.named_coordinators = {"nlp-pretrain": frozenset({"u2"})}
    job = site.submit()
    (first,) = site.slurm.jobs([str(job)])
    parts = [replace(first, het_job_id=job),
             replace(first, job_id=JobId(job + 1), het_job_id=job, account="vision")]  # fmt: skip
    site.slurm.jobs = lambda _ids: parts
    with pytest.raises(NotAllowed, match="no approver"):
        site.approve(U2, job)
