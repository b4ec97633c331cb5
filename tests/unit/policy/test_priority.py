from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.policy.priority import (
    Claim,
    Place,
    Settings,
    Weights,
    age_factor,
    age_start,
    job_size_factor,
    kept_priority,
    priorities,
    recalculates,
    shown_factor,
    shown_priority,
    shown_term,
    terms,
)

NOW = 1_800_000_000
FLAGS = (
    "SMALL_RELATIVE_TO_TIME",
    "NO_NORMAL_ASSOC",
    "NO_NORMAL_PART",
    "NO_NORMAL_QOS",
    "NO_NORMAL_TRES",
    "NO_NORMAL_ALL",
)
TRES = ("cpu", "mem", "gres/gpu")


def slurm_says(claim: Claim, settings: Settings, now: int) -> int:  # noqa: C901, PLR0912, PLR0915
    """The notes' pseudo-code, line by line, with nothing shared with what is tested."""
    place, weights, flags = claim.place, settings.weights, settings.flags
    if claim.direct_priority is not None:
        return claim.direct_priority
    age = 0.0
    if claim.accrue_time:
        diff = now - claim.accrue_time if now > claim.accrue_time else 0
        age = diff / settings.max_age_seconds if diff < settings.max_age_seconds else 1.0

    def normal(value, most, flag):
        if flag in flags or "NO_NORMAL_ALL" in flags:
            return float(value)
        return value / most if most else 0.0

    js = 0.0
    n, c, cluster, nodes = claim.min_nodes, claim.cpus, settings.cluster_cpus, settings.nodes
    if "SMALL_RELATIVE_TO_TIME" in flags:
        js = float(n) * float(cluster) / float(nodes)
        if c > js:
            js = float(c)
        limit = 2**32 - 1 if claim.time_limit_minutes is None else claim.time_limit_minutes
        js /= limit
        js /= cluster
        if settings.favor_small:
            js = 1.0 - js
    elif settings.favor_small:
        js = (nodes - n) / nodes if nodes > n else 0.0
        if c:
            js += float((cluster - c) % 2**32) / cluster
            js /= 2
    else:
        js = n / nodes
        if c:
            js += c / cluster
            js /= 2
    js = 0.0 if js < 0.0 else min(js, 1.0)
    tres = 0.0
    for name, weight in weights.tres.items():
        factor = 0.0
        value = claim.tres.get(name, 0)
        if "NO_NORMAL_TRES" in flags or "NO_NORMAL_ALL" in flags:
            factor = float(value)
        elif value and place.partition_tres.get(name):
            factor = value / float(place.partition_tres[name])
        tres += factor * weight
    age *= weights.age
    assoc = (
        normal(place.association_priority, settings.max_association_priority, "NO_NORMAL_ASSOC")
        * weights.association
    )
    fs = place.fair_share * weights.fair_share
    js *= weights.job_size
    part = (
        normal(place.partition_factor, settings.max_partition_factor, "NO_NORMAL_PART")
        * weights.partition
    )
    qos = normal(place.qos_priority, settings.max_qos_priority, "NO_NORMAL_QOS") * weights.qos
    if claim.one_of_several:
        priority = part
        priority += age + assoc + fs + js + qos + tres + float(claim.site) - float(claim.nice)
    else:
        priority = age + assoc + fs + js + part + qos + tres + float(claim.site) - float(claim.nice)
    if priority < 1:
        priority = 1.0
    return min(int(priority), 2**32 - 1)


