"""CommandSlurm with programs that answer as Slurm's do at their worst."""

from __future__ import annotations

import errno
import os

import pytest

from slurm_gpu_policy.adapters.rendering import sbatch_grammar
from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm, _chunks
from slurm_gpu_policy.adapters.slurm.kept_answers import KeptAnswers
from slurm_gpu_policy.adapters.slurm.select import select_slurm
from slurm_gpu_policy.adapters.slurm.submission import BATCH_ONLY
from slurm_gpu_policy.errors import (
    SlurmAbsent,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
    SlurmUnreadable,
)
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


def job(*options, **more):
    return Submission(script="#!/bin/sh\n", options=options, token="t", **more)


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
    assert [type(answer) for answer in answers] == [SlurmAbsent] * 2


def test_only_submissions_whose_sbatch_never_started_are_certainly_not_queued(program, monkeypatch):
    program("sbatch", 'case "$*" in *slow*) exec sleep 60;; esac; sleep 0.2; echo 7')
    spawn, starts = os.posix_spawnp, []

    def vanishing(*args, **more):
        starts.append(args)
        if len(starts) == 3:  # as where a new release is being installed
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return spawn(*args, **more)

    monkeypatch.setattr(os, "posix_spawnp", vanishing)
    batch = [job(), job(("job-name", "slow")), job(), job()]
    answers = slurm(submit_seconds=1).submit_many(batch)
    assert (answers[0], answers[3]) == (7, 7)
    assert not isinstance(answers[1], SlurmAbsent)
    assert isinstance(answers[1], SlurmTimeout)
    assert type(answers[2]) is SlurmAbsent


def test_a_limit_of_processes_slows_many_submissions_and_loses_none(program, monkeypatch, tmp_path):
    program("sbatch", f"cat > /dev/null; echo x >> {tmp_path}/calls; sleep 0.1; echo 7")
    spawn, starts = os.posix_spawnp, []

    def limited(*args, **more):
        starts.append(args)
        if len(starts) == 4:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return spawn(*args, **more)

    monkeypatch.setattr(os, "posix_spawnp", limited)
    assert slurm().submit_many([job()] * 9) == (7,) * 9
    assert calls(tmp_path) == 9


def test_a_submission_for_nobody_is_refused_and_the_others_go_on(program):
    program("sbatch", "sleep 0.2; echo 7")
    batch = [job(), job(submit_as="no such user"), job(("comment", "a\0b")), job()]
    answers = slurm().submit_many(batch)
    assert (answers[0], answers[3]) == (7, 7)
    assert [type(answer) for answer in answers[1:3]] == [SlurmRefused] * 2


def test_salloc_is_spared_what_only_batch_jobs_have():
    # srun has --export, so the grammar does not count it among them.
    assert sbatch_grammar.BATCH_ONLY | {"export"} == BATCH_ONLY


@pytest.mark.parametrize(("person", "given"), [(0, ""), (1000, "--me")])
def test_root_looks_for_a_token_among_everybodys_jobs(
    program, monkeypatch, tmp_path, person, given
):
    program("squeue", f'echo "$3|$4|$5|$6" > {tmp_path}/asked')
    program("sacct", "true")
    monkeypatch.setattr(os, "geteuid", lambda: person)
    assert slurm().find("t") == ()
    assert ("--me" in (tmp_path / "asked").read_text()) == bool(given)


def test_a_planned_start_is_judged_in_the_users_time_zone(program, monkeypatch, tmp_path):
    monkeypatch.setenv("TZ", "America/New_York")
    program(
        "sbatch",
        f'echo "$TZ|$SLURM_TIME_FORMAT" > {tmp_path}/e; '
        'echo "sbatch: Job 7 to start at 1795294800 a using 1 processors" >&2',
    )
    assert slurm().would_start(job(("begin", "16:00"))) == 1795294800
    assert (tmp_path / "e").read_text() == "America/New_York|%s\n"


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


