"""Which jobs need an approval, and how many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.policy.thresholds import (
    Size,
    Sizes,
    approvals_needed,
    as_one,
    exceeded,
    line_of,
    needs_approval,
)
from tests.builders import make_association, make_job, make_policy, make_snapshot

HOUR = 3600


def policy_with(*thresholds, **fields):
    approvers = {"users": ["u3"], "groups": ["gpu-board"], "coordinators": True}
    return make_policy(
        approvals={"thresholds": list(thresholds), "approvers": approvers, **fields},
        workloads={"my+work": {}},
        gpu_types={"h100": {"price_per_hour": "2.50"}, "big": {"gres_type": "h200"}},
    )


@pytest.mark.parametrize(
    ("threshold", "size"),
    [
        ({"gpus": 8}, Size(9, HOUR)),
        ({"time": "2h"}, Size(1, 2 * HOUR + 60)),
        ({"time": "2h"}, Size(1, None)),
        ({"gpu_hours": 8}, Size(4, 2 * HOUR + 1)),
        ({"gpu_hours": 8}, Size(1, HOUR, tasks=9)),
        ({"gpu_hours": 8}, Size(1, None)),
        ({"cost": "10"}, Size(1, HOUR, cost_micros=10_000_001)),
        ({"gpus": 8, "time": "1h"}, Size(9, HOUR + 1)),
        ({"accounts": ["nlp"]}, Size(1, HOUR, accounts=("nlp-a", "NLP", "root"))),
        ({"workloads": ["my+work"], "gpus": 0}, Size(1, HOUR, workload="my_work")),
    ],
)
def test_a_job_above_all_that_a_threshold_says_needs_an_approval(threshold, size):
    assert exceeded(size, policy_with(threshold))
    assert needs_approval(size, policy_with(threshold)).rule == "V-901"


@pytest.mark.parametrize(
    ("threshold", "size"),
    [
        ({"gpus": 8}, Size(8, None)),
        ({"time": "2h"}, Size(100, 2 * HOUR)),
        ({"gpu_hours": 8}, Size(4, 2 * HOUR)),
        ({"gpu_hours": 0}, Size(0, None)),
        ({"cost": "10"}, Size(1, HOUR, cost_micros=10_000_000)),
        ({"cost": "10"}, Size(1, None)),  # without a price there is no cost to exceed
        ({"gpus": 8, "time": "1h"}, Size(9, HOUR)),
        ({"gpus": 8, "accounts": ["vision"]}, Size(9, HOUR, accounts=("nlp", "root"))),
        ({"gpus": 8, "workloads": ["training"]}, Size(9, HOUR)),
    ],
)
def test_a_job_within_any_part_of_a_threshold_needs_none(threshold, size):
    assert not exceeded(size, policy_with(threshold))
    assert needs_approval(size, policy_with(threshold)) is None
    assert approvals_needed(size, policy_with(threshold)) == 0


def test_without_thresholds_nothing_needs_an_approval():
    assert needs_approval(Size(10_000, None), make_policy()) is None


def test_the_strictest_threshold_says_how_many_approvals_it_takes():
    policy = policy_with({"gpus": 4}, {"gpus": 16, "needed": 3}, needed=2)
    assert approvals_needed(Size(8, HOUR), policy) == 2
    assert approvals_needed(Size(17, HOUR), policy) == 3


def test_the_reason_names_what_is_asked_the_limit_and_who_may_approve():
    reason = needs_approval(
        Size(16, HOUR, tasks=3), policy_with({"gpus": 8, "cost": "0"}, needed=2)
    )
    assert reason is None  # it has no cost to exceed
    reason = needs_approval(Size(16, HOUR, tasks=3), policy_with({"gpus": 8}, needed=2))
    assert "16 GPUs for 01:00:00 in each of 3 tasks needs 2 approvals" in reason.message
    assert "u3 or a member of gpu-board or a coordinator of the account" in reason.message
    assert reason.limit == "8 GPUs"


def test_the_line_of_accounts_ends_at_the_root_and_in_no_circle():
    tree = (
        make_association("root", "", parent=""),
        make_association("nlp", "", parent="root"),
        make_association("lab", "", parent="nlp"),
        make_association("a", "", parent="b"),
        make_association("b", "", parent="a"),
    )
    assert line_of("lab", tree) == ("lab", "nlp", "root")
    assert line_of("a", tree) == ("a", "b")
    assert line_of("", tree) == ()
    assert line_of("unknown", tree) == ("unknown",)


@pytest.mark.parametrize(
    ("tasks", "count"), [("", 1), ("3", 1), ("0-9", 10), ("0-9:3,20%2", 5), ("1,5-6", 3)]
)
def test_the_waiting_tasks_of_an_array_count_together(tasks, count):
    job = replace(make_job(gpus=2), array_job_id=JobId(1), array_task=tasks)
    size = Sizes(make_snapshot(), policy_with()).of(job)
    assert (size.gpus, size.tasks) == (2, count)
    assert size.cost_micros == 2 * 2_500_000 * count


def test_an_untyped_job_costs_what_the_dearest_type_does():
    policy = policy_with()
    assert Sizes(make_snapshot(), policy).of(make_job(gpu_type="")).cost_micros == 2_500_000
    assert Sizes(make_snapshot(), policy).of(make_job(gpu_type="h200")).cost_micros is None
    endless = make_job(time_limit_seconds=None)
    assert Sizes(make_snapshot(), policy).of(endless).cost_micros is None


def test_the_parts_of_a_group_count_together():
    """Else a small first part would carry a large second one past every threshold."""

    def part(number, **fields):
        return replace(make_job(number, **fields), het_job_id=JobId(14))

    parts = (part(15, gpus=8, time_limit_seconds=60), make_job(3), part(14, gpus=1))
    whole = as_one(parts)[-1]
    assert [job.job_id for job in as_one(parts)] == [3, 14]
    assert (whole.gpus, whole.gpu_type, whole.time_limit_seconds) == (9, "h100", 3600)
    endless = as_one((part(14), part(15, gpu_type="a100", time_limit_seconds=None)))[0]
    assert (endless.gpu_type, endless.time_limit_seconds) == ("", None)
    plain = as_one((part(14, gpus=0, gpu_type=""), part(15)))[0]
    assert plain.gpu_type == "h100"


def test_a_job_without_a_time_limit_exceeds_every_cost():
    """As job_submit.lua sees it; else the controller would release what that has held."""
    policy = policy_with({"cost": "1000000"})
    endless = make_job(time_limit_seconds=None)
    assert exceeded(Sizes(make_snapshot(), policy).of(endless), policy)
    unpriced = replace(endless, gpu_type="h200")
    assert not exceeded(Sizes(make_snapshot(), policy).of(unpriced), policy)
    assert not exceeded(Sizes(make_snapshot(), policy).of(replace(endless, gpus=0)), policy)


def test_a_group_is_on_the_accounts_of_all_its_parts_and_holds_the_most_of_each():
    """Else a first part on an account without thresholds would carry the others past them."""
    mark = "gpu-policy(approval=pending;size=4:60:1;most=4)"
    parts = tuple(
        replace(make_job(number, gpus=1, account=account, admin_comment=mark),
                het_job_id=JobId(14))
        for number, account in ((14, "free"), (15, "nlp"))
    )  # fmt: skip
    policy = policy_with({"gpus": 4, "accounts": ["lab"]})
    tree = (make_association("nlp", "", parent="lab"), make_association("free", "", parent="root"))
    sizes = Sizes(make_snapshot(jobs=parts, associations=tree), policy)
    (whole,) = as_one(parts)
    assert sizes.payers(whole) == ("free", "nlp")
    assert sizes.of(whole).gpus == 8
    assert sizes.of(whole).accounts == ("free", "root", "nlp", "lab")
    assert exceeded(sizes.of(whole), policy)


def test_factors_cpus_and_memory_count_for_what_a_job_costs():
    pricing = {"qos": {"low": 0.5}, "cpu_hour": "0.10", "memory_hour": "0.01"}
    policy = make_policy(gpu_types={"h100": {"price_per_hour": "2.50"}}, pricing=pricing)
    sizes = Sizes(make_snapshot(), policy)
    tres = {"cpu": 4, "mem": 2048, "gres/gpu": 1, "gres/gpu:h100": 1}
    assert sizes.of(make_job(tres=tres)).cost_micros == 2_500_000 + 400_000 + 20_000
    assert sizes.of(make_job(tres=tres, qos="low")).cost_micros == 1_460_000
    assert sizes.of(make_job(tres={"cpu": 4}, gpus=0, gpu_type="")).cost_micros == 400_000 + 9766


def test_a_job_without_gpus_or_a_limit_may_cost_any_amount_where_cpus_have_a_price():
    cost = {"thresholds": [{"cost": "10"}], "approvers": {"users": ["u3"]}}
    endless = make_job(gpus=0, gpu_type="", time_limit_seconds=None)
    for pricing, above in ({}, False), ({"cpu_hour": 1}, True):
        policy = make_policy(approvals=cost, pricing=pricing)
        size = Sizes(make_snapshot(), policy).of(endless)
        assert bool(exceeded(size, policy)) == above


def test_parts_of_a_group_cost_what_each_holds():
    types = {"h100": {"price_per_hour": 2}, "a100": {"price_per_hour": 1}}
    parts = [
        make_job(1, het_job_id=1, gpu_type="h100", gpus=1, tres={"gres/gpu:h100": 1}),
        make_job(2, het_job_id=1, gpu_type="a100", gpus=1, tres={"gres/gpu:a100": 1}),
    ]
    (whole,) = as_one(parts)
    policy = make_policy(gpu_types=types)
    assert Sizes(make_snapshot(jobs=tuple(parts)), policy).of(whole).cost_micros == 3_000_000
