"""A priority's terms in words, and by which of them another job is ahead."""

from __future__ import annotations

from dataclasses import replace

from slurm_gpu_policy.policy.explaining.term_words import decided_by, points, term_words
from slurm_gpu_policy.policy.priority import Claim, Place, Settings, Weights, terms
from tests.builders import NOW

SETTINGS = Settings(
    Weights(
        age=2000, fair_share=10000, qos=6000, partition=1000, job_size=500, association=1000,
        tres={"gres/gpu": 1500.0, "mem": 100.0},
    ),
    cluster_cpus=128,
    nodes=2,
    max_qos_priority=100,
    max_association_priority=10,
    max_partition_factor=10,
)  # fmt: skip
PLACE = Place("gpu", "normal", 0.31, 5, 10, 1, {"gres/gpu": 16, "mem": 1000})
CLAIM = Claim(PLACE, NOW - 10800, cpus=8, tres={"gres/gpu": 4, "mem": 500}, site=-2000, nice=100)


def words(claim=CLAIM, settings=SETTINGS, **more):
    found = term_words(claim, terms(claim, settings, NOW), settings, NOW, more)
    return {one.text.partition(":")[0].partition(" (")[0]: one.text for one in found}, found


def test_each_term_says_its_points_and_the_weightiest_comes_first():
    _, found = words(fair_share="account nlp used 2.4 x its share")
    assert [one.text for one in found] == [
        "fair share 0.31 (3,100 of 10,000 points): account nlp used 2.4 x its share",
        "site factor: -2,000 points",
        "QOS normal: 600 of 6,000 points (its priority 10, the highest 100)",
        "priority of its account: 500 of 1,000 points",
        "4 GPUs: 375 of 1,500 points",
        "job size, 1 node and 8 CPUs: 141 of 500 points (large jobs first)",
        "nice: -100 points",
        "partition gpu: 100 of 1,000 points",
        "500 MiB of memory: 50 of 100 points",
        "age: waited 03:00:00 of the 7-00:00:00 that count, 36 of 2,000 points",
    ]


def test_the_points_of_all_terms_add_up_to_the_priority():
    found = terms(CLAIM, SETTINGS, NOW)
    assert int(sum(points(found).values())) == found.priority


def test_a_term_without_weight_or_points_is_not_named():
    settings = Settings(Weights(qos=10), max_qos_priority=10)
    _, found = words(replace(CLAIM, site=0, nice=0), settings)
    assert [one.name for one in found] == ["qos"]


def test_a_full_age_says_so_and_one_that_does_not_grow_too():
    said, _ = words(replace(CLAIM, accrue_time=NOW - 8 * 86400))
    assert "waited longer than the 7-00:00:00 that count, 2,000 of 2,000 points" in said["age"]
    said, _ = words(replace(CLAIM, accrue_time=None))
    assert "it does not count yet" in said["age"]


def test_raw_numbers_have_no_bound():
    settings = replace(SETTINGS, flags=frozenset({"NO_NORMAL_QOS"}))
    said, _ = words(settings=settings)
    assert said["QOS normal"].startswith("QOS normal: 60,000 points")


def test_a_priority_set_by_hand_has_one_sentence():
    _, (one,) = words(replace(CLAIM, direct_priority=5000))
    assert one.text == "somebody set its priority 5,000 by hand, so no term counts"


def test_the_term_with_the_largest_gap_decides():
    mine = terms(CLAIM, SETTINGS, NOW)
    theirs = replace(CLAIM, place=replace(PLACE, fair_share=0.46), nice=400)
    assert decided_by(mine, terms(theirs, SETTINGS, NOW)) == ("fair_share", 1500.0)
    assert decided_by(mine, terms(replace(CLAIM, nice=0), SETTINGS, NOW)) == ("nice", 100.0)


def test_between_equals_no_term_decides_and_a_hand_beats_all():
    mine = terms(CLAIM, SETTINGS, NOW)
    assert decided_by(mine, mine) == ("", 0.0)
    by_hand = terms(replace(CLAIM, direct_priority=9), SETTINGS, NOW)
    assert decided_by(mine, by_hand)[0] == "direct"