def test_the_only_cluster_in_the_answer_may_be_another_one(program):
    row = "a|a-account|u1||1|1|normal|normal||||||"
    program("sacctmgr", f'case "$*" in *assoc*) echo "{row}";; *) echo "u1|a-account";; esac')
    program("scontrol", 'printf "ClusterName = b\nSLURM_VERSION = 22.05.8\n"')
    snapshot = slurm().read(Part.ASSOCIATIONS)
    assert snapshot.associations == ()
    assert snapshot.config is None


def test_the_limits_of_a_users_accounts_come_with_the_users_own(program):
    own = "c|low|u1||1|1|normal|normal||||||"
    tree = (
        "c|root||||1|normal|normal||||||",
        "c|top|||root|1|normal|normal||gres/gpu=9||||",
        "c|low|||top|1|normal|normal||gres/gpu=4||||",
        "c|other|||root|1|normal|normal||||||",
        "d|low|||elsewhere|1|normal|normal||gres/gpu=1||||",
    )
    rows = "\\n".join(tree)
    program(
        "sacctmgr",
        f'case "$*" in *user=u1*) echo "{own}";; *user=*) printf "{rows}\\n";;'
        ' *) echo "u1|low";; esac',
    )
    program("scontrol", 'printf "ClusterName = c\nSLURM_VERSION = 22.05.8\n"')
    found = slurm().read(Part.ASSOCIATIONS, user="u1").associations
    assert [(one.account, one.user, dict(one.grp_tres)) for one in found] == [
        ("low", "u1", {}),
        ("low", "", {"gres/gpu": 4}),
        ("top", "", {"gres/gpu": 9}),
        ("root", "", {}),
    ]


def test_a_few_jobs_are_asked_for_by_their_ids_and_many_with_all_others(program, tmp_path):
    program("squeue", f'echo "$0 $*" >> {tmp_path}/asked')
    program(
        "scontrol",
        f'echo "$*" >> {tmp_path}/asked; echo "scontrol: Invalid job id specified" >&2; exit 1',
    )
    assert slurm().allocations(["7", "8_1"]) == {}
    asked = (tmp_path / "asked").read_text()
    assert "-j 7,8_1" in asked
    assert {"-a -d show job 7", "-a -d show job 8_1"} <= set(asked.splitlines())
    (tmp_path / "asked").unlink()
    program("scontrol", f'echo "$*" >> {tmp_path}/asked')
    assert slurm().allocations([str(number) for number in range(1, 5000)]) == {}
    asked = (tmp_path / "asked").read_text()
    assert " -j " not in asked
    assert "-a -d show job" in asked.splitlines()


def test_two_clusters_with_one_home_share_no_answers(tmp_path, monkeypatch):
    conf = tmp_path / "slurm.conf"
    monkeypatch.setenv("SLURM_CONF", str(conf))
    kept = KeptAnswers(f"{tmp_path}/kept", FakeClock(int(tmp_path.stat().st_mtime)))
    conf.write_text("# x\nClusterName=a\nSlurmctldHost=h1\n")
    kept.put("qos", ("a",), "of a")
    conf.write_text("# x\nClusterName=a\nSlurmctldHost=h1\nMaxJobCount=9\n")
    assert kept.get("qos", ("a",)) == "of a"
    conf.write_text("# x\nclustername = b\nSlurmctldHost=h1\n")
    assert kept.get("qos", ("a",), stale=True) is None
    conf.write_text("Include  site.conf\n")
    (tmp_path / "site.conf").write_text("ClusterName=c\n")
    kept.put("qos", ("a",), "of c")
    assert kept.get("qos", ("a",)) == "of c"
    (tmp_path / "site.conf").write_text("ClusterName=d\n")
    assert kept.get("qos", ("a",), stale=True) is None
    conf.unlink()
    assert kept.get("qos", ("a",), stale=True) is None


def test_an_answer_of_last_month_is_not_used_even_while_the_database_is_down(tmp_path):
    clock = FakeClock(int(tmp_path.stat().st_mtime))
    kept = KeptAnswers(f"{tmp_path}/kept", clock)
    kept.put("qos", ("a",), "text")
    clock.advance(6 * 86400)
    assert kept.get("qos", ("a",), stale=True) == "text"
    clock.advance(2 * 86400)
    assert kept.get("qos", ("a",), stale=True) is None


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
