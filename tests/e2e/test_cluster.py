"""The local clusters themselves: vagrant/cluster, the provision scripts and slurm_conf.

What only reads is asked of the shared clusters. What starts, kills or limits happens on
a cluster of its own, with its own state, configuration and ports, raised from a copy of
the scripts in a folder whose name has a blank.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERBATIM = ("slurm.conf", "slurmdbd.conf", "job_submit.lua")

pytestmark = [pytest.mark.cluster, pytest.mark.root]


def call(*argv, env=None, user=None, timeout=120, **kwargs):
    who = {}
    if user:
        entry = pwd.getpwnam(user)
        who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        kwargs.setdefault("cwd", entry.pw_dir)
    return subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **who,
        **kwargs,
    )


def until(true, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: {true}"
        time.sleep(0.1)
    return found


class Scratch:
    """A cluster that nobody else uses."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.script = folder / "a checkout" / "vagrant" / "cluster"
        self.limits = folder / "limits.lua"
        self.environment = {
            "CLUSTER_STATE": str(folder / "state"),
            "CLUSTER_CONF": str(folder / "etc"),
            "CLUSTER_LIMITS": str(self.limits),
            "CLUSTER_NAME": "scratch",
            "CLUSTER_CTLD_PORT": "27817",
            "CLUSTER_DBD_PORT": "27819",
            "CLUSTER_SLURMD_PORT": "27821",
        }

    def do(self, command, *options, user=None, **environment):
        env = {**self.environment, **environment}
        return call(self.script, command, "native", *options, env=env, user=user)

    def slurm(self, *argv, user=None):
        return call(*argv, env={"SLURM_CONF": str(self.folder / "etc/slurm.conf")}, user=user)

    def sbatch(self, user, *options, wrap="sleep 60"):
        done = self.slurm(
            "sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={wrap}", user=user
        )
        return done.stdout.strip(), done.stderr

    def indexes(self, job):
        """The GPU indexes by node, as Slurm prints them: {'gpu01': '0-3'}."""
        text = self.slurm("scontrol", "-d", "show", "job", job).stdout
        found = {}
        for line in text.splitlines():
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            if "(IDX:" in words.get("GRES", ""):
                nodes = self.slurm("scontrol", "show", "hostnames", words["Nodes"]).stdout.split()
                found |= dict.fromkeys(nodes, words["GRES"].partition("(IDX:")[2].rstrip(")"))
        return found

    def state(self, job):
        return self.slurm("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").stdout.strip()

    def processes(self):
        """Pids of all that carries this cluster's mark."""
        return marked(f"{self.folder}/state")


NATIVE_STATE = "/var/lib/slurm-gpu-policy/cluster-native"


