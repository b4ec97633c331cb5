"""``gpu-policy plan`` and ``apply`` on clusters of their own: what Slurm then says, and crashes."""

from __future__ import annotations

import json
import random
import threading

import pytest
import yaml

from tests.clusters import CHROOT_PYTHON, NO_CACHE, ROOT, PrivateCluster, require_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.root]

POLICY = {
    "qos": {
        "fast": {
            "description": "Short, and first",
            "priority": 50,
            "preempts": ["slow"],
            "flags": ["DenyOnLimit", "NoDecay"],
            "usage_factor": "0.5",
            "limits": {"gpus": 8, "gpus_per_job": 4, "gpus_per_user": 6, "gpus_per_account": 7,
                       "time": "90m", "running_jobs": 20, "submitted_jobs": 30,
                       "running_jobs_per_user": 2, "submitted_jobs_per_user": 3},
        },
        "slow": {"preempt_mode": "cancel", "grace_seconds": 30, "min_run_time": "5m"},
    },
    "over_quota": {"min_run_time": "20m"},
    "accounts": {
        "Lab": {
            "description": "The lab, in room 4",
            "organization": "Physics",
            "shares": 30,
            "priority": 7,
            "guaranteed_gpus": 4,
            "qos": ["normal", "fast"],
            "default_qos": "normal",
            "users": ["u1", "u2"],
            "coordinators": ["u1"],
            "limits": {"gpus": 8, "gpus_per_job": 4, "time": "4h", "running_jobs": 10,
                       "submitted_jobs": 50, "running_jobs_per_user": 5,
                       "submitted_jobs_per_user": 25},
        },
        "lab-a": {
            "parent": "lab",
            "shares": "parent",
            "users": {
                "u3": {"shares": 7, "default": True, "qos": ["fast"], "default_qos": "fast",
                       "limits": {"gpus": 2, "gpus_per_job": 1, "time": "30m",
                                  "running_jobs": 1, "submitted_jobs": 2}},
                "somebody-new": {"shares": "parent"},
            },
        },
    },
}  # fmt: skip
SMALL = {
    "qos": {"fast": {"preempts": ["slow"]}, "slow": {"preempts": []}},
    "accounts": {
        "lab": {"users": ["u1"], "coordinators": ["u1"], "closed": True},
        "lab-a": {"parent": "lab", "shares": 3, "users": {"u4": {"default": True}}},
    },
}
KILLER = """\
#!/bin/bash
# Stands before sacctmgr: kills who called it at write number $KILL_AT.
PATH=${PATH#*:}
if [[ " $* " == *" -i "* && -n ${KILL_AT-} ]]; then
    n=$(( $(cat "$KILL_COUNT" 2>/dev/null || echo 0) + 1 )); echo $n >"$KILL_COUNT"
    if (( n == KILL_AT )); then
        case $KILL_WHEN in
            before) kill -9 $PPID; exit 1 ;;
            after) sacctmgr "$@"; kill -9 $PPID; exit ;;
            orphan) kill -9 $PPID; sleep 0.5; exec sacctmgr "$@" ;;
        esac
    fi
fi
exec sacctmgr "$@"
"""
WORDS = {
    "assoc": "wopl withrawqoslevel format=cluster,account,user,partition,parentname,fairshare,"
    "priority,qos,defaultqos,grptres,maxtresperjob,maxwall,grpjobs,grpsubmit,maxjobs,maxsubmit",
    "qos": "format=name,description,priority,usagefactor,flags,preempt,preemptmode,"
    "preemptexempttime,gracetime,maxwall,maxtresperjob,maxtresperuser,maxtresperaccount,grptres,"
    "grpjobs,grpsubmit,maxjobsperuser,maxsubmitjobsperuser",
    "account": "withcoord format=account,coordinators,organization,description",
    "user": "withassoc format=cluster,user,account,defaultaccount",
}


