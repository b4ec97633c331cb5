"""Retries: which ends count, when, without which nodes; and that no attempt is lost or doubled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.tag import change_tag, read_tag
from slurm_gpu_policy.policy.retry import (
    age_points,
    allowed,
    bad_nodes,
    delay_seconds,
    retries,
    with_exclusions,
)
from tests.builders import NOW, make_job, make_node, make_policy, make_snapshot

ASKS_TWO = "gpu-submit(token=ab;retries=2)"
SETTINGS = {"PriorityWeightAge": "1000", "PriorityMaxAge": "1-00:00:00"}


def policy_with(**fields):
    return make_policy(retries={"first_delay": "60s", **fields})


def failed(number=1, **fields):
    given = {"state": JobState.FAILED, "exit_code": 3, "end_time": NOW, "comment": ASKS_TWO}
    return make_job(number, **{**given, **fields})


def wanted(job, policy, **fields):
    return retries(make_snapshot(jobs=(job,), **fields), policy)


def mark_of(action):
    return dict(action.mark)


# --- T-801, T-802: which ends, how often ----------------------------------------------------


def test_a_failed_job_with_attempts_left_is_requeued():
    (action,) = wanted(failed(), policy_with())
    assert (action.verb, action.rule, action.display_id) == ("requeue", "T-801", "1")
    assert action.after == "retry 1 of 2"
    assert "exit code 3" in action.reason
    assert (mark_of(action)["attempt"], mark_of(action)["run"]) == ("1", "1")


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (JobState.NODE_FAIL, "node_fail"),
        (JobState.BOOT_FAIL, "boot_fail"),
        (JobState.FAILED, "failed"),
        (JobState.OUT_OF_MEMORY, "out_of_memory"),
        (JobState.PREEMPTED, "preempted"),
        (JobState.TIMEOUT, "timeout"),
    ],
)
def test_only_the_ends_that_the_site_names_are_tried_again(state, word):
    job = failed(state=state)
    others = [end for end in ("node_fail", "failed", "timeout") if end != word]
    assert wanted(job, policy_with(ends=[word]))
    assert not wanted(job, policy_with(ends=others))


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.CANCELLED, JobState.DEADLINE])
def test_success_cancellation_and_a_missed_deadline_are_final(state):
    every = ["node_fail", "boot_fail", "failed", "out_of_memory", "preempted", "timeout"]
    assert not wanted(failed(state=state), policy_with(ends=every))


def test_the_last_allowed_retry_is_the_last():
    assert wanted(failed(restarts=1), policy_with())
    assert not wanted(failed(restarts=2), policy_with())


def test_the_site_caps_what_a_user_asks_for():
    job = failed(comment="gpu-submit(retries=99)")
    assert allowed(job, policy_with(most=4)) == 4
    assert allowed(job, policy_with(most=0)) == 0


def test_a_job_that_asks_for_nothing_gets_the_sites_default():
    assert allowed(failed(comment=""), policy_with()) == 0
    assert allowed(failed(comment=""), policy_with(default=1)) == 1
    assert allowed(failed(comment="gpu-submit(retries=x9)"), policy_with(default=1)) == 1


def test_who_asks_for_no_retry_gets_none_whatever_the_default():
    assert allowed(failed(comment="gpu-submit(retries=0)"), policy_with(default=2)) == 0


# --- T-803: what counts ---------------------------------------------------------------------


def test_a_restart_that_was_not_ours_is_counted_where_the_site_says_so():
    job = make_job(state=JobState.PENDING, restarts=1, reason="BeginTime", comment=ASKS_TWO)
    (action,) = wanted(job, policy_with())
    assert (action.verb, action.rule) == ("modify", "T-803")
    assert (mark_of(action)["attempt"], mark_of(action)["run"]) == ("1", "1")


def test_a_restart_that_was_not_ours_is_free_where_the_site_says_so():
    policy = policy_with(count_slurm_requeues=False)
    job = make_job(state=JobState.PENDING, restarts=1, reason="BeginTime", comment=ASKS_TWO)
    (action,) = wanted(job, policy)
    assert mark_of(action)["attempt"] == "0"
    assert wanted(failed(restarts=7, admin_comment="gpu-policy(attempt=1;run=7)"), policy)
    assert not wanted(failed(restarts=2, admin_comment="gpu-policy(attempt=2;run=2)"), policy)


def test_a_counted_restart_is_counted_once():
    job = make_job(state=JobState.PENDING, restarts=1, comment=ASKS_TWO)
    (action,) = wanted(job, policy_with())
    marked = replace(job, admin_comment=change_tag("", mark_of(action)))
    assert not wanted(marked, policy_with())


def test_a_requeue_of_ours_that_is_not_finished_is_left_to_who_finishes_it():
    job = make_job(
        state=JobState.PENDING,
        restarts=1,
        reason="job requeued in held state",
        priority=0,
        comment=ASKS_TWO,
    )
    assert not wanted(job, policy_with())


# --- T-804: the place in the queue ----------------------------------------------------------


def test_a_running_job_that_may_be_retried_has_its_place_marked_once():
    config = ClusterConfig("c", "22.05.8", SETTINGS)
    job = make_job(comment=ASKS_TWO, submit_time=NOW - 50_000, accrue_time=NOW - 43_200)
    (action,) = wanted(job, policy_with(), config=config)
    assert (action.verb, action.rule) == ("modify", "T-804")
    assert mark_of(action) == {"first": str(NOW - 50_000), "kept": "500"}
    marked = replace(job, admin_comment=change_tag("", mark_of(action)))
    assert not wanted(marked, policy_with(), config=config)


def test_no_place_is_marked_where_the_site_keeps_none_or_nothing_is_left():
    job = make_job(comment=ASKS_TWO)
    assert not wanted(job, policy_with(keep_place=False))
    assert not wanted(job, policy_with(most=0))
    assert "first" not in mark_of(wanted(failed(), policy_with(keep_place=False))[0])


def test_a_job_too_short_to_be_seen_running_keeps_its_place_too():
    config = ClusterConfig("c", "22.05.8", SETTINGS)
    job = failed(submit_time=NOW - 90_000, accrue_time=NOW - 86_400, start_time=NOW - 5)
    mark = mark_of(wanted(job, policy_with(), config=config)[0])
    assert (mark["first"], mark["kept"]) == (str(NOW - 90_000), "999")


def test_the_second_retry_keeps_the_first_place():
    job = failed(restarts=1, admin_comment="gpu-policy(attempt=1;run=1;first=7;kept=9)")
    assert not {"first", "kept"} & mark_of(wanted(job, policy_with())[0]).keys()


def test_a_job_that_lost_its_place_before_anybody_looked_has_none_to_keep():
    assert "first" not in mark_of(wanted(failed(restarts=1), policy_with())[0])


@pytest.mark.parametrize(
    ("waited", "points"), [(0, 0), (86, 0), (87, 1), (43_200, 500), (86_400, 1000), (10**7, 1000)]
)
def test_age_points_are_slurms_weight_times_its_age_factor(waited, points):
    config = ClusterConfig("c", "22.05.8", SETTINGS)
    assert age_points(NOW - waited, NOW, config) == points


def test_age_points_without_settings_or_times_are_none():
    assert age_points(NOW - 5, NOW, None) == 0
    assert age_points(None, NOW, ClusterConfig("c", "22.05.8", SETTINGS)) == 0
    assert age_points(NOW - 5, None, ClusterConfig("c", "22.05.8", SETTINGS)) == 0
    weight_alone = ClusterConfig("c", "22.05.8", {"PriorityWeightAge": "700"})
    assert age_points(NOW - 86_400, NOW, weight_alone) == 100  # Slurm's seven days


# --- T-805: bad nodes -----------------------------------------------------------------------


def test_a_retry_avoids_the_node_that_failed():
    job = failed(state=JobState.NODE_FAIL, node_list="gpu02")
    (action,) = wanted(job, policy_with())
    assert dict(action.changes)["excluded_nodes"] == "gpu02"
    assert "without gpu02" in action.reason


def test_of_several_nodes_those_that_are_down_are_avoided():
    job = failed(state=JobState.NODE_FAIL, node_list="gpu[01-02]")
    nodes = (make_node("gpu01"), make_node("gpu02", state="DOWN"))
    snapshot = make_snapshot(nodes=nodes)
    assert bad_nodes(job, snapshot, policy_with()) == ("gpu02",)
    assert bad_nodes(job, make_snapshot(), policy_with()) == ()


def test_a_failed_exit_blames_the_node_only_where_the_site_says_so():
    job = failed(node_list="gpu02")
    assert bad_nodes(job, make_snapshot(), policy_with()) == ()
    blaming = policy_with(exclude_bad_node=["failed"])
    assert bad_nodes(job, make_snapshot(), blaming) == ("gpu02",)


def test_a_node_list_that_cannot_be_read_blames_nobody():
    job = failed(state=JobState.NODE_FAIL, node_list="gpu[1-")
    assert bad_nodes(job, make_snapshot(), policy_with()) == ()


def test_avoided_nodes_come_to_those_that_the_user_excluded():
    assert with_exclusions("gpu[03-04]", ("gpu01",)) == "gpu03,gpu04,gpu01"
    assert with_exclusions("gpu01", ("gpu01",)) == "gpu01"
    assert with_exclusions("", ("gpu01",)) == "gpu01"


# --- T-806: backoff -------------------------------------------------------------------------


def test_each_retry_waits_longer_up_to_the_longest():
    policy = policy_with(first_delay="10s", factor=3, longest_delay="100s")
    assert [delay_seconds(n, policy) for n in (1, 2, 3, 4, 5)] == [10, 30, 90, 100, 100]


def test_a_delay_after_very_many_attempts_is_computed_at_once():
    policy = policy_with(first_delay="1s", factor=1, longest_delay="100s")
    assert delay_seconds(1_000_000, policy) == 1


def test_the_wait_counts_from_the_end_and_never_lies_in_the_past():
    early = wanted(failed(end_time=NOW - 20), policy_with())[0]
    late = wanted(failed(end_time=NOW - 2000), policy_with())[0]
    assert dict(early.changes)["begin_time"] == mark_of(early)["until"] == str(NOW + 40)
    assert dict(late.changes)["begin_time"] == str(NOW)


# --- arrays, groups -------------------------------------------------------------------------


def test_the_last_task_of_an_array_is_addressed_as_a_task():
    """Its number is the array's own: a requeue of the number would take every task."""
    job = replace(failed(10), display_id="10_2", array_job_id=JobId(10), array_task="2")
    assert wanted(job, policy_with())[0].display_id == "10_2"


