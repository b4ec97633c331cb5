"""SteerPort and AccountPort, held to their docstrings on every backend."""

from __future__ import annotations

import subprocess

import pytest

from slurm_gpu_policy.errors import JobNotFound, SlurmRefused, SlurmUnavailable
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part

UNKNOWN = "66000000"
NOBODYS = "66000001"
LONG_ENOUGH = "#!/bin/sh\nsleep 2\n"
"""A job that ends before its start has reached the database is called ``allocation`` there."""


def _job(cluster, job_id):
    return cluster.slurm.jobs([str(job_id)])[0]


def _sites(cluster, ids):
    cluster.sleep(0.2)
    found = cluster.slurm.read(Part.PRIORITIES).priorities
    return {one.job_id: one.site for one in found if one.job_id in ids}


def _waiting(cluster, number=1):
    """Return jobs that are not held and yet wait, on another job that never ends."""
    blocker = cluster.submit(("hold", None))
    return [
        cluster.submit(gres="gpu:h100:1", dependency=f"afterok:{blocker}") for _ in range(number)
    ]


def test_a_waiting_job_is_cancelled(cluster):
    job_id = cluster.submit(("hold", None))
    cluster.slurm.cancel(str(job_id))
    assert cluster.over(job_id).state is JobState.CANCELLED


def test_a_running_job_is_cancelled(cluster):
    job_id = cluster.submit(partition="cpu")
    cluster.running(job_id)
    cluster.slurm.cancel(str(job_id))
    assert cluster.over(job_id).state is JobState.CANCELLED


def test_cancelling_an_ended_job_is_no_error(cluster):
    job_id = cluster.submit(("hold", None))
    cluster.slurm.cancel(str(job_id))
    cluster.over(job_id)
    cluster.slurm.cancel(str(job_id))


def test_cancelling_an_array_ends_all_its_tasks(cluster):
    job_id = cluster.submit(("hold", None), array="0-3")
    cluster.slurm.cancel(str(job_id))
    cluster.sleep(0.5)
    assert all(job.state.is_over for job in cluster.slurm.jobs([str(job_id)]))


def test_one_task_of_an_array_is_cancelled_alone(cluster):
    job_id = cluster.submit(("hold", None), array="0-3")
    cluster.slurm.cancel(f"{job_id}_2")
    cluster.sleep(0.5)
    states = {job.array_task: job.state for job in cluster.slurm.jobs([str(job_id)])}
    assert states.pop("2", JobState.CANCELLED) is JobState.CANCELLED  # 22.05 forgets it at once
    assert states == {"0-1,3": JobState.PENDING}


@pytest.mark.parametrize(
    "act",
    [
        lambda slurm: slurm.cancel(UNKNOWN),
        lambda slurm: slurm.cancel(UNKNOWN, signal="USR1"),
        lambda slurm: slurm.hold(UNKNOWN),
        lambda slurm: slurm.release(UNKNOWN),
        lambda slurm: slurm.requeue(UNKNOWN),
        lambda slurm: slurm.modify(UNKNOWN, {"comment": "x"}),
        lambda slurm: slurm.notify(UNKNOWN, "hello"),
    ],
    ids=["cancel", "signal", "hold", "release", "requeue", "modify", "notify"],
)
def test_steering_an_unknown_job_says_that_it_is_unknown(cluster, act):
    with pytest.raises(JobNotFound):
        act(cluster.slurm)


def test_nobody_cancels_the_job_of_another(cluster):
    job_id = cluster.submit(("hold", None))
    with pytest.raises(SlurmRefused, match="Access/permission denied"):
        cluster.as_user("u2", lambda slurm: slurm.cancel(str(job_id)))
    assert _job(cluster, job_id).state is JobState.PENDING


def test_a_held_job_waits_until_it_is_released(cluster):
    job_id = _waiting(cluster)[0]
    cluster.slurm.hold(str(job_id))
    held = cluster.wait(job_id, lambda job: job.priority == 0)
    assert held.reason.startswith("JobHeld")
    cluster.slurm.release(str(job_id))
    cluster.wait(job_id, lambda job: job.priority > 0)


