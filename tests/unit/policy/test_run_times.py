"""A job's run time comes from its own kind's history, and the prediction says so."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import AccountingRecord, JobState
from slurm_gpu_policy.policy import run_times
from slurm_gpu_policy.policy.run_times import NONE_YET, RunTime, extended, plain_name, run_time
from tests.builders import NOW, make_job, make_policy


def history(**fields):
    return make_policy(ordering={"history": fields}).ordering.history


def ended(number=1, seconds=600, *, name="train-1", user="u1", gpus=1, **fields):
    defaults = {
        "job_id": JobId(number), "display_id": str(number), "user": user, "account": "nlp",
        "partition": "gpu", "qos": "normal", "name": name, "state": JobState.COMPLETED,
        "submit_time": NOW, "eligible_time": NOW, "start_time": NOW, "end_time": NOW + number,
        "elapsed_seconds": seconds, "suspended_seconds": 0, "time_limit_seconds": 3600,
        "exit_code": 0, "exit_signal": 0, "node_list": "gpu01",
        "allocated_tres": MappingProxyType({"gres/gpu": gpus} if gpus else {"cpu": 1}),
    }  # fmt: skip
    return AccountingRecord(**{**defaults, **fields})


def known(*records, **fields):
    return extended(NONE_YET, records, history(**fields))


JOB = make_job(99, name="train-17", time_limit_seconds=3600)


def test_without_history_the_time_limit_counts():
    assert run_time(JOB, NONE_YET, history()) == RunTime(3600, "time limit")
    assert run_time(make_job(time_limit_seconds=None), NONE_YET, history()).seconds is None


def test_jobs_of_the_same_user_name_and_size_come_first():
    runs = known(*(ended(i, 600) for i in range(1, 4)), *(ended(i, 60, name="x") for i in (5, 6)))
    found = run_time(JOB, runs, history())
    assert found == RunTime(600, "job name", 3)
    assert found.words == "predicted from the last 3 jobs of this name and size"


def test_else_all_jobs_of_the_user_and_nobody_elses():
    runs = known(*(ended(i, 90, name="other") for i in range(1, 4)))
    found = run_time(JOB, runs, history())
    assert found == RunTime(90, "user", 3)
    assert found.words == "predicted from the last 3 jobs of this user"
    assert run_time(make_job(user="u2"), runs, history()).source == "time limit"


def test_a_job_of_another_size_is_another_kind():
    runs = known(*(ended(i, 600, gpus=8) for i in range(1, 4)), *(ended(i, 60) for i in (5, 6, 7)))
    assert run_time(JOB, runs, history()) == RunTime(60, "job name", 3)


def test_too_few_runs_predict_nothing():
    runs = known(ended(1), ended(2))
    assert run_time(JOB, runs, history()).source == "time limit"
    assert run_time(JOB, runs, history(at_least=2)).source == "job name"


def test_a_prediction_is_never_longer_than_the_time_limit():
    runs = known(*(ended(i, 86400) for i in range(1, 4)))
    assert run_time(JOB, runs, history()).seconds == 3600
    unlimited = make_job(name="train-5", time_limit_seconds=None)
    assert run_time(unlimited, runs, history()).seconds == 86400


@pytest.mark.parametrize(("quantile", "seconds"), [(0, 100), (0.5, 200), (0.75, 300), (1, 400)])
def test_the_quantile_is_a_run_that_was(quantile, seconds):
    runs = known(*(ended(i, i * 100) for i in range(1, 5)))
    assert run_time(JOB, runs, history(quantile=quantile)).seconds == seconds


def test_only_completed_runs_count():
    others = [ended(i, 5, state=state) for i, state in enumerate(JobState, 10)
              if state is not JobState.COMPLETED]  # fmt: skip
    assert known(*others, ended(1, 0), ended(2, end_time=None)) is NONE_YET


def test_the_same_record_twice_is_one_run():
    runs = known(ended(1), ended(2), ended(1))
    again = extended(runs, [ended(2), ended(1)], history())
    assert again == runs
    assert run_time(JOB, again, history()).source == "time limit"


def test_only_the_latest_runs_are_kept():
    runs = known(*(ended(i, i) for i in range(1, 100)), runs=5)
    assert [run[2] for run in runs.runs["u1", "train", 1]] == [95, 96, 97, 98, 99]
    assert extended(runs, [ended(3, 3)], history(runs=5)) == runs


def test_what_has_not_run_for_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(run_times, "MOST_KEYS", 3)
    runs = known(*(ended(i, name=f"{'abcdef'[i]}") for i in range(1, 6)))
    assert set(runs.runs) == {("u1", "", -1), ("u1", "f", 1), ("u1", "e", 1)}


@pytest.mark.parametrize(
    ("name", "plain"),
    [("train-17", "train"), ("run_2024-01-02", "run"), ("bert", "bert"), ("42", ""), ("", "")],
)
def test_the_number_at_a_names_end_is_not_part_of_it(name, plain):
    assert plain_name(name) == plain


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=30), st.floats(0, 1))
def test_a_prediction_lies_between_the_shortest_and_the_longest_run(seconds, quantile):
    runs = known(*(ended(i, value) for i, value in enumerate(seconds, 1)), runs=30)
    found = run_time(make_job(name="train", time_limit_seconds=None), runs,
                     history(quantile=quantile, runs=30))  # fmt: skip
    assert min(seconds) <= found.seconds <= max(seconds)
    assert sum(value <= found.seconds for value in seconds) >= quantile * len(seconds) - 1e-6
