"""The site's limits for gpu-submit; job_submit.lua holds raw sbatch to the same."""

from __future__ import annotations

from slurm_gpu_policy.policy.admission import decide
from tests.builders import (
    make_association,
    make_job,
    make_policy,
    make_request,
    make_snapshot,
)

TREE = (
    make_association("root", "", parent=""),
    make_association("nlp", "", parent="root"),
    make_association("nlp-pretrain", "", parent="nlp"),
    make_association("nlp-pretrain", "u1"),
)


def decided(policy, jobs=(), **request):
    policy = make_policy(**{"enforcement": "enforce", **policy})
    snapshot = make_snapshot(associations=TREE, jobs=jobs)
    return decide(make_request(**request), snapshot, policy, policy.cluster_defaults)


def rules_of(decision):
    return [reason.rule for reason in decision.reasons]


def test_the_limits_of_an_account_hold_for_those_below_it():
    limits = {"accounts": {"NLP": {"gpus_per_job": 2, "time": "1h"}}}
    decision = decided({"limits": limits}, gpus=3, time_seconds=7200)
    assert (decision.kind, rules_of(decision)) == ("refuse", ["L-201", "L-203"])
    assert decision.reasons[0].message.startswith("a job of account nlp may have 2 GPUs")
    assert decided({"limits": limits}, gpus=2, time_seconds=3600).kind == "admit"


def test_an_account_above_counts_what_those_below_hold():
    held = (make_job(account="nlp-pretrain", user="u2", gpus=3),)
    decision = decided({"limits": {"accounts": {"nlp": {"gpus": 4}}}}, held, gpus=2)
    assert (decision.kind, rules_of(decision)) == ("refuse", ["L-202"])


def test_a_closed_account_and_those_below_it_take_no_job():
    decision = decided({"accounts": {"nlp": {"closed": "true"}}})
    assert (decision.kind, rules_of(decision)) == ("refuse", ["L-206"])
    assert decision.reasons[0].message == "account nlp is closed"


def test_each_limit_goes_as_far_as_its_own_rules_level():
    policy = {
        "limits": {"everyone": {"gpus_per_job": 1, "time": "1h"}},
        "rules": {"L-201": "advise"},
    }
    decision = decided(policy, gpus=2, time_seconds=60)
    assert decision.kind == "admit"
    assert "L-201" in rules_of(decision)
    assert rules_of(decided(policy, gpus=2, time_seconds=7200)) == ["L-203"]
    observing = {**policy, "enforcement": "observe", "rules": {"L-203": "enforce"}}
    assert rules_of(decided(observing, gpus=2, time_seconds=7200)) == ["L-203"]
