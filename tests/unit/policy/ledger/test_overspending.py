"""Running jobs on overspent budgets are warned twice before they are ended (rule B-009)."""

from __future__ import annotations

from dataclasses import replace

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.ledger import LedgerState
from slurm_gpu_policy.model.tag import change_tag
from slurm_gpu_policy.policy.ledger.overspending import endings
from tests.builders import NOW, make_job, make_policy, make_snapshot

POLICY = make_policy(
    enforcement="enforce",
    ledger={"end_jobs_after": "10m"},
    submission={"over_budget_qos": "idle"},
)
OVER = {("nlp", ""): 3600}


class World:
    def __init__(self, *jobs):
        self.jobs = list(jobs)

    def at(self, seconds, overspent=OVER, policy=POLICY):
        """Do what a tick wants done so many seconds later; return verbs by job."""
        state = LedgerState(NOW + seconds, overspent=overspent, parents={"nlp-x": "nlp"})
        actions = endings(make_snapshot(time=NOW + seconds, jobs=tuple(self.jobs)), policy, state)
        for action in actions:
            place = next(i for i, job in enumerate(self.jobs) if job.job_id == action.job_id)
            job = self.jobs[place]
            comment = change_tag(job.admin_comment, dict(action.mark))
            state = JobState.CANCELLED if action.verb == "cancel" else job.state
            self.jobs[place] = replace(job, admin_comment=comment, state=state)
        return {int(action.job_id): action.verb for action in actions}


def test_a_job_is_warned_warned_again_and_then_ended_never_sooner():
    world = World(make_job(1))
    assert world.at(0) == {1: "notify"}
    assert world.at(299) == {}
    assert world.at(300) == {1: "notify"}
    assert world.at(599) == {}
    assert world.at(600) == {1: "cancel"}


def test_the_warnings_say_whose_budget_and_when():
    world = World(make_job(1))
    snapshot = make_snapshot(jobs=tuple(world.jobs))
    (action,) = endings(snapshot, POLICY, LedgerState(NOW, overspent=OVER))
    assert action.reason == (
        "the budget of account nlp is spent beyond its overdraft: this job is ended in 00:10:00 "
        "unless that changes"
    )
    assert dict(action.mark) == {"money_warned": str(NOW)}


def test_a_controller_that_was_away_still_warns_a_second_time_first():
    world = World(make_job(1))
    world.at(0)
    assert world.at(5000) == {1: "notify"}
    assert world.at(5059) == {}
    assert world.at(5060) == {1: "cancel"}


def test_a_grant_in_between_takes_the_marks_away_and_all_begins_anew():
    world = World(make_job(1))
    world.at(0)
    world.at(300)
    assert world.at(500, overspent={}) == {1: "modify"}
    assert world.jobs[0].admin_comment == ""
    assert world.at(600) == {1: "notify"}
    assert world.at(660) == {}


def test_one_job_at_a_time_is_ended_the_last_started_first():
    world = World(make_job(1, start_time=NOW - 50), make_job(2, start_time=NOW - 20))
    world.at(0)
    world.at(300)
    assert world.at(600) == {2: "cancel"}
    world.jobs[1] = replace(world.jobs[1], state=JobState.COMPLETING)
    assert world.at(660) == {}
    world.jobs.pop()
    assert world.at(720) == {1: "cancel"}


def test_a_level_above_and_a_user_count_for_whom_they_are():
    jobs = (make_job(1, account="nlp-x"), make_job(2, user="u2"), make_job(3, account="vision"))
    assert World(*jobs).at(0) == {1: "notify", 2: "notify"}
    assert World(*jobs).at(0, overspent={("nlp", "u2"): 1}) == {2: "notify"}


def test_jobs_on_idle_gpus_and_jobs_that_wait_are_not_ended():
    idle = make_job(1, qos="idle")
    pending = make_job(2, state=JobState.PENDING)
    assert World(idle, pending).at(0) == {}


def test_a_warning_from_before_a_requeue_does_not_count():
    old = f"gpu-policy(money_warned={NOW - 9000};money_again={NOW - 8000})"
    world = World(make_job(1, start_time=NOW - 10, admin_comment=old))
    assert world.at(0) == {1: "notify"}
    assert world.at(60) == {}


def test_without_a_time_nothing_is_ended_and_old_marks_go():
    off = make_policy(enforcement="enforce")
    assert World(make_job(1)).at(0, policy=off) == {}
    warned = make_job(1, admin_comment=f"gpu-policy(money_warned={NOW})")
    assert World(warned).at(0, policy=off) == {1: "modify"}
