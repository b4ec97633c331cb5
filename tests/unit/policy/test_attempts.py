"""The history of attempts, in words."""

from __future__ import annotations

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import AccountingRecord, JobState
from slurm_gpu_policy.policy.attempts import attempts
from tests.builders import NOW, make_job, make_policy

POLICY = make_policy()
ASKS = "gpu-submit(retries=2)"


def run(start, state=JobState.FAILED, **fields):
    given = {
        "job_id": JobId(1), "display_id": "1", "user": "u1", "account": "nlp", "partition": "gpu",
        "qos": "normal", "name": "job", "submit_time": NOW, "eligible_time": NOW,
        "end_time": None if start is None else start + 60, "elapsed_seconds": 60,
        "suspended_seconds": 0, "time_limit_seconds": 3600, "exit_code": 3, "exit_signal": 0,
        "node_list": "gpu01",
    }  # fmt: skip
    return AccountingRecord(start_time=start, state=state, **{**given, **fields})


def test_each_run_is_an_attempt_in_order_of_its_start():
    found = attempts([run(NOW + 900), run(NOW)], make_job(comment=ASKS, restarts=1), POLICY)
    assert [(one.number, one.start_time) for one in found.runs] == [(1, NOW), (2, NOW + 900)]
    assert found.runs[0].words == "it failed: exit code 3"
    assert (found.made, found.allowed) == (1, 2)


def test_what_never_started_is_no_attempt():
    waiting = run(None, JobState.PENDING, exit_code=0)
    assert len(attempts([run(NOW), waiting], None, POLICY).runs) == 1


def test_what_went_before_a_resize_is_no_attempt_of_its_own():
    found = attempts([run(NOW, JobState.RESIZING), run(NOW + 9)], None, POLICY)
    assert [one.start_time for one in found.runs] == [NOW + 9]


def test_a_run_that_goes_on_has_no_end_and_no_last_words():
    (one,) = attempts([run(NOW, JobState.RUNNING, exit_code=0)], make_job(), POLICY).runs
    assert (one.end_time, one.words) == (None, "")


def test_older_slurm_says_only_that_a_run_was_requeued():
    """22.05 overwrites the state of a run when its job is put back into the queue."""
    (one,) = attempts([run(NOW, JobState.REQUEUED)], None, POLICY).runs
    assert one.words == "it was put back into the queue after exit code 3"


def test_the_next_attempts_time_comes_from_the_mark():
    job = make_job(
        state=JobState.PENDING, comment=ASKS, restarts=1,
        admin_comment=f"gpu-policy(attempt=1;run=1;until={NOW + 60})",
    )  # fmt: skip
    found = attempts([run(NOW)], job, POLICY)
    assert found.next_time == NOW + 60
    assert found.words == "1 of 2 retries used"


def test_the_words_say_whether_an_ended_job_is_tried_again():
    def words(**fields):
        return attempts([], make_job(comment=ASKS, **fields), POLICY).words

    assert words(state=JobState.FAILED, restarts=1) == "1 of 2 retries used; it is tried again"
    assert words(state=JobState.FAILED, restarts=2).endswith("it is not tried again")
    assert words(state=JobState.TIMEOUT).endswith("it is not tried again after this end")


def test_a_job_without_retries_has_nothing_to_tell():
    assert attempts([run(NOW)], make_job(), POLICY).words == ""
    assert attempts([run(NOW), run(NOW + 99)], None, POLICY).words == "it ran 2 times"