def test_an_operators_hold_is_not_the_users_to_release(real_cluster):
    job_id = _waiting(real_cluster)[0]
    real_cluster.slurm.hold(str(job_id))
    real_cluster.wait(job_id, lambda job: job.reason == "JobHeldAdmin")
    with pytest.raises(SlurmRefused):
        real_cluster.as_user("u1", lambda slurm: slurm.release(str(job_id)))
    assert _job(real_cluster, job_id).priority == 0


@pytest.mark.parametrize(
    ("key", "value", "field", "seen"),
    [
        ("time_limit", "1800", "time_limit_seconds", 1800),
        ("nice", "50", "nice", 50),
        ("qos", "high", "qos", "high"),
        ("partition", "interactive", "partitions", ("interactive",)),
        ("account", "nlp-finetune", "account", "nlp-finetune"),
        ("name", "a new|name", "name", "a new|name"),
        ("comment", "new words, é", "comment", "new words, é"),
        ("features", "simulated", "features", "simulated"),
    ],
)
def test_a_change_is_seen_at_once(cluster, key, value, field, seen):
    job_id = _waiting(cluster)[0]
    cluster.slurm.modify(str(job_id), {key: value})
    assert getattr(_job(cluster, job_id), field) == seen


def test_nice_goes_back_to_nothing(cluster):
    job_id = _waiting(cluster)[0]
    cluster.slurm.modify(str(job_id), {"nice": "50"})
    cluster.slurm.modify(str(job_id), {"nice": "0"})
    assert _job(cluster, job_id).nice == 0


def test_several_fields_change_in_one_call(cluster):
    job_id = _waiting(cluster)[0]
    cluster.slurm.modify(
        str(job_id),
        {"admin_comment": "why", "excluded_nodes": "gpu[01-02]", "time_limit": "60"},
    )
    detail = cluster.slurm.job(str(job_id))
    assert detail.job.admin_comment == "why"
    assert detail.excluded_nodes in {"gpu01,gpu02", "gpu[01-02]"}
    assert detail.job.time_limit_seconds == 60


def test_a_change_slurm_refuses_says_why(cluster):
    job_id = _waiting(cluster)[0]
    with pytest.raises(SlurmRefused):
        cluster.as_user("u2", lambda slurm: slurm.modify(str(job_id), {"comment": "mine"}))


def test_a_field_that_is_none_of_ours_cannot_be_changed(cluster):
    job_id = cluster.submit(("hold", None))
    with pytest.raises(ValueError, match="shoe_size"):
        cluster.slurm.modify(str(job_id), {"shoe_size": "43"})


def test_site_factors_of_many_jobs_are_set_and_removed(cluster):
    ids = _waiting(cluster, 5)
    factors = dict(zip(ids, (100, 100, -50, 0, 100), strict=True))
    assert cluster.slurm.set_site_factors(factors) == {}
    before = {job_id: _job(cluster, job_id).priority for job_id in ids}
    assert cluster.slurm.set_site_factors(dict.fromkeys(ids, 0)) == {}
    after = {job_id: _job(cluster, job_id).priority for job_id in ids}
    for job_id, value in factors.items():
        assert abs(before[job_id] - after[job_id] - value) <= 2


def test_site_factors_are_seen_in_the_priorities(cluster):
    ids = [cluster.submit(("begin", "now+1hour"), gres="gpu:h100:8", nodes="2", time="60:00")]
    ids.append(cluster.submit(gres="gpu:h100:8", nodes="2", time="60:00"))
    ids.append(cluster.submit(gres="gpu:h100:8", nodes="2", time="60:00"))
    waiting = ids[-1]
    cluster.slurm.set_site_factors({waiting: -700})
    assert _sites(cluster, {waiting}) == {waiting: -700}
    cluster.slurm.set_site_factors({waiting: 0})
    assert _sites(cluster, {waiting}) == {waiting: 0}


