"""gpu-submit as a whole on the in-memory cluster: sources of settings, jobs files, output."""

from __future__ import annotations

import json

import pytest

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.submit import main
from slurm_gpu_policy.errors import SlurmUnavailable
from slurm_gpu_policy.terminal.border import run_app
from tests.fakes.slurm import FakeSlurm


@pytest.fixture
def slurm():
    return FakeSlurm()


@pytest.fixture
def settings(tmp_path):
    return tmp_path / "submit.yaml"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, slurm, settings):
    monkeypatch.setattr(bootstrap, "connect", lambda _policy: slurm)
    monkeypatch.setattr(main, "current_user", lambda: "u1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GPU_POLICY_USER_FILE", str(settings))
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "policy.yaml"))
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    for name in ("SLURM_CLUSTERS", "SBATCH_CLUSTERS"):
        monkeypatch.delenv(name, raising=False)

    def call(*argv):
        code = run_app(main.cli, "gpu-submit", argv)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def options(slurm, place=-1):
    return dict(slurm.submissions[place].options)


@pytest.fixture
def script(tmp_path):
    def write(*lines):
        path = tmp_path / "job.sh"
        path.write_text("\n".join(("#!/bin/bash", *lines, "true", "")))
        return str(path)

    return write


def test_the_command_line_beats_the_environment_and_that_the_settings(
    run, slurm, settings, monkeypatch
):
    settings.write_text("job-name: settings\ntime: 3\ngpus: 2\n")
    monkeypatch.setenv("GPU_POLICY_JOB_NAME", "environment")
    monkeypatch.setenv("GPU_POLICY_TIME", "4")
    assert run("-J", "line", "--", "true")[0] == 0
    found = options(slurm)
    assert (found["job-name"], found["time"]) == ("line", "00:04:00")
    assert found["gres"] == "gpu:h100:2"


def test_a_setting_never_replaces_a_line_of_the_script_in_whatever_form(
    run, slurm, settings, script
):
    settings.write_text("gpus: 2\ngpu-type: a100\ntime: 1\n")
    code, _, said = run(script("#SBATCH --gres=gpu:h100:4", "#SBATCH -t 9"))
    assert (code, said) == (0, "")
    (job,) = slurm.jobs(["1"])
    assert (job.gpus, job.gpu_type, job.time_limit_seconds) == (4, "h100", 540)


def test_in_a_jobs_file_the_command_line_still_beats_the_environment(
    run, slurm, tmp_path, monkeypatch
):
    monkeypatch.setenv("GPU_POLICY_JOB_NAME", "environment")
    jobs = tmp_path / "jobs"
    jobs.write_text("true\n-J own -- true\n")
    assert run("-J", "line", "--jobs", str(jobs))[0] == 0
    assert [options(slurm, place)["job-name"] for place in (0, 1)] == ["line", "own"]


