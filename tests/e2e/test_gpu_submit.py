"""gpu-submit on a real Slurm cluster of two nodes with 8 H100s each."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time

import pytest

from tests.e2e.conftest import scontrol_indexes, squeue, wait_for

pytestmark = pytest.mark.cluster


def indexes(text: str) -> list[int]:
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def jobs_of(user) -> set[str]:
    """Every job of a user that Slurm still knows, ended ones too."""
    return set(user.run("squeue", "-h", "--me", "--states=all", "-o", "%A").stdout.split())


def explain(user, job: str) -> dict:
    document = json.loads(user.run("gpu-policy", "explain", "--json", job).stdout)
    return document[0] if isinstance(document, list) else document


def test_four_users_fill_the_16_gpus_and_no_more(users):
    sizes = {"u1": 1, "u2": 4, "u3": 8}
    jobs = {
        name: users[name].submit("--gpus", f"h100:{size}", "-t", "5", "--", "sleep", "120")
        for name, size in sizes.items()
    }
    for job in jobs.values():
        wait_for(job, "RUNNING")
    whole = users["u4"].submit("--gpus", "16", "-t", "5", "--", "sleep", "120")
    held: dict[str, set[int]] = {}
    for name, job in jobs.items():
        slurms = {node: indexes(text) for node, text in scontrol_indexes(job).items()}
        assert sum(map(len, slurms.values())) == sizes[name]
        ours = explain(users[name], job)["gpu_indexes"]
        assert ours == slurms
        for node, mine in slurms.items():
            assert not held.setdefault(node, set()) & set(mine)
            held[node] |= set(mine)
    assert squeue(whole, "%T") == "PENDING"
    for job in jobs.values():
        subprocess.run(["scancel", job], check=True)
    wait_for(whole, "RUNNING")
    all_of_them = {"gpu01": list(range(8)), "gpu02": list(range(8))}
    assert explain(users["u4"], whole)["gpu_indexes"] == all_of_them
    assert {n: indexes(t) for n, t in scontrol_indexes(whole).items()} == all_of_them


def test_a_command_runs_with_its_gpus_and_its_output_and_exit_code_come_back(u1, tmp_path):
    out = u1.home / "out.txt"
    done = u1.run(
        "gpu-submit", "--gpus", "2", "-o", str(out), "--wait", "--",
        "sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES"; exit 7',
        check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert len(out.read_text().strip().split(",")) == 2


def test_a_users_own_script_keeps_its_lines_and_a_conflict_is_named(u1):
    script = u1.home / "own.sh"
    out = u1.home / "own.out"
    script.write_text(
        "#!/bin/bash\n#SBATCH --job-name=mine\n#SBATCH -t 7\n"
        f'#SBATCH --gres=gpu:h100:2\n#SBATCH -o {out}\necho "$1 $2"\n'
    )
    done = u1.run("gpu-submit", "--time", "5", "--parsable", str(script), "a b", "$HOME")
    assert "S-501" in done.stderr
    job = done.stdout.strip()
    wait_for(job, "COMPLETED")
    assert (squeue(job, "%j"), squeue(job, "%l")) == ("mine", "5:00")
    assert (
        "gres/gpu:h100=2"
        in subprocess.run(
            ["scontrol", "show", "job", job], capture_output=True, text=True, check=True
        ).stdout
    )
    assert out.read_text() == "a b $HOME\n"


def test_an_array_runs_every_task(u1):
    folder = u1.home / "array"
    folder.mkdir(exist_ok=True)
    os.chown(folder, *[u1.identity()[k] for k in ("user", "group")])
    job = u1.submit(
        "--gpus", "1", "-a", "0-4", "-o", "/dev/null", "--",
        "sh", "-c", f"touch {folder}/$SLURM_ARRAY_TASK_ID",
    )  # fmt: skip
    wait_for(job, "COMPLETED")
    assert {path.name for path in folder.iterdir()} >= {str(n) for n in range(5)}


def test_a_two_node_torchrun_job_starts_one_launcher_a_node_with_one_rendezvous(u1):
    launcher = u1.home / "launcher"
    launcher.write_text('#!/bin/sh\necho "$SLURM_NODEID $@" > "$HOME/rank-$SLURM_NODEID"\n')
    launcher.chmod(0o755)
    for rank in (0, 1):
        (u1.home / f"rank-{rank}").unlink(missing_ok=True)
    job = u1.submit(
        "--template", "torchrun", "--param", f"launcher={launcher}",
        "--gpus-per-node", "h100:4", "-N", "2", "-t", "5", "--", "train.py", "--lr", "0.1",
    )  # fmt: skip
    wait_for(job, "COMPLETED")
    ranks = [(u1.home / f"rank-{rank}").read_text().split() for rank in (0, 1)]
    assert [words[0] for words in ranks] == ["0", "1"]
    assert ranks[0][1:] == ranks[1][1:]
    arguments = dict(word.lstrip("-").split("=", 1) for word in ranks[0][1:-3])
    assert (arguments["nnodes"], arguments["nproc-per-node"]) == ("2", "4")
    host, port = arguments["rdzv-endpoint"].split(":")
    assert host in {"gpu01", "gpu02"}
    assert 1024 < int(port) < 65536
    assert ranks[0][-3:] == ["train.py", "--lr", "0.1"]


def test_json_has_the_documented_form(u1):
    document = u1.submit_json("--gpus", "2", "-t", "2", "--", "true")
    assert set(document) >= {
        "job_id", "decision", "reasons", "gpus", "gpu_type", "partition", "account",
        "estimated_cost", "estimated_start",
    }  # fmt: skip
    assert (document["decision"], document["gpus"], document["gpu_type"]) == ("admit", 2, "h100")
    assert isinstance(document["job_id"], int)
    assert set(document["reasons"][0]) >= {"rule", "message", "value", "limit"}
    assert set(document["estimated_cost"]) == {"amount", "currency"}


def test_dry_run_prints_a_script_that_sbatch_takes_and_submits_nothing(u1):
    before = jobs_of(u1)
    done = u1.run("gpu-submit", "--dry-run", "--gpus", "h100:3", "-t", "2", "--", "echo", "a  b")
    assert jobs_of(u1) == before
    assert done.stdout.startswith("#!/bin/bash\n")
    assert done.stderr == ""
    sbatch = u1.run("sbatch", "--parsable", "-o", "/dev/null", input=done.stdout)
    job = sbatch.stdout.strip()
    wait_for(job, "COMPLETED")
    shown = subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, check=True
    )
    assert "gres/gpu:h100=3" in shown.stdout


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("--gpus", "1", "--", "true"), 0),
        (("--sbatch-arg=--licenses=nope", "--", "true"), 1),
        (("--gpus", "x:y", "--", "true"), 2),
        (("--no-such-option", "--", "true"), 2),
        ((), 2),
        (("/no/such/script",), 2),
        (("--gpus", "17", "--", "true"), 3),
        (("-A", "vision-seg", "--", "true"), 3),
        (("--gpu-type", "b200", "--", "true"), 3),
        (("--policy", "/no/such/file", "--", "true"), 5),
    ],
)
def test_the_exit_code_says_what_happened(u1, argv, code):
    done = u1.run("gpu-submit", *argv, check=False)
    assert done.returncode == code, done.stderr
    assert bool(done.stderr) == bool(code)


def test_a_cluster_that_cannot_be_reached_ends_in_4_within_the_sites_time(u1, tmp_path):
    policy = u1.home / "quick.yaml"
    policy.write_text("slurm: {retry_for: 3s, timeout: 20s}\n")
    conf = u1.home / "nowhere.conf"
    conf.write_text(
        "ClusterName=nowhere\nSlurmctldHost=localhost\nSlurmctldPort=1\n"
        "AuthType=auth/munge\nNodeName=n1\nPartitionName=p Nodes=n1\n"
    )
    began = time.monotonic()
    done = u1.run(
        "gpu-submit", "--policy", str(policy), "--", "true",
        check=False, env={"SLURM_CONF": str(conf)},
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert time.monotonic() - began < 60


def test_many_jobs_come_from_one_file_and_a_wrong_line_submits_none(u1):
    path = u1.home / "jobs.txt"
    path.write_text(
        "# three jobs\n--gpus 1 -J first -- true\n\ntrue 'two words'\n--gpus 2 -- sleep 1\n"
    )
    ids = u1.run("gpu-submit", "--parsable", "-t", "3", "--jobs", str(path)).stdout.split()
    assert len(ids) == 3
    assert [squeue(job, "%j") for job in ids] == ["first", "true", "sleep"]
    assert {squeue(job, "%l") for job in ids} == {"3:00"}
    path.write_text("true\n--gpus 99 -- true\n")
    before = jobs_of(u1)
    done = u1.run("gpu-submit", "--parsable", "--jobs", str(path), check=False)
    assert (done.returncode, done.stdout) == (3, "")
    path.write_text("true\n--bogus -- true\n")
    done = u1.run("gpu-submit", "--parsable", "--jobs", str(path), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 2" in done.stderr
    assert jobs_of(u1) == before


def test_watching_without_a_terminal_prints_lines_until_the_end(u1):
    done = u1.run("gpu-submit", "--gpus", "2", "-t", "2", "--watch", "--", "sleep", "3")
    lines = done.stdout.splitlines()
    assert any("runs on gpu0" in line and "GPUs" in line for line in lines), lines
    assert "completed" in lines[-1]


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_come_back(u1):
    watching = u1.start("gpu-submit", "--gpus", "1", "-t", "2", "--watch", "--", "sleep", "60")
    line = watching.stdout.readline().decode()
    job = line.split()[2].rstrip(":")
    wait_for(job, "RUNNING")
    time.sleep(1)
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert f"gpu-policy watch {job}" in errors.decode()
    assert squeue(job, "%T") == "RUNNING"


def test_settings_come_from_file_then_environment_then_options(u1):
    settings = u1.home / "submit.yaml"
    settings.write_text("gpus: 2\njob-name: from-file\ntime: 3\n")
    env = {"GPU_POLICY_USER_FILE": str(settings), "GPU_POLICY_JOB_NAME": "from-environment"}
    job = u1.submit("--time", "4", "--", "true", env=env)
    assert (squeue(job, "%j"), squeue(job, "%l")) == ("from-environment", "4:00")
    document = u1.submit_json("--dry-run", "--", "true", env=env)
    assert document["gpus"] == 2


def test_hostile_names_and_comments_reach_slurm_unchanged(u1):
    name = "a|b c'd\"e$(touch pwned)`x`é\\n"
    job = u1.submit("--job-name", name, "--comment", name, "-t", "2", "--", "true")
    assert squeue(job, "%j") == name
    assert squeue(job, "%k").startswith(name + " gpu-submit(token=")
    assert not (u1.home / "pwned").exists()


def on_a_terminal(user, *argv):
    """Run a command as somebody at a terminal would, and return what the terminal showed."""
    return user.run("script", "-qec", shlex.join(argv), "/dev/null", stdin=subprocess.DEVNULL)


def test_watching_on_a_terminal_shows_a_moving_table(u1):
    shown = on_a_terminal(
        u1, "gpu-submit", "--gpus", "2", "-t", "2", "--watch", "--", "sleep", "3"
    ).stdout
    assert "\x1b[" in shown
    assert "runs on gpu0" in shown
    assert "completed" in shown


def test_following_shows_the_end_of_the_output(u1):
    argv = ("gpu-submit", "--gpus", "1", "-t", "2", "-o", "follow.out", "--watch", "--follow")
    shown = on_a_terminal(u1, *argv, "--", "sh", "-c", "echo first line; sleep 3").stdout
    assert "| first line" in shown


def test_an_interactive_job_runs_in_the_users_terminal_with_its_exit_code(u1):
    argv = ("gpu-submit", "--workload", "interactive", "--gpus", "2", "-t", "2", "--")
    command = ("sh", "-c", "tty; echo GPUs=$CUDA_VISIBLE_DEVICES; exit 6")
    done = u1.run("script", "-qec", shlex.join((*argv, *command)), "/dev/null", check=False)
    assert "/dev/pts/" in done.stdout
    assert "GPUs=0,1" in done.stdout
    assert done.returncode == 6


def test_an_interactive_job_without_a_terminal_reads_standard_input(u1):
    argv = ("gpu-submit", "--template", "interactive", "--gpus", "1", "-t", "2", "--", "cat")
    assert u1.run(*argv, input="through a pipe\n").stdout == "through a pipe\n"


def test_a_scripts_own_wait_is_kept_by_gpu_submit(u1):
    script = u1.home / "waits.sh"
    script.write_text("#!/bin/bash\n#SBATCH --wait\n#SBATCH -o /dev/null\nexit 3\n")
    done = u1.run("gpu-submit", "--gpus", "1", "-t", "1", "--parsable", str(script), check=False)
    assert done.returncode == 3, done.stderr
    wait_for(done.stdout.strip(), "FAILED")


def test_sbatchs_own_variables_neither_escape_the_decision_nor_stand_in_its_way(u1):
    env = {"SBATCH_GPUS": "4", "SBATCH_MEM_PER_GPU": "1G", "SBATCH_ARRAY_INX": "0-1"}
    document = u1.submit_json("--gpus", "2", "--mem", "1G", "-t", "1", "--", "true", env=env)
    assert (document["gpus"], document["array_tasks"]) == (2, 2)
    wait_for(str(document["job_id"]), "COMPLETED")


def test_the_output_of_an_array_task_is_found_where_slurm_writes_it(u1):
    argv = ("gpu-submit", "--gpus", "1", "-t", "2", "-a", "0-1", "--watch", "--follow")
    done = u1.run(*argv, "--", "sh", "-c", "echo from task $SLURM_ARRAY_TASK_ID; sleep 3")
    for task in (0, 1):
        assert f"from task {task}" in done.stdout


def test_a_fallback_to_cpus_is_a_job_that_slurm_takes_and_runs(u1):
    argv = ("--gpus", "99", "--fallback", "cpu", "--mem-per-gpu", "1G", "-N", "2")
    job = u1.submit(*argv, "-t", "1", "-o", "/dev/null", "--", "true")
    wait_for(job, "COMPLETED")
    assert squeue(job, "%P") == "cpu"


def test_a_configuration_that_is_not_there_is_said_at_once(u1):
    began = time.monotonic()
    done = u1.run("gpu-submit", "--", "true", check=False, env={"SLURM_CONF": "/no/such.conf"})
    assert done.returncode == 4
    assert "/no/such.conf" in done.stderr
    assert time.monotonic() - began < 10
