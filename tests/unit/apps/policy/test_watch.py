"""``gpu-policy watch``: follows jobs and ends with their exit code."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.job import JobState


@pytest.mark.parametrize(("state", "code"), [(JobState.COMPLETED, 0), (JobState.FAILED, 7)])
def test_a_jobs_own_exit_code_is_the_programs(gpu_policy, submit, slurm, state, code):
    job = submit()
    slurm.jobs([job])
    slurm.finish(job, state, exit_code=code)
    result = gpu_policy("watch", job)
    assert result.code == code
    assert job in result.out


@pytest.mark.parametrize("args", [("x",), ("1;2",), (), ("1", "x")])
def test_a_bad_id_is_wrong_use(gpu_policy, slurm, args):
    assert gpu_policy("watch", *args).code == 2
    assert slurm.calls == []
