"""Watching without a terminal: lines of news, and what the jobs write."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.services.watch import Sight
from slurm_gpu_policy.terminal import watching
from slurm_gpu_policy.terminal.following import Follower, tail
from slurm_gpu_policy.terminal.watching import _picture, stay
from tests.builders import make_job
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(watching, "SystemClock", lambda: clock)
    return clock


@pytest.fixture
def slurm(clock):
    return FakeSlurm(clock=clock)


def submit(slurm, *, gpus=1, seconds=30, **options):
    given = {"gres": f"gpu:h100:{gpus}", "partition": "gpu", "time": "02:00:00", **options}
    return str(slurm.submit(Submission(f"sleep {seconds}\n", tuple(given.items()), "t")))


def sight(path, *, job=1, seconds=0):
    return Sight((make_job(job, elapsed_seconds=seconds),), outputs={str(job): str(path)})


def test_all_prose_can_go_to_standard_error(slurm, capsys, tmp_path):
    path = tmp_path / "out"
    path.write_text("hello\n")
    job = submit(slurm, output=str(path))
    assert stay(slurm, [job], show=True, follow=True, prose_to_stderr=True) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "runs on gpu01" in captured.err
    assert "hello" in captured.err


def test_what_a_job_writes_while_we_wait_comes_once_and_before_its_end(
    slurm, capsys, tmp_path, clock, monkeypatch
):
    path = tmp_path / "out"
    job = submit(slurm, output=str(path))
    plain, told = clock.sleep, []

    def sleep(seconds):
        plain(seconds)
        told.append(len(told))
        with path.open("a") as file:
            file.write(f"line {told[-1]}\npart of ")

    monkeypatch.setattr(clock, "sleep", sleep)
    stay(slurm, [job], show=True, follow=True)
    lines = capsys.readouterr().out.splitlines()
    written = [line for line in lines if "line " in line]
    assert written == [f"part of line {n}" if n else "line 0" for n in told]
    assert lines[-2:] == ["part of ", f"job {job}: completed after 00:00:30"]


def test_only_several_jobs_have_their_number_before_each_line(slurm, capsys, tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text("hello\n")
    jobs = [submit(slurm, output=str(path)) for path in paths]
    stay(slurm, jobs, show=True, follow=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "hello" in line] == [f"{job}| hello" for job in jobs]
    alone = submit(slurm, output=str(paths[0]))
    stay(slurm, [alone], show=True, follow=True)
    assert "hello" in capsys.readouterr().out.splitlines()


def test_a_waiting_array_is_not_told_anew_at_every_start(slurm, capsys):
    job = submit(slurm, gpus=8, array="0-9")
    stay(slurm, [job], show=True)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "waits" in line]) == 1
    assert len([line for line in lines if "runs on" in line]) == 10
    assert len([line for line in lines if "completed" in line]) == 10


def test_an_unknown_job_is_said_to_be_out_of_memory(slurm, capsys):
    assert stay(slurm, ["99"], show=True) == 1
    assert "not in Slurm's memory" in capsys.readouterr().out


def test_bytes_that_are_no_text_and_control_characters_are_shown_safely(tmp_path):
    path, lines = tmp_path / "out", []
    path.write_bytes(b"\xff\xfe\x1b[31mred\n\x00\nbar 1%\rbar 50%\rbar 100%\r\nlast")
    follower = Follower(["1"], lines.append)
    follower.note(sight(path))
    follower.look()
    assert lines == ["\N{REPLACEMENT CHARACTER}" * 2 + "\\x1b[31mred", "\\x00", "bar 100%"]
    follower.finish("1")
    follower.finish("1")
    assert lines[3:] == ["last"]


def test_a_character_that_comes_in_two_pieces_is_whole(tmp_path):
    path, lines = tmp_path / "out", []
    path.write_bytes("é".encode()[:1])
    follower = Follower(["1"], lines.append)
    follower.note(sight(path))
    follower.look()
    with path.open("ab") as file:
        file.write("é".encode()[1:] + b"\n")
    follower.look()
    assert lines == ["é"]


def test_a_file_that_was_begun_anew_is_read_from_its_start(tmp_path):
    path, lines = tmp_path / "out", []
    follower = Follower(["1"], lines.append)
    path.write_text("a long first run\n")
    follower.note(sight(path))
    follower.look()
    path.write_text("again\n")
    follower.look()
    assert lines == ["a long first run", "again"]


def test_of_a_job_that_runs_for_long_only_the_end_so_far_is_shown(tmp_path):
    path, lines = tmp_path / "out", []
    path.write_text("".join(f"{n}\n" for n in range(100_000)))
    follower = Follower(["1"], lines.append)
    follower.note(sight(path, seconds=3600))
    follower.look()
    assert lines == [str(n) for n in range(99_990, 100_000)]
    with path.open("a") as file:
        file.write("new\n")
    follower.look()
    assert lines[10:] == ["new"]


def test_jobs_that_share_a_file_are_told_once(tmp_path):
    path, lines = tmp_path / "out", []
    path.write_text("hello\n")
    follower = Follower(["1", "2"], lines.append)
    follower.note(sight(path, job=1))
    follower.note(sight(path, job=2))
    follower.look()
    assert lines == ["1| hello"]


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "/dev/zero", "/"])
def test_what_cannot_be_read_has_no_lines(path):
    assert tail(path) == []
    lines = []
    follower = Follower(["1"], lines.append)
    follower.note(sight(path))
    follower.look()
    assert lines == []


def test_a_table_of_very_many_jobs_is_cut_with_words():
    from rich.console import Console  # noqa: PLC0415

    jobs = [make_job(n, state=JobState.COMPLETED) for n in range(1, 101)]
    jobs += [make_job(200, node_list="gpu01")]
    console = Console(width=200)
    with console.capture() as shown:
        console.print(_picture(Sight(tuple(jobs)), follow=False))
    text = shown.get()
    assert "runs on gpu01" in text
    assert "and 81 more: 81 completed" in text
