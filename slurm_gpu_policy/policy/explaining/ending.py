"""How a job ended, in plain words."""

from __future__ import annotations

import signal

from slurm_gpu_policy.model.job import JobState

NO_OUTPUT = 53
"""Slurm's own mark (0:53) for a job whose output file or working directory cannot be used."""
_NOT_EXECUTABLE, _NOT_FOUND, _SIGNAL_BASE = 126, 127, 128

_WORDS = {
    JobState.COMPLETED: "it ended with success",
    JobState.CANCELLED: "it was cancelled",
    JobState.FAILED: "it failed",
    JobState.TIMEOUT: "Slurm stopped it at its time limit",
    JobState.NODE_FAIL: "a node that it ran on failed",
    JobState.PREEMPTED: "it gave way to a job that may preempt it",
    JobState.BOOT_FAIL: "its nodes did not boot",
    JobState.DEADLINE: "it could not end before its --deadline",
    JobState.OUT_OF_MEMORY: "it needed more memory than it had, and was killed",
}


def ending_words(state: JobState, exit_code: int, exit_signal: int) -> str:
    """Return how a job that is over ended, with its exit code or signal; ``""`` for others."""
    if not state.is_over:
        return ""
    return f"{_WORDS[state]}: {_cause(exit_code, exit_signal)}"


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9; ``""`` for a number that has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _cause(code: int, number: int) -> str:
    if number == NO_OUTPUT:
        return "Slurm could not open its output file or enter its working directory"
    if number:
        name = signal_name(number)
        return f"signal {number} ({name})" if name else f"signal {number}"
    if code == _NOT_FOUND:
        return "exit code 127 (a shell's word for a command that is not found)"
    if code == _NOT_EXECUTABLE:
        return "exit code 126 (a shell's word for a command that cannot be executed)"
    name = signal_name(code - _SIGNAL_BASE) if code > _SIGNAL_BASE else ""
    return (
        f"exit code {code} (a command in it was ended by {name})" if name else f"exit code {code}"
    )
