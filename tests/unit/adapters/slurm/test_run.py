from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from slurm_gpu_policy.adapters.slurm.run import (
    CODE_LOST,
    Call,
    Late,
    planning_environment,
    reading_environment,
    run,
    run_all,
    run_each,
    started_programs,
)
from slurm_gpu_policy.errors import SlurmAbsent, SlurmRefused, SlurmTimeout, SlurmUnavailable


def sh(script, *args):
    return ("sh", "-c", script, "sh", *args)


def test_a_program_gives_output_words_and_code():
    answer = run(sh("echo out; echo words >&2; exit 3"))
    assert (answer.stdout, answer.stderr, answer.code) == ("out\n", "words\n", 3)


def test_a_program_killed_by_a_signal_has_its_negative_number():
    assert run(sh("kill -TERM $$")).code == -15


def test_arguments_arrive_as_they_are():
    hostile = ("a b", "", "$(echo x)", "'\"`", "é\udcff", "-n", "a\nb")
    answer = run(sh('for a; do printf "<%s>" "$a"; done', *hostile))
    assert answer.stdout == "".join(f"<{text}>" for text in hostile)


def test_standard_input_of_any_length_arrives_whole():
    data = b"x" * 3_000_000
    assert run(("cat",), stdin=data).stdout == data.decode()


def test_a_program_may_leave_its_input_unread():
    assert run(sh("exec <&-; exit 4"), stdin=b"x" * 3_000_000).code == 4


def test_without_input_there_is_none_to_wait_for():
    assert run(("cat",)).stdout == ""


def test_a_late_program_is_killed_and_what_it_said_is_kept():
    start = time.monotonic()
    with pytest.raises(SlurmTimeout, match="still thinking") as caught:
        run(sh("echo still thinking >&2; exec sleep 60"), timeout=0.3)
    assert time.monotonic() - start < 5
    assert isinstance(caught.value, Late)
    assert caught.value.words == "still thinking"


def test_a_missing_program_is_slurm_not_there():
    with pytest.raises(SlurmUnavailable, match="no-such-program is not on this machine's PATH"):
        run(("no-such-program",))


def test_a_program_that_may_not_run_is_slurm_not_there(tmp_path):
    path = tmp_path / "x"
    path.write_text("#!/nonexistent\n")
    path.chmod(0o755)
    with pytest.raises(SlurmUnavailable):
        run((str(path),))


def test_programs_run_at_the_same_time():
    start = time.monotonic()
    answers = run_all([Call(sh("sleep 0.4; echo $1", str(i))) for i in range(5)])
    assert time.monotonic() - start < 1.2
    assert [answer.stdout for answer in answers] == [f"{i}\n" for i in range(5)]


def test_one_that_is_missing_ends_the_others():
    before = children()
    with pytest.raises(SlurmUnavailable):
        run_all([Call(("sleep", "60")), Call(("no-such-program",))])
    assert children() == before


def test_one_that_is_late_ends_the_others():
    before = children()
    with pytest.raises(SlurmTimeout):
        run_all([Call(("sleep", "60")), Call(("sleep", "60"))], timeout=0.2)
    assert children() == before


def test_no_more_than_a_few_run_at_once(tmp_path):
    script = "touch $1/$2; ls $1 | wc -l; sleep 0.05; rm $1/$2"
    calls = [Call(sh(script, str(tmp_path), str(i))) for i in range(12)]
    answers = dict(run_each(calls, at_once=3, timeout=10))
    assert sorted(answers) == list(range(12))
    assert max(int(answer.stdout) for answer in answers.values()) <= 3


def test_a_late_one_among_many_is_an_answer_of_its_own():
    calls = [Call(("sleep", "60")), Call(sh("echo good"))]
    answers = dict(run_each(calls, at_once=1, timeout=0.3))
    assert isinstance(answers[0], Late)
    assert answers[1].stdout == "good\n"


def test_output_is_handed_on_while_it_comes():
    pieces = []
    script = "echo first; sleep 0.3; echo second"
    run_all([Call(sh(script), sink=lambda chunk: pieces.append((time.monotonic(), chunk)))])
    assert b"".join(chunk for _t, chunk in pieces) == b"first\nsecond\n"
    assert pieces[-1][0] - pieces[0][0] > 0.2


def test_no_descriptor_is_left_open():
    before = open_descriptors()
    run_all([Call(("true",), stdin=b"x") for _ in range(5)])
    with pytest.raises(SlurmUnavailable):
        run(("no-such-program",), stdin=b"x")
    assert open_descriptors() == before


