"""The tick: idempotent, bounded, by level, and nothing without an entry in the audit log."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import (
    RecordsUnavailable,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.services.tick import Tick
from tests.builders import make_policy
from tests.fakes.clock import FakeClock
from tests.fakes.records import FakeRecords
from tests.fakes.slurm import FakeSlurm
from tests.unit.services.controlled import site_factors, submitted

ENFORCE = make_policy(enforcement="enforce")


class World:
    """A fake cluster with a controller that wants site factors of 100 times the job's number."""

    def __init__(self, *deciders, jobs=3):
        self.clock = FakeClock()
        self.slurm = FakeSlurm(clock=self.clock, user="root")
        self.records = FakeRecords()
        self.leads = True
        self.stops = False
        self.jobs = [submitted(self.slurm, "wait") for _ in range(jobs)]
        self.deciders = deciders or (site_factors(lambda job: 100 * job.job_id),)
        self.tick = self.controller()

    def controller(self):
        return Tick(
            slurm=self.slurm,
            records=self.records,
            clock=self.clock,
            deciders=self.deciders,
            actor="gpu-policyd@test",
            leads_still=lambda: self.leads,
            keeps_lead=lambda: self.leads,
            is_stopping=lambda: self.stops,
        )

    def sites(self):
        return {one.job_id: one.site for one in self.slurm.read(Part.PRIORITIES).priorities}

    def outcomes(self):
        return [entry.outcome for entry in self.records.entries()]

    def changes(self):
        """How often Slurm was asked to change something."""
        names = {"modify_many", "steer_many", "cancel", "requeue", "modify"}
        return sum(call[0] in names for call in self.slurm.calls)


@pytest.fixture
def world():
    return World()


def test_a_tick_does_what_differs_and_writes_it_down(world):
    report = world.tick.run(ENFORCE)
    assert world.sites() == {job: 100 * job for job in world.jobs}
    assert report.succeeded
    assert report.pending_jobs == len(world.jobs)
    assert [entry.outcome for entry in report.actions] == ["done"] * len(world.jobs)
    assert world.outcomes() == ["done"] * len(world.jobs)
    assert {entry.actor for entry in world.records.entries()} == {"gpu-policyd@test"}


def test_a_second_tick_on_the_same_queue_changes_nothing(world):
    world.tick.run(ENFORCE)
    entries, changes = world.records.entries(), world.changes()
    report = world.tick.run(ENFORCE)
    assert report.actions == ()
    assert (world.records.entries(), world.changes()) == (entries, changes)


def test_slurm_is_read_once_and_asked_for_all_changes_at_once(world):
    report = world.tick.run(ENFORCE)
    assert report.slurm_calls == 2
    assert [call[0] for call in world.slurm.calls if call[0] == "read"] == ["read"]


@pytest.mark.parametrize("level", ["observe", "advise"])
def test_what_is_not_enforced_is_said_once_and_not_done(level):
    world = World()
    policy = make_policy(enforcement=level)
    first = world.tick.run(policy)
    assert world.changes() == 0
    assert {(entry.level, entry.outcome) for entry in first.actions} == {(level, "skipped")}
    assert world.tick.run(policy).actions == ()
    assert len(world.records.entries()) == len(world.jobs)


def test_a_new_leader_does_not_say_again_what_the_last_one_said(world):
    policy = make_policy()
    world.tick.run(policy)
    assert world.controller().run(policy).actions == ()


def test_a_rules_own_level_goes_before_the_general_one(world):
    world.tick.run(make_policy(enforcement="observe", rules={"P-601": "enforce"}))
    assert world.sites() == {job: 100 * job for job in world.jobs}


def test_a_tick_changes_at_most_as_many_jobs_as_the_site_lets_it_the_head_first(world):
    policy = make_policy(enforcement="enforce", controller={"updates_per_tick": 1})
    world.tick.run(policy)
    head = max(world.jobs)
    assert world.sites() == {job: 100 * job if job == head else 0 for job in world.jobs}
    world.tick.run(policy)
    world.tick.run(policy)
    assert world.sites() == {job: 100 * job for job in world.jobs}


def test_when_slurm_cannot_be_read_nothing_is_done(world):
    world.slurm.unavailable()
    report = world.tick.run(ENFORCE)
    assert report.errors == ("SlurmUnavailable",)
    assert "contact" in report.messages[0]
    assert world.changes() == 0
    assert world.records.entries() == ()


def test_without_an_audit_log_nothing_is_done(world):
    world.records.failing = "locked"
    report = world.tick.run(ENFORCE)
    assert report.errors == ("RecordsUnavailable",)
    assert world.changes() == 0


def test_a_log_that_cannot_be_begun_means_no_action(world):
    def fail(method, moment):
        if method == "begin":
            raise RecordsUnavailable

    world.records.on_call = fail
    assert world.tick.run(ENFORCE).errors == ("RecordsUnavailable",)
    assert world.changes() == 0


