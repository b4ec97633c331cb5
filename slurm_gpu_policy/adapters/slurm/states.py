"""Slurm's names of job states, in every release, as :class:`JobState`."""

from __future__ import annotations

from slurm_gpu_policy.model.job import JobState

# Slurm prints a flag in place of the base state where one is set (slurm.h, JOB_STATE_FLAGS;
# common/slurm_protocol_defs.c, job_state_string). Each stands for what the job does meanwhile.
_FLAGS = {
    "EXPEDITING": JobState.PENDING,
    "LAUNCH_FAILED": JobState.FAILED,
    "POWER_UP_NODE": JobState.CONFIGURING,
    "RECONFIG_FAIL": JobState.FAILED,
    "REQUEUE_FED": JobState.REQUEUED,
    "REQUEUE_HOLD": JobState.REQUEUED,
    "RESIZING": JobState.RUNNING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "REVOKED": JobState.CANCELLED,
    "SIGNALING": JobState.RUNNING,
    "SPECIAL_EXIT": JobState.REQUEUED,
    "STAGE_OUT": JobState.COMPLETING,
    "STOPPED": JobState.SUSPENDED,
    "UPDATE_DB": JobState.PENDING,
}
_STATES = {state.value: state for state in JobState} | _FLAGS


def run_state(text: str) -> JobState:
    """Return the state of a record of sacct, where ``RESIZING`` is an end."""
    return JobState.RESIZING if text == "RESIZING" else job_state(text)


def job_state(text: str) -> JobState:
    """Return the state *text* names; ``UNKNOWN`` for any this version has not heard of.

    sacct's ``CANCELLED by 6001`` is ``CANCELLED``.
    """
    state = _STATES.get(text)
    if state is None:
        state = _STATES.get(text.partition(" ")[0], JobState.UNKNOWN)
    return state
