"""Orderings and over-quota in the policy file: what is right, and what each error says."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.config.ordering import MOST_POINTS
from slurm_gpu_policy.errors import PolicyFileError
from tests.builders import make_policy


def problem_of(**fields):
    with pytest.raises(PolicyFileError) as caught:
        make_policy(**fields)
    (problem,) = caught.value.problems
    return problem.partition(": ")[2]


def test_by_default_nothing_is_ordered_and_nothing_lent():
    policy = make_policy()
    assert policy.ordering is None
    assert policy.over_quota is None


def test_an_empty_part_leaves_slurms_order_and_all_terms_off():
    ordering = make_policy(ordering={}).ordering
    assert (ordering.kind, ordering.depth, ordering.run_time) == ("slurm", 1000, "limit")
    assert all(term.weight == 0 for term in vars(ordering.terms).values())


def test_texts_become_seconds_and_numbers():
    terms = {"deadline": {"weight": "500", "horizon": "2h"}, "workload": {"shares": {"ocr": "-.5"}}}
    ordering = make_policy(ordering={"kind": "sjf", "terms": terms}).ordering
    assert (ordering.terms.deadline.weight, ordering.terms.deadline.horizon) == (500, 7200)
    assert ordering.terms.workload.shares["ocr"] == -0.5


@pytest.mark.parametrize(
    ("ordering", "words"),
    [
        (
            {"kind": "fifo"},
            (
                "ordering.kind: found 'fifo', wanted 'slurm', 'priority', 'fcfs', 'sjf' or "
                "'fair_share'"
            ),
        ),
        ({"depth": 0}, "ordering.depth: found '0', wanted greater than or equal to 1"),
        (
            {"terms": {"waste": {"weight": -1}}},
            "ordering.terms.waste.weight: found '-1', wanted greater than or equal to 0",
        ),
        (
            {"terms": {"workload": {"shares": {"ocr": 2}}}},
            "ordering.terms.workload.shares.ocr: found '2', wanted less than or equal to 1",
        ),
        (
            {"terms": {"budget_pace": {"tolerance": "nan"}}},
            "ordering.terms.budget_pace.tolerance: found 'nan', wanted a finite number",
        ),
        (
            {"classes": {"qos": {"high": "urgent"}}},
            (
                "ordering.classes.qos.high: found 'urgent', wanted 'critical', 'high', 'normal' or "
                "'low'"
            ),
        ),
        (
            {"history": {"quantile": 75}},
            "ordering.history.quantile: found '75', wanted less than or equal to 1",
        ),
        (
            {"terms": {"waste": {"weight": MOST_POINTS + 1}}},
            "ordering.terms: found a mapping, wanted weights that are at most 100000000 together",
        ),
        (
            {"terms": {"age": {}}},
            (
                "ordering.terms.age: found a field that does not exist, wanted one of: deadline, "
                "workload, interactive, budget_pace, waste, entry_penalty, fragmentation"
            ),
        ),
    ],
)
def test_an_error_names_the_field_what_was_found_and_what_would_be_right(ordering, words):
    assert problem_of(ordering=ordering) == words


@pytest.mark.parametrize(
    "ordering",
    [
        {"classes": {"workloads": {"trainig": "high"}}},
        {"terms": {"workload": {"shares": {"trainig": 1}}}},
        {"terms": {"interactive": {"workloads": ["trainig"]}}},
    ],
)
def test_a_misspelt_workload_class_is_an_error(ordering):
    assert "wanted one of: embedding, generic, " in problem_of(ordering=ordering)


def test_the_sites_own_workload_class_is_none():
    make_policy(workloads={"rl": {}}, ordering={"terms": {"interactive": {"workloads": ["rl"]}}})


def test_the_two_qos_differ_and_can_stand_in_a_mark():
    both = {"guaranteed_qos": "x", "over_quota_qos": "X"}
    assert problem_of(over_quota=both).endswith(
        "wanted two different QOS, because the one preempts the other"
    )
    assert problem_of(over_quota={"guaranteed_qos": "a b"}).startswith("over_quota.guaranteed_qos")
