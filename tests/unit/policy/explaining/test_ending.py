"""How a job ended is said with its exit code or signal."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.ending import ending_words


@pytest.mark.parametrize(
    ("state", "code", "number", "words"),
    [
        (JobState.COMPLETED, 0, 0, "it ended with success: exit code 0"),
        (JobState.FAILED, 3, 0, "it failed: exit code 3"),
        (JobState.FAILED, 127, 0, "127 (a shell's word for a command that is not found)"),
        (JobState.FAILED, 126, 0, "126 (a shell's word for a command that cannot be executed)"),
        (JobState.FAILED, 137, 0, "137 (a command in it was ended by SIGKILL)"),
        (JobState.FAILED, 200, 0, "it failed: exit code 200"),
        (JobState.FAILED, 0, 53, "Slurm could not open its output file"),
        (JobState.CANCELLED, 0, 15, "it was cancelled: signal 15 (SIGTERM)"),
        (JobState.TIMEOUT, 0, 0, "Slurm stopped it at its time limit: exit code 0"),
        (JobState.OUT_OF_MEMORY, 0, 125, "more memory than it had, and was killed: signal 125"),
    ],
)  # fmt: skip
def test_an_end_is_said_in_words(state, code, number, words):
    assert words in ending_words(state, code, number)


@pytest.mark.parametrize("state", [state for state in JobState if state.is_over])
def test_every_end_has_words(state):
    assert ending_words(state, 1, 0)


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_over])
def test_a_job_that_is_not_over_has_no_end(state):
    assert not ending_words(state, 1, 0)
