"""Explaining one job, whatever became of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    JobNotFound,
    RequestError,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.cluster import Reservation
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.services.explain import explain as explain_under
from slurm_gpu_policy.services.selecting import holds
from slurm_gpu_policy.services.standing import PRIORITY_PARTS
from tests.builders import make_policy
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm


def explain(slurm, job, **policy):
    return explain_under(slurm, job, make_policy(**policy))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def slurm(clock):
    return FakeSlurm(clock=clock)


def submit(slurm, gpus=1, nodes=1, **options):
    options = {"gres": f"gpu:h100:{gpus}", "nodes": str(nodes), "partition": "gpu", **options}
    return str(slurm.submit(Submission("#!/bin/bash\n", tuple(options.items()), "t")))


def test_a_waiting_job_has_words_facts_and_a_place(slurm):
    submit(slurm, gpus=8, nodes=2)
    submit(slurm)
    found = explain(slurm, submit(slurm, gpus=2))
    assert "waits for 2 h100 GPUs" in found.words.text
    assert found.words.facts == ("0 of 16 h100 GPUs that it could use are free now; it asks for 2",)
    assert [(place.partition, place.place, place.of) for place in found.places] == [("gpu", 2, 2)]
    assert found.ending == ""


def test_the_line_is_read_once_and_the_owners_associations_beside_it(slurm):
    submit(slurm, gpus=8, nodes=2)
    job = submit(slurm)
    slurm.calls.clear()
    explain(slurm, job)
    reads = [set(call[1:]) for call in slurm.calls if call[0] == "read"]
    assert reads == [{*PRIORITY_PARTS, Part.RESERVATIONS}, {Part.ASSOCIATIONS}]


def refuse(slurm, monkeypatch, *parts, error=SlurmRefused):
    """Let Slurm refuse to tell *parts*."""
    read = slurm.read

    def refusing(*asked, **options):
        if set(parts) & set(asked):
            msg = "Access/permission denied"
            raise error(msg)
        return read(*asked, **options)

    monkeypatch.setattr(slurm, "read", refusing)


def test_a_job_that_may_not_start_yet_has_no_place_in_any_line(slurm, monkeypatch):
    first = submit(slurm, gpus=8, nodes=2)
    refuse(slurm, monkeypatch, Part.SHARES)
    assert explain(slurm, submit(slurm)).places
    assert explain(slurm, submit(slurm, dependency=f"afterok:{first}")).places == ()


@pytest.mark.parametrize("error", [SlurmRefused, SlurmUnavailable])
def test_what_slurm_does_not_tell_of_the_line_leaves_the_rest(slurm, monkeypatch, error):
    submit(slurm, gpus=8, nodes=2)
    submit(slurm)
    job = submit(slurm, gpus=2)
    refuse(slurm, monkeypatch, Part.PRIORITIES, error=error)
    found = explain(slurm, job)
    assert found.prospects.missing == "what it is made of is not known: Access/permission denied"
    assert found.prospects.ranked == ()
    assert "waits for 2 h100 GPUs" in found.words.text
    assert [(place.place, place.of) for place in found.places] == [(2, 2)]
    assert found.start_source == "ours"


def test_a_part_of_the_account_tree_leaves_the_rest(slurm):
    slurm.associations = tuple(one for one in slurm.associations if one.user)
    submit(slurm, gpus=8, nodes=2)
    found = explain(slurm, submit(slurm))
    assert "PrivateData" in found.prospects.missing
    assert [(place.place, place.of) for place in found.places] == [(1, 1)]


def test_where_jobs_are_hidden_too_the_line_is_said_to_be_longer_perhaps(slurm):
    slurm.associations = tuple(one for one in slurm.associations if one.user)
    settings = {**slurm.config.settings, "PrivateData": "jobs,usage"}
    slurm.config = replace(slurm.config, settings=settings)
    submit(slurm, gpus=8, nodes=2)
    assert "more may stand ahead" in explain(slurm, submit(slurm)).prospects.missing


def test_without_the_owners_associations_only_a_limit_cannot_be_explained(slurm, monkeypatch):
    submit(slurm, gpus=8, nodes=2)
    job = submit(slurm)
    refuse(slurm, monkeypatch, Part.ASSOCIATIONS)
    assert explain(slurm, job).prospects.ranked != ()
    monkeypatch.setattr(slurm, "_why_not", lambda _job: "QOSMaxGRESPerUser")
    with pytest.raises(SlurmRefused):
        explain(slurm, job)


# --- when it starts ---------------------------------------------------------------------------


def test_where_slurm_has_a_plan_that_is_the_start(slurm, clock, monkeypatch):
    submit(slurm, gpus=8, nodes=2)
    job = submit(slurm)
    monkeypatch.setattr(slurm, "estimated_starts", lambda _ids: {int(job): clock.now() + 60})
    found = explain(slurm, job)
    assert (found.estimated_start, found.start_source) == (clock.now() + 60, "slurm")


def test_where_slurm_has_none_it_is_our_estimate(slurm, clock):
    submit(slurm, gpus=8, nodes=2, time="00:20:00")
    found = explain(slurm, submit(slurm))
    assert (found.estimated_start, found.start_source) == (clock.now() + 1200, "ours")


def test_a_limit_or_a_reservation_ahead_leaves_no_estimate(slurm, clock, monkeypatch):
    submit(slurm, gpus=8, nodes=2)
    job = submit(slurm)
    window = Reservation(
        "window", "INACTIVE", clock.now() + 60, clock.now() + 9000, ("gpu01", "gpu02"), (), (), "",
        frozenset({"MAINT"}),
    )  # fmt: skip
    slurm.reservations = (window,)
    found = explain(slurm, job)
    assert (found.estimated_start, found.start_source) == (None, None)
    assert found.start_words == "a reservation stands in its way"
    assert any("maintenance" in fact for fact in found.words.facts)
    slurm.reservations = ()
    monkeypatch.setattr(slurm, "_why_not", lambda _job: "QOSMaxGRESPerUser")
    assert "a limit" in explain(slurm, job).start_words


# --- attempts, approvals ----------------------------------------------------------------------


def test_a_job_that_was_requeued_has_its_attempts(slurm, clock):
    job = submit(slurm, comment="gpu-submit(retries=2)")
    slurm.jobs([job])
    clock.advance(30)
    slurm.requeue(job)
    found = explain(slurm, job)
    assert found.attempts.made == 1
    assert found.attempts.words == "1 of 2 retries used"
    assert found.attempts.runs[0].start_time == clock.now() - 30


def test_accounting_is_asked_only_for_a_job_that_was_requeued(slurm):
    job = submit(slurm)
    explain(slurm, job)
    assert "accounting" not in {call[0] for call in slurm.calls}


def test_for_the_waiting_rest_of_an_array_accounting_is_not_asked(slurm):
    base = submit(slurm, gpus=8, array="0-1")
    slurm.jobs([base])
    slurm.requeue(base)
    slurm.drain("gpu01")
    slurm.drain("gpu02")
    slurm.calls.clear()
    assert explain(slurm, base).job.restarts == 1
    assert "accounting" not in {call[0] for call in slurm.calls}


def test_without_accounting_the_attempts_are_still_counted(slurm, monkeypatch):
    job = submit(slurm, comment="gpu-submit(retries=2)")
    slurm.jobs([job])
    slurm.requeue(job)

    def gone(**_):
        msg = "slurmdbd is away"
        raise SlurmUnavailable(msg)

    monkeypatch.setattr(slurm, "accounting", gone)
    found = explain(slurm, job)
    assert (found.attempts.made, found.attempts.runs) == (1, ())


def test_a_job_held_for_an_approval_says_whose(slurm):
    job = submit(slurm, gpus=8, hold="", comment="gpu-submit(approval=asked)")
    approvals = {"thresholds": [{"gpus": 4}], "approvers": {"users": ["boss"]}}
    found = explain(slurm, job, approvals=approvals)
    assert (found.approval.state, found.approval.approvers) == ("pending", "boss")
    assert "rule V-901" in found.words.text
    assert "held" in found.prospects.missing


def test_a_running_job_has_its_gpus_on_each_node(slurm):
    found = explain(slurm, submit(slurm, gpus=2, nodes=2))
    assert [(held.node, held.gpu_indexes) for held in found.detail.allocations] == [
        ("gpu01", (0, 1)),
        ("gpu02", (0, 1)),
    ]
    assert found.words.text == ""


def test_a_job_that_just_ended_says_how(slurm):
    job = submit(slurm)
    slurm.jobs([job])
    slurm.finish(job, JobState.FAILED, exit_code=3)
    found = explain(slurm, job)
    assert found.job.state is JobState.FAILED
    assert found.ending == "it failed: exit code 3"


def test_a_job_that_left_memory_is_remembered_by_accounting(slurm, clock):
    job = submit(slurm, time="01:00:00")
    slurm.jobs([job])
    clock.advance(3600)
    slurm.jobs([job])
    clock.advance(3600)
    found = explain(slurm, job)
    assert found.job is None
    assert found.records[-1].state is JobState.TIMEOUT
    assert found.ending.startswith("Slurm stopped it at its time limit")


def test_an_unknown_job_is_said_to_be_unknown(slurm):
    with pytest.raises(SlurmRefused, match="there is no job 99"):
        explain(slurm, "99")


def test_without_accounting_an_unknown_job_is_still_only_unknown(slurm, monkeypatch):
    def refuse(**_):
        msg = "Slurm accounting storage is disabled"
        raise SlurmRefused(msg)

    monkeypatch.setattr(slurm, "accounting", refuse)
    with pytest.raises(JobNotFound):
        explain(slurm, "99")


def test_when_slurm_is_away_nothing_is_said_about_the_job(slurm):
    slurm.unavailable()
    with pytest.raises(SlurmUnavailable):
        explain(slurm, "1")


@pytest.mark.parametrize(
    "job_id", ["", "x", "1 2", "-1", "1_", "_1", "1+", "1.batch", "1;2", "٣", "1_[", "1\n2", "%41"]
)
def test_what_is_no_job_id_is_refused_before_slurm_is_asked(slurm, job_id):
    with pytest.raises(RequestError, match="is not a job id"):
        explain(slurm, job_id)
    assert slurm.calls == []


@pytest.mark.parametrize("job_id", ["0", "4294967294", "99999999999999999999"])
def test_an_id_no_job_can_have_is_unknown_without_asking(slurm, job_id):
    with pytest.raises(JobNotFound):
        explain(slurm, job_id)
    assert slurm.calls == []


# --- arrays -----------------------------------------------------------------------------------


def test_a_whole_array_is_explained_by_its_waiting_rest(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    found = explain(slurm, base)
    assert found.job.display_id == f"{base}_[2-4]"
    assert sorted(job.display_id for job in found.group) == [
        f"{base}_0", f"{base}_1", f"{base}_[2-4]",
    ]  # fmt: skip
    assert "waits for 8 h100 GPUs" in found.words.text


def test_a_task_of_an_array_is_explained_alone(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    found = explain(slurm, f"{base}_1")
    assert (found.job.display_id, found.job.state) == (f"{base}_1", JobState.RUNNING)
    assert found.detail.allocations[0].gpu_indexes == tuple(range(8))
    assert found.group == ()


def test_a_task_that_waits_with_the_rest_is_explained_by_it(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    found = explain(slurm, f"{base}_3")
    assert found.job.state is JobState.PENDING
    assert holds(found.job.array_task, 3)


def test_a_task_the_array_does_not_have_is_unknown(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    with pytest.raises(SlurmRefused):
        explain(slurm, f"{base}_7")


def test_the_own_number_of_a_task_means_that_task(slurm):
    base = submit(slurm, gpus=1, array="0-2")
    found = explain(slurm, str(int(base) + 1))
    assert found.job.display_id == f"{base}_1"
    assert found.group == ()


@pytest.mark.parametrize(
    ("tasks", "number", "expected"),
    [
        ("5-9%2", 7, True),
        ("5-9%2", 4, False),
        ("1,3-9:2", 5, True),
        ("1,3-9:2", 6, False),
        ("[1-3]", 2, True),
        ("", 0, False),
        ("1,...", 9, False),
    ],
)
def test_a_task_list_holds_its_numbers(tasks, number, expected):
    assert holds(tasks, number) is expected


# --- budgets ----------------------------------------------------------------------------------

BUDGETS = {"budgets": {"nlp": {"gpu_hours": 1}}}


def row(available, **fields):
    return {"account": "nlp", "user": "", "unit": "gpu_seconds", "available": str(available),
            "overdraft": "0", **fields}  # fmt: skip


def held_for_its_budget(slurm):
    submit(slurm, gpus=8, nodes=2)
    job = submit(slurm, gpus=2, time="60")
    owner, slurm.user = slurm.user, "root"
    slurm.hold(job)
    slurm.modify(job, {"admin_comment": "gpu-policy(money=held)"})
    slurm.user = owner
    return job


def test_a_job_held_for_its_budget_says_what_is_left_and_what_would_pass(slurm):
    job = held_for_its_budget(slurm)
    asked = []

    def books(request):
        asked.append(request)
        return {"budgets": [row(1800), row(600, overdraft="1200")]}

    found = explain_under(slurm, job, make_policy(**BUDGETS), books)
    assert "(rule B-006)" in found.words.text
    assert found.words.facts[:2] == (
        "the budget of account nlp has 1.00 GPU-hours left, and it may cost 2.00 GPU-hours",
        "a time limit of 00:30:00 would pass",
    )
    assert asked == [{"request": "budget"}]


def test_where_nobody_answers_for_the_books_the_rest_is_said(slurm):
    job = held_for_its_budget(slurm)

    def away(_request):
        msg = "gpu-policyd does not answer"
        raise ControllerUnavailable(msg)

    found = explain_under(slurm, job, make_policy(**BUDGETS), away)
    assert "(rule B-006)" in found.words.text


def test_the_books_are_not_asked_about_a_job_that_waits_for_other_things(slurm):
    submit(slurm, gpus=8, nodes=2)
    asked = []
    explain_under(slurm, submit(slurm, gpus=2), make_policy(**BUDGETS), asked.append)
    assert asked == []