def test_the_environment_for_reading_has_none_of_the_users_formats(monkeypatch):
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SACCT_FORMAT", "jobid")
    monkeypatch.setenv("SLURM_CONF", "/x")
    env = reading_environment()
    assert "SQUEUE_FORMAT" not in env
    assert "SACCT_FORMAT" not in env
    assert (env["SLURM_CONF"], env["SLURM_TIME_FORMAT"], env["TZ"]) == ("/x", "%s", "UTC0")


def test_planning_happens_in_the_users_own_time_zone(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert planning_environment()["TZ"] == "Asia/Tokyo"
    monkeypatch.delenv("TZ")
    assert "TZ" not in planning_environment()
    assert planning_environment()["SLURM_TIME_FORMAT"] == "%s"


@pytest.mark.parametrize("reason", [errno.EAGAIN, errno.ENOMEM])
def test_where_no_more_processes_are_to_be_had_fewer_run_at_once(monkeypatch, reason):
    spawn, most = os.posix_spawnp, []

    def limited(*args, **more):
        most.append(len(children()))
        if most[-1] >= 3:
            raise OSError(reason, os.strerror(reason))
        return spawn(*args, **more)

    monkeypatch.setattr(os, "posix_spawnp", limited)
    calls = [Call(sh("sleep 0.1; echo $1", str(i))) for i in range(10)]
    answers = dict(run_each(calls, at_once=8, timeout=10))
    assert [answers[i].stdout for i in range(10)] == [f"{i}\n" for i in range(10)]
    assert most.count(3) == 1


def test_where_no_more_files_can_be_opened_fewer_run_at_once(monkeypatch):
    pipe, refuse = os.pipe2, [False] * 5 + [True]

    def limited(flags):
        if refuse and refuse.pop(0):
            raise OSError(errno.EMFILE, "Too many open files")
        return pipe(flags)

    monkeypatch.setattr(os, "pipe2", limited)
    before = open_descriptors()
    answers = run_all([Call(sh("sleep 0.1; echo $1", str(i))) for i in range(5)])
    assert [answer.stdout for answer in answers] == [f"{i}\n" for i in range(5)]
    assert open_descriptors() == before


def test_not_one_file_more_is_slurm_not_there(monkeypatch):
    def none(_flags):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe2", none)
    with pytest.raises(SlurmUnavailable, match="cannot be started: Too many open files"):
        run(("true",))


def test_one_that_cannot_be_started_leaves_the_others_alone():
    calls = [Call(sh("sleep 0.2; echo a")), Call(("no-such-program",)), Call(sh("echo b"))]
    answers = dict(run_each(calls, at_once=3, timeout=10))
    assert (answers[0].stdout, answers[2].stdout) == ("a\n", "b\n")
    assert type(answers[1]) is SlurmAbsent


@pytest.mark.parametrize("text", ["a\0b", "x" * 3_000_000])
def test_arguments_linux_does_not_take_are_refused_and_no_outage(text):
    before = open_descriptors()
    with pytest.raises(SlurmRefused, match="cannot be given these arguments"):
        run(("true", text))
    assert open_descriptors() == before


@pytest.fixture
def no_exit_codes():
    """A program that ignores SIGCHLD, whose children's exit codes the kernel throws away."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("no_exit_codes")
def test_a_code_is_known_also_where_the_caller_ignores_its_children():
    assert run(sh("echo no >&2; exit 3")).code == 3
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN


@pytest.mark.usefixtures("no_exit_codes")
@pytest.mark.parametrize(
    ("script", "code"),
    [("echo no >&2; exit 1", CODE_LOST), ("echo 7; echo hm >&2", 0), ("exit 0", 0)],
)
def test_a_code_that_is_lost_is_guessed_from_what_was_said(script, code):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run(sh(script)).code))
    thread.start()
    thread.join()
    assert codes == [code]


@pytest.mark.usefixtures("no_exit_codes")
def test_programs_do_not_ignore_their_own_children():
    ignored = int(run(sh("grep SigIgn /proc/$$/status")).stdout.split()[1], 16)
    assert not ignored & (1 << signal.SIGCHLD - 1 | 1 << signal.SIGPIPE - 1)


def children():
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_programs_that_were_started_are_counted():
    before = started_programs()
    run_all([Call(("true",)), Call(("true",))])
    with pytest.raises(SlurmAbsent):
        run(("there-is-no-such-program",))
    assert started_programs() - before == 2