class Site:
    """A private cluster with a policy file of its own."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.folder = cluster.state / "apply"
        self.file = cluster.state / "policy.yaml"
        self.job_submit = f"{cluster.conf_folder}/job_submit.lua"

    def program(self, *args, policy=None, folder=None, user="root", env=None, check=True):
        """Run gpu-policy ARGS under *policy*; its code must be 0 if *check*."""
        self.write_policy(policy, folder)
        more = {"GPU_POLICY_FILE": str(self.file), "XDG_CACHE_HOME": NO_CACHE, **(env or {})}
        done = self.cluster.ours(
            "slurm_gpu_policy.apps.policy", *args, user=user, env=more, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        if check:
            assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def apply_killed_after(self, seconds, policy, *, with_children):
        """Apply, and kill it by SIGKILL after so long, alone or with the sacctmgr it runs."""
        python = CHROOT_PYTHON
        if self.cluster.kind == "native":
            python = ("env", f"PYTHONPATH={ROOT}", str(ROOT / ".venv/bin/python"))
        self.write_policy(policy)
        how = () if with_children else ("--foreground",)
        command = ("-m", "slurm_gpu_policy.apps.policy", "apply", "--yes")
        return self.cluster.run(
            "timeout", *how, "-s", "KILL", f"{seconds:.3f}", *python, *command,
            env={"GPU_POLICY_FILE": str(self.file), "XDG_CACHE_HOME": NO_CACHE}, check=False,
        )  # fmt: skip

    def write_policy(self, policy, folder=None):
        paths = {
            "state_folder": str(folder or self.folder),
            "limits_table": str(self.cluster.limits),
        }
        self.file.write_text(yaml.safe_dump({**(policy or {}), "apply": paths}))

    def apply(self, policy=None, **kwargs):
        """Apply, and see that a new plan is empty."""
        done = self.program("apply", "--yes", "--json", policy=policy, check=False, **kwargs)
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        said = [f"{one['words']}: {one['reason']}" for one in answer["refused"]]
        left = self.program("plan", policy=policy).stdout if answer["left"] else ""
        assert (done.returncode, said, left) == (0, [], "")
        return answer

    def drifts(self, policy=None):
        code = self.program("plan", "--check", policy=policy, check=False).returncode
        assert code in {0, 1}
        return code == 1

    def sacctmgr(self, *args):
        return self.cluster.run("sacctmgr", "-i", "-Q", *args).stdout

    def show(self, table, *where):
        """Rows of sacctmgr, as lists of texts."""
        words = WORDS[table].split()
        lines = self.cluster.run("sacctmgr", "-nP", "show", table, *where, *words).stdout
        return sorted(line.split("|") for line in lines.splitlines())

    def everything(self):
        return {table: self.show(table) for table in WORDS}

    def applied(self):
        return json.loads((self.folder / f"applied-{self.cluster.name}.json").read_text())

    def environment(self, **more):
        path = self.cluster.run("sh", "-c", "echo $PATH").stdout.strip()
        return {"PATH": f"{self.folder}/bin:{path}", **more}


@pytest.fixture(
    scope="module", params=["native", pytest.param("pyslurm", marks=pytest.mark.pyslurm)]
)
def site(request):
    require_cluster(request.param)
    with PrivateCluster("apply", kind=request.param) as cluster:
        found = Site(cluster)
        # What others made: it must be there to the last letter after every test.
        found.sacctmgr("add", "cluster", "elsewhere")
        found.sacctmgr("add", "account", "theirs", f"cluster={cluster.name}", "Fairshare=9")
        found.sacctmgr("add", "account", "lab-a", "cluster=elsewhere", "Fairshare=77")
        found.sacctmgr("add", "user", "u1", "cluster=elsewhere", "account=lab-a", "Fairshare=78")
        found.sacctmgr("add", "qos", "theirs", "Description=their own", "Priority=3")
        before = found.everything()
        yield found
        found.apply()
        assert found.everything() == before  # to the last letter, whatever the tests did
        assert found.applied() == {
            "version": 1, "cluster": cluster.name, "objects": [], "closed": {},
        }  # fmt: skip


def test_killed_at_any_step_the_next_apply_completes_it(site):
    folder = site.folder / "bin"
    folder.mkdir(parents=True)
    (folder / "sacctmgr").write_text(KILLER)
    (folder / "sacctmgr").chmod(0o755)
    count = site.folder / "count"
    ways = ("orphan", "after", "before")
    runs = 0
    for policy in (SMALL, {}) if site.cluster.kind == "pyslurm" else (SMALL,):
        done = None
        while done is None or done.returncode:  # each run is killed at its first step, or after
            count.unlink(missing_ok=True)
            killer = {"KILL_AT": 1 + (runs % 5 == 4), "KILL_WHEN": ways[runs % 3]}
            killer["KILL_COUNT"] = count
            done = site.program(
                "apply", "--yes", policy=policy, env=site.environment(**killer), check=False
            )
            assert done.returncode in {0, -9, 137}, done.stderr
            runs += 1
        assert site.apply(policy)["changes"] == []
        assert not site.drifts(policy)
    assert runs > 7


def test_killed_at_random_moments_the_next_apply_completes_it(site):
    draw = random.Random(3)  # noqa: S311 - moments, no secrets
    slowest = 3.0 if site.cluster.kind == "native" else 1.2
    ends = []
    for _ in range(6):
        policy = draw.choice([SMALL, {}])
        killed = site.apply_killed_after(
            draw.uniform(0.2, slowest), policy, with_children=draw.random() < 0.5
        )
        ends.append(killed.returncode)
        assert "Traceback" not in killed.stderr
    assert {137, -9} & set(ends)
    site.apply(SMALL)
    assert not site.drifts(SMALL)


# The tests stand in an order in which each goes on from what the one before has applied: a
# step takes Slurm's database a quarter of a second, and a clean start would take ten.


def test_the_whole_walk(site):
    plan = site.program("plan", policy=POLICY).stdout
    assert "account lab-a: " in plan
    assert "~ QOS guaranteed: preempts none -> over-quota" in plan
    assert site.drifts(POLICY)
    first = site.apply(POLICY)
    assert (first["refused"], first["left"]) == ([], 0)
    assert len(first["done"]) == len(first["changes"]) + len(first["files"])
    name = site.cluster.name
    assert site.show("assoc", "where", "account=lab,lab-a", f"cluster={name}") == [
        [name, "lab", "", "", "root", "30", "7", "fast,guaranteed,normal,over-quota", "normal",
         "gres/gpu=8", "gres/gpu=4", "04:00:00", "10", "50", "5", "25"],
        [name, "lab", "u1", "", "", "1", *[""] * 10],
        [name, "lab", "u2", "", "", "1", *[""] * 10],
        [name, "lab-a", "", "", "lab", "parent", *[""] * 10],
        [name, "lab-a", "somebody-new", "", "", "parent", *[""] * 10],
        [name, "lab-a", "u3", "", "", "7", "", "fast", "fast", "gres/gpu=2", "gres/gpu=1",
         "00:30:00", "", "", "1", "2"],
    ]  # fmt: skip
    assert site.show("qos", "where", "name=fast,slow,guaranteed,over-quota") == [
        ["fast", "short, and first", "50", "0.500000", "DenyOnLimit,NoDecay", "slow", "cluster",
         "", "00:00:00", "01:30:00", "gres/gpu=4", "gres/gpu=6", "gres/gpu=7", "gres/gpu=8", "20",
         "30", "2", "3"],
        ["guaranteed", "guaranteed", "0", "1.000000", "", "over-quota", "cluster", "", "00:00:00",
         *[""] * 9],
        ["over-quota", "over-quota", "0", "1.000000", "", "", "requeue", "00:20:00", "00:00:00",
         *[""] * 9],
        ["slow", "slow", "0", "1.000000", "", "", "cancel", "00:05:00", "00:00:30", *[""] * 9],
    ]  # fmt: skip
    assert site.show("account", "where", "name=lab") == [
        ["lab", "u1", "physics", "the lab, in room 4"]
    ]
    assert [name, "u3", "lab-a", "lab-a"] in site.show("user", "where", "name=u3")
    assert not site.drifts(POLICY)
    second = site.apply(POLICY)
    assert (second["changes"], second["files"], second["done"]) == ([], [], [])


def test_every_limit_can_be_taken_away_again(site):
    free = json.loads(json.dumps(POLICY))
    for entry in (*free["qos"].values(), *free["accounts"].values()):
        if "limits" in entry:
            entry["limits"] = dict.fromkeys(entry["limits"], "unlimited")
    user = free["accounts"]["lab-a"]["users"]["u3"]
    user["limits"] = dict.fromkeys(user["limits"], "unlimited")
    free["qos"]["fast"] |= {"preempts": [], "flags": []}
    free["qos"]["slow"] |= {"min_run_time": "unlimited", "preempts": ["fast"]}
    assert site.apply(free)["left"] == 0
    assert not site.drifts(free)
    rows = site.show("assoc", "where", "account=lab,lab-a", f"cluster={site.cluster.name}")
    assert {cell for row in rows for cell in row[9:]} == {""}
    fast = site.show("qos", "where", "name=fast")[0]
    assert (fast[4], fast[5], set(fast[9:])) == ("", "", {""})


def test_drift_is_found_and_put_right_and_nothing_else(site):
    site.apply(SMALL)
    name = site.cluster.name
    site.sacctmgr("modify", "account", "where", "name=lab-a", f"cluster={name}", "set",
                  "Fairshare=99", "MaxJobs=4")  # fmt: skip
    assert site.drifts(SMALL)
    done = site.apply(SMALL)
    assert [one["words"] for one in done["changes"]] == ["account lab-a: shares 99 -> 3"]
    row = site.show("assoc", "where", "account=lab-a", "user=", f"cluster={name}")
    assert next(one for one in row if one[1:3] == ["lab-a", ""])[14] == "4"  # nobody named MaxJobs


def test_a_closed_account_takes_no_jobs_and_is_opened_again(site):
    site.apply(SMALL)
    why = site.cluster.run(
        "sbatch", "-A", "lab", "--wrap=true", user="u1", cwd="/tmp", check=False
    ).stderr
    assert "AssocGrpSubmitJobsLimit" in why or "closed" in why
    opened = json.loads(json.dumps(SMALL))
    del opened["accounts"]["lab"]["closed"]
    site.apply(opened)
    job = site.cluster.sbatch("-H", "-A", "lab", "--wrap=true", user="u1")
    kept = site.apply()
    assert "account lab stays: it has jobs" in kept["remarks"]
    assert kept["left"] == 0
    site.cluster.run("scancel", job)


def test_a_qos_with_waiting_jobs_stays_though_slurm_would_let_it_go(site):
    policy = {
        "qos": {"fast": {}},
        "accounts": {"lab": {"qos": ["normal", "fast"], "users": ["u2"]}},
    }
    site.apply(policy)
    job = site.cluster.sbatch("-H", "-A", "lab", "-q", "fast", "--wrap=true", user="u2")
    policy = {"accounts": {"lab": {"qos": ["normal"], "users": ["u2"]}}}
    assert "QOS fast stays: jobs are in it" in site.apply(policy)["remarks"]
    site.cluster.run("scancel", job)


def test_who_is_no_administrator_is_refused_and_nothing_is_remembered(site):
    folder = site.cluster.state / "u1s"
    folder.mkdir()
    folder.chmod(0o777)
    done = site.program("apply", "--yes", policy=SMALL, folder=folder, user="u1", check=False)
    assert done.returncode == 1
    assert "Slurm does not let this user change accounts and QOS" in done.stderr
    kept = json.loads((folder / f"applied-{site.cluster.name}.json").read_text())
    assert kept["objects"] == []
    done = site.program("apply", "--yes", policy=SMALL, user="u1", check=False)
    assert done.returncode == 1
    assert "apply is for root or SlurmUser" in done.stderr
    assert site.program("plan", policy=SMALL, user="u1").returncode == 0


def test_what_cannot_be_is_refused_before_anything_is_done(site):
    done = site.program(
        "apply", "--yes", policy={"accounts": {"lab": {"parent": "nowhere"}}}, check=False
    )
    assert done.returncode == 5
    assert "accounts.lab.parent: found 'nowhere'" in done.stderr


def test_two_applies_at_once_end_well(site):
    codes = []

    def run():
        python = site.program("apply", "--yes", policy=SMALL, check=False)
        codes.append((python.returncode, python.stdout))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [code for code, _ in codes] == [0, 0]
    assert sum("nothing to do" in said for _, said in codes) == 1
    assert not site.drifts(SMALL)


def test_job_submit_lua_is_written_read_by_slurm_and_never_taken_from_others(site):
    cluster = site.cluster
    strict = {
        "enforcement": "enforce",
        "accounts": {"lab": {"users": ["u1"]}},
        "limits": {"accounts": {"lab": {"gpus_per_job": 1}}},
    }
    cluster.run("sh", "-c", f"echo '-- mine' > {site.job_submit}")
    left = site.apply(strict)
    assert any("job_submit.lua is not ours" in one for one in left["remarks"])
    assert cluster.run("cat", site.job_submit).stdout == "-- mine\n"
    cluster.run("rm", site.job_submit)
    written = [one["path"] for one in site.apply(strict)["done"] if "path" in one]
    assert written == [site.job_submit]
    assert cluster.run("head", "-c", "14", site.job_submit).stdout == "-- generation "
    said = cluster.run(
        "sbatch",
        "-A",
        "lab",
        "--gres=gpu:h100:2",
        "--wrap=true",
        user="u1",
        cwd="/tmp",
        check=False,
    )
    assert said.returncode != 0
    assert "L-201" in said.stderr
    cluster.run("sh", "-c", f"echo '-- changed by hand' >> {site.job_submit}")
    assert site.drifts(strict)
    site.apply(strict)
    assert "changed by hand" not in cluster.run("cat", site.job_submit).stdout


def test_it_asks_nobody_without_a_terminal(site):
    done = site.program("apply", policy=SMALL, check=False)
    assert done.returncode == 2
    assert "say --yes" in done.stderr