weights_of = st.integers(0, 10**6)
all_settings = st.builds(
    Settings,
    weights=st.builds(
        Weights,
        *[weights_of] * 6,
        tres=st.dictionaries(st.sampled_from(TRES), st.floats(0, 1e5), max_size=3),
    ),
    max_age_seconds=st.integers(1, 10**6),
    flags=st.frozensets(st.sampled_from(FLAGS)),
    favor_small=st.booleans(),
    cluster_cpus=st.integers(1, 10**5),
    nodes=st.integers(1, 2000),
    max_association_priority=st.integers(0, 1000),
    max_qos_priority=st.integers(0, 1000),
    max_partition_factor=st.integers(1, 1000),
)
all_places = st.builds(
    Place,
    fair_share=st.floats(0, 1),
    association_priority=st.integers(0, 1000),
    qos_priority=st.integers(0, 1000),
    partition_factor=st.integers(0, 1000),
    partition_tres=st.dictionaries(st.sampled_from(TRES), st.integers(0, 10**6)),
)
all_claims = st.builds(
    Claim,
    place=all_places,
    accrue_time=st.none() | st.integers(NOW - 2 * 10**6, NOW + 1000),
    min_nodes=st.integers(0, 3000),
    cpus=st.integers(0, 2 * 10**5),
    time_limit_minutes=st.none() | st.integers(1, 10**5),
    tres=st.dictionaries(st.sampled_from(TRES), st.integers(0, 10**6)),
    site=st.integers(-(2**31) + 4, 2**31 - 4),
    nice=st.integers(-10_000, 10_000),
    direct_priority=st.none() | st.none() | st.integers(0, 2**32 - 1),
    one_of_several=st.booleans(),
)


@pytest.mark.parametrize(
    ("flags", "favor_small", "expected"),
    [
        (frozenset(), False, 0.53125),
        (frozenset(), True, 0.46875),
        (frozenset({"SMALL_RELATIVE_TO_TIME"}), False, 0.0083333),
        (frozenset({"SMALL_RELATIVE_TO_TIME"}), True, 0.9916667),
    ],
)
def test_job_size_is_what_slurm_showed_for_two_nodes_and_eight_cpus(flags, favor_small, expected):
    settings = Settings(cluster_cpus=128, nodes=2, flags=flags, favor_small=favor_small)
    assert round(job_size_factor(2, 8, 120, settings), 7) == expected


def test_a_job_without_a_limit_is_small_relative_to_time():
    settings = Settings(cluster_cpus=128, nodes=2, flags=frozenset({"SMALL_RELATIVE_TO_TIME"}))
    assert 0 < job_size_factor(2, 8, None, settings) < 1e-9
    assert job_size_factor(2, 8, 0, settings) == 1.0


def test_more_cpus_than_the_cluster_has_count_as_the_smallest_job_when_small_is_favoured():
    settings = Settings(cluster_cpus=128, nodes=2, favor_small=True)
    assert job_size_factor(1, 129, 60, settings) == 1.0
    assert job_size_factor(3, 128, 60, settings) == 0.0


def test_a_cluster_without_nodes_has_no_job_size():
    assert job_size_factor(1, 1, 1, Settings(cluster_cpus=0, nodes=0)) == 0.0


def test_raw_memory_explodes_with_no_normal_all():
    settings = Settings(weights=Weights(tres={"mem": 50.0}), flags=frozenset({"NO_NORMAL_ALL"}))
    claim = Claim(Place(partition_tres={"mem": 2_000_000}), tres={"mem": 8000})
    assert terms(claim, settings, NOW).priority == 400_000
    assert terms(claim, replace(settings, flags=frozenset()), NOW).tres == {"mem": 0.2}


def test_the_site_factor_counts_point_for_point():
    settings = Settings(weights=Weights(fair_share=12254))
    claim = Claim(Place(fair_share=1.0))
    assert terms(claim, settings, NOW).priority == 12254
    assert terms(replace(claim, site=500), settings, NOW).priority == 12754
    assert terms(replace(claim, site=500, nice=1000), settings, NOW).priority == 11754


def test_a_priority_is_truncated_and_never_zero():
    settings = Settings(weights=Weights(fair_share=1000))
    assert terms(Claim(Place(fair_share=0.9999)), settings, NOW).priority == 999
    assert terms(Claim(Place()), settings, NOW).priority == 1
    assert terms(Claim(Place(), site=-500), settings, NOW).priority == 1


def test_a_priority_does_not_exceed_32_bits():
    settings = Settings(weights=Weights(fair_share=2**32 - 1, age=2**32 - 1))
    claim = Claim(Place(fair_share=1.0), accrue_time=1)
    found = terms(claim, settings, NOW)
    assert found.priority == 2**32 - 1
    assert shown_priority(found) == 2 * (2**32 - 1)  # sprio knows no highest priority