def test_a_group_is_requeued_as_a_whole_by_its_first_part():
    first = replace(failed(14), display_id="14+0", het_job_id=JobId(14))
    second = replace(failed(15), display_id="14+1", het_job_id=JobId(14))
    found = retries(make_snapshot(jobs=(first, second)), policy_with())
    assert [(action.job_id, action.display_id) for action in found] == [(14, "14")]


# --- no attempt is lost, none doubled -------------------------------------------------------


class World:
    """One job of a Slurm that does what was measured, and a controller that dies at any point."""

    def __init__(self, policy):
        self.policy = policy
        self.job = make_job(comment=ASKS_TWO, accrue_time=NOW - 10, submit_time=NOW - 10)
        self.now = NOW
        self.begun = None  # the audit log's entry without an outcome
        self.ours = 0

    def end(self, state):
        if self.job.state is JobState.RUNNING:
            self.job = replace(self.job, state=state, end_time=self.now)

    def start(self):
        waits = self.job.state is JobState.PENDING and self.job.priority
        if waits and (self.job.eligible_time or 0) <= self.now:
            self.job = replace(self.job, state=JobState.RUNNING, start_time=self.now, reason="")

    def requeue(self, *, hold):
        if self.job.state is JobState.PENDING:
            return False
        self.job = replace(
            self.job,
            state=JobState.PENDING,
            restarts=self.job.restarts + 1,
            priority=0 if hold else 1000,
            reason="job requeued in held state" if hold else "BeginTime",
            submit_time=self.now,
            accrue_time=None,
            start_time=None,
            eligible_time=self.now + 121,
            node_list="",
        )
        return True

    def release(self):
        if self.job.state is JobState.PENDING and not self.job.priority:
            self.job = replace(self.job, priority=1000, reason="")

    def mark(self, facts):
        if not self.job.state.is_over:
            comment = change_tag(self.job.admin_comment, dict(facts))
            self.job = replace(self.job, admin_comment=comment)

    def begin(self, action):
        for key, value in action.changes:
            if key == "begin_time" and self.job.state is JobState.PENDING:
                self.job = replace(self.job, eligible_time=int(value))

    def tick(self, dies_after):
        """One tick; *dies_after* steps the controller is killed."""
        steps = iter(range(dies_after))
        if self.begun is not None:  # a new leader first finishes what the audit log has begun
            action, self.begun = self.begun, None
            if self.job.state is JobState.PENDING and not self.job.priority:
                self.mark(action.mark)
                self.begin(action)
                self.release()
        for action in retries(replace(make_snapshot(jobs=(self.job,)), time=self.now), self.policy):
            if next(steps, None) is None:
                return
            if action.verb == "requeue":
                self.begun = action
                if next(steps, None) is None or not self.requeue(hold=True):
                    return
                self.ours += 1
                if next(steps, None) is None:
                    return
                self.mark(action.mark)
                self.begin(action)
                if next(steps, None) is None:
                    return
                self.release()
                self.begun = None
            else:
                self.mark(action.mark)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.integers(0, 5)),
        st.tuples(
            st.just("end"),
            st.sampled_from(
                [JobState.FAILED, JobState.NODE_FAIL, JobState.TIMEOUT, JobState.COMPLETED]
            ),
        ),
        st.tuples(st.sampled_from(["start", "slurm requeues", "owner releases"]), st.just(None)),
        st.tuples(st.just("wait"), st.integers(1, 200)),
    ),
    max_size=60,
)


