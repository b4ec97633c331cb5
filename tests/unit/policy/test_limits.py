"""Limits of Slurm and of the site: all that bound a job, and defaults that stay within them."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from slurm_gpu_policy.model.account import Association, Qos
from slurm_gpu_policy.model.request import UNLIMITED
from tests.builders import (
    make_association,
    make_job,
    make_partition,
    make_request,
    make_snapshot,
)
from tests.unit.policy.test_admission import judge, refused_by, rules

HOUR = 3600


def gpus(number):
    return MappingProxyType({"gres/gpu": number})


def account(name, parent="", **fields):
    return Association(account=name, user="", parent=parent, **fields)


# --- time -----------------------------------------------------------------------------------


def test_r_305_the_sites_default_time_counts_where_the_class_has_none():
    decision = judge(defaults={"time": "4h"})
    assert decision.time_seconds == 4 * HOUR
    assert "R-305" in rules(decision)
    assert judge(make_request(workload="training"), defaults={"time": "4h"}).time_seconds == 86400


@pytest.mark.parametrize(
    "snapshot",
    [
        make_snapshot(qos=(Qos("normal", max_wall_seconds=2 * HOUR),)),
        make_snapshot(associations=(make_association(max_wall_seconds=2 * HOUR),)),
        make_snapshot(associations=(make_association(), account("nlp", max_wall_seconds=2 * HOUR))),
        make_snapshot(
            qos=(Qos("normal"), Qos("gpuqos", max_wall_seconds=2 * HOUR)),
            partitions=(make_partition("gpu", "gpu01", qos="gpuqos"),),
        ),
    ],
)
def test_r_305_a_default_is_cut_to_every_limit_that_would_make_the_job_wait_for_ever(snapshot):
    decision = judge(make_request(workload="training"), snapshot)
    assert (decision.kind, decision.time_seconds) == ("admit", 2 * HOUR)


def test_r_305_a_default_is_cut_to_the_sites_own_limit():
    endless = make_snapshot(
        partitions=(
            make_partition("gpu", "gpu01", max_time_seconds=None, default_time_seconds=None),
        )
    )
    site = {"enforcement": "enforce", "limits": {"everyone": {"time": "1h"}}}
    decision = judge(snapshot=endless, **site)
    assert (decision.kind, decision.time_seconds) == ("admit", HOUR)
    refused_by(judge(make_request(time_seconds=UNLIMITED), endless, **site), "L-203")


def test_a_107_unlimited_time_is_refused_where_anything_limits_it():
    asked = make_request(time_seconds=UNLIMITED)
    assert refused_by(judge(asked), "A-107").value == "unlimited"
    endless = make_partition("gpu", "gpu01", max_time_seconds=None)
    free = make_snapshot(partitions=(endless,))
    assert judge(asked, free).time_seconds is None
    walled = replace(free, qos=(Qos("normal", max_wall_seconds=HOUR),))
    assert refused_by(judge(asked, walled), "A-107").limit == "01:00:00"


# --- Slurm's limits on GPUs -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "snapshot"),
    [
        (
            "account nlp",
            make_snapshot(associations=(make_association(), account("nlp", grp_tres=gpus(4)))),
        ),
        (
            "account science",
            make_snapshot(
                associations=(
                    make_association(),
                    account("nlp", "science"),
                    account("science", "root", grp_tres=gpus(4)),
                )
            ),
        ),
        (
            "partition gpu's QOS gpuqos",
            make_snapshot(
                qos=(Qos("normal"), Qos("gpuqos", max_tres_per_job=gpus(4))),
                partitions=(make_partition("gpu", "gpu01", "gpu02", qos="gpuqos"),),
            ),
        ),
    ],
)
def test_a_109_limits_of_the_tree_and_of_the_partitions_qos_count(where, snapshot):
    reason = refused_by(judge(make_request(gpus=8), snapshot), "A-109")
    assert reason.limit == "4"
    assert where in reason.message
    assert judge(make_request(gpus=4), snapshot).kind == "admit"


def test_a_109_a_tree_that_bites_its_tail_is_walked_once():
    loop = (make_association(), account("nlp", "a"), account("a", "nlp"))
    assert judge(snapshot=make_snapshot(associations=loop)).kind == "admit"


def test_a_109_a_limit_bound_to_one_partition_does_not_hold_in_another():
    bound = make_association(partition="interactive", max_tres_per_job=gpus(1))
    both = make_snapshot(associations=(bound, make_association()))
    assert judge(make_request(gpus=8, partition="gpu"), both).kind == "admit"
    refused_by(judge(make_request(gpus=8, partition="interactive"), both), "A-109")


def test_a_102_qos_names_differ_in_case_only_for_people():
    assert judge(make_request(qos="HIGH")).qos == "high"


def test_a_106_a_partition_of_other_groups_is_passed_over_or_refused():
    closed = make_partition("gpu", "gpu01", allow_groups=frozenset({"staff"}))
    other = make_partition("interactive", "gpu01")
    both = make_snapshot(partitions=(closed, other))
    mine = make_request(groups=("u1", "users"))
    assert judge(mine, both).partition == "interactive"
    assert judge(make_request(groups=("staff",)), both).partition == "gpu"
    refused_by(judge(make_request(groups=("u1",), partition="gpu"), both), "A-106")


def test_a_106_of_the_partitions_asked_for_those_that_do_not_fit_are_named():
    decision = judge(make_request(partition="gpu,cpu"))
    assert decision.partition == "gpu"
    assert any("left out: partition cpu has no h100 GPUs" in r.message for r in decision.reasons)
    without = judge(make_request(gpus=None, partition="interactive,cpu"))
    assert without.partition == "interactive,cpu"


def test_a_job_with_nodes_of_its_own_gets_and_pays_all_their_gpus():
    site = {"gpu_types": {"h100": {"price_per_hour": "1"}}}
    asked = make_request(gpus=1, time_seconds=HOUR, options=(("exclusive", None),))
    decision = judge(asked, **site)
    assert (decision.gpus, decision.cost_micros) == (8, 8_000_000)


# --- the site's limits ----------------------------------------------------------------------

AT_ONCE = {"enforcement": "enforce", "limits": {"everyone": {"gpus": 8}}}


def test_l_202_of_an_array_the_tasks_that_may_run_at_once_count():
    reason = refused_by(judge(make_request(gpus=1, array="0-99"), **AT_ONCE), "L-202")
    assert (reason.value, reason.limit) == ("100", "8")
    assert "--array=0-99%8" in reason.remedy
    assert judge(make_request(gpus=1, array="0-99%8"), **AT_ONCE).kind == "admit"
    refused_by(judge(make_request(gpus=2, array="0-99%8"), **AT_ONCE), "L-202")


def test_l_202_what_would_pass_does_pass():
    held = make_snapshot(jobs=(make_job(1, gpus=5),))
    reason = refused_by(judge(make_request(gpus=4), held, **AT_ONCE), "L-202")
    assert "at most 3 GPUs" in reason.remedy
    assert judge(make_request(gpus=3), held, **AT_ONCE).kind == "admit"
