"""One request, one job: whatever happens on the way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.errors import (
    Refused,
    RenderError,
    RequestError,
    SlurmAbsent,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.services.submit import Submit
from tests.builders import make_policy, make_request
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm


class PlainRenderer:
    """Implements RenderPort with the fewest words."""

    def __init__(self):
        self.expanded = []

    def expand(self, request):
        self.expanded.append(request)
        if request.template == "missing":
            msg = "there is no template missing"
            raise RenderError(msg)
        return request

    def render(self, request, decision, token):
        options = (
            ("job-name", "job"),
            ("gres", f"gpu:{decision.gpu_type}:{decision.gpus}"),
            ("partition", decision.partition),
            ("account", decision.account),
            ("time", "01:00:00"),
            ("comment", f"gpu-submit(token={token})"),
        )
        return Submission(script="#!/bin/bash\nsleep 600\n", options=options, token=token)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def slurm(clock):
    return FakeSlurm(clock=clock)


@pytest.fixture
def waits():
    return []


@pytest.fixture
def use(slurm, clock, waits):
    return make_use(slurm, clock, waits)


def make_use(slurm, clock, waits=None, groups_of=lambda _: (), **policy):
    numbers = itertools.count(1)
    return Submit(
        slurm=slurm,
        renderer=PlainRenderer(),
        policy=make_policy(**policy),
        clock=clock,
        new_token=lambda: f"t{next(numbers)}",
        groups_of=groups_of,
        on_wait=(waits if waits is not None else []).append,
    )


def prepare(use, **fields):
    request = use.expand(make_request(**fields))
    (decision,) = use.decide_all([request])
    return use.prepare(request, decision)


def test_a_request_becomes_one_job(use, slurm):
    job_id = use.submit(prepare(use, gpus=4))
    (job,) = slurm.jobs([str(job_id)])
    assert (job.gpus, job.gpu_type) == (4, "h100")


def test_the_workload_class_chooses_the_template_unless_the_user_did(slurm, clock):
    use = make_use(slurm, clock, workloads={"training": {"template": "torchrun"}})
    assert use.expand(make_request(workload="training")).template == "torchrun"
    assert use.expand(make_request(workload="training", template="batch")).template == "batch"
    own_script = make_request(workload="training", script="#!/bin/sh\n", command=())
    assert use.expand(own_script).template is None


def test_the_sites_cpus_and_memory_per_gpu_go_where_the_user_names_none(slurm, clock):
    use = make_use(slurm, clock, defaults={"cpus_per_gpu": 8, "memory_per_gpu": "64G"})
    both = (("cpus-per-gpu", "8"), ("mem-per-gpu", "65536M"))
    assert use.expand(make_request()).options == both
    assert use.expand(make_request(cpus_per_task=4)).options == both[1:]
    assert use.expand(make_request(memory_mb=100)).options == both[:1]
    assert use.expand(make_request(script_options=(("mem", "1G"),))).options == both[:1]
    assert use.expand(make_request(gpus=None)).options == ()


def test_a_refused_request_cannot_be_prepared(use):
    request = make_request(gpus=99)
    (decision,) = use.decide_all([request])
    with pytest.raises(Refused) as refused:
        use.prepare(request, decision)
    assert refused.value.decision is decision


def test_nobody_is_refused_on_old_news_of_accounts(use, slurm, monkeypatch):
    real_read, asked = slurm.read, []

    def read(*parts, user=None, fresh=False):
        asked.append(fresh)
        snapshot = real_read(*parts, user=user)
        if fresh:
            return snapshot
        return replace(snapshot, associations=())

    monkeypatch.setattr(slurm, "read", read)
    (decision,) = use.decide_all([make_request()])
    assert (decision.kind, asked) == ("admit", [False, True])


def test_slurm_is_asked_once_for_many_requests(use, slurm):
    use.decide_all([make_request(gpus=n) for n in range(1, 9)])
    assert [name for name, *_ in slurm.calls].count("read") == 1


def test_a_controller_that_comes_back_in_time_gets_the_job(use, slurm, waits):
    submission = prepare(use)
    slurm.unavailable(times=4)
    job_id = use.submit(submission)
    assert slurm.find(submission.token) == (job_id,)
    assert len(waits) == 4


def test_a_controller_that_stays_away_ends_in_unavailable_within_the_sites_time(use, slurm, clock):
    submission = prepare(use)
    slurm.unavailable(times=10_000)
    began = clock.monotonic()
    with pytest.raises(SlurmUnavailable) as gone:
        use.submit(submission)
    assert not isinstance(gone.value, SlurmTimeout)
    assert 120 <= clock.monotonic() - began <= 121
    assert slurm.records == {}


def test_a_slurm_that_is_not_there_at_all_is_not_waited_for(use, slurm, clock):
    submission = prepare(use)
    slurm.unavailable(times=1, error=SlurmAbsent("sbatch is not on this machine's PATH"))
    began = clock.monotonic()
    with pytest.raises(SlurmAbsent):
        use.submit(submission)
    assert clock.monotonic() == began


def test_a_lost_answer_is_looked_for_and_the_job_not_submitted_twice(use, slurm):
    submission = prepare(use)
    slurm.time_out_after_queueing()
    job_id = use.submit(submission)
    assert slurm.find(submission.token) == (job_id,)
    assert len(slurm.records) == 1


def test_a_lost_request_is_submitted_again(use, slurm):
    submission = prepare(use)
    slurm.time_out_before_queueing()
    job_id = use.submit(submission)
    assert slurm.find(submission.token) == (job_id,)
    assert len(slurm.records) == 1


def test_a_call_that_takes_effect_after_its_replacement_leaves_one_job(use, slurm, monkeypatch):
    submission = prepare(use)
    real_submit, real_find, first = slurm.submit, slurm.find, []

    def submit(each):
        if not first:
            first.append("lost")
            msg = "no answer"
            raise SlurmTimeout(msg)
        real_submit(each)  # the lost one arrives late, before the second
        return real_submit(each)

    monkeypatch.setattr(slurm, "submit", submit)
    job_id = use.submit(submission)
    jobs = {str(i): slurm.jobs([str(i)])[0] for i in real_find(submission.token)}
    assert [i for i, job in jobs.items() if not job.state.is_over] == [str(job_id)]


def test_of_many_a_call_that_takes_effect_late_leaves_one_job(use, slurm, monkeypatch):
    submissions = [prepare(use), prepare(use)]
    real_submit = slurm.submit

    def submit_many(batch):
        return (SlurmTimeout("no answer"), real_submit(batch[1]))

    def submit(each):
        real_submit(each)  # the lost one arrives late, before its replacement
        return real_submit(each)

    monkeypatch.setattr(slurm, "submit_many", submit_many)
    monkeypatch.setattr(slurm, "submit", submit)
    answers = use.submit_many(submissions)
    alive = [i for i in slurm.find(submissions[0].token) if not is_over(slurm, i)]
    assert alive == [answers[0]]


def is_over(slurm, job_id):
    return slurm.jobs([str(job_id)])[0].state.is_over


def test_a_lost_job_that_fills_the_users_limit_is_found_and_not_called_refused(use, slurm):
    submission = prepare(use)
    real_find, looks = slurm.find, []

    def find(token):
        looks.append(token)
        return real_find(token) if len(looks) > 1 else ()  # it arrives after the first look

    slurm.time_out_after_queueing()
    slurm.find = find
    with pytest.MonkeyPatch.context() as patch:
        real_submit, calls = slurm.submit, []

        def submit(each):
            calls.append(each)
            if len(calls) > 1:
                msg = "AssocMaxSubmitJobLimit"
                raise SlurmRefused(msg)
            return real_submit(each)

        patch.setattr(slurm, "submit", submit)
        job_id = use.submit(submission)
    assert real_find(submission.token) == (job_id,)


def test_what_runs_in_a_terminal_is_never_queued(use, slurm):
    submission = replace(prepare(use), interactive=True)
    for call in (lambda: use.submit(submission), lambda: use.submit_many([submission])):
        with pytest.raises(RequestError, match="terminal"):
            call()
    assert slurm.records == {}


def test_groups_are_looked_up_only_where_a_partition_asks_for_them(slurm, clock):
    asked = []

    def groups_of(user):
        asked.append(user)
        return ("users",)

    use = make_use(slurm, clock, groups_of=groups_of)
    use.decide_all([make_request()])
    assert asked == []
    closed = [replace(each, allow_groups=frozenset({"staff"})) for each in slurm.partitions]
    slurm.partitions = tuple(closed)
    (decision,) = use.decide_all([make_request()])
    assert (asked[0], decision.kind) == ("u1", "refuse")


def test_what_slurm_refuses_is_not_tried_again(use, slurm):
    submission = prepare(use)
    slurm.refuse("QOSMaxGRESPerUser")
    with pytest.raises(SlurmRefused, match="QOSMaxGRESPerUser"):
        use.submit(submission)
    assert [name for name, *_ in slurm.calls].count("submit") == 1


def test_a_fate_that_stays_unknown_is_said_with_the_token(use, slurm):
    submission = prepare(use)
    slurm.time_out_after_queueing()
    real_find = slurm.find
    slurm.find = lambda _token: (_ for _ in ()).throw(SlurmUnavailable("away"))
    with pytest.raises(SlurmTimeout, match=submission.token):
        use.submit(submission)
    slurm.find = real_find


def test_of_many_jobs_each_has_its_own_answer(use, slurm):
    submissions = [prepare(use, gpus=n) for n in (1, 2, 3)]
    slurm.refuse("not this one")
    answers = use.submit_many(submissions)
    assert [isinstance(answer, Exception) for answer in answers] == [True, False, False]
    assert [slurm.find(each.token) for each in submissions[1:]] == [(a,) for a in answers[1:]]


@given(
    faults=st.lists(st.sampled_from(["away", "lost before", "lost after"]), max_size=6),
)
def test_whatever_goes_wrong_there_is_exactly_one_job_or_none_and_an_error(faults):
    clock = FakeClock()
    slurm = FakeSlurm(clock=clock)
    use = make_use(slurm, clock)
    submission = prepare(use)
    real_submit, left = slurm.submit, list(faults)

    def submit(each):
        fault = left.pop(0) if left else ""
        if fault == "away":
            raise SlurmUnavailable(fault)
        if fault == "lost before":
            raise SlurmTimeout(fault)
        job_id = real_submit(each)
        if fault == "lost after":
            raise SlurmTimeout(fault)
        return job_id

    slurm.submit = submit
    job_id = use.submit(submission)
    assert slurm.find(submission.token) == (job_id,)