def test_refused_site_factors_are_told_job_by_job(cluster):
    (good,) = _waiting(cluster)
    refused = cluster.slurm.set_site_factors({good: 10, 66000000: 10})
    assert set(refused) == {66000000}
    assert "Invalid job id" in refused[66000000]


def test_many_different_changes_are_refused_one_by_one(cluster):
    first, second, third = _waiting(cluster, 3)
    wanted = {
        str(first): {"site_factor": "11", "admin_comment": "gpu-policy(a=1;b=2)"},
        UNKNOWN: {"site_factor": "12"},
        str(second): {"qos": "nonsense", "admin_comment": "not this"},
        NOBODYS: {"admin_comment": "two words"},
        str(third): {"qos": "high", "site_factor": "-13", "excluded_nodes": "gpu02"},
    }
    refused = cluster.slurm.modify_many(wanted)
    assert set(refused) == {UNKNOWN, NOBODYS, *((str(second),) if cluster.is_real else ())}
    assert "Invalid job id" in refused[UNKNOWN]
    assert "Invalid job id" in refused[NOBODYS]
    assert _job(cluster, first).admin_comment == "gpu-policy(a=1;b=2)"
    assert _job(cluster, third).qos == "high"
    if cluster.is_real:
        assert "Invalid qos" in refused[str(second)]
        assert _job(cluster, second).admin_comment == ""


@pytest.mark.parametrize(
    "text",
    ["two words", 'a "quoted" word', "it's", "a\\b", "", "é ü", "x\ty", "a\nupdate JobId=1"],
)
def test_many_changes_keep_their_text_as_it_is(cluster, text):
    first, second = _waiting(cluster, 2)
    wanted = {str(first): {"admin_comment": text}, str(second): {"admin_comment": "plain"}}
    assert cluster.slurm.modify_many(wanted) == {}
    assert _job(cluster, first).admin_comment == text
    assert _job(cluster, second).admin_comment == "plain"


def test_a_field_that_is_none_of_ours_changes_none_of_many(cluster):
    first, second = _waiting(cluster, 2)
    with pytest.raises(ValueError, match="shoe_size"):
        cluster.slurm.modify_many({str(first): {"comment": "x"}, str(second): {"shoe_size": "43"}})
    assert "gpu-submit" in _job(cluster, first).comment


def test_of_an_array_the_waiting_rest_is_changed_whatever_its_other_tasks_do(cluster):
    script = "#!/bin/sh\nsleep 60\n"
    # More tasks than nodes: some run, and the rest cannot.
    array = cluster.submit(array="0-3", gres="gpu:h100:8", time="60:00", script=script)
    cluster.sleep(1.5)
    states = [job.state for job in cluster.slurm.jobs([str(array)])]
    assert JobState.PENDING in states
    wanted = {f"{array}_[0-3]": {"qos": "high", "site_factor": "5"}}
    assert cluster.slurm.modify_many(wanted) == {}
    rest = next(job for job in cluster.slurm.jobs([str(array)]) if job.state.is_pending)
    assert rest.qos == "high"
    runs = next(job for job in cluster.slurm.jobs([str(array)]) if job.state.is_active)
    assert runs.qos == "normal"
    refused = cluster.slurm.modify_many(
        {runs.address: {"qos": "high"}, rest.address: {"qos": "low"}, f"{UNKNOWN}_3": {"qos": "x"}}
    )
    assert set(refused) == {runs.address, f"{UNKNOWN}_3"}
    assert "no longer pending" in refused[runs.address]


def test_one_task_of_an_array_is_requeued_alone(cluster):
    array = cluster.submit(array="0-1", partition="cpu")
    cluster.wait(array, lambda _: all(
        job.state is JobState.RUNNING for job in cluster.slurm.jobs([str(array)])
    ))  # fmt: skip
    last = next(job for job in cluster.slurm.jobs([str(array)]) if job.array_task == "1")
    assert cluster.slurm.steer_many("requeue_held", [last.address]) == {}
    cluster.sleep(1)
    found = {job.array_task: job.restarts for job in cluster.slurm.jobs([str(array)])}
    assert found == {"0": 0, "1": 1}


