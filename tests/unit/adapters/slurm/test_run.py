from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slurm_gpu_policy.adapters.slurm.run import (
    Call,
    Late,
    reading_environment,
    run,
    run_all,
    run_each,
)
from slurm_gpu_policy.errors import SlurmTimeout, SlurmUnavailable


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
    with pytest.raises(SlurmUnavailable):
        run_all([Call(("sleep", "60")), Call(("no-such-program",))])
    assert children() == []


def test_one_that_is_late_ends_the_others():
    with pytest.raises(SlurmTimeout):
        run_all([Call(("sleep", "60")), Call(("sleep", "60"))], timeout=0.2)
    assert children() == []


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


def children():
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))
