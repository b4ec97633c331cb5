"""What stands in the way besides Slurm's own reason."""

from __future__ import annotations

from slurm_gpu_policy.model.cluster import Reservation
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.obstacles import blocking, obstacles
from tests.builders import NOW, make_job, make_partition, make_policy, make_snapshot

BOTH = ("gpu01", "gpu02")


def waiting(number=9, **fields):
    return make_job(number, **{"state": JobState.PENDING, "node_list": "", **fields})


def reservation(start, end, nodes=BOTH, flags=("MAINT",)):
    return Reservation("window", "INACTIVE", start, end, nodes, (), (), "", frozenset(flags))


def said(job, *reservations, jobs=(), policy=None, **parts):
    snapshot = make_snapshot(jobs=(job, *jobs), reservations=reservations, **parts)
    return obstacles(job, snapshot, policy or make_policy())


def test_a_maintenance_into_which_it_would_run_is_in_the_way():
    (text,) = said(waiting(time_limit_seconds=7200), reservation(NOW + 3600, NOW + 9000))
    assert text == (
        "maintenance (reservation window) begins in 01:00:00 on its nodes, "
        "and it has a limit of 02:00:00"
    )


def test_one_that_ends_before_it_is_not():
    window = reservation(NOW + 7200, NOW + 9000)
    assert said(waiting(time_limit_seconds=7200), window) == ()
    assert said(waiting(time_limit_seconds=None), window) != ()


def test_a_reservation_that_leaves_nodes_enough_is_not():
    window = reservation(NOW + 60, NOW + 9000, nodes=("gpu01",))
    assert said(waiting(), window) == ()
    assert said(waiting(nodes=2, gpus=2), window) != ()


def test_the_jobs_own_reservation_and_one_that_is_over_are_not():
    assert said(waiting(reservation="window"), reservation(NOW - 60, NOW + 900)) == ()
    assert said(waiting(), reservation(NOW - 900, NOW - 60)) == ()


def test_an_active_reservation_says_how_long_it_lasts():
    (text,) = said(waiting(), reservation(NOW - 60, NOW + 900, flags=()))
    assert text == "reservation window holds nodes that it could use for another 00:15:00"


def test_the_soonest_reservation_blocks_first():
    late, soon = reservation(NOW + 900, None), reservation(NOW + 60, NOW + 120)
    snapshot = make_snapshot(reservations=(late, soon))
    assert blocking(waiting(), snapshot) == (soon, late)


def test_jobs_of_a_partition_of_a_higher_tier_on_the_same_nodes_go_first():
    parts = (
        make_partition("gpu", *BOTH),
        make_partition("interactive", *BOTH, priority_tier=2),
        make_partition("cpu", "cpu01", priority_tier=3),
    )
    others = [
        waiting(2, partitions=("interactive",)),
        waiting(3, partitions=("interactive",), priority=0),
        waiting(4, partitions=("cpu",)),
        waiting(5, partitions=("interactive",), reason="Dependency"),
    ]
    (text,) = said(waiting(), jobs=others, partitions=parts)
    assert text.startswith("1 job of partition interactive goes first on the same nodes")
    assert said(waiting(partitions=("interactive",)), jobs=others, partitions=parts) == ()


def test_a_job_beyond_its_accounts_guarantee_is_told_so():
    policy = make_policy(over_quota={})
    (text,) = said(waiting(qos="over-quota"), policy=policy)
    assert "rule Q-702" in text
    assert said(waiting(qos="over-quota")) == ()


def test_a_job_of_an_account_that_has_spent_its_budget_is_told_so():
    policy = make_policy(submission={"over_budget_qos": "later"})
    (text,) = said(waiting(qos="later"), policy=policy)
    assert text == "account nlp had spent its budget, so it is in QOS later (rule L-207)"
    assert said(waiting(), policy=policy) == ()


def test_a_held_job_has_no_other_obstacle():
    assert said(waiting(priority=0), reservation(NOW, NOW + 9000)) == ()
