from __future__ import annotations

import time

import pytest

from slurm_gpu_policy.adapters.slurm import steering, submission
from slurm_gpu_policy.adapters.slurm.run import Answer
from slurm_gpu_policy.adapters.slurm.words import error_in, said
from slurm_gpu_policy.errors import (
    JobNotFound,
    SlurmAbsent,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
    SlurmUnreadable,
)
from slurm_gpu_policy.model.submission import Submission


def answer(stderr, *, program="sbatch", code=1, stdout=""):
    return Answer((program,), code, stdout.encode(), stderr.encode())


CONNECT = "Unable to contact slurm controller (connect failure)"
FAILED = "sbatch: error: Batch job submission failed: "
BUSY = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        (FAILED + CONNECT, SlurmUnavailable),
        ("slurm_load_jobs error: " + CONNECT, SlurmUnavailable),
        ("sacctmgr: error: failed to open persistent connection to host:x", SlurmUnavailable),
        ("sbatch: fatal: Could not establish a configuration source", SlurmAbsent),
        (FAILED + "Socket timed out on send/recv operation", SlurmTimeout),
        (FAILED + "Zero Bytes were transmitted or received", SlurmTimeout),
        (FAILED + "Invalid qos specification", SlurmRefused),
        (BUSY + FAILED + "Resource temporarily unavailable", SlurmUnavailable),
        (BUSY + FAILED + "Invalid qos specification", SlurmRefused),
        (BUSY + FAILED + "Socket timed out on send/recv operation", SlurmTimeout),
        (BUSY, SlurmUnavailable),
        ("sbatch: error: QOSMaxGRESPerUser\n" + FAILED + "Job violates policy", SlurmRefused),
    ],
)
def test_slurms_words_become_the_right_error(stderr, kind):
    assert type(error_in(answer(stderr))) is kind


def test_what_sbatch_overcame_by_itself_is_no_part_of_a_refusal():
    error = error_in(answer(BUSY + FAILED + "Invalid qos specification"))
    assert str(error) == "Batch job submission failed: Invalid qos specification"


def test_a_submission_that_took_sbatch_two_tries_is_queued():
    assert submission.submitted_id(answer(BUSY, code=0, stdout="7\n")) == 7


def test_a_connection_that_is_refused_is_certain_and_a_lost_one_is_not():
    refused = error_in(answer("Connection refused"))
    assert not isinstance(refused, SlurmTimeout)
    assert isinstance(error_in(answer("Connection reset by peer")), SlurmTimeout)


def test_a_sites_own_message_stands_before_slurms():
    text = f"sbatch: error: POLICY: 9 GPUs, the limit is 8\n{FAILED}Unspecified error\n"
    assert said(answer(text)) == (
        "POLICY: 9 GPUs, the limit is 8\nBatch job submission failed: Unspecified error"
    )


def test_repeated_lines_are_said_once():
    assert said(answer("sbatch: error: x\nsbatch: error: x\n")) == "x"


def test_an_unknown_job_is_named():
    error = error_in(answer("Invalid job id specified", program="scontrol"), "12")
    assert isinstance(error, JobNotFound)
    assert error.job_id == "12"


def test_a_silent_failure_still_says_something():
    assert "code 7" in str(error_in(answer("", code=7)))


@pytest.mark.parametrize(
    ("stdout", "number"),
    [("123\n", 123), ("123;cluster\n", 123), ("a plugin says hello\n123\n", 123)],
)
def test_the_id_is_found_whatever_stands_around_it(stdout, number):
    warned = answer("sbatch: warning: can't honor --x\n", code=0, stdout=stdout)
    assert submission.submitted_id(warned) == number


def test_an_answer_without_an_id_is_unreadable():
    with pytest.raises(SlurmUnreadable, match="no job id"):
        submission.submitted_id(answer("", code=0, stdout="hello\n"))


def make(*options, **more):
    return Submission(script="#!/bin/sh\n", options=options, token="t", **more)


def test_options_are_one_argument_each():
    argv = submission.sbatch_argv(make(("job-name", "a b --x"), ("hold", None), ("comment", "")))
    assert argv == ["sbatch", "--parsable", "--job-name=a b --x", "--hold", "--comment="]


def test_arguments_of_the_script_stand_behind_it():
    argv = submission.sbatch_argv(make(script_args=("-c", "x")))
    assert argv == ["sbatch", "--parsable", "/dev/stdin", "-c", "x"]


def test_salloc_is_spared_what_only_sbatch_knows():
    argv = submission.salloc_argv(make(("output", "x"), ("requeue", None), ("gres", "gpu:1")))
    assert argv == ["salloc", "--no-shell", "--gres=gpu:1"]


def test_a_planned_start_is_read_from_standard_error():
    text = "sbatch: Job 16 to start at 1795221572 using 2 processors on nodes gpu[01-02] in x\n"
    assert submission.planned_start(answer(text, code=0)) == 1795221572


def test_nodes_that_cannot_be_had_now_are_no_refusal():
    text = "allocation failure: Requested node configuration is not available\n"
    assert submission.planned_start(answer(text)) is None
    with pytest.raises(SlurmRefused):
        submission.planned_start(answer("allocation failure: Invalid qos specification\n"))


@pytest.mark.parametrize(
    "text",
    ["salloc: Granted job allocation 12", "salloc: Pending job allocation 12",
     "salloc: Pending job allocation 12\nsalloc: job 12 queued and waiting for resources"],
)  # fmt: skip
def test_the_id_of_an_allocation(text):
    assert submission.allocated_id(text) == 12


def test_no_allocation_no_id():
    assert submission.allocated_id("salloc: error: no") is None


def test_changes_are_scontrols_words():
    changes = {"time_limit": "90061", "name": "a b", "excluded_nodes": "gpu[01-02]"}
    assert steering.scontrol_words(changes) == [
        "TimeLimit=1-01:01:01", "JobName=a b", "ExcNodeList=gpu[01-02]",
    ]  # fmt: skip


def test_a_deadline_in_unix_seconds_is_written_as_local_time(monkeypatch):
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    assert steering.scontrol_words({"deadline": "1800000000"}) == ["Deadline=2027-01-15T08:00:00"]
    assert steering.scontrol_words({"deadline": "now+1hour"}) == ["Deadline=now+1hour"]
