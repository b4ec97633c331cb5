"""Raw sbatch, srun and salloc get the policy's answer from Slurm itself, on two releases.

The clusters are the tests' own; their table is what limits_table.py makes of the policy below
and of the cluster as our adapter reads it.
"""

from __future__ import annotations

import re
import time

import pytest

from tests.clusters import CHROOT_PYTHON, ROOT, PrivateCluster, require_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.root]

POLICY = """
enforcement: enforce
gpu_types: {h100: {price_per_hour: "2"}}
defaults: {time: 30m}
submission: {untyped: type}
limits:
  everyone: {gpus_per_job: 12, time: 2d}
  users: {u2: {gpus_per_job: 12, gpus: 12, time: 1d}}
  accounts:
    nlp: {gpus_per_job: 8}
    vision: {time: 4h}
  workloads: {interactive: {gpus_per_job: 1, time: 2h}}
approvals:
  approvers: {users: [u1]}
  thresholds:
    - {gpus: 10}
    - {cost: "50"}
"""
MAKE_TABLE = """
import sys
from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.policy.limits_table import PARTS, table_text
policy = bootstrap.load_policy(sys.argv[1])
snapshot = bootstrap.connect(policy).read(*PARTS, fresh=True)
sys.stdout.write(table_text(policy, snapshot, closed=["nlp-finetune"]))
"""


class Site:
    """A cluster and how its people talk to it."""

    def __init__(self, cluster: PrivateCluster) -> None:
        self.cluster = cluster
        self.in_force = ""

    def policy(self, text: str) -> None:
        """Put a policy's table in force."""
        path = self.cluster.state / "policy.yaml"
        path.write_text(text)
        python = [f"{ROOT}/.venv/bin/python"]
        if self.cluster.kind == "pyslurm":
            python = [*CHROOT_PYTHON]
        made = self.cluster.run(
            *python, "-c", MAKE_TABLE, str(path), env={"PYTHONPATH": str(ROOT)}, cwd="/"
        )
        self.table(made.stdout)
        self.in_force = text

    def table(self, text: str) -> None:
        new = self.cluster.limits.with_suffix(".new")
        new.write_text(text)
        new.rename(self.cluster.limits)
        self.in_force = ""
        self.look()

    def look(self) -> None:
        """Have the script look at its table, which it does with a job and once a second."""
        time.sleep(1.1)
        argv = ("sbatch", "--test-only", "-t1", "--wrap=true")
        self.cluster.run(*argv, user="u1", cwd="/tmp", check=False)

    def submit(self, *args: str, user: str = "u1"):
        """Submit a job to begin tomorrow; return its number (or none) and what was said."""
        done = self.cluster.run(
            *("sbatch", "--parsable", "--begin=now+1day", "-o", "/dev/null", *args),
            "--wrap=true",
            user=user,
            cwd="/tmp",
            check=False,
        )
        return done.stdout.strip(), done.stderr

    def show(self, job: str) -> dict[str, str]:
        """A job's fields as scontrol prints them; REQ is what it asks for, on either release."""
        text = self.cluster.run("scontrol", "show", "job", job, "-d").stdout
        found = dict(re.findall(r"(\S+?)=(\S*)", text))
        found["REQ"] = found.get("ReqTRES") or found.get("TRES", "")
        found["GPUS"] = (re.findall(r"gres/gpu=(\d+)", found["REQ"]) or ["0"])[0]
        return found

    def update(self, job: str, *what: str, user: str = "u1"):
        argv = ("scontrol", "update", f"job={job}", *what)
        return self.cluster.run(*argv, user=user, check=False)


@pytest.fixture(
    scope="module", params=["native", pytest.param("pyslurm", marks=pytest.mark.pyslurm)]
)
def site(request):
    require_cluster(request.param)
    with PrivateCluster("submit", kind=request.param) as cluster:
        yield Site(cluster)


@pytest.fixture(autouse=True)
def clean(site):
    """POLICY is in force, and nothing stays in the queue."""
    if site.in_force != POLICY:
        site.policy(POLICY)
    yield
    if left := site.cluster.run("squeue", "-h", "-o", "%A").stdout.split():
        site.cluster.run("scancel", *left)


# --- refused ----------------------------------------------------------------------------