def test_many_jobs_are_held_and_released_and_refusals_told_one_by_one(cluster):
    first, second = _waiting(cluster, 2)
    assert set(cluster.slurm.steer_many("hold", [str(first), UNKNOWN, str(second)])) == {UNKNOWN}
    assert _job(cluster, first).priority == 0
    assert _job(cluster, second).priority == 0
    assert set(cluster.slurm.steer_many("release", [UNKNOWN, str(first)])) == {UNKNOWN}
    cluster.wait(first, lambda job: job.priority > 0)
    assert _job(cluster, second).priority == 0


def test_many_jobs_are_requeued_and_stay_held(cluster):
    waiting = _waiting(cluster)[0]
    job_id = cluster.submit(partition="cpu", script="#!/bin/sh\nsleep 1\nexit 3\n")
    cluster.over(job_id)
    refused = cluster.slurm.steer_many("requeue_held", [str(waiting), str(job_id)])
    assert set(refused) == {str(waiting)}
    assert "pending" in refused[str(waiting)]
    job = cluster.wait(job_id, lambda job: job.state.is_pending)
    assert (job.priority, job.restarts) == (0, 1)
    changes = {str(job_id): {"excluded_nodes": "gpu02", "admin_comment": "gpu-policy(attempt=1)"}}
    assert cluster.slurm.modify_many(changes) == {}


def test_many_changes_without_a_controller_are_no_refusals(cluster):
    with pytest.raises(SlurmUnavailable):
        cluster.unreachable("modify_many", {"7": {"site_factor": "1"}})


def test_an_ordinary_user_sets_no_site_factor(cluster):
    (job_id,) = _waiting(cluster)
    refused = cluster.as_user("u1", lambda slurm: slurm.set_site_factors({job_id: 1000}))
    assert list(refused) == [job_id]
    assert "denied" in refused[job_id]


def test_no_site_factors_are_no_call(cluster):
    assert cluster.slurm.set_site_factors({}) == {}


def test_a_running_job_is_requeued(cluster):
    job_id = cluster.submit(partition="cpu")
    cluster.running(job_id)
    cluster.slurm.requeue(str(job_id), hold=True)
    job = cluster.wait(job_id, lambda job: job.state.is_pending)
    assert job.priority == 0
    assert cluster.slurm.job(str(job_id)).restarts == 1


def test_a_waiting_job_cannot_be_requeued(cluster):
    job_id = cluster.submit(("hold", None))
    with pytest.raises(SlurmRefused):
        cluster.slurm.requeue(str(job_id))


def test_a_running_job_is_told_something(cluster):
    job_id = cluster.submit(partition="cpu")
    cluster.running(job_id)
    cluster.slurm.notify(str(job_id), "your GPUs are idle; 'why'?")


def test_a_signal_reaches_the_batch_script(real_cluster):
    script = "#!/bin/sh\ntrap 'exit 7' USR1\nwhile :; do sleep 1 & wait; done\n"
    job_id = real_cluster.submit(script=script, partition="cpu")
    real_cluster.running(job_id)
    real_cluster.sleep(0.7)
    real_cluster.slurm.cancel(str(job_id), signal="USR1")
    assert real_cluster.over(job_id).state is JobState.FAILED
    assert real_cluster.slurm.job(str(job_id)).exit_code == 7


def _accounted(cluster, job_id, number=1):
    """Return the runs of a job once the database has *number* ended ones."""
    for _ in range(60):
        runs = cluster.slurm.accounting(job_ids=[str(job_id)])
        if len(runs) >= number and all(run.end_time for run in runs[:number]):
            return runs
        cluster.sleep(0.25)
    msg = f"the accounting of job {job_id} is not complete: {runs}"
    raise AssertionError(msg)


