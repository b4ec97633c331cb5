"""CommandSlurm with programs that answer as Slurm's do at their worst."""

from __future__ import annotations

import os

import pytest

from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm, _chunks
from slurm_gpu_policy.adapters.slurm.kept_answers import KeptAnswers
from slurm_gpu_policy.adapters.slurm.select import select_slurm
from slurm_gpu_policy.errors import SlurmTimeout, SlurmUnavailable, SlurmUnreadable
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.submission import Submission
from tests.fakes.clock import FakeClock


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script in the place of one of Slurm's programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


def slurm(**more):
    return CommandSlurm(FakeClock(), **more)


def job(*options):
    return Submission(script="#!/bin/sh\n", options=options, token="t")  # noqa: S106


def test_an_sbatch_that_hangs_leaves_a_doubt(program):
    program("sbatch", "exec sleep 60")
    with pytest.raises(SlurmTimeout, match="not known"):
        slurm(submit_seconds=0.2).submit(job())


def test_one_of_many_that_hangs_is_answered_with_a_doubt(program):
    program("sbatch", 'case "$*" in *slow*) exec sleep 60;; esac; echo 7')
    answers = slurm(submit_seconds=0.5).submit_many([job(), job(("job-name", "slow")), job()])
    assert answers[0] == answers[2] == 7
    assert isinstance(answers[1], SlurmTimeout)


def test_without_sbatch_no_job_of_many_is_queued(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    answers = slurm().submit_many([job(), job()])
    assert [type(answer) for answer in answers] == [SlurmUnavailable] * 2


def test_the_job_has_the_callers_environment_untouched(program, monkeypatch, tmp_path):
    monkeypatch.setenv("SQUEUE_FORMAT", "mine")
    monkeypatch.delenv("LC_ALL", raising=False)
    program(
        "sbatch", f'echo "$SQUEUE_FORMAT|$TZ|$LC_ALL|$SLURM_TIME_FORMAT" > {tmp_path}/e; echo 7'
    )
    slurm().submit(job())
    assert (tmp_path / "e").read_text() == f"mine|{os.environ.get('TZ', '')}||\n"


def test_an_answer_of_another_form_is_unreadable(program):
    program("squeue", "echo hello")
    with pytest.raises(SlurmUnreadable):
        slurm().read(Part.JOBS)


def test_sprio_without_pending_jobs_is_an_empty_list(program):
    program("sprio", 'echo "Unable to find jobs matching user/id(s) specified" >&2; exit 1')
    assert slurm().read(Part.PRIORITIES).priorities == ()


def test_answers_of_the_database_are_kept_for_a_while(program, tmp_path):
    program("sacctmgr", f"echo x >> {tmp_path}/calls; echo 'normal|10|1.0|||||||||||'")
    clock = FakeClock(int(tmp_path.stat().st_mtime))
    one = CommandSlurm(clock, kept=KeptAnswers(f"{tmp_path}/kept", clock, seconds=300))
    for _ in range(3):
        assert [qos.name for qos in one.read(Part.QOS).qos] == ["normal"]
    assert calls(tmp_path) == 1
    one.read(Part.QOS, fresh=True)
    assert calls(tmp_path) == 2
    clock.advance(1000)
    one.read(Part.QOS)
    assert calls(tmp_path) == 3
    program("sacctmgr", "echo 'sacctmgr: error: Connection refused' >&2; exit 1")
    clock.advance(1000)
    assert [qos.name for qos in one.read(Part.QOS).qos] == ["normal"]
    with pytest.raises(SlurmUnavailable):
        slurm().read(Part.QOS)


def calls(folder):
    return len((folder / "calls").read_text().splitlines())


def test_of_several_clusters_in_one_database_this_one_counts(program):
    rows = "\\n".join(f"{name}|{name}-account|u1||1|1|normal|normal||||||" for name in ("a", "b"))
    program("sacctmgr", f'case "$*" in *assoc*) printf "{rows}\\n";; *) echo "u1|b-account";; esac')
    program("scontrol", 'printf "ClusterName = b\\nSLURM_VERSION = 22.05.8\\n"')
    (found,) = slurm().read(Part.ASSOCIATIONS).associations
    assert (found.account, found.is_default) == ("b-account", True)


def test_kept_answers_are_the_owners_alone(tmp_path):
    kept = KeptAnswers(f"{tmp_path}/a/kept", FakeClock())
    kept.put("qos", ("sacctmgr", "x"), "text")
    (file,) = (tmp_path / "a" / "kept").iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_another_question_has_another_answer(tmp_path):
    clock = FakeClock(int(tmp_path.stat().st_mtime))
    kept = KeptAnswers(str(tmp_path), clock)
    kept.put("qos", ("a",), "text")
    assert kept.get("qos", ("a",)) == "text"
    assert kept.get("qos", ("b",)) is None


def test_a_folder_that_cannot_be_written_is_no_error():
    KeptAnswers("/proc/nowhere", FakeClock()).put("qos", ("a",), "text")


def test_long_lists_of_ids_are_cut_into_arguments_linux_takes():
    ids = [str(10**8 + number) for number in range(50_000)]
    chunks = list(_chunks(ids))
    assert ",".join(chunks).split(",") == ids
    assert max(map(len, chunks)) <= 100_000


def test_commands_are_taken_when_chosen_or_when_pyslurm_is_not_there():
    for choice in ("auto", "commands"):
        adapter, why = select_slurm(choice, clock=FakeClock())
        assert type(adapter) is CommandSlurm
        assert "commands" in why


def test_choosing_pyslurm_where_it_is_not_is_an_error_with_a_way_out():
    with pytest.raises(SlurmUnavailable, match="not installed"):
        select_slurm("pyslurm", clock=FakeClock())
