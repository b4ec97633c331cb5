"""Every reason Slurm has becomes words; what is unknown is shown as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.cluster import NodeGpus, Reservation
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.waiting import (
    dependency_words,
    needs_limits,
    places,
    reason_words,
    waiting_words,
    wanted,
)
from tests.builders import make_job, make_node, make_partition, make_snapshot

REASONS = (Path(__file__).parents[3] / "data/slurm/pending_reasons.txt").read_text().split()

NODES_REQUIRED = (
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
)


def waiting(number=1, **fields):
    fields = {"state": JobState.PENDING, "node_list": "", "start_time": None, **fields}
    return make_job(number, **fields)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_slurms_own_table_has_words(reason):
    words = reason_words(waiting(reason=reason))
    assert words.text
    assert reason not in words.text
    assert "{" not in words.text + words.advice


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("", "Slurm has not looked at it yet"),
        ("Resources", "waits for 1 h100 GPU to be free"),
        ("Priority", "higher priority wait for partition gpu"),
        ("JobHeldUser", "its owner holds it"),
        ("launch failed requeued held", "its nodes could not start it"),
        ("launch_failed_requeued_held", "its nodes could not start it"),
        ("ReqNodeNotAvail, UnavailableNodes:gpu[01-02]", "or reserved (gpu[01-02])"),
        ("ReqNodeNotAvail, May be reserved for other job", "(May be reserved for other job)"),
        ("ReqNodeNotAvail(Unavailable:gpu01)", "are not available"),
        (NODES_REQUIRED, "down, drained, or kept for partitions of higher priority"),
        ("AssocGrpGRES", "account nlp is at its limit of GPUs in use at once"),
        ("QOSMaxGRESPerUser", "user u1 is at the limit of GPUs that QOS normal lets one user"),
        ("MaxGRESPerAccount", "account nlp is at the limit of GPUs that QOS normal lets one"),
        ("AssocGrpGRESMinutes", "budget of GPU-minutes of account nlp does not cover"),
        ("QOSMaxWallDurationPerJobLimit", "its time limit is longer than QOS normal allows"),
        ("QOSGrpGRESRunMinutes", "running jobs of QOS normal have too many GPU-minutes"),
        ("AssocMaxJobsLimit", "user u1 is at the limit of jobs running at once"),
        ("QOSMinGRES", "less than the least QOS normal takes (GPUs)"),
    ],
)  # fmt: skip
def test_a_reason_is_said_in_plain_words(reason, text):
    assert text in reason_words(waiting(reason=reason)).text


def test_an_unknown_reason_is_shown_as_it_is():
    assert reason_words(waiting(reason="QuantumFlux")).text == "Slurm gives the reason QuantumFlux"


@given(st.text(max_size=80))
def test_any_text_as_a_reason_has_words(reason):
    assert reason_words(waiting(reason=reason)).text


@given(st.text(max_size=30))
def test_braces_in_names_are_not_taken_for_fields(name):
    job = waiting(reason="AccountNotAllowed", account=name + "{qos}")
    assert name + "{qos}" in reason_words(job).text


def test_words_print_as_their_text():
    assert str(reason_words(waiting(reason="JobHeldUser"))) == "its owner holds it"


def test_a_held_job_says_how_it_is_released():
    assert "scontrol release 7" in reason_words(waiting(7, reason="JobHeldUser")).advice


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"gpus": 4}, "4 h100 GPUs"),
        ({"gpus": 1}, "1 h100 GPU"),
        ({"gpus": 2, "gpu_type": ""}, "2 GPUs"),
        ({"gpus": 0, "cpus": 1}, "1 CPU"),
        ({"gpus": 0, "cpus": 8}, "8 CPUs"),
    ],
)
def test_what_a_job_wants_most_is_said(fields, text):
    assert wanted(make_job(**fields)) == text


# --- facts ------------------------------------------------------------------------------------


def test_waiting_for_gpus_says_how_many_are_free_and_which_nodes_are_out():
    nodes = (
        replace(make_node("gpu01", state="MIXED"), gpus=(NodeGpus("h100", 8, 5),)),
        make_node("gpu02", state="DOWN", reason="bad fan"),
        make_node("old01", gpu_type="a100"),
    )
    facts = waiting_words(waiting(reason="Resources", gpus=4), make_snapshot(nodes=nodes)).facts
    assert facts == (
        "3 of 8 h100 GPUs that it could use are free now; it asks for 4",
        "node gpu02 is down: bad fan",
    )


def test_many_broken_nodes_are_counted_and_not_all_named():
    nodes = tuple(make_node(f"g{n}", state="DOWN") for n in range(9))
    facts = waiting_words(waiting(reason="ReqNodeNotAvail"), make_snapshot(nodes=nodes)).facts
    assert facts[-1] == "5 more of its nodes are out of order"
    assert len(facts) == 6


def test_a_partition_reason_names_the_partitions_limits():
    partitions = (make_partition("gpu", state="DOWN", max_time_seconds=1800, max_nodes=1),)
    job = waiting(reason="PartitionTimeLimit", nodes=2)
    facts = waiting_words(job, make_snapshot(partitions=partitions)).facts
    assert facts == (
        "partition gpu is down",
        "partition gpu allows 00:30:00, this job asks for 01:00:00",
        "partition gpu gives one job 1 nodes at most, this job asks for 2",
    )


def test_a_reservation_is_named_with_its_state():
    reservation = Reservation("r1", "INACTIVE", None, None, (), (), (), "", frozenset())
    job = waiting(reason="Reservation", reservation="r1")
    facts = waiting_words(job, make_snapshot(reservations=(reservation,))).facts
    assert facts == ("reservation r1 is inactive",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("afterok:12(unfulfilled)", "it starts once job 12 has ended with success (unfulfilled)"),
        ("after:12+5", "it starts once job 12 has started 5 minutes ago"),
        ("afterany:12_*", "it starts once job 12_* has ended, in whatever way"),
        ("singleton", "it starts once its owner's earlier jobs of the same name have ended"),
        ("weird(3)", "it depends on weird(3)"),
    ],
)
def test_a_dependency_is_said_in_words(text, words):
    assert dependency_words(text) == (words,)


def test_each_part_of_a_dependency_is_said():
    assert len(dependency_words("afterok:1,afternotok:2")) == 2
    assert len(dependency_words("afterok:1?afterok:2")) == 2
    assert dependency_words("") == ()


def test_only_limit_reasons_need_limits():
    assert needs_limits(waiting(reason="AssocGrpGRES"))
    assert not needs_limits(waiting(reason="Resources"))
    assert not needs_limits(waiting(reason="MaxMemPerLimit"))


# --- place in the line ------------------------------------------------------------------------


def test_the_place_counts_those_with_higher_priority_and_older_ones_among_equals():
    jobs = [
        waiting(1, priority=10),
        waiting(2, priority=30),
        waiting(3, priority=20),
        waiting(4, priority=20),
    ]
    assert [place.place for job in jobs for place in places(job, jobs)] == [4, 1, 2, 3]
    assert {place.of for job in jobs for place in places(job, jobs)} == {4}


def test_running_held_and_foreign_jobs_stand_in_no_line():
    job = waiting(9, priority=5)
    others = [
        make_job(1, priority=99),
        waiting(2, priority=0),
        waiting(3, priority=99, partitions=("cpu",)),
    ]
    assert [(p.place, p.of) for p in places(job, [job, *others])] == [(1, 1)]
    assert places(waiting(2, priority=0), [job]) == ()
    assert places(make_job(1), [job]) == ()


def test_a_job_for_several_partitions_has_a_place_in_each():
    job = waiting(9, partitions=("gpu", "interactive"), priority=5)
    found = places(job, [job, waiting(1, priority=9)])
    assert [(p.partition, p.place) for p in found] == [("gpu", 2), ("interactive", 1)]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_the_places_of_a_line_are_one_to_its_length(priorities):
    jobs = [waiting(number + 1, priority=p) for number, p in enumerate(priorities)]
    found = sorted(place.place for job in jobs for place in places(job, jobs))
    assert found == list(range(1, sum(p > 0 for p in priorities) + 1))


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        ({"comment": "gpu-submit(approval=asked)"}, "V-901"),
        ({"admin_comment": "gpu-policy(approval=pending)"}, "V-901"),
        ({"admin_comment": "gpu-policy(approval=denied)"}, "V-904"),
        ({"admin_comment": "gpu-policy(approval=expired)"}, "V-905"),
        (
            {
                "comment": "gpu-submit(approval=asked)",
                "admin_comment": "gpu-policy(approval=denied)",
            },
            "V-904",
        ),
    ],
)
def test_a_job_held_for_an_approval_says_so_whatever_slurms_reason(marks, text):
    job = make_job(state=JobState.PENDING, priority=0, reason="JobHeldUser", **marks)
    assert text in reason_words(job).text


def test_a_job_that_is_not_held_or_was_approved_keeps_slurms_reason():
    asked = {"comment": "gpu-submit(approval=asked)", "state": JobState.PENDING}
    assert "V-901" not in reason_words(make_job(reason="Resources", **asked)).text
    approved = make_job(
        reason="JobHeldAdmin", priority=0, admin_comment="gpu-policy(approval=approved)", **asked
    )
    assert "operator" in reason_words(approved).text