def test_outcomes_that_could_not_be_written_are_written_by_the_next_tick(world):
    def fail(method, moment):
        if method == "finish":
            raise RecordsUnavailable

    world.records.on_call = fail
    assert world.tick.run(ENFORCE).errors == ("RecordsUnavailable",)
    assert world.outcomes() == ["", "", ""]
    world.records.on_call = lambda _method, _moment: None
    changes = world.changes()
    world.tick.run(ENFORCE)
    assert world.outcomes() == ["done"] * 3
    assert world.changes() == changes


def test_a_job_that_ended_since_is_refused_in_slurms_words_and_is_no_error(world):
    world.slurm.on_change = lambda job_id: (
        world.slurm.cancel(str(world.jobs[0])) if job_id != str(world.jobs[0]) else None
    )
    report = world.tick.run(ENFORCE)
    assert report.succeeded
    found = {entry.action.job_id: (entry.outcome, entry.words) for entry in report.actions}
    assert found[world.jobs[0]] == ("refused", "Job has already finished")
    assert found[world.jobs[1]] == ("done", "")


def test_what_slurm_refused_rests_for_a_while():
    world = World()
    world.slurm.user = "u1"  # who may not
    assert {e.outcome for e in world.tick.run(ENFORCE).actions} == {"refused"}
    assert world.tick.run(ENFORCE).actions == ()
    world.clock.advance(60)
    assert len(world.tick.run(ENFORCE).actions) == 3
    world.clock.advance(60)
    assert world.tick.run(ENFORCE).actions == ()
    world.clock.advance(60)
    assert len(world.tick.run(ENFORCE).actions) == 3


def test_a_call_without_an_answer_is_unknown_and_the_tick_has_failed(world):

    def lose(changes):
        raise SlurmTimeout

    world.slurm.modify_many = lose
    report = world.tick.run(ENFORCE)
    assert report.errors == ("SlurmTimeout",)
    assert world.outcomes() == ["unknown"] * 3


def test_slurm_away_in_the_middle_fails_what_is_left_and_the_tick(world):
    def away(changes):
        raise SlurmUnavailable

    world.slurm.modify_many = away
    report = world.tick.run(ENFORCE)
    assert report.errors == ("SlurmUnavailable",)
    assert world.outcomes() == ["failed"] * 3


def test_who_leads_no_more_changes_nothing(world):
    world.leads = False
    world.tick.run(ENFORCE)
    assert world.changes() == 0


def test_who_loses_the_lead_after_writing_down_what_to_do_does_not_do_it(world):
    def lose(method, moment):
        if (method, moment) == ("begin", "after"):
            world.leads = False

    world.records.on_call = lose
    world.tick.run(ENFORCE)
    assert world.changes() == 0
    assert world.outcomes() == ["failed"] * 3


def test_who_is_to_stop_begins_no_further_batch(world):
    world.stops = True
    world.tick.run(ENFORCE)
    assert world.changes() == 0


def test_a_mark_that_cannot_be_written_is_said_and_spoils_nothing_else():
    def marks(snapshot, policy, votes):
        return tuple(
            Action("modify", job.job_id, job.display_id, "T-804", "", "", "",
                   mark=(("first", "a b" if job.job_id == 1 else "1"),))
            for job in snapshot.jobs
            if "first" not in job.admin_comment
        )  # fmt: skip

    world = World(marks)
    report = world.tick.run(ENFORCE)
    assert sorted(entry.outcome for entry in report.actions) == ["done", "done", "skipped"]
    assert world.slurm.jobs(["2"])[0].admin_comment == "gpu-policy(first=1)"
    assert world.tick.run(ENFORCE).actions == ()


def retry(snapshot, policy, votes):
    """Put failed jobs back, excluding a node."""
    return tuple(
        Action("requeue", job.job_id, job.display_id, "T-801", "it failed", "", "",
               changes=(("excluded_nodes", "gpu02"), ("begin_time", "1")),
               mark=(("attempt", str(job.restarts + 1)),))
        for job in snapshot.jobs
        if job.state is JobState.FAILED
    )  # fmt: skip


@pytest.fixture
def failed():
    """A world where job 1 has failed and is to be tried again."""
    world = World(retry, jobs=0)
    job = submitted(world.slurm, "fail", exclude="gpu01")
    world.slurm.jobs([str(job)])
    world.clock.advance(2)
    assert world.slurm.jobs([str(job)])[0].state is JobState.FAILED
    return world


def test_a_requeue_is_marked_before_the_job_can_start(failed):
    failed.slurm.on_change = lambda _address: failed.slurm._settle()
    assert [entry.outcome for entry in failed.tick.run(ENFORCE).actions] == ["done"]
    record = failed.slurm.records[1]
    assert record.admin_comment == "gpu-policy(attempt=1)"
    assert record.excluded == "gpu01,gpu02"
    assert not record.is_held
    assert record.restarts == 1


