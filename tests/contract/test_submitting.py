"""SubmitPort, held to its docstrings on every backend."""

from __future__ import annotations

import os
import pathlib

import pytest

from slurm_gpu_policy.errors import JobNotFound, SlurmRefused, SlurmTimeout, SlurmUnavailable
from slurm_gpu_policy.model.job import JobState


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"account": "vision-seg"}, "Invalid account or account/partition combination"),
        ({"account": "nowhere"}, "Invalid account or account/partition combination"),
        ({"partition": "nowhere"}, "Invalid partition name specified"),
        ({"qos": "nowhere"}, "Invalid qos specification"),
        ({"gres": "gpu:h100:9"}, "Requested node configuration is not available"),
    ],
)
def test_a_refusal_has_slurms_own_words(cluster, options, words):
    with pytest.raises(SlurmRefused, match=words):
        cluster.submit(*options.items())


def test_a_refusal_queues_nothing(cluster):
    submission = cluster.submission(account="vision-seg")
    with pytest.raises(SlurmRefused):
        cluster.slurm.submit(submission)
    assert cluster.as_user("u1", lambda slurm: slurm.find(submission.token)) == ()


def test_many_submissions_are_answered_one_by_one_in_order(cluster):
    batch = [cluster.submission(("hold", None), ("job-name", f"n{i}")) for i in range(12)]
    batch[5] = cluster.submission(account="nowhere")
    answers = cluster.slurm.submit_many(batch)
    good = [answer for answer in answers if isinstance(answer, int)]
    cluster.ids += good
    assert len(good) == 11
    assert isinstance(answers[5], SlurmRefused)
    assert "Invalid account" in str(answers[5])
    names = {job.job_id: job.name for job in cluster.slurm.jobs([str(one) for one in good])}
    assert [names.get(answer) for answer in answers if isinstance(answer, int)] == [
        f"n{i}" for i in range(12) if i != 5
    ]


def test_no_submissions_have_no_answers(cluster):
    assert cluster.slurm.submit_many([]) == ()


def test_a_token_finds_the_callers_job_whatever_its_state(cluster):
    submission = cluster.submission(("hold", None))
    job_id = cluster.slurm.submit(submission)
    cluster.ids.append(job_id)

    def find(slurm):
        return slurm.find(submission.token)

    assert cluster.as_user("u1", find) == (job_id,)
    assert cluster.as_user("u2", find) == ()
    assert find(cluster.slurm) == (job_id,)  # root, who submitted it for u1
    cluster.slurm.cancel(str(job_id))
    cluster.over(job_id)
    assert cluster.as_user("u1", find) == (job_id,)


def test_a_token_finds_an_array_by_its_own_number(cluster):
    submission = cluster.submission(("hold", None), array="0-3")
    job_id = cluster.slurm.submit(submission)
    cluster.ids.append(job_id)
    assert cluster.as_user("u1", lambda slurm: slurm.find(submission.token)) == (job_id,)


def test_two_jobs_with_one_token_are_both_found_oldest_first(cluster):
    submission = cluster.submission(("hold", None))
    ids = [cluster.slurm.submit(submission) for _ in range(2)]
    cluster.ids += ids
    assert cluster.as_user("u1", lambda slurm: slurm.find(submission.token)) == tuple(ids)


def test_a_token_nobody_used_finds_nothing(cluster):
    assert cluster.as_user("u1", lambda slurm: slurm.find("nobody-used-this")) == ()


def test_an_ordinary_user_submits_for_themselves(cluster):
    submission = cluster.submission(("hold", None), user=None)
    job_id = cluster.as_user("u2", lambda slurm: slurm.submit(submission))
    cluster.ids.append(job_id)
    (job,) = cluster.slurm.jobs([str(job_id)])
    assert job.user == "u2"
    assert job.account == "nlp-finetune"


def test_a_job_that_fits_would_start(cluster):
    start = cluster.slurm.would_start(cluster.submission(partition="cpu"))
    assert isinstance(start, int)
    assert start > 1_700_000_000