def marked(state):
    """Pids of the daemons of the cluster whose state is in that folder."""
    mark = f"CLUSTER_MARK={state}:".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def scratch_folder():
    """A folder that every user can read, with a copy of the scripts."""
    folder = Path(tempfile.mkdtemp(prefix="cluster-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    for name in ("vagrant", "slurm_conf"):
        shutil.copytree(ROOT / name, folder / "a checkout" / name)
    yield Scratch(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def scratch(cluster, scratch_folder):
    done = scratch_folder.do("up")
    assert done.returncode == 0, done.stdout + done.stderr
    yield scratch_folder
    done = scratch_folder.do("reset")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not scratch_folder.processes()


@pytest.fixture
def empty(scratch):
    """The scratch cluster with nothing in its queue."""
    yield scratch
    if left := scratch.slurm("squeue", "-h", "-o", "%A").stdout.split():
        scratch.slurm("scancel", *left)
    until(lambda: not scratch.slurm("squeue", "-h").stdout)


# --- the shared clusters ------------------------------------------------------------


def test_the_machines_own_commands_speak_to_the_native_cluster(cluster):
    assert "native" in call("sacctmgr", "-nP", "list", "cluster").stdout
    nodes = call("sinfo", "-h", "-N", "-o", "%N %G").stdout.splitlines()
    assert {line.strip() for line in nodes} == {
        "gpu01 gpu:h100:8",
        "gpu02 gpu:h100:8",
        "cpu01 (null)",
    }


def test_up_again_starts_nothing(cluster):
    before = marked(NATIVE_STATE)
    assert before
    done = call(ROOT / "vagrant/cluster", "up", "native")
    assert (done.returncode, "already up" in done.stdout) == (0, True), done.stderr
    assert marked(NATIVE_STATE) == before


def test_the_accounts_are_a_tree_and_u4_may_not_use_high(cluster):
    fields = "format=account,parentname,user,share,qos"
    lines = call("sacctmgr", "-nP", "show", "assoc", fields).stdout.splitlines()
    rows = [line.split("|") for line in lines]
    parents = {account: parent for account, parent, user, *_ in rows if not user and parent}
    assert parents["nlp-pretrain"] == parents["nlp-finetune"] == "nlp"
    assert parents["vision-seg-medical"] == "vision-seg"
    assert parents["vision-seg"] == "vision"
    assert {account for account, _, user, *_ in rows if user == "u1"} == {
        "nlp-pretrain",
        "nlp-finetune",
        "vision",
    }
    assert all("high" not in qos for _, _, user, _, qos in rows if user == "u4")


@pytest.mark.parametrize("name", VERBATIM)
def test_the_native_cluster_uses_the_production_file_as_it_is(cluster, name):
    assert (Path("/etc/slurm") / name).read_bytes() == (ROOT / "slurm_conf" / name).read_bytes()


def test_slurm_reads_the_production_example(cluster):
    """slurm.conf with the example's site.conf and nodes.conf, not the local ones."""
    done = call("sinfo", "-V", env={"SLURM_CONF": str(ROOT / "slurm_conf/slurm.conf")})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["up", "down", "restart-controller"])
def test_an_ordinary_user_is_told_that_root_is_needed(cluster, scratch_folder, command):
    done = scratch_folder.do(command, user="u1")
    assert done.returncode == 1
    assert "must run as root" in done.stderr
    assert "you are u1" in done.stderr


def test_an_ordinary_user_can_ask_for_the_status(cluster, scratch_folder):
    done = call(scratch_folder.script, "status", "native", user="u1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_vagrantfile_is_valid():
    done = call(ROOT / "vagrant/provision/validate.sh", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


# --- refusals, before anything is started -------------------------------------------


def test_a_taken_port_is_named_with_its_owner(cluster, scratch_folder, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = scratch_folder.do(
            "up",
            CLUSTER_STATE=str(tmp_path / "state"),
            CLUSTER_CONF=str(tmp_path / "etc"),
            CLUSTER_DBD_PORT=str(port),
        )
    assert done.returncode == 1
    assert f"port {port}, which slurmdbd" in done.stderr
    assert f"pid {os.getpid()} (" in done.stderr
    assert not (tmp_path / "etc").exists()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]


def test_a_foreign_configuration_is_left_alone(cluster, scratch_folder, tmp_path):
    foreign = tmp_path / "etc" / "slurm.conf"
    foreign.parent.mkdir()
    foreign.write_text("ClusterName=somebody\n")
    for command in ("up", "reset"):
        done = scratch_folder.do(
            command, CLUSTER_STATE=str(tmp_path / "state"), CLUSTER_CONF=str(foreign.parent)
        )
        assert done.returncode == 1
        assert f"{foreign} is not ours" in done.stderr
    assert foreign.read_text() == "ClusterName=somebody\n"


# --- jobs ---------------------------------------------------------------------------


def test_there_are_sixteen_gpus_and_no_seventeenth(empty):
    jobs = [empty.sbatch(user, "--gres=gpu:h100:4")[0] for user in ("u1", "u2", "u3", "u4")]
    until(lambda: all(empty.state(job) == "RUNNING" for job in jobs))
    held = [empty.indexes(job) for job in jobs]
    assert sorted(next(iter(each.items())) for each in held) == [
        ("gpu01", "0-3"),
        ("gpu01", "4-7"),
        ("gpu02", "0-3"),
        ("gpu02", "4-7"),
    ]
    last, _ = empty.sbatch("u1", "--gres=gpu:h100:1")
    empty.slurm("scancel", jobs[0])
    until(lambda: empty.state(last) == "RUNNING")
    assert empty.indexes(last).popitem() == (*held[0], "0" if "0-3" in held[0].values() else "4")


def test_a_batch_job_starts_steps_on_both_nodes(empty):
    output = Path(pwd.getpwnam("u1").pw_dir) / "cluster-test.out"
    step = "srun --ntasks-per-node=1 sh -c 'echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'"
    try:
        job, _ = empty.sbatch("u1", "-N2", "--gres=gpu:h100:2", "--output", output, wrap=step)
        until(lambda: empty.state(job) == "COMPLETED")
        lines = until(lambda: output.exists() and output.read_text().split("\n"))
        assert sorted(filter(None, lines)) == ["gpu01 0,1", "gpu02 0,1"]
    finally:
        output.unlink(missing_ok=True)


def test_srun_and_salloc_work_for_ordinary_users(empty):
    show = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert empty.slurm("srun", "--gres=gpu:h100:1", *show, user="u2").stdout == "0\n"
    done = empty.slurm("salloc", "--gres=gpu:2", "srun", *show, user="u3")
    assert done.stdout == "0,1\n"


# --- failure and end ----------------------------------------------------------------


def test_the_controller_dies_and_returns_with_its_jobs(empty):
    job, _ = empty.sbatch("u2", "--gres=gpu:1")
    until(lambda: empty.state(job) == "RUNNING")
    # A polite end writes the queue down; a kill may lose its last seconds.
    assert empty.do("restart-controller").returncode == 0
    assert empty.state(job) == "RUNNING"
    assert empty.do("stop-controller", "--kill").returncode == 0
    assert empty.do("status").returncode == 1
    assert empty.do("start-controller").returncode == 0
    assert empty.state(job) == "RUNNING"


def test_after_a_crash_of_everything_up_is_enough(empty):
    for pid in empty.processes():
        os.kill(pid, 9)
    done = empty.do("up")
    assert done.returncode == 0, done.stdout + done.stderr
    job, _ = empty.sbatch("u1", "--gres=gpu:1", wrap="true")
    until(lambda: empty.state(job) == "COMPLETED")


def test_down_ends_what_was_started_with_its_jobs_and_keeps_the_queue(cluster, empty):
    sleeper = f"sleep {os.getpid()}.25"
    job, _ = empty.sbatch("u1", "--gres=gpu:1", wrap=sleeper)
    until(lambda: call("pgrep", "-xf", sleeper).stdout)
    others = marked(NATIVE_STATE)
    assert others
    assert empty.do("down").returncode == 0
    assert not empty.processes()
    assert not call("pgrep", "-xf", sleeper).stdout
    assert marked(NATIVE_STATE) == others
    again = empty.do("down")
    assert (again.returncode, "not running" in again.stdout) == (0, True)
    assert empty.do("up").returncode == 0
    assert empty.state(job) in {"PENDING", "COMPLETING", "RUNNING"}


# --- the pyslurm cluster ------------------------------------------------------------


@pytest.fixture
def chroot():
    done = call(ROOT / "vagrant/cluster", "status", "pyslurm")
    if done.returncode:
        why = f"the pyslurm cluster is not up (make cluster-pyslurm): {done.stdout}{done.stderr}"
        if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return lambda *argv, **kwargs: call(
        ROOT / "vagrant/cluster", "exec", "pyslurm", "--", *argv, **kwargs
    )


@pytest.mark.pyslurm
def test_exec_passes_arguments_input_and_exit_code_untouched(chroot):
    words = ["a b", "$HOME", "it's", "*", "", "--x"]
    done = chroot("printf", r"<%s>\n", *words)
    assert done.stdout == "".join(f"<{word}>\n" for word in words)
    done = chroot("sh", "-c", "cat; exit 7", input="one\ntwo\n")
    assert (done.returncode, done.stdout) == (7, "one\ntwo\n")


@pytest.mark.pyslurm
def test_pyslurm_sees_the_cluster_of_the_chroot(chroot):
    code = "import pyslurm; print(sorted(pyslurm.Nodes.load()))"
    done = chroot("python", "-c", code)
    assert done.stdout == "['cpu01', 'gpu01', 'gpu02']\n", done.stderr


@pytest.mark.pyslurm
def test_both_slurms_are_configured_from_the_same_files(chroot):
    for name in VERBATIM:
        assert (
            chroot("cat", f"/etc/slurm/{name}").stdout == (ROOT / "slurm_conf" / name).read_text()
        )
    example = ROOT / "slurm_conf/slurm.conf"
    done = chroot("env", f"SLURM_CONF={example}", "sinfo", "-V")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.pyslurm
def test_the_chroot_leaves_no_mount_on_this_machine(chroot):
    chroot("true")
    assert ".cluster/pyslurm" not in Path("/proc/self/mountinfo").read_text()
