"""Each term: off by default, within its bound, of the right sign, and with its reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.config.ordering import MOST_POINTS
from slurm_gpu_policy.errors import PolicyFileError
from slurm_gpu_policy.policy.terms import NOTHING_MEASURED, TERMS, Measured, Surroundings, terms
from tests.builders import NOW, make_policy
from tests.queues import waiting

WEIGHT = 1000


def term_of(job, name, *, around=None, run_time="limit", **setting):
    """The one term *name* of *job*, with a weight of 1000."""
    chosen = {name: {"weight": WEIGHT, **setting}}
    ordering = make_policy(ordering={"terms": chosen, "run_time": run_time}).ordering
    (found,) = terms(job, Surroundings(NOW, ordering, **(around or {})))
    return found


def said(found):
    return found.points, found.reason


def test_all_terms_are_off_until_they_have_a_weight():
    ordering = make_policy(ordering={}).ordering
    job = waiting(1, deadline=NOW, comment="gpu-submit(workload=interactive)")
    assert terms(job, Surroundings(NOW, ordering)) == ()


def test_every_term_has_its_own_rule_and_field():
    chosen = {name: {"weight": 10} for name in TERMS}
    ordering = make_policy(ordering={"terms": chosen}).ordering
    assert set(vars(ordering.terms)) == set(TERMS)
    found = terms(waiting(1), Surroundings(NOW, ordering))
    assert [term.rule for term in found] == [f"P-{number}" for number in range(611, 618)]
    assert all(term.points == 0 and term.reason for term in found)


def test_all_weights_together_are_bounded():
    half = MOST_POINTS // 2
    make_policy(ordering={"terms": {"waste": {"weight": half}, "deadline": {"weight": half}}})
    with pytest.raises(PolicyFileError) as caught:
        make_policy(
            ordering={"terms": {"waste": {"weight": half}, "deadline": {"weight": half + 1}}}
        )
    (problem,) = caught.value.problems
    assert "ordering.terms" in problem
    assert problem.endswith(f"wanted weights that are at most {MOST_POINTS} together")


@settings(max_examples=200)
@given(
    st.integers(0, 10**6),
    st.none() | st.integers(NOW - 10**6, NOW + 10**6),
    st.none() | st.integers(0, 10**6),
    st.integers(0, 64),
    st.none() | st.dictionaries(st.just("nlp"), st.floats(0, 100)),
    st.none() | st.dictionaries(st.just("u1"), st.integers(-5, 1000)),
    st.integers(0, 10**6),
    st.floats(-1, 1),
)
def test_no_term_passes_its_bound(weight, when, limit, gpus, pace, idle, ahead, share):
    chosen = {name: {"weight": weight} for name in TERMS}
    chosen["workload"]["shares"] = {"training": share}
    ordering = make_policy(ordering={"terms": chosen}).ordering
    job = waiting(1, deadline=when, time_limit_seconds=limit, gpus=gpus,
                  comment="gpu-submit(workload=training)")  # fmt: skip
    around = Surroundings(
        NOW, ordering, measured=Measured(pace, idle), ahead={1: ahead}, fills={1: "gpu01"}
    )
    for term in terms(job, around):
        assert term.bound == weight
        assert abs(term.points) <= weight


# P-611


def test_a_deadline_counts_more_the_nearer_it_comes():
    hour = {"time_limit_seconds": 3600}
    found = [
        term_of(waiting(1, deadline=NOW + 3600 + spare, **hour), "deadline", horizon="10h").points
        for spare in (36_001, 36_000, 18_000, 3600, 0, -10)
    ]
    assert found == [0, 0, 500, 900, 1000, 1000]


def test_a_deadline_tells_how_much_time_is_to_spare():
    job = waiting(1, deadline=NOW + 3 * 3600, time_limit_seconds=3600)
    assert said(term_of(job, "deadline", horizon="4h")) == (
        500, "02:00:00 to spare before its deadline (time limit)",
    )  # fmt: skip


def test_a_deadline_that_nobody_can_keep_or_judge_gives_nothing():
    assert said(term_of(waiting(1), "deadline")) == (0, "it has no deadline")
    assert said(term_of(waiting(1, deadline=NOW), "deadline")) == (0, "its deadline has passed")
    endless = waiting(1, deadline=NOW + 60, time_limit_seconds=None)
    assert term_of(endless, "deadline").points == 0


def test_a_users_own_word_on_a_deadline_counts_only_where_the_site_says_so():
    job = waiting(1, comment=f"gpu-submit(deadline={NOW + 60})")
    assert term_of(job, "deadline").points == 0
    assert term_of(job, "deadline", own_word="true").points == WEIGHT
    later = waiting(1, deadline=NOW + 10**7, comment=job.comment)
    assert term_of(later, "deadline", own_word="true").points == 0
    nonsense = waiting(1, comment="gpu-submit(deadline=soon)")
    assert term_of(nonsense, "deadline", own_word="true").points == 0


def test_a_deadline_changes_in_steps_of_a_twentieth():
    values = {
        term_of(waiting(1, deadline=NOW + 3600 + spare), "deadline", horizon="1000s").points
        for spare in range(0, 1001, 7)
    }
    assert values == {step * 50 for step in range(20)} | {WEIGHT}


# P-612


def test_a_workload_class_gives_its_share():
    shares = {"inference": 0.25, "training": -1}
    for name, points in (("inference", 250), ("training", -1000), ("ocr", 0)):
        found = term_of(waiting(1, comment=f"gpu-submit(workload={name})"), "workload",
                        shares=shares)  # fmt: skip
        assert said(found) == (points, f"workload class {name}")
    assert said(term_of(waiting(1), "workload", shares=shares)) == (0, "it has no workload class")


# P-613


def test_a_small_interactive_job_is_boosted():
    job = waiting(1, comment="gpu-submit(workload=interactive)", time_limit_seconds=3600)
    assert said(term_of(job, "interactive")) == (WEIGHT, "somebody sits in front of it")
    by_partition = waiting(1, partitions=("debug", "gpu"))
    assert term_of(by_partition, "interactive", partitions=["debug"]).points == WEIGHT
    assert term_of(by_partition, "interactive").points == 0


def test_a_large_or_long_job_is_not_boosted_for_calling_itself_interactive():
    mark = {"comment": "gpu-submit(workload=interactive)"}
    assert said(term_of(waiting(1, gpus=2, **mark), "interactive")) == (
        0, "interactive, with more than 1 GPU",
    )  # fmt: skip
    for limit in (None, 8 * 3600 + 1):
        found = term_of(waiting(1, time_limit_seconds=limit, **mark), "interactive")
        assert said(found) == (0, "interactive, for longer than 08:00:00")


# P-614


@pytest.mark.parametrize(
    ("pace", "points"), [(0.0, 1000), (0.5, 1000), (0.75, 500), (1.0, 0), (1.25, -500), (9, -1000)]
)
def test_spending_slower_than_planned_gives_points_and_faster_takes_them(pace, points):
    around = {"measured": Measured(budget_pace={"nlp": pace})}
    assert term_of(waiting(1), "budget_pace", around=around).points == points


def test_an_account_without_a_budget_has_that_of_the_one_above_it():
    around = {
        "measured": Measured(budget_pace={"lab": 2.0}),
        "parents": {"nlp": "dept", "dept": "lab", "x": "y", "y": "x"},
    }
    assert said(term_of(waiting(1), "budget_pace", around=around)) == (
        -1000, "account lab has spent 2.00 x what an even spending would have by now",
    )  # fmt: skip
    around["measured"] = Measured(budget_pace={})
    assert said(term_of(waiting(1), "budget_pace", around=around)) == (
        0, "account nlp has no budget",
    )  # fmt: skip
    assert term_of(waiting(1, account="x"), "budget_pace", around=around).points == 0


def test_what_nobody_measures_gives_nothing_and_says_so():
    around = {"measured": NOTHING_MEASURED}
    assert said(term_of(waiting(1), "budget_pace", around=around)) == (
        0, "there is no ledger that says what accounts have spent",
    )  # fmt: skip
    assert said(term_of(waiting(1), "waste", around=around)) == (
        0, "nobody measures which GPUs are idle",
    )  # fmt: skip


# P-615


@pytest.mark.parametrize(("idle", "points"), [(0, 0), (1, -250), (3, -750), (4, -1000), (9, -1000)])
def test_idle_gpus_take_points(idle, points):
    around = {"measured": Measured(idle_gpus={"u1": idle})}
    noun = "GPU" if idle == 1 else "GPUs"
    assert said(term_of(waiting(1), "waste", around=around)) == (
        points, f"u1 leaves {idle} {noun} idle",
    )  # fmt: skip
    assert term_of(waiting(1, user="u2"), "waste", around=around).points == 0


# P-616


@pytest.mark.parametrize(("ahead", "points"), [(0, 0), (8, -250), (32, -1000), (99, -1000)])
def test_gpus_of_the_same_user_before_it_take_points(ahead, points):
    found = term_of(waiting(1), "entry_penalty", around={"ahead": {1: ahead}})
    assert said(found) == (points, f"{ahead} GPUs of u1 in nlp run or wait before it")


# P-617


def test_a_job_that_fills_a_hole_gets_the_points():
    found = term_of(waiting(1), "fragmentation", around={"fills": {1: "gpu01"}})
    assert said(found) == (WEIGHT, "it fills all that is free on gpu01")
    assert said(term_of(waiting(1), "fragmentation")) == (0, "it fills no hole exactly")
