"""Fair shares and priorities of a snapshot, and which jobs have any."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from slurm_gpu_policy.errors import SlurmRefused
from slurm_gpu_policy.model.account import Association, Qos
from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState, PriorityFactors
from slurm_gpu_policy.services import standing
from tests.builders import NOW, make_job, make_partition, make_snapshot

SETTINGS = {
    "AccountingStorageType": "accounting_storage/slurmdbd",
    "AccountingStorageTRES": "cpu,mem,energy,node,billing,gres/gpu",
    "PriorityType": "priority/multifactor",
    "PriorityMaxAge": "00:10:00",
    "PriorityWeightAge": "1000",
    "PriorityWeightFairShare": "10000",
    "PriorityWeightPartition": "100",
    "PriorityWeightQOS": "600",
}
TREE = (
    Association("root", ""),
    Association("nlp", "", parent="root", raw_shares=10, usage=30.0, priority=5),
    Association("nlp", "u1", raw_shares=10, usage=30.0, priority=5),
    Association("nlp", "u1", partition="cpu", raw_shares=10, usage=0.0, priority=10),
    Association("nlp", "u2", raw_shares=10, usage=0.0, priority=5),
)


def row(number, **points):
    zero = dict.fromkeys(
        ("age", "association", "fair_share", "job_size", "partition_factor", "qos_factor"), 0.0
    )
    fields = {"priority": 1, "nice": 0, "site": 0, **zero, **points}
    return PriorityFactors(job_id=JobId(number), partition="gpu", qos="", **fields)


def pending(number=1, **fields):
    return make_job(
        number,
        **{"state": JobState.PENDING, "accrue_time": NOW - 300, "tres": {"cpu": 1, "node": 1}}
        | fields,
    )


def world(*jobs, **fields):
    settings = SETTINGS | fields.pop("settings", {})
    defaults = {
        "jobs": jobs,
        "associations": TREE,
        "config": ClusterConfig("cluster", "22.05.8", MappingProxyType(settings)),
        "qos": (Qos("normal", priority=50), Qos("high", priority=100)),
        "partitions": (
            make_partition("gpu", "gpu01", priority_job_factor=1),
            make_partition("cpu", "cpu01", priority_job_factor=4),
        ),
    }
    return make_snapshot(**{**defaults, **fields})


def test_a_priority_is_computed_from_usage_settings_and_the_job():
    (one,) = standing.priorities(world(pending(nice=7)))
    assert (one.terms.age, one.terms.qos, one.terms.partition) == (500.0, 300.0, 25.0)
    assert one.terms.fair_share == pytest.approx(10000 / 3)
    assert one.priority == int(500 + 300 + 25 + 10000 / 3 - 7)


def test_ages_are_those_of_the_last_calculation_where_it_is_known():
    snapshot = world(pending(), calculated_at=NOW - 240)
    assert standing.priorities(snapshot)[0].terms.age == 100.0
    assert standing.priorities(snapshot, at=NOW + 300)[0].terms.age == 1000.0


def test_a_job_has_a_row_for_each_partition_and_qos_it_may_start_in():
    found = standing.priorities(world(pending(partitions=("gpu", "cpu"), qos="normal,high")))
    assert [(one.partition, one.qos) for one in found] == [
        ("gpu", "normal"),
        ("gpu", "high"),
        ("cpu", "normal"),
        ("cpu", "high"),
    ]
    assert [one.terms.qos for one in found] == [300.0, 600.0, 300.0, 600.0]


def test_an_association_for_one_partition_counts_there_only():
    here, there = standing.priorities(world(pending(partitions=("gpu", "cpu"))))
    assert here.terms.fair_share < there.terms.fair_share == 10000.0


def test_the_site_factor_is_the_only_term_taken_from_sprio():
    rows = (row(1, site=500, age=9.0, fair_share=9.0, priority=9),)
    (one,) = standing.priorities(world(pending(), priorities=rows))
    (without,) = standing.priorities(world(pending()))
    assert one.priority == without.priority + 500
    assert replace(one.terms, site=0, priority=without.terms.priority) == without.terms


@pytest.mark.parametrize(
    "said", [row(1), row(1, nice=-(2**31), site=-(2**31), partition_factor=25.0)]
)
def test_a_priority_set_by_hand_stands_without_terms(said):
    (one,) = standing.priorities(world(pending(priority=777), priorities=(said,)))
    assert (one.priority, one.terms.age, one.terms.site, one.terms.direct) == (777, 0, 0, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"state": JobState.RUNNING},
        {"priority": 0},
        {"eligible_time": None},
        {"eligible_time": NOW + 1},
    ],
)
def test_jobs_that_run_are_held_or_may_not_start_yet_have_no_priority(fields):
    assert standing.priorities(world(pending(**fields))) == ()


def test_with_accrue_always_jobs_that_may_not_start_yet_are_ranked_too():
    later = pending(eligible_time=NOW + 1, submit_time=NOW - 600)
    flags = {"PriorityFlags": "ACCRUE_ALWAYS"}
    (one,) = standing.priorities(world(later, settings=flags))
    assert one.terms.age == 1000.0


def test_a_partition_that_is_gone_has_no_row():
    assert standing.priorities(world(pending(partitions=("gone",)))) == ()


def test_the_highest_priority_is_read_first():
    class Slurm:
        def read(self, *parts, fresh):
            assert set(parts) == set(standing.PRIORITY_PARTS)
            assert fresh
            return world(pending(1, nice=5), pending(2))

    assert [one.job.job_id for one in standing.read_priorities(Slurm())] == [2, 1]


def test_classic_fair_share_is_used_where_the_site_chose_it():
    tree = standing.fair_shares(world(settings={"PriorityFlags": "NO_FAIR_TREE"}))
    assert next(one for one in tree if one.member.user == "u2").fair_share == 1.0
    assert all(one.fair_share is not None for one in tree)  # accounts have one as well


@pytest.mark.parametrize("seen", [(), TREE[1:], TREE[:1] + TREE[2:]])
def test_a_part_of_the_tree_is_refused_with_the_reason(seen):
    with pytest.raises(SlurmRefused, match="PrivateData"):
        standing.fair_shares(world(associations=seen))


def test_a_subtree_is_an_account_and_all_below_it():
    deeper = (Association("nlp-x", "", parent="nlp"), Association("nlp-x", "u3"))
    other = (Association("vision", "", parent="root"), Association("vision", "u4"))
    found = standing.fair_shares(world(associations=TREE + deeper + other))
    below = standing.below(found, "nlp")
    assert [(one.member.account, one.member.user) for one in below] == [
        ("nlp", ""),
        ("nlp", "u1"),
        ("nlp", "u1"),
        ("nlp", "u2"),
        ("nlp-x", ""),
        ("nlp-x", "u3"),
    ]
    assert standing.below(found, "none") == ()


def test_jobs_are_found_by_any_of_their_names():
    jobs = (
        replace(pending(5), display_id="5_[1-3]"),
        replace(pending(9), display_id="7_2", array_job_id=JobId(7)),
    )
    found = standing.priorities(world(*jobs))
    for name, wanted in (("5", 5), ("5_[1-3]", 5), ("9", 9), ("7_2", 9), ("7", 9)):
        chosen, unknown = standing.of_jobs(found, [name])
        assert ([one.job.job_id for one in chosen], unknown) == ([wanted], ())
    assert standing.of_jobs(found, ["8", "9", "9"])[1] == ("8",)
    assert len(standing.of_jobs(found, ["9", "7"])[0]) == 1
