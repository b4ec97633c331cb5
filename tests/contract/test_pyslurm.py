"""What only pyslurm can get wrong: that it is used at all, and its known defects."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm
from slurm_gpu_policy.errors import JobNotFound, SlurmRefused
from slurm_gpu_policy.model.job import JobState

OPTIONS = [
    {"gres": "gpu:h100:2", "cpus-per-task": "3", "mem": "9000"},
    {"gres": "gpu:2", "nodes": "2"},
    {"gpus": "h100:3", "ntasks": "2"},
    {"gpus-per-node": "h100:1", "mem-per-cpu": "1G", "signal": "B:USR1@60"},
    {"partition": "gpu,interactive", "constraint": "h100", "exclude": "gpu02"},
    {"array": "0-5%2", "mail-type": "END,FAIL", "open-mode": "append", "requeue": None},
    {"nice": "0", "qos": "high", "account": "nlp-finetune", "time": "2-00:00:00"},
]


@pytest.fixture
def pyslurm_only(pyslurm_cluster, monkeypatch):
    """The pyslurm backend, with the commands' way to submit and steer blocked."""
    for name in ("submit", "submit_many", "cancel", "modify", "hold", "release", "requeue"):
        monkeypatch.setattr(CommandSlurm, name, _blocked)
    yield pyslurm_cluster
    monkeypatch.undo()


def _blocked(*args, **kwargs):
    msg = "the commands were used"
    raise AssertionError(msg)


def _seen(job):
    """Return what of a job does not differ from one submission to the next."""
    return (
        job.user, job.account, job.partitions, job.qos, job.state, job.gpus, job.gpu_type,
        job.nodes, job.cpus, job.memory_mb, job.time_limit_seconds, job.nice, job.features,
        job.array_task,
    )  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_pyslurm_makes_the_same_job_as_sbatch(pyslurm_only, options):
    job_id = pyslurm_only.submit(("hold", None), *options.items())
    submission = pyslurm_only.submission(("hold", None), *options.items())
    other_id = _submit_by_command(submission)
    pyslurm_only.ids.append(other_id)
    (job,) = pyslurm_only.slurm.jobs([str(job_id)])
    (other,) = pyslurm_only.slurm.jobs([str(other_id)])
    assert _seen(job) == _seen(other)


_original_submit = CommandSlurm.submit


def _submit_by_command(submission):
    return _original_submit(CommandSlurm(SystemClock()), submission)


def test_gpus_of_one_task_may_lie_on_two_nodes_as_with_sbatch(pyslurm_only):
    job_id = pyslurm_only.submit(("hold", None), gpus="h100:9")
    (job,) = pyslurm_only.slurm.jobs([str(job_id)])
    assert job.gpus == 9


def test_steering_goes_through_the_library(pyslurm_only):
    slurm = pyslurm_only.slurm
    blocker = pyslurm_only.submit(("hold", None))
    job_id = pyslurm_only.submit(dependency=f"afterok:{blocker}")
    slurm.hold(str(job_id))
    assert slurm.jobs([str(job_id)])[0].priority == 0
    slurm.release(str(job_id))
    assert slurm.jobs([str(job_id)])[0].priority > 0
    slurm.modify(str(job_id), {"nice": "5", "time_limit": "120", "comment": "é"})
    (job,) = slurm.jobs([str(job_id)])
    assert (job.nice, job.time_limit_seconds, job.comment) == (5, 120, "é")
    slurm.modify(str(job_id), {"nice": "0"})
    assert slurm.jobs([str(job_id)])[0].nice == 0
    slurm.cancel(str(job_id))
    assert pyslurm_only.over(job_id).state is JobState.CANCELLED
    with pytest.raises(JobNotFound):
        slurm.cancel("66000000")


def test_a_refusal_is_silent_on_standard_error(pyslurm_only, capfd):
    with pytest.raises(SlurmRefused, match="Invalid account"):
        pyslurm_only.submit(account="nowhere")
    assert capfd.readouterr().err == ""


def test_a_thousand_calls_use_the_library_also_where_one_would_not(pyslurm_only):
    slurm = type(pyslurm_only.slurm)(SystemClock(), always=False)
    answers = slurm.submit_many([pyslurm_only.submission(("hold", None)) for _ in range(25)])
    assert all(isinstance(answer, int) for answer in answers)
    pyslurm_only.ids += answers