def test_an_ended_job_is_in_the_accounting(cluster):
    script = "#!/bin/sh\nsleep 1\nexit 3\n"
    job_id = cluster.submit(script=script, gres="gpu:h100:2", account="nlp-finetune")
    cluster.over(job_id)
    (run,) = _accounted(cluster, job_id)
    assert run.job_id == job_id
    assert (run.user, run.account, run.partition, run.qos) == (
        "u1",
        "nlp-finetune",
        "gpu",
        "normal",
    )
    assert (run.state, run.exit_code, run.exit_signal) == (JobState.FAILED, 3, 0)
    assert run.allocated_tres["gres/gpu"] == 2
    assert run.allocated_tres["gres/gpu:h100"] == 2
    assert run.allocated_tres["mem"] == 8000
    assert run.time_limit_seconds == 600
    assert run.submit_time <= run.start_time <= run.end_time
    assert run.elapsed_seconds == run.end_time - run.start_time
    assert run.comment.startswith("gpu-submit(token=")
    assert run.restarts == 0


def test_hostile_names_do_not_shift_the_accounting(cluster):
    name = "a|b\x1f\n1|2|u2|root é"
    script = LONG_ENOUGH
    job_id = cluster.submit(("job-name", name), script=script, partition="cpu")
    cluster.over(job_id)
    (run,) = _accounted(cluster, job_id)
    assert run.name == name
    assert run.user == "u1"


def test_the_accounting_is_narrowed_by_time_user_and_account(cluster):
    script = LONG_ENOUGH
    job_id = cluster.submit(script=script, partition="cpu", account="vision")
    cluster.over(job_id)
    (run,) = _accounted(cluster, job_id)

    def ids(**query):
        return {one.job_id for one in cluster.slurm.accounting(**query)}

    window = {"start": run.start_time - 5, "end": run.start_time + 60}
    assert job_id in ids(**window)
    assert job_id in ids(**window, users=["u1"], accounts=["vision"])
    assert job_id not in ids(**window, users=["u2"])
    assert job_id not in ids(**window, accounts=["nlp"])
    assert job_id not in ids(start=run.end_time + 60)
    assert job_id not in ids(start=run.start_time - 3600, end=run.start_time - 60)


def test_a_requeued_job_has_a_record_for_each_run(cluster):
    job_id = cluster.submit(partition="cpu")
    cluster.running(job_id)
    cluster.sleep(1.1)
    cluster.slurm.requeue(str(job_id), hold=True)
    cluster.wait(job_id, lambda job: job.state.is_pending)
    runs = _accounted(cluster, job_id)
    assert [run.restarts for run in runs] == list(range(len(runs)))
    assert runs[0].job_id == job_id
    assert runs[0].start_time is not None
    assert runs[0].is_over
    waits = cluster.slurm.jobs([str(job_id)])[0]
    assert runs[0].submit_time < waits.submit_time


def test_a_resized_job_has_a_record_for_each_size_and_no_second_twice(real_cluster):
    job_id = real_cluster.submit(nodes="2", gres="gpu:h100:1", account="nlp-finetune")
    began = real_cluster.running(job_id).start_time
    real_cluster.sleep(2.2)
    subprocess.run(["scontrol", "update", f"JobId={job_id}", "NumNodes=1"], check=True)
    real_cluster.sleep(2.2)
    real_cluster.slurm.cancel(str(job_id))
    real_cluster.over(job_id)
    before, after = _accounted(real_cluster, job_id, 2)
    assert (before.state, before.is_over, before.start_time) == (JobState.RESIZING, True, began)
    assert [run.allocated_tres["gres/gpu"] for run in (before, after)] == [2, 1]
    assert before.end_time == after.submit_time == after.start_time
    assert after.elapsed_seconds == after.end_time - after.start_time


def test_a_quiet_accounting_has_no_backlog(cluster):
    for _ in range(60):  # messages of other tests' jobs may be on their way
        if cluster.slurm.accounting_backlog() == 0:
            return
        cluster.sleep(0.25)
    raise AssertionError(cluster.slurm.accounting_backlog())


def test_no_accounting_of_jobs_that_never_were(cluster):
    assert cluster.slurm.accounting(job_ids=[UNKNOWN]) == ()