def test_a_time_of_day_means_the_users_own_time_zone(real_cluster, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Honolulu")
    submission = real_cluster.submission(partition="cpu", begin="16:00")
    assert real_cluster.slurm.would_start(submission) % 86400 == 2 * 3600  # ten hours behind UTC


def test_a_job_slurm_would_refuse_would_not_start(cluster):
    with pytest.raises(SlurmRefused, match="Invalid account"):
        cluster.slurm.would_start(cluster.submission(account="nowhere"))


def test_asking_when_a_job_would_start_queues_nothing(cluster):
    submission = cluster.submission(partition="cpu")
    cluster.slurm.would_start(submission)
    assert cluster.as_user("u1", lambda slurm: slurm.find(submission.token)) == ()


def test_an_allocation_lasts_until_it_is_cancelled(cluster):
    submission = cluster.submission(partition="cpu", user=None)
    job_id = cluster.as_user("u1", lambda slurm: slurm.allocate(submission, 30))
    cluster.ids.append(job_id)
    job = cluster.running(job_id)
    assert job.user == "u1"
    with pytest.raises(JobNotFound):
        cluster.slurm.script(str(job_id))
    cluster.slurm.cancel(str(job_id))
    cluster.over(job_id)


def test_an_allocation_that_is_not_granted_in_time_is_withdrawn(cluster):
    blocker = cluster.submit(("hold", None))
    submission = cluster.submission(partition="cpu", user=None, dependency=f"afterok:{blocker}")
    with pytest.raises(SlurmTimeout):
        cluster.as_user("u1", lambda slurm: slurm.allocate(submission, 2))
    for job_id in cluster.as_user("u1", lambda slurm: slurm.find(submission.token)):
        cluster.wait(job_id, lambda job: job.state.is_over)


def test_an_allocation_slurm_refuses_says_why(cluster):
    submission = cluster.submission(account="nowhere", user=None)
    with pytest.raises(SlurmRefused, match="Invalid account"):
        cluster.as_user("u1", lambda slurm: slurm.allocate(submission, 5))


def test_nothing_is_queued_where_no_controller_answers(cluster):
    submission = cluster.submission(user=None)
    with pytest.raises(SlurmUnavailable) as caught:
        cluster.unreachable("submit", submission)
    assert not isinstance(caught.value, SlurmTimeout)


@pytest.fixture
def shared(tmp_path_factory):
    """A folder where any user's job may write."""
    folder = pathlib.Path(f"/tmp/contract-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return folder


def _written(cluster, job_id, path):
    cluster.over(job_id)
    return path.read_text(errors="surrogateescape").splitlines()


def test_arguments_reach_the_script_as_they_are(real_cluster, shared):
    path = shared / "arguments"
    script = f'#!/bin/sh\nfor a; do echo "<$a>"; done > {path}\n'
    args = ("-c", "a b", "", "$HOME `id` 'x' \"y\"", "é*")
    job_id = real_cluster.submit(script=script, args=args, partition="cpu")
    assert _written(real_cluster, job_id, path) == [f"<{text}>" for text in args]


@pytest.mark.parametrize(
    ("export", "seen"),
    [
        (None, ["outer value", ""]),
        ("ALL", ["outer value", ""]),
        ("NONE", ["", ""]),
        ("CONTRACT_A", ["outer value", ""]),
        ("ALL,CONTRACT_B=given", ["outer value", "given"]),
        ("CONTRACT_B=given", ["", "given"]),
    ],
)
def test_the_job_sees_the_environment_that_export_names(
    real_cluster, shared, monkeypatch, export, seen
):
    monkeypatch.setenv("CONTRACT_A", "outer value")
    path = shared / f"environment-{export}"
    script = f'#!/bin/sh\necho "$CONTRACT_A" > {path}\necho "$CONTRACT_B" >> {path}\n'
    options = () if export is None else (("export", export),)
    job_id = real_cluster.submit(*options, script=script, partition="cpu")
    assert _written(real_cluster, job_id, path) == seen


def test_slurms_own_variables_are_set_as_by_sbatch(real_cluster, shared, monkeypatch):
    monkeypatch.chdir("/tmp")
    path = shared / "slurm-variables"
    script = (
        f"#!/bin/sh\nfor n in SUBMIT_DIR SUBMIT_HOST JOB_NAME GPUS_ON_NODE; do\n"
        f'eval echo "$n=\\$SLURM_$n"; done > {path}\n'
        f"echo CUDA=$CUDA_VISIBLE_DEVICES >> {path}; umask >> {path}; ulimit -n >> {path}\n"
    )
    monkeypatch.setenv("SLURM_UMASK", "0027")
    before = os.umask(0o027)
    try:
        job_id = real_cluster.submit(("job-name", "named"), script=script, gres="gpu:h100:2")
    finally:
        os.umask(before)
    lines = _written(real_cluster, job_id, path)
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    assert values["SUBMIT_DIR"] == "/tmp"
    assert values["SUBMIT_HOST"]
    assert values["JOB_NAME"] == "named"
    assert values["GPUS_ON_NODE"] == "2"
    assert len(values["CUDA"].split(",")) == 2
    assert lines[-2] == "0027"


def test_options_of_the_users_own_script_are_honoured(real_cluster):
    text = "#!/bin/sh\n#SBATCH --nice=77\n#SBATCH --constraint=cpu\nsleep 300\n"
    submission = real_cluster.submission(("hold", None), script=text, partition="cpu")
    with_options = type(submission)(
        script=submission.script,
        options=submission.options,
        token=submission.token,
        script_options=(("nice", "77"), ("constraint", "cpu")),
        submit_as=submission.submit_as,
    )
    job_id = real_cluster.slurm.submit(with_options)
    real_cluster.ids.append(job_id)
    (job,) = real_cluster.slurm.jobs([str(job_id)])
    assert job.nice == 77
    assert job.features == "cpu"


def test_a_long_script_arrives_whole(real_cluster, shared):
    path = shared / "long"
    filler = "# " + "x" * 98 + "\n"
    script = "#!/bin/sh\n" + filler * 5000 + f"echo done > {path}\n"
    job_id = real_cluster.submit(script=script, partition="cpu")
    assert _written(real_cluster, job_id, path) == ["done"]


def test_every_option_of_a_rendered_script_is_taken(real_cluster):
    job_id = real_cluster.submit(
        ("hold", None),
        ("requeue", None),
        ("job-name", "all options"),
        ("account", "nlp-finetune"),
        ("qos", "high"),
        ("partition", "gpu,interactive"),
        ("nodes", "1"),
        ("ntasks", "2"),
        ("cpus-per-task", "3"),
        ("mem", "9000"),
        ("time", "2:00:00"),
        ("gpus-per-node", "h100:2"),
        ("constraint", "h100"),
        ("exclude", "gpu02"),
        ("open-mode", "append"),
        ("signal", "B:USR1@60"),
        ("mail-type", "NONE"),
        ("nice", "5"),
        ("output", "/tmp/contract-%x-%j.out"),
        ("error", "/tmp/contract-%j.err"),
    )
    detail = real_cluster.slurm.job(str(job_id))
    job = detail.job
    assert job.state is JobState.PENDING
    assert (job.name, job.account, job.qos) == ("all options", "nlp-finetune", "high")
    assert set(job.partitions) == {"gpu", "interactive"}
    assert (job.gpus, job.gpu_type, job.cpus, job.memory_mb) == (2, "h100", 6, 9000)
    assert (job.time_limit_seconds, job.nice, job.features) == (7200, 5, "h100")
    assert detail.excluded_nodes == "gpu02"
    assert detail.std_err == f"/tmp/contract-{job_id}.err"