def test_a_held_job_has_no_priority_and_a_direct_one_no_terms():
    settings = Settings(weights=Weights(fair_share=1000))
    place = Place(fair_share=1.0)
    assert terms(Claim(place, direct_priority=0), settings, NOW).priority == 0
    found = terms(Claim(place, site=7, direct_priority=4242), settings, NOW)
    assert (found.priority, found.fair_share, found.site) == (4242, 0.0, 0)
    assert shown_priority(found) == 4242
    assert priorities([Claim(place, direct_priority=4242)], settings, NOW) == [4242]


def test_age_grows_from_the_accrue_time_to_its_maximum():
    assert age_factor(None, NOW, 100) == 0.0
    assert age_factor(NOW + 5, NOW, 100) == 0.0
    assert age_factor(NOW - 25, NOW, 100) == 0.25
    assert age_factor(NOW - 100, NOW, 100) == 1.0
    assert age_factor(NOW - 10**6, NOW, 100) == 1.0
    assert age_factor(NOW + 5, NOW, 0) == 1.0  # as Slurm has it


def test_age_begins_at_submission_with_accrue_always():
    assert age_start(frozenset(), 100, 200) == 200
    assert age_start(frozenset(), 100, None) is None
    assert age_start(frozenset({"ACCRUE_ALWAYS"}), 100, None) == 100


def test_a_partition_without_a_tres_gives_no_points_for_it():
    settings = Settings(weights=Weights(tres={"cpu": 100.0, "gres/gpu": 1000.0}))
    claim = Claim(Place(partition_tres={"cpu": 64}), tres={"cpu": 32, "gres/gpu": 4})
    assert terms(claim, settings, NOW).tres == {"cpu": 50.0, "gres/gpu": 0.0}
    assert terms(claim, settings, NOW).priority == 50


def test_priorities_without_a_highest_one_count_nothing():
    weights = Weights(association=1000, qos=1000)
    assert terms(Claim(Place()), Settings(weights=weights), NOW).priority == 1


def test_a_cycle_never_lowers_with_incr_only_and_never_releases():
    assert kept_priority(100, 90, Settings()) == 90
    assert kept_priority(100, 90, Settings(flags=frozenset({"INCR_ONLY"}))) == 100
    assert kept_priority(100, 110, Settings(flags=frozenset({"INCR_ONLY"}))) == 110
    assert kept_priority(0, 90, Settings()) == 0


def test_running_jobs_are_calculated_only_with_calculate_running():
    assert recalculates(Settings(), pending=True)
    assert not recalculates(Settings(), pending=False)
    assert recalculates(Settings(flags=frozenset({"CALCULATE_RUNNING"})), pending=False)


def test_sprio_rounds_its_columns_halves_to_even():
    assert [shown_term(each) for each in (0.5, 1.5, 2.5, 2.51, 166.6666)] == [0, 2, 2, 3, 167]
    assert shown_factor(500.0, 2000) == "0.2500000"
    assert shown_factor(500.0, 0) == "0.0000000"
    assert shown_factor(375.0, 1500.0, digits=2) == "0.25"


def test_sprio_adds_all_terms_and_cuts_off_the_rest():
    settings = Settings(
        weights=Weights(age=2000, fair_share=10_000, tres={"cpu": 100.0}), max_age_seconds=700
    )
    place = Place(fair_share=2 / 3, partition_tres={"cpu": 64})
    claim = Claim(place, accrue_time=NOW - 100, tres={"cpu": 7}, site=4, nice=1)
    found = terms(claim, settings, NOW)
    assert pytest.approx(6966.3185) == 2000 / 7 + 20_000 / 3 + 700 / 64 + 3
    assert shown_priority(found) == found.priority == 6966
    assert shown_priority(replace(found, age=found.age + 0.5)) == 6966


def test_what_sprio_adds_changed_a_little_on_its_way():
    settings = Settings(weights=Weights(association=1, qos=1), max_association_priority=17,
                        max_qos_priority=17)  # fmt: skip
    found = terms(Claim(Place(association_priority=998, qos_priority=124)), settings, NOW)
    assert found.association + found.qos == 66.0
    assert (found.priority, shown_priority(found)) == (66, 65)


