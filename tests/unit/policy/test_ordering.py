"""The orderings put jobs into the site's order, in few writes, and touch nobody else's."""

from __future__ import annotations

import random
from types import MappingProxyType

import pytest

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.line import MOST_SITE
from slurm_gpu_policy.policy.ordering import MOST_KEPT, RULES, site_factors, standing
from slurm_gpu_policy.policy.run_times import RunTimes
from tests.builders import NOW, make_association, make_policy, make_snapshot
from tests.queues import MOST, Queue, row, shares, sure_order, waiting

KINDS = sorted(RULES)


# Who is touched


@pytest.mark.parametrize("level", ["observe", "enforce"])
def test_without_an_ordering_nothing_is_touched(level):
    job = waiting(1)
    snapshot = make_snapshot(jobs=(job,), priorities=(row(job, site=77),))
    assert site_factors(snapshot, make_policy(enforcement=level)) == ()
    assert standing(job.job_id, snapshot, make_policy()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_does_not_compete_is_left_alone(kind):
    queue = Queue(
        waiting(1, state=JobState.RUNNING),
        waiting(2, priority=0, reason="JobHeldUser"),
        waiting(3, state=JobState.COMPLETED),
        kind=kind,
    )
    unlisted = waiting(4, reason="BeginTime")
    by_hand = waiting(5, priority=500_000)
    queue.fields = {
        "jobs": (*queue.jobs, unlisted, by_hand),
        "priorities": (row(by_hand, 0, priority=500_000), row(waiting(2), site=5)),
    }
    assert queue.tick() == ()
    assert standing(unlisted.job_id, queue.snapshot(), queue.policy) is None


def test_an_action_says_what_and_why():
    queue = Queue(waiting(1, user="u2"), kind="fcfs")
    (action,) = queue.tick()
    assert (action.verb, action.job_id, action.display_id) == ("site_factor", 1, "1")
    assert (action.rule, action.user) == ("P-603", "u2")
    assert action.reason == "place 1 of 1 job: first come, first served"
    assert action.before == "site factor 0"
    assert action.after == f"site factor {action.site_factor}"


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_constant_queue_the_second_tick_changes_nothing(kind):
    terms = {name: {"weight": "500"} for name in ("deadline", "entry_penalty", "fragmentation")}
    jobs = [
        waiting(n, user=f"u{n % 3}", gpus=n % 5, time_limit_seconds=n % 7 * 600 + 60, nice=n % 3,
                deadline=NOW + n * 5000, het_job_id=n - n % 2 if n > 30 else None)
        for n in range(1, 41)
    ]  # fmt: skip
    queue = Queue(*jobs, kind=kind, terms=terms)
    queue.fields["associations"] = shares(u0=0.9, u1=0.5, u2=0.1)
    queue.tick()
    rng = random.Random(kind)  # noqa: S311
    for _ in range(3):
        queue.bases = {n: rng.uniform(0, MOST) for n in range(1, 41)}
        assert queue.tick() == ()


def test_the_head_of_the_line_comes_first_among_the_actions():
    queue = Queue(waiting(3), waiting(1), waiting(2), kind="fcfs")
    assert [action.job_id for action in queue.tick()] == [1, 2, 3]


# P-601: slurm


def test_slurms_own_order_is_left_and_what_stood_before_is_taken_away():
    queue = Queue(waiting(1), waiting(2), kind="slurm")
    queue.sites = {2: 40_000}
    (action,) = queue.tick()
    assert (action.job_id, action.site_factor, action.rule) == (2, 0, "P-601")
    assert action.reason == "Slurm's own order"


def test_terms_are_added_to_slurms_own_order():
    queue = Queue(
        waiting(1), waiting(2, deadline=NOW + 60), kind="slurm", terms={"deadline": {"weight": 800}}
    )
    (action,) = queue.tick()
    assert (action.job_id, action.site_factor) == (2, 800)
    assert action.reason == (
        "Slurm's own order; deadline +800 (no time to spare before its deadline (time limit))"
    )


def test_points_of_age_kept_over_a_retry_are_given_back():
    kept = {"admin_comment": "gpu-policy(kept=1234)"}
    for kind, expected in (("slurm", 1234), ("fcfs", None)):
        queue = Queue(waiting(1, restarts=1, **kept), waiting(2, **kept), kind=kind)
        queue.tick()
        if expected is not None:
            assert queue.sites == {1: expected}
        found = standing(1, queue.snapshot(), queue.policy)
        assert [term.rule for term in found.terms] == (["T-804"] if expected else [])
    wild = {"restarts": 1, "admin_comment": "gpu-policy(kept=99999999999)"}
    queue = Queue(waiting(1, **wild), kind="slurm")
    queue.tick()
    assert queue.sites == {1: MOST_KEPT}


def test_without_an_ordering_a_retry_still_keeps_its_place():
    mark = {"restarts": 1, "admin_comment": "gpu-policy(kept=300)"}
    jobs = (waiting(1, **mark), waiting(2, **mark), waiting(3))
    rows = (row(jobs[0]), row(jobs[1], site=7), row(jobs[2], site=9))
    (action,) = site_factors(make_snapshot(jobs=jobs, priorities=rows), make_policy())
    assert (action.rule, action.job_id, action.site_factor) == ("T-804", 1, 300)
    assert action.reason == (
        "it had waited for its place before it was started again: 300 points of age"
    )


# P-602: priority


def test_classes_come_in_order_and_slurms_own_order_holds_within_each():
    marks = ["low", "critical", "high", "normal"]
    jobs = [waiting(n, admin_comment=f"gpu-policy(class={marks[n % 4]})") for n in range(1, 13)]
    queue = Queue(*jobs, kind="priority", terms={"entry_penalty": {"weight": 3000}})
    queue.tick()
    for seed in range(20):
        rng = random.Random(seed)  # noqa: S311
        queue.bases = {n: rng.uniform(0, MOST) for n in range(1, 13)}
        classes = [n % 4 for n in queue.order()]
        assert classes == [1] * 3 + [2] * 3 + [3] * 3 + [0] * 3


def test_the_class_comes_from_the_operator_then_qos_workload_and_account():
    classes = {
        "qos": {"high": "high"},
        "workloads": {"inference": "low"},
        "accounts": {"vip": "critical"},
    }
    by = {
        1: {"qos": "high", "admin_comment": "gpu-policy(class=low)", "account": "vip"},
        2: {"qos": "high", "comment": "gpu-submit(workload=inference)"},
        3: {"comment": "gpu-submit(workload=inference)", "account": "vip"},
        4: {"account": "vip"},
        5: {"admin_comment": "gpu-policy(class=emperor)"},
        6: {"comment": "gpu-policy(class=critical)"},
    }
    queue = Queue(*(waiting(n, **f) for n, f in by.items()), kind="priority", classes=classes)
    words = {n: standing(n, queue.snapshot(), queue.policy).words for n in by}
    assert words == {
        1: "priority class low: an operator put it there",
        2: "priority class high: by QOS high",
        3: "priority class low: by workload class inference",
        4: "priority class critical: by account vip",
        5: "priority class normal: nothing says otherwise",
        6: "priority class normal: nothing says otherwise",
    }


def test_no_term_no_age_and_no_kept_place_carries_a_job_into_another_class():
    terms = {"workload": {"weight": 10**6, "shares": {"training": 1, "ocr": -1}}}
    kept = "gpu-policy(class=low;kept=9999999)"
    best = waiting(1, admin_comment=kept, restarts=1, comment="workload=training")
    worst = waiting(2, admin_comment="gpu-policy(class=normal)", comment="workload=ocr")
    queue = Queue(best, worst, kind="priority", terms=terms)
    queue.bases = {1: MOST, 2: 0}
    queue.tick()
    assert queue.order() == [2, 1]


def test_classes_fit_into_slurms_numbers_whatever_the_weights():
    most = {"deadline": {"weight": "100000000"}}
    for weight in ("0", "4294967295"):
        queue = Queue(
            waiting(1, admin_comment="gpu-policy(class=critical)", deadline=NOW + 1),
            settings={"PriorityWeightAge": weight},
            kind="priority",
            terms=most,
        )
        (action,) = queue.tick()
        assert 0 < action.site_factor <= MOST_SITE


# P-603: fcfs


def test_first_come_first_served_whatever_slurm_thinks():
    times = {1: 500, 2: 100, 3: 300, 4: 100}
    queue = Queue(*(waiting(n, submit_time=NOW - 9999 + t) for n, t in times.items()), kind="fcfs")
    queue.tick()
    assert sure_order(queue) == [2, 4, 3, 1]


def test_a_job_that_was_requeued_keeps_its_place():
    queue = Queue(
        waiting(1, submit_time=NOW - 50),
        waiting(2, submit_time=NOW - 10, admin_comment=f"gpu-policy(first={NOW - 90})"),
        waiting(3, submit_time=NOW - 70),
        kind="fcfs",
    )
    queue.tick()
    assert sure_order(queue) == [2, 3, 1]


def test_an_arrays_task_that_was_split_off_stands_with_its_array():
    same = {"submit_time": NOW - 100, "array_job_id": 2}
    queue = Queue(
        waiting(1, submit_time=NOW - 50),
        waiting(3, submit_time=NOW - 100),
        waiting(7, array_task="4", **same),
        waiting(2, array_task="5-9%2", **same),
        kind="fcfs",
    )
    assert len(queue.tick()) == 4
    assert sure_order(queue) == [2, 7, 3, 1]


def test_the_parts_of_a_heterogeneous_job_stand_together():
    queue = Queue(
        waiting(1, time_limit_seconds=600),
        waiting(2, time_limit_seconds=60, het_job_id=2),
        waiting(3, time_limit_seconds=6000, het_job_id=2),
        waiting(4, time_limit_seconds=120),
        kind="sjf",
    )
    queue.tick()
    assert queue.sites[2] == queue.sites[3]  # scontrol sets them all to one value
    assert [sorted(queue.order()[:2]), queue.order()[2:]] == [[2, 3], [4, 1]]
    queue.bases = {3: MOST, 4: 0.0}
    assert [sorted(queue.order()[:2]), queue.order()[2:]] == [[2, 3], [4, 1]]
    queue.sites[3] = 5
    assert [action.job_id for action in queue.tick()] == [3]


def test_a_heterogeneous_job_stands_where_its_first_part_belongs():
    queue = Queue(
        waiting(1, time_limit_seconds=600, het_job_id=1),
        waiting(2, time_limit_seconds=60, het_job_id=1),
        waiting(3, time_limit_seconds=120),
        kind="sjf",
    )
    queue.tick()
    assert queue.order()[0] == 3


def test_the_parts_of_a_heterogeneous_job_have_the_first_ones_class_and_terms():
    queue = Queue(
        waiting(1, het_job_id=1, admin_comment="gpu-policy(class=high)", deadline=NOW + 1),
        waiting(2, het_job_id=1),
        kind="priority",
        terms={"deadline": {"weight": 700}},
    )
    queue.tick()
    assert queue.sites[1] == queue.sites[2]


def test_a_point_of_first_come_first_served_is_a_second():
    queue = Queue(
        waiting(1, submit_time=NOW - 1000),
        waiting(2, submit_time=NOW - 500, deadline=NOW + 60),
        kind="fcfs",
        terms={"deadline": {"weight": 499}},
    )
    queue.tick()
    assert sure_order(queue) == [1, 2]
    queue.policy = make_policy(ordering={"kind": "fcfs", "terms": {"deadline": {"weight": 501}}})
    queue.tick()
    assert sure_order(queue) == [2, 1]


# P-604: sjf


def test_shortest_job_first_by_time_limit():
    limits = {1: 600, 2: None, 3: 60, 4: 60}
    queue = Queue(*(waiting(n, time_limit_seconds=t) for n, t in limits.items()), kind="sjf")
    reasons = {action.job_id: action.reason for action in queue.tick()}
    assert sure_order(queue) == [3, 4, 1, 2]
    assert reasons[3] == "place 1 of 4 jobs: shortest job first, 00:01:00 (time limit)"
    assert reasons[2] == "place 4 of 4 jobs: shortest job first, no time limit (time limit)"


def test_shortest_job_first_by_what_has_run_before_and_says_so():
    runs = RunTimes(MappingProxyType({("u1", "train", 1): ((1, 1, 50), (2, 2, 50), (3, 3, 50))}))
    jobs = (waiting(1, time_limit_seconds=60), waiting(2, name="train-3", time_limit_seconds=900))
    for run_time, order in (("predicted", [2, 1]), ("limit", [1, 2])):
        queue = Queue(*jobs, kind="sjf", run_time=run_time)
        queue.given = {"known": runs}
        reasons = {action.job_id: action.reason for action in queue.tick()}
        assert sure_order(queue) == order
        if run_time == "predicted":
            words = "predicted from the last 3 jobs of this name and size"
            assert reasons[2].endswith(f"shortest job first, 00:00:50 ({words})")


# P-605: fair_share


def test_a_burst_takes_turns_with_others():
    queue = Queue(
        *(waiting(n, user="u1") for n in range(1, 7)),
        *(waiting(n, user="u2") for n in range(7, 10)),
        kind="fair_share",
    )
    queue.fields["associations"] = shares(u1=0.5, u2=0.5)
    reasons = {action.job_id: action.reason for action in queue.tick()}
    assert sure_order(queue) == [1, 7, 2, 8, 3, 9, 4, 5, 6]
    assert reasons[7] == "place 2 of 9 jobs: fair share 0.50, taking turns with other users"


def test_who_is_owed_more_starts_earlier_and_more_often():
    queue = Queue(
        *(waiting(n, user="u1", gpus=4) for n in range(1, 5)),
        *(waiting(n, user="u2", gpus=4) for n in range(5, 9)),
        kind="fair_share",
        fair_share={"weight": "10000", "per_gpu": "250"},
    )
    queue.fields["associations"] = shares(u1=0.3, u2=0.55)
    queue.tick()
    assert sure_order(queue) == [5, 6, 7, 1, 8, 2, 3, 4]


def test_what_runs_counts_so_that_a_start_changes_nothing_for_those_behind():
    queue = Queue(
        *(waiting(n, user="u1") for n in range(1, 5)),
        *(waiting(n, user="u2") for n in range(5, 9)),
        kind="fair_share",
    )
    queue.fields["associations"] = shares(u1=0.9, u2=0.9)
    queue.tick()
    before = queue.order()
    for number in before[:4]:
        queue.change(number, state=JobState.RUNNING)
        assert queue.tick() == ()
    assert queue.order() == before[4:]


def test_the_tasks_of_an_array_count_each():
    queue = Queue(
        waiting(1, user="u1", array_task="1-10", array_job_id=1),
        waiting(2, user="u1"),
        *(waiting(n, user="u2") for n in range(3, 13)),
        kind="fair_share",
    )
    queue.fields["associations"] = shares(u1=0.5, u2=0.5)
    queue.tick()
    assert sure_order(queue) == [1, *range(3, 13), 2]


def test_a_factor_of_a_partition_comes_before_the_general_one():
    queue = Queue(waiting(1, user="u1"), waiting(2, user="u2"), kind="fair_share")
    queue.fields["associations"] = (
        *shares(u1=0.1, u2=0.5),
        make_association("nlp", "u1", partition="gpu", fair_share=0.9),
    )
    queue.tick()
    assert sure_order(queue) == [1, 2]


# Terms in an ordering


def test_a_term_whose_rule_goes_less_far_than_the_ordering_gives_nothing():
    job = waiting(1, deadline=NOW + 60)
    for level, expected in (("enforce", {1: 800}), ("advise", {})):
        queue = Queue(job, kind="slurm")
        queue.policy = make_policy(
            enforcement="enforce",
            rules={"P-611": level},
            ordering={"kind": "slurm", "terms": {"deadline": {"weight": 800}}},
        )
        queue.tick()
        assert queue.sites == expected
        assert standing(1, queue.snapshot(), queue.policy).terms[0].points == 800


def test_a_standing_has_the_terms_with_their_reasons():
    queue = Queue(
        waiting(1), waiting(2, deadline=NOW + 60), kind="fcfs", terms={"deadline": {"weight": 7200}}
    )
    found = standing(2, queue.snapshot(), queue.policy)
    assert (found.rule, found.place, found.waiting) == ("P-603", 1, 2)
    assert [(term.rule, term.points, term.bound) for term in found.terms] == [("P-611", 7200, 7200)]
    assert found.wanted_site > found.present_site == 0
    assert standing(99, queue.snapshot(), queue.policy) is None


def test_a_hole_gives_its_points_to_one_job_and_the_same_one_at_every_tick():
    queue = Queue(
        *(waiting(n, gpus=8) for n in range(1, 6)),
        kind="slurm",
        terms={"fragmentation": {"weight": 100}},
    )
    queue.tick()
    assert queue.sites == {1: 100, 2: 100}  # two nodes are free
    queue.bases = {4: 9000.0, 5: 8000.0}
    assert queue.tick() == ()