def play(policy, steps):
    world = World(policy)
    for what, how in steps:
        if what == "tick":
            world.tick(how)
        elif what == "end":
            world.end(how)
        elif what == "start":
            world.start()
        elif what == "slurm requeues":
            if world.job.state is JobState.RUNNING:
                world.requeue(hold=False)
        elif what == "owner releases":
            world.release()
        else:
            world.now += how
    return world


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_never_are_there_more_retries_than_allowed_whatever_happens_when(steps):
    policy = policy_with(most=2, ends=["failed", "node_fail"])
    assert play(policy, steps).ours <= 2


@settings(max_examples=400, deadline=None)
@given(STEPS)
@example(
    [("start", None), ("slurm requeues", None), ("start", None), ("slurm requeues", None),
     ("start", None), ("end", JobState.NODE_FAIL)]
)  # fmt: skip
def test_no_attempt_is_lost_once_the_controller_lives_again(steps):
    policy = policy_with(most=2, ends=["failed", "node_fail"])
    world = play(policy, steps)
    for _ in range(12):  # from here on nothing dies, and every run fails
        world.tick(100)
        world.now += 4000
        world.start()
        world.end(JobState.FAILED)
    if world.job.state in {JobState.FAILED, JobState.NODE_FAIL}:
        assert world.job.restarts >= 2
        assert not retries(make_snapshot(jobs=(world.job,)), policy)
    else:  # an end that is final came first
        assert world.job.state in {JobState.TIMEOUT, JobState.COMPLETED}


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_the_mark_agrees_with_slurms_own_count_after_a_whole_tick(steps):
    world = play(policy_with(most=2), steps)
    world.tick(100)
    world.tick(100)
    if not world.job.state.is_over:
        mark = read_tag(world.job.admin_comment, "gpu-policy")
        assert int(mark.get("attempt", 0)) == world.job.restarts
        if world.job.state is JobState.PENDING:
            assert world.job.priority


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_a_settled_job_needs_nothing_in_the_next_tick(steps):
    policy = policy_with(most=2)
    world = play(policy, steps)
    world.tick(100)
    world.tick(100)
    assert not retries(replace(make_snapshot(jobs=(world.job,)), time=world.now), policy)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_where_slurms_requeues_are_free_ours_are_still_counted(steps):
    """But for a job whose owner releases it in the moment between our requeue and its mark."""
    policy = policy_with(most=2, ends=["failed", "node_fail"], count_slurm_requeues=False)
    world = play(policy, [step for step in steps if step[0] != "owner releases"])
    for _ in range(8):
        world.tick(100)
        world.now += 4000
        world.start()
        world.end(JobState.FAILED)
    assert world.ours <= 2
    if world.job.state is JobState.FAILED:
        assert world.ours == 2