REFUSED = {
    "too many GPUs of an account, by --gres": ("L-201", "u1", ["--gres=gpu:h100:9"]),
    "by --gpus": ("L-201", "u1", ["--gpus=h100:9"]),
    "untyped, by --gpus": ("L-201", "u1", ["--gpus=9"]),
    "by --gpus-per-node": ("L-201", "u1", ["-N2", "--gpus-per-node=h100:5"]),
    "by --gpus-per-task": ("L-201", "u1", ["-n3", "--gpus-per-task=h100:3"]),
    "by --gpus-per-task with -c": ("L-201", "u1", ["-n3", "-c2", "--gpus-per-task=3"]),
    "by --gpus-per-socket": (
        "L-201", "u1", ["-N2", "--sockets-per-node=2", "--gpus-per-socket=h100:3"]
    ),
    "by --ntasks-per-gpu": ("L-201", "u1", ["-n20", "--ntasks-per-gpu=2"]),
    "over a range of nodes": ("L-201", "u1", ["-N1-2", "--gres=gpu:h100:5"]),
    "over the nodes its tasks need": (
        "L-201", "u1", ["-n4", "--ntasks-per-node=2", "--gres=gpu:h100:5"]
    ),
    "over the nodes its cores need": (
        "L-201", "u1", ["-n128", "--mem-per-cpu=1", "--gres=gpu:h100:5"]
    ),
    "spread over nodes": ("L-201", "u1", ["-n2", "--spread-job", "--gres=gpu:h100:5"]),
    "over a list of nodes": ("L-201", "u1", ["-w", "gpu[01-02]", "--gres=gpu:h100:5"]),
    "with --exclusive, all of its nodes": ("L-201", "u1", ["--exclusive", "-N2"]),
    "with --exclusive, wherever it may start": (
        "L-201", "u1", ["-p", "cpu,gpu", "--exclusive", "-N2"]
    ),
    "a thousand": ("L-201", "u1", ["--gpus=h100:1k"]),
    "of one task of an array": ("L-201", "u1", ["--array=0-3", "--gres=gpu:h100:9"]),
    "the account's name in another case": (
        "L-201", "u1", ["-A", "NLP-Pretrain", "--gpus=h100:9"]
    ),
    "too many for anybody": ("L-201", "u3", ["-A", "vision-seg-medical", "--gpus=h100:13"]),
    "for the workload class of gpu-submit's mark": (
        "L-201", "u1", ["--comment=x gpu-submit(token=a;workload=interactive)", "--gpus=h100:2"]
    ),
    "for the workload class in a plain comment": (
        "L-201", "u1", ["--comment=workload=interactive", "--gpus=h100:2"]
    ),
    "an array's tasks at once": (
        "L-202", "u2", ["-A", "nlp-pretrain", "--array=0-9%4", "--gpus=h100:4"]
    ),
    "too long": ("L-203", "u1", ["-t", "2-00:01:00"]),
    "unlimited": ("L-203", "u1", ["-t", "UNLIMITED"]),
    "too long for the account": ("L-203", "u1", ["-A", "vision", "-t", "4:01:00"]),
    "too long for the class": ("L-203", "u1", ["--comment=workload=interactive", "-t", "121"]),
    "a closed account": ("L-206", "u1", ["-A", "nlp-finetune"]),
    "an unknown type": ("A-103", "u1", ["--gres=gpu:tesla:1"]),
    "a type in another case": ("A-103", "u1", ["--gpus=H100:1"]),
    "an unknown type among others": ("A-103", "u1", ["--gpus=h100:1,b200:1"]),
    "an unknown class": ("A-108", "u1", ["--comment=workload=trainign"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_by_its_rule(site, case):
    rule, user, args = REFUSED[case]
    job, said = site.submit(*args, user=user)
    assert (job, f"(rule {rule})" in said) == ("", True), said
    assert "violates accounting/QOS policy" in said


@pytest.mark.parametrize("program", ["srun", "salloc"])
def test_srun_and_salloc_are_refused_alike(site, program):
    done = site.cluster.run(program, "--gpus=h100:9", "true", user="u1", cwd="/tmp", check=False)
    assert done.returncode != 0
    assert "gpu-policy: a job of account nlp-pretrain may have 8 GPUs at most" in done.stderr


def test_a_heterogeneous_job_is_refused_for_any_of_its_parts(site):
    job, said = site.submit("--gpus=h100:1", ":", "--gpus=h100:9")
    assert (job, "L-201" in said) == ("", True)


# --- completed --------------------------------------------------------------------------

# What the job then asks for, whichever dialect the release speaks.
TYPED = {
    "--gres": (["--gres=gpu:2"], "TresPerNode", "gpu:h100:2", 2),
    "--gres without a count": (["--gres=gpu"], "TresPerNode", "gpu:h100", 1),
    "--gpus": (["--gpus=3"], "TresPerJob", "gpu:h100:3", 3),
    "--gpus-per-node": (["-N2", "--gpus-per-node=2"], "TresPerNode", "gpu:h100:2", 4),
    "--gpus-per-task": (["-n2", "--gpus-per-task=2"], "TresPerTask", "gpu:h100[:=]2", 4),
    "--gpus-per-task with -c": (
        ["-n2", "-c2", "--gpus-per-task=2"], "TresPerTask", "gpu:h100[:=]2", 4
    ),
    "--gpus-per-socket": (
        ["-N1", "--sockets-per-node=2", "--gpus-per-socket=1"], "TresPerSocket", "gpu:h100:1", 2
    ),
    "--ntasks-per-gpu": (["-n4", "--ntasks-per-gpu=2"], "TresPerJob", "gpu:h100:2", 2),
    "two forms": (["--gpus=2", "--gpus-per-node=1"], "TresPerJob", "gpu:h100:2", 2),
    "several partitions": (["-p", "gpu,interactive", "--gpus=1"], "TresPerJob", "gpu:h100:1", 1),
    "an array": (["--array=0-3", "--gpus=1"], "TresPerJob", "gpu:h100:1", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", TYPED)
def test_an_untyped_request_gets_the_partitions_type(site, case):
    args, field, text, gpus = TYPED[case]
    job, said = site.submit(*args)
    assert "the request names no GPU type: it is taken as h100 (rule L-204)" in said
    found = site.show(job)
    assert re.search(f"gres[:/]{text}$", found[field]), found[field]
    assert f"gres/gpu:h100={gpus}" in found["REQ"]


def test_srun_runs_with_the_type_it_was_given(site):
    show = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    done = site.cluster.run("srun", "-t1", "--gpus=2", *show, user="u1", cwd="/tmp")
    assert (done.stdout, "(rule L-204)" in done.stderr) == ("0,1\n", True)


@pytest.mark.parametrize(
    ("args", "limit"),
    [
        ([], "00:30:00"),
        (["--comment=workload=training"], "1-00:00:00"),
        (["-A", "vision", "--comment=workload=training"], "04:00:00"),
        (["-p", "interactive", "--comment=workload=training"], "08:00:00"),
        (["-t", "5"], "00:05:00"),
        (["-t", "5", "--time-min=2"], "00:05:00"),
    ],
)
def test_a_missing_time_limit_is_completed_and_cut(site, args, limit):
    job, said = site.submit(*args)
    assert site.show(job)["TimeLimit"] == limit
    assert (f"without --time it gets {limit} (rule R-305)" in said) == ("-t" not in args)


PASSES = {
    "typed": ["--gres=gpu:h100:8"],
    "no GPUs": ["-n4"],
    "no GPUs, all of a CPU node": ["-p", "cpu", "--exclusive", "--mem=1"],
    "an array": ["--array=0-99", "--gpus=h100:1"],
    "a node of its own": ["--exclusive", "-N1"],
    "a comment of one's own": ["--comment=my workload: heavy"],
}


@pytest.mark.parametrize("case", PASSES)
def test_what_violates_nothing_passes_in_silence(site, case):
    job, said = site.submit("-t5", *PASSES[case])
    assert (bool(job), said) == (True, "")


def test_exclusive_jobs_do_get_all_gpus_of_their_nodes(site):
    """Which is why they are counted so."""
    done = site.cluster.run(
        *("srun", "-t1", "--exclusive", "-N1", "-p", "gpu", "sh", "-c"),
        "scontrol show job $SLURM_JOB_ID | grep -E '^ +(Alloc)?TRES=' | grep -o 'gres/gpu=[0-9]'",
        user="u1",
        cwd="/tmp",
    )
    assert done.stdout == "gres/gpu=8\n"


# --- held for approval --------------------------------------------------------------------


def held_job(site, *args):
    job, said = site.submit("-A", "vision-seg-medical", *(args or ("--gpus=h100:11",)), user="u4")
    assert "need an approval: the job is held until then (rule V-901)" in said, said
    return job


def test_a_job_above_a_threshold_is_held_and_marked(site):
    job = held_job(site, "--gpus=h100:11", "-t60")
    found = site.show(job)
    assert (found["Priority"], found["Reason"]) == ("0", "JobHeldUser")  # on both releases
    assert found["AdminComment"] == "gpu-policy(approval=pending;size=11:3600:1;most=11)"
    costly = held_job(site, "--gpus=h100:8", "-t4:00:00")
    assert site.show(costly)["Priority"] == "0"


@pytest.mark.parametrize("how", ["release", "uhold-release", "priority"])
def test_its_owner_cannot_release_it(site, how):
    job = held_job(site)
    if how == "priority":
        done = site.update(job, "Priority=1", user="u4")
    else:
        if how == "uhold-release":
            site.cluster.run("scontrol", "uhold", job, user="u4", check=False)
        done = site.cluster.run("scontrol", "release", job, user="u4", check=False)
    assert "violates accounting/QOS policy" in done.stderr + done.stdout
    assert site.show(job)["Priority"] == "0"


def test_its_owner_may_make_it_smaller_or_hold_it(site):
    job = held_job(site)
    assert site.update(job, "TimeLimit=10", user="u4").stderr == ""
    site.cluster.run("scontrol", "hold", job, user="u4")
    assert site.show(job)["Priority"] == "0"


def test_nor_can_an_array_be_released_task_by_task(site):
    job = held_job(site, "--array=0-1", "--gpus=h100:11")
    done = site.cluster.run("scontrol", "release", f"{job}_1", user="u4", check=False)
    assert "violates accounting/QOS policy" in done.stderr + done.stdout


def test_once_approved_its_owner_may_hold_and_release_it(site):
    job = held_job(site)
    site.update(job, "AdminComment=gpu-policy(approval=approved;size=11:1800:1)", user="root")
    site.cluster.run("scontrol", "release", job, user="u4")
    assert site.show(job)["Priority"] != "0"


def test_an_operator_of_slurm_releases_it(site):
    job = held_job(site)
    site.cluster.run("scontrol", "release", job, user="slurm")
    assert site.show(job)["Priority"] != "0"


def test_a_users_own_hold_is_theirs(site):
    job, _ = site.submit("-H", "-t1", "--gpus=h100:1")
    site.cluster.run("scontrol", "release", job, user="u1")
    assert site.show(job)["Priority"] != "0"


def test_a_job_cannot_grow_over_a_threshold(site):
    job, _ = site.submit("-A", "vision-seg-medical", "-t60", "--gpus=h100:8", user="u4")
    done = site.update(job, "TimeLimit=4:00:00", user="u4")
    assert "violates accounting/QOS policy" in done.stderr
    assert site.update(job, "TimeLimit=30", user="u4").stderr == ""


# --- changes of a waiting job ---------------------------------------------------------------


def test_what_its_owner_changes_in_a_waiting_job_is_judged(site):
    job, _ = site.submit("-t60", "--gres=gpu:h100:5")
    for what in ("NumNodes=2", "TimeLimit=2-00:01:00", "TimeLimit=UNLIMITED"):
        done = site.update(job, what)
        assert "violates accounting/QOS policy" in done.stderr, what
    assert site.update(job, "Account=nlp-finetune").returncode != 0
    of_class, _ = site.submit("-n8", "--comment=workload=interactive", "--gres=gpu:h100:1")
    assert "violates" in site.update(of_class, "TimeLimit=121").stderr
    assert site.update(of_class, "TimeLimit=119").stderr == ""
    assert site.update(job, "TimeLimit=90").stderr == ""
    assert site.update(job, "Comment=mine").stderr == ""
    assert site.update(job, "TimeLimit=3-0", user="slurm").stderr == ""
    assert site.show(job)["TimeLimit"] == "3-00:00:00"


def test_nor_does_a_job_get_more_by_its_node_list_or_its_arrays_throttle(site):
    job, _ = site.submit("-t60", "--gres=gpu:h100:5")
    assert "violates" in site.update(job, "ReqNodeList=gpu01,gpu02").stderr
    assert site.update(job, "ReqNodeList=gpu01").stderr == ""
    array, _ = site.submit(
        "-t60", "--array=0-9%2", "--gpus=h100:4", "-A", "nlp-pretrain", user="u2"
    )
    assert "violates" in site.update(array, "ArrayTaskThrottle=4", user="u2").stderr
    assert "violates" in site.update(array, "ArrayTaskThrottle=0", user="u2").stderr
    assert site.update(array, "ArrayTaskThrottle=3", user="u2").stderr == ""


def test_a_coordinator_makes_no_job_larger_than_its_owner_may(site):
    site.cluster.run("sacctmgr", "-i", "add", "coordinator", "account=nlp", "name=u1")
    try:
        job, _ = site.submit("-A", "nlp-pretrain", "-N1", "-t60", "--gres=gpu:h100:2", user="u2")
        for what in ("Gres=gpu:h100:9", "NumNodes=5"):
            site.update(job, what, user="u1")
            assert site.show(job)["GPUS"] == "2", what
        assert site.update(job, "Gres=gpu:h100:3", user="u1").stderr == ""
        assert site.show(job)["GPUS"] == "3"
    finally:
        site.cluster.run("sacctmgr", "-i", "delete", "coordinator", "account=nlp", "name=u1")


@pytest.mark.parametrize("count", ["+9", " 9", "-9"])
def test_no_way_to_write_a_number_of_gpus_gets_past_it(site, count):
    """22.05 takes all three, the last as 18446744073709551607."""
    for form in ("--gres=gpu:h100:", "--gpus-per-node=h100:", "--gres=gpu:"):
        job, said = site.submit(f"{form}{count}")
        assert job == "", said
    job, _ = site.submit("-t60", "--gres=gpu:h100:1")
    site.update(job, f"gres=gpu:h100:{count}")
    site.update(job, f"TresPerNode=gres/gpu:h100:{count}")
    assert site.show(job)["GPUS"] == "1"


def test_the_owners_own_limit_holds_for_changes_too(site):
    job, _ = site.submit("-t60", "-A", "nlp-pretrain", user="u2")
    assert "violates" in site.update(job, "TimeLimit=1-00:01:00", user="u2").stderr
    assert site.update(job, "TimeLimit=1-0", user="u2").stderr == ""


def test_a_job_that_was_let_in_before_the_rule_can_still_be_cut(site):
    site.policy("enforcement: observe\n")
    job, said = site.submit("--gres=gpu:h100:8", "-N2", "-t3-0")
    assert said == ""
    site.policy(POLICY)
    assert "violates" in site.update(job, "TimeLimit=2-12:00:00").stderr
    assert site.update(job, "Comment=mine").stderr == ""


# --- how much is done -----------------------------------------------------------------------


def test_advise_tells_and_observe_logs(site):
    site.policy(POLICY.replace("enforcement: enforce", "enforcement: advise"))
    job, said = site.submit("--gpus=9")
    assert site.show(job)["TresPerJob"].endswith("gpu:9")
    assert ("L-201" in said, "L-204" in said) == (True, True)
    site.policy(POLICY.replace("enforcement: enforce", "enforcement: observe"))
    job, said = site.submit("--gpus=9", "-A", "nlp-finetune")
    assert (bool(job), said) == (True, "")
    log = (site.cluster.state / "log/slurmctld.log").read_text()
    assert "gpu-policy: would say L-206: account nlp-finetune is closed" in log


def test_refusals_where_the_site_wants_them(site):
    site.policy(POLICY.replace("untyped: type", "untyped: refuse, missing_time: refuse"))
    assert "L-204" in site.submit("-t1", "--gpus=1")[1]
    assert "L-205" in site.submit("-n1")[1]
    assert site.submit("-t1", "--gpus=h100:1")[0]


@pytest.mark.parametrize("broken", ["return {", "return 1", "while true do end", "\x1bLua", ""])
def test_a_broken_table_refuses_no_job_and_lifts_nothing(site, broken):
    site.table(broken)
    assert site.submit("--gpus=h100:9")[0] == ""
    job, said = site.submit("--gpus=h100:1")
    assert job, said
    log = (site.cluster.state / "log/slurmctld.log").read_text()
    assert "limits.lua is broken and was not taken over" in log


def test_without_a_table_nothing_is_limited(site):
    site.cluster.limits.unlink()
    site.in_force = ""
    site.look()
    assert site.submit("--gpus=9", "-A", "nlp-finetune", "-t0")[0]


# --- and gpu-submit ---------------------------------------------------------------------------


def test_what_gpu_submit_admits_passes_unharmed(site):
    policy = str(site.cluster.state / "policy.yaml")
    for number, args in enumerate(
        (["--gpus", "2"], ["--gpus", "4", "--workload", "training", "-t", "2h"], ["--gpus", "0"])
    ):
        done = site.cluster.ours(
            *("slurm_gpu_policy.apps.submit", "--policy", policy, "--parsable", "-H", *args),
            *("-J", f"ours{number}", "--", "true"),
            user="u1",
            cwd="/tmp",
        )
        assert "rule" not in done.stderr
        assert site.show(done.stdout.strip())["JobName"] == f"ours{number}"


def test_what_gpu_submit_would_have_approved_is_held_and_marked(site):
    policy = str(site.cluster.state / "policy.yaml")
    done = site.cluster.ours(
        *("slurm_gpu_policy.apps.submit", "--policy", policy, "--parsable", "--gpus", "11"),
        *("-A", "vision-seg-medical", "-t", "1h", "--", "true"),
        user="u4",
        cwd="/tmp",
    )
    found = site.show(done.stdout.strip())
    assert (found["Priority"], found["Reason"]) == ("0", "JobHeldUser")
    assert found["AdminComment"].startswith("gpu-policy(approval=pending;size=")