def test_a_job_that_was_requeued_and_runs_since_is_not_requeued_again(failed):
    def somebody(method, moment):
        if (method, moment) == ("begin", "after"):
            failed.slurm.requeue("1")

    failed.records.on_call = somebody
    (entry,) = failed.tick.run(ENFORCE).actions
    assert entry.outcome == "refused"
    assert "RUNNING" in entry.words
    assert failed.slurm.records[1].restarts == 1


@pytest.mark.parametrize("after", ["steer_many requeue_held", "modify_many", "steer_many release"])
def test_a_requeue_that_is_killed_half_way_is_finished_and_never_doubled(failed, after):
    verb, _, which = after.partition(" ")
    whole = getattr(failed.slurm, verb)

    def killed(*args):
        answer = whole(*args)
        if not which or args[0] == which:
            raise KeyboardInterrupt
        return answer

    setattr(failed.slurm, verb, killed)
    with pytest.raises(KeyboardInterrupt):
        failed.tick.run(ENFORCE)
    setattr(failed.slurm, verb, whole)
    assert failed.outcomes() == [""]
    failed.controller().run(ENFORCE)
    record = failed.slurm.records[1]
    assert failed.outcomes() == ["done"]
    assert (record.restarts, record.is_held) == (1, False)
    assert record.admin_comment == "gpu-policy(attempt=1)"
    failed.controller().run(ENFORCE)
    assert record.restarts == 1


def test_a_requeue_that_was_never_begun_is_decided_anew(failed):
    def killed(method, moment):
        if (method, moment) == ("begin", "after"):
            raise KeyboardInterrupt

    failed.records.on_call = killed
    with pytest.raises(KeyboardInterrupt):
        failed.tick.run(ENFORCE)
    failed.records.on_call = lambda _method, _moment: None
    tick = failed.controller()
    tick.run(ENFORCE)
    assert failed.outcomes() == ["failed"]
    tick.run(ENFORCE)
    assert failed.outcomes() == ["failed", "done"]
    assert failed.slurm.records[1].restarts == 1


def test_what_a_requeued_job_is_refused_does_not_hold_it_for_ever(failed):
    whole = failed.slurm.modify_many

    def never(changes):
        return dict.fromkeys(changes, "Invalid node name specified")

    failed.slurm.modify_many = never
    report = failed.tick.run(ENFORCE)
    assert report.unfinished_entries == 1
    assert failed.outcomes() == [""]
    failed.tick.run(ENFORCE)
    (entry,) = failed.records.entries()
    assert entry.outcome == "refused"
    assert "Invalid node name" in entry.words
    assert not failed.slurm.records[1].is_held
    failed.slurm.modify_many = whole


def test_interrupted_site_factors_are_compared_with_what_slurm_has(world):
    whole = world.slurm.modify_many

    def killed(changes):
        whole(dict(list(changes.items())[:2]))
        raise KeyboardInterrupt

    world.slurm.modify_many = killed
    with pytest.raises(KeyboardInterrupt):
        world.tick.run(ENFORCE)
    world.slurm.modify_many = whole
    tick = world.controller()
    tick.run(ENFORCE)
    ends = [(entry.outcome, entry.words) for entry in world.records.entries()]
    assert ends[0] == ("done", "found site_factor 300 after an interruption")
    assert ends[1][0] == "done"
    assert ends[2] == ("failed", "found site_factor 0 after an interruption")
    tick.run(ENFORCE)
    assert world.sites() == {job: 100 * job for job in world.jobs}


# --- words for jobs ------------------------------------------------------------------------


def warn(snapshot, _policy, _votes):
    return tuple(
        Action("notify", job.job_id, job.display_id, "B-009", "save your work", "runs", "warned",
               mark=(("money_warned", "7"),))
        for job in snapshot.jobs
        if "money_warned" not in job.admin_comment
    )  # fmt: skip


def test_a_job_is_told_before_its_mark_says_so_and_only_once():
    world = World(warn, jobs=1)
    assert [one.outcome for one in world.tick.run(ENFORCE).actions] == ["done"]
    names = [call[0] for call in world.slurm.calls]
    assert names.index("notify") < names.index("modify_many")
    assert world.tick.run(ENFORCE).actions == ()


def test_a_job_into_whose_output_nothing_can_be_written_is_marked_all_the_same(monkeypatch):
    world = World(warn, jobs=1)

    def refuse(_job_id, _message):
        msg = "Requested operation is presently disabled"
        raise SlurmRefused(msg)

    monkeypatch.setattr(world.slurm, "notify", refuse)
    (done,) = world.tick.run(ENFORCE).actions
    assert done.outcome == "done"
    assert "not written into its output: Requested operation" in done.words
    assert world.tick.run(ENFORCE).actions == ()
