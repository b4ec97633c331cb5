"""Limit reasons are named with the limit that is meant and what is held against it."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.account import Association, Qos
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.limit_reasons import LimitReason, read_limit_reason
from slurm_gpu_policy.policy.explaining.waiting import waiting_words
from tests.builders import make_association, make_job, make_partition, make_snapshot


def waiting(number=9, **fields):
    return make_job(number, **{"state": JobState.PENDING, "gpus": 4, **fields})


def facts(reason, snapshot, **fields):
    return waiting_words(waiting(reason=reason, **fields), snapshot).facts


TREE = (
    make_association("nlp", "u1"),
    Association("nlp", "", parent="science", grp_tres={"gres/gpu": 8, "cpu": 64}),
    Association("science", "", parent="root", grp_tres={"gres/gpu:h100": 12}),
    Association("root", ""),
)


@pytest.mark.parametrize(
    ("reason", "parts"),
    [
        ("AssocGrpGRESMinutes", LimitReason("assoc", "grp", "gres", "minutes", "")),
        ("QOSMaxCpuPerUserLimit", LimitReason("qos", "max", "cpu", "", "user")),
        ("MaxGRESRunMinsPerAccount", LimitReason("qos", "max", "gres", "runminutes", "account")),
        ("QOSMinCpuNotSatisfied", LimitReason("qos", "min", "cpu", "", "")),
        ("AssocMaxWallDurationPerJobLimit", LimitReason("assoc", "max", "wallduration", "", "job")),
        ("Priority", None),
        ("MaxMemPerLimit", None),
        ("AssociationJobLimit", None),
        ("AssocGrpGRESx", None),
    ],
)
def test_a_limit_reason_is_taken_apart(reason, parts):
    assert read_limit_reason(reason) == parts


def test_a_group_limit_shows_every_account_up_the_tree_with_what_it_holds():
    running = make_job(1, gpus=6)
    snapshot = make_snapshot(associations=TREE, jobs=(running, waiting()))
    assert facts("AssocGrpGRES", snapshot) == (
        "account nlp may hold 8 gres/gpu at once; 6 held now, this job asks for 4",
        "account science may hold 12 gres/gpu:h100 at once; 6 held now, this job asks for 4",
    )


def test_only_the_resource_that_is_meant_is_shown():
    snapshot = make_snapshot(associations=TREE, jobs=())
    assert facts("AssocGrpCpuLimit", snapshot) == (
        "account nlp may hold 64 cpu at once; 0 held now, this job asks for 1",
    )


def test_a_budget_is_shown():
    owner = Association("nlp", "", grp_tres_mins={"gres/gpu": 600})
    snapshot = make_snapshot(associations=(owner,))
    assert facts("AssocGrpGRESMinutes", snapshot) == (
        "account nlp has a budget of 600 gres/gpu-minutes",
    )


def test_a_users_own_limits_are_shown():
    own = make_association(
        max_jobs=2, max_submit_jobs=3, max_wall_seconds=60, max_tres_per_job={"gres/gpu": 2}
    )
    snapshot = make_snapshot(associations=(own,), jobs=(make_job(1), waiting()))
    assert facts("AssocMaxJobsLimit", snapshot) == (
        "user u1 in account nlp may have 2 jobs running, and has 1",
    )
    assert facts("AssocMaxSubmitJobLimit", snapshot) == (
        "user u1 in account nlp may have 3 jobs queued and running, and has 2",
    )
    assert facts("AssocMaxWallDurationPerJobLimit", snapshot) == (
        "user u1 in account nlp allows a job 00:01:00 at most; this job asks for 01:00:00",
    )
    assert facts("AssocMaxGRESPerJob", snapshot) == (
        "user u1 in account nlp gives one job 2 gres/gpu at most; this job asks for 4",
    )


def test_the_limits_of_the_jobs_qos_and_the_partitions_are_shown():
    qos = (
        Qos("normal", max_tres_per_user={"gres/gpu": 8}),
        Qos("of-gpu", max_tres_per_user={"gres/gpu": 4}),
        Qos("high", max_tres_per_user={"gres/gpu": 1}),
    )
    snapshot = make_snapshot(
        qos=qos,
        partitions=(make_partition("gpu", qos="of-gpu"),),
        jobs=(make_job(1, gpus=5), make_job(2, user="u2", gpus=7)),
    )
    assert facts("QOSMaxGRESPerUser", snapshot) == (
        "a user in QOS normal may hold 8 gres/gpu at once; 5 held now, this job asks for 4",
        "a user in QOS of-gpu may hold 4 gres/gpu at once; 0 held now, this job asks for 4",
    )


@pytest.mark.parametrize(
    ("reason", "limits", "text"),
    [
        ("QOSGrpGRES", {"grp_tres": {"gres/gpu": 8}}, "QOS normal may hold 8 gres/gpu"),
        ("MaxGRESPerAccount", {"max_tres_per_account": {"gres/gpu": 8}}, "an account in QOS"),
        ("QOSMaxGRESPerJob", {"max_tres_per_job": {"gres/gpu": 2}}, "gives one job 2 gres/gpu"),
        ("QOSMaxJobsPerUserLimit", {"max_jobs_per_user": 1}, "a user in QOS normal may have 1"),
        ("QOSMaxSubmitJobPerUserLimit", {"max_submit_jobs_per_user": 1}, "queued and running"),
        ("QOSMaxWallDurationPerJobLimit", {"max_wall_seconds": 60}, "a job 00:01:00 at most"),
        ("QOSGrpGRESMinutes", {"grp_tres_mins": {"gres/gpu": 60}}, "budget of 60 gres/gpu-min"),
    ],
)
def test_each_kind_of_qos_limit_is_shown_with_its_value(reason, limits, text):
    snapshot = make_snapshot(qos=(Qos("normal", **limits),))
    (fact,) = facts(reason, snapshot)
    assert text in fact


def test_a_tree_that_loops_ends():
    loop = (Association("nlp", "", parent="b"), Association("b", "", parent="nlp"))
    assert facts("AssocGrpGRES", make_snapshot(associations=loop)) == ()