def test_a_line_of_a_jobs_file_may_have_a_double_dash_of_its_own(run, slurm, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.write_text("git log -- README\n--gpus 2 -- git log -- README\n")
    assert run("--jobs", str(jobs))[0] == 0
    assert all("git log -- README" in each.script for each in slurm.submissions)


def test_a_line_that_begins_with_an_option_needs_its_double_dash(run, slurm, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.write_text("true\n--gpus 2 true\n")
    code, _, said = run("--jobs", str(jobs))
    assert code == 2
    assert "line 2" in said
    assert slurm.submissions == []


def test_every_refused_line_of_a_jobs_file_is_named_and_none_submitted(run, slurm, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.write_text("--gpus 99 -- true\ntrue\n-A nope -- true\n")
    code, _, said = run("--jobs", str(jobs))
    assert code == 3
    assert "line 1" in said
    assert "A-105" in said
    assert "line 3" in said
    assert "A-101" in said
    assert "line 2" not in said
    assert slurm.submissions == []


@pytest.mark.parametrize("name", ["SLURM_CLUSTERS", "SBATCH_CLUSTERS"])
def test_another_cluster_in_the_environment_is_refused(run, slurm, monkeypatch, name):
    monkeypatch.setenv(name, "elsewhere")
    code, _, said = run("--", "true")
    assert code == 2
    assert "elsewhere" in said
    assert slurm.submissions == []


def test_an_estimate_that_fails_is_no_error(run, slurm):
    def away(_submission):
        msg = "away"
        raise SlurmUnavailable(msg)

    slurm.would_start = away
    code, out, _ = run("--json", "--", "true")
    assert code == 0
    assert json.loads(out)["estimated_start"] is None


def test_a_job_whose_id_cannot_be_printed_is_named_on_standard_error(run, slurm, monkeypatch):
    def full(*args, **kwargs):
        if not kwargs.get("err"):
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    real = main.click.echo
    monkeypatch.setattr(main.click, "echo", full)
    code, _, said = run("--", "true")
    assert code == 1
    assert "job 1 is submitted, but standard output fails: No space left on device" in said


@pytest.mark.parametrize("option", ["--dry-run", "--json", "--wait", "--policy=x", "--help"])
def test_an_option_of_the_run_on_a_line_of_a_jobs_file_is_refused(run, slurm, tmp_path, option):
    jobs = tmp_path / "jobs"
    jobs.write_text(f"true\n{option} -- true\n")
    code, _, said = run("--jobs", str(jobs))
    assert code == 2
    assert "line 2" in said
    assert slurm.submissions == []


def test_a_jobs_file_may_begin_with_a_byte_order_mark_and_has_no_endless_lines(
    run, slurm, tmp_path
):
    jobs = tmp_path / "jobs"
    jobs.write_bytes(b"\xef\xbb\xbftrue\r\n")
    assert run("--jobs", str(jobs))[0] == 0
    assert slurm.submissions[0].script.rstrip().endswith("exec -- true")
    jobs.write_text("echo " + "x" * 200_000)
    assert run("--jobs", str(jobs))[0] == 2


def test_sbatchs_own_variables_are_decided_on_and_passed_on(run, slurm, monkeypatch):
    monkeypatch.setenv("SBATCH_ARRAY_INX", "0-2")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "7")
    monkeypatch.setenv("SBATCH_GPUS", "2")
    code, out, _ = run("--json", "--gpus", "1", "--", "true")
    assert code == 0
    assert json.loads(out)["array_tasks"] == 3
    found = options(slurm)
    assert (found["array"], found["time"], found["gres"]) == ("0-2", "00:07:00", "gpu:h100:1")


def test_what_is_typed_counts_more_than_a_setting_in_another_form(
    run, slurm, settings, monkeypatch
):
    settings.write_text("mem-per-gpu: 1G\ngpus: 4\n")
    monkeypatch.setenv("SBATCH_GRES", "gpu:h100:3")
    assert run("--mem", "2G", "--gpus-per-node", "h100:2", "--", "true")[0] == 0
    found = options(slurm)
    assert (found["mem"], found["gres"]) == ("2048M", "gpu:h100:2")
    assert "mem-per-gpu" not in found


def test_a_dry_run_can_be_set_in_the_environment(run, slurm, monkeypatch):
    monkeypatch.setenv("GPU_POLICY_DRY_RUN", "1")
    code, out, _ = run("--", "true")
    assert (code, out[:2]) == (0, "#!")
    assert slurm.submissions == []


def test_an_interrupted_submission_names_the_job_that_was_queued(run, slurm):
    real = slurm.submit

    def interrupted(submission):
        real(submission)
        raise KeyboardInterrupt

    slurm.submit = interrupted
    code, _, said = run("--", "true")
    assert code == 130
    assert "job 1 is queued" in said


@pytest.mark.parametrize(
    ("level", "prefix"), [("observe", ": L-201"), ("advise", ": warning: L-201")]
)
def test_a_limit_that_is_not_enforced_is_said(run, slurm, tmp_path, level, prefix):
    policy = f"enforcement: {level}\nlimits: {{everyone: {{gpus_per_job: 1}}}}\n"
    (tmp_path / "policy.yaml").write_text(policy)
    code, _, said = run("--gpus", "2", "--", "true")
    assert code == 0
    assert prefix in said
    assert len(slurm.submissions) == 1


def test_json_output_is_one_object_a_job_and_nothing_else(run, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.write_text("true\n--gpus 2 -- true\n")
    code, out, _ = run("--json", "--jobs", str(jobs))
    assert code == 0
    assert [json.loads(line)["gpus"] for line in out.splitlines()] == [1, 2]


@pytest.fixture
def approvals(tmp_path, run):
    (tmp_path / "policy.yaml").write_text(
        "enforcement: enforce\napprovals: {thresholds: [{gpus: 2}], approvers: {users: [ann]}}\n"
    )


@pytest.mark.usefixtures("approvals")
def test_a_job_above_a_threshold_is_submitted_held_and_its_user_is_told(run, slurm):
    code, out, err = run("--gpus", "4", "--", "true")
    assert code == 0
    assert "held until it is approved" in out
    assert "held for approval: V-901" in err
    assert "ann" in err
    assert "hold" in options(slurm)


@pytest.mark.usefixtures("approvals")
def test_json_and_explain_show_that_a_job_is_held(run):
    _, out, _ = run("--json", "--gpus", "4", "--", "true")
    answer = json.loads(out)
    assert (answer["decision"], answer["estimated_start"]) == ("hold", None)
    assert answer["reasons"][0]["rule"] == "V-901"
    _, out, _ = run("--explain", "--gpus", "4", "--", "true")
    assert "decision: held for approval" in out
    assert "not before it is approved" in out


@pytest.mark.usefixtures("approvals")
def test_more_retries_than_the_site_allows_are_refused(run, slurm):
    code, _, err = run("--retries", "9", "--gpus", "1", "--", "true")
    assert code == 3
    assert "T-802" in err
    assert not slurm.submissions