def test_one_of_several_partitions_is_added_in_another_order():
    settings = Settings(
        weights=Weights(association=1, fair_share=1, partition=1, qos=1),
        max_association_priority=19, max_partition_factor=19, max_qos_priority=19,
    )  # fmt: skip
    place = Place(fair_share=1765 / 19, association_priority=649, partition_factor=1,
                  qos_priority=2791)  # fmt: skip
    assert terms(Claim(place), settings, NOW).priority == 274
    assert terms(Claim(place, one_of_several=True), settings, NOW).priority == 273


def test_every_mode_and_flag_is_slurms():
    counts = product((0, 1, 3), (0, 5, 200), (None, 1, 600), (0, 3), (False, True))
    for flags in product(*[("", flag) for flag in FLAGS]):
        settings = Settings(
            weights=Weights(1000, 100, 10_000, 500, 70, 600, {"cpu": 33.0, "mem": 0.01}),
            max_age_seconds=7,
            flags=frozenset(flags) - {""},
            favor_small=flags[0] != flags[1],
            cluster_cpus=128,
            nodes=2,
            max_association_priority=9,
            max_qos_priority=7,
            max_partition_factor=11,
        )
        place = Place("p", "q", 0.37, 4, 5, 3, {"cpu": 128, "mem": 7000})
        claims = [
            Claim(place, NOW - age, nodes, cpus, limit, {"cpu": cpus, "mem": 100},
                  one_of_several=several)
            for nodes, cpus, limit, age, several in counts
        ]  # fmt: skip
        assert priorities(claims, settings, NOW) == [
            slurm_says(claim, settings, NOW) for claim in claims
        ]


@given(all_claims, all_settings)
def test_a_priority_is_slurms(claim, settings):
    assert terms(claim, settings, NOW).priority == slurm_says(claim, settings, NOW)


@given(st.lists(all_claims, max_size=8), all_settings)
def test_many_are_computed_as_one(claims, settings):
    shared = [replace(claim, place=claims[0].place) for claim in claims]
    for each in (claims, shared):
        assert priorities(each, settings, NOW) == [
            terms(claim, settings, NOW).priority for claim in each
        ]
        assert priorities(iter(each), settings, NOW) == priorities(each, settings, NOW)


def test_places_that_live_no_longer_are_not_mistaken_for_others():
    settings = Settings(weights=Weights(fair_share=1000, tres={"cpu": 10.0}))
    claims = (Claim(Place(fair_share=n / 100, partition_tres={"cpu": n}), tres={"cpu": 1})
              for n in range(1, 101))  # fmt: skip
    assert priorities(claims, settings, NOW) == [
        int(n / 100 * 1000 + 1 / n * 10) for n in range(1, 101)
    ]


@given(all_claims, all_settings, st.integers(0, 10**6))
def test_waiting_never_lowers_a_priority(claim, settings, seconds):
    before, after = (terms(claim, settings, moment) for moment in (NOW, NOW + seconds))
    assert after.priority >= before.priority


@given(all_claims, all_settings, st.integers(1, 10**6))
def test_the_site_factor_raises_and_nice_lowers(claim, settings, points):
    found = terms(claim, settings, NOW).priority
    assert terms(replace(claim, site=claim.site + points), settings, NOW).priority >= found
    assert terms(replace(claim, nice=claim.nice + points), settings, NOW).priority <= found


@given(all_claims, all_settings)
def test_the_terms_add_up_to_the_priority(claim, settings):
    found = terms(claim, settings, NOW)
    if found.direct:
        return
    total = (
        found.site + found.age + found.association + found.fair_share + found.job_size
        + found.partition + found.qos - found.nice + sum(found.tres.values())
    )  # fmt: skip
    assert abs(found.priority - min(max(total, 1), 2**32 - 1)) <= 1 + abs(total) * 1e-9


@given(all_claims, all_settings)
def test_sprio_shows_the_priority_or_a_point_beside_it(claim, settings):
    found = terms(claim, settings, NOW)
    if found.priority < 2**31:
        assert abs(shown_priority(found) - found.priority) <= 1
