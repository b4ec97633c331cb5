"""What is said to sacctmgr, and what is read in its answers (both releases' own words)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.slurm import parse_managed
from slurm_gpu_policy.adapters.slurm.managing import calls_for, outcome
from slurm_gpu_policy.adapters.slurm.run import Answer
from slurm_gpu_policy.config.schema import Policy
from slurm_gpu_policy.errors import NotAllowed, SlurmRefused, SlurmUnavailable
from slurm_gpu_policy.model.plan import Change, FieldChange
from slurm_gpu_policy.policy.planning.plan_words import FIELDS
from slurm_gpu_policy.policy.planning.wanting import wanted
from tests.fakes import accounts as fake


def change(verb, *what, **values):
    return Change(verb, what, tuple(FieldChange(name, "old", v) for name, v in values.items()))


def said(*args, **values):
    return [" ".join(argv) for argv in calls_for("hpc", change(*args, **values))]


def answer(stdout="", code=0, stderr=""):
    return Answer(("sacctmgr",), code, stdout.encode(), stderr.encode())


# --- what is said -------------------------------------------------------------------------


def test_every_call_about_an_association_names_the_cluster():
    assert said("create", "account", "lab", parent="root", shares="3") == [
        "add account name=lab cluster=hpc Parent=root Fairshare=3"
    ]
    assert said("set", "account", "lab", gpus="8", time="5400") == [
        "modify account where name=lab cluster=hpc set GrpTRES=gres/gpu=8 MaxWall=01:30:00"
    ]
    assert said("remove", "account", "lab") == ["delete account where name=lab cluster=hpc"]
    assert said("remove", "user", "lab", "u1") == [
        "delete user where name=u1 account=lab cluster=hpc"
    ]


def test_a_users_change_leaves_their_associations_with_a_partition_alone():
    assert said("set", "user", "lab", "u1", shares="3", default="yes") == [
        "modify user where name=u1 account=lab cluster=hpc partition= set Fairshare=3",
        "modify user where name=u1 cluster=hpc set DefaultAccount=lab",
    ]
    assert said("create", "user", "lab", "u1", default="yes", running_jobs="2") == [
        "add user name=u1 account=lab cluster=hpc DefaultAccount=lab MaxJobs=2"
    ]


def test_unlimited_and_inherited_are_said_in_sacctmgrs_way():
    values = dict.fromkeys(("gpus", "time", "submitted_jobs"), "unlimited")
    (argv,) = said("set", "account", "lab", **values, qos="inherited", default_qos="inherited")
    assert argv.partition(" set ")[2] == (
        "GrpTRES=gres/gpu=-1 MaxWall=-1 GrpSubmitJobs=-1 QOS= DefaultQOS=-1"
    )
    assert said("set", "qos", "fast", flags="none", min_run_time="unlimited") == [
        "modify qos where name=fast set Flags=-1 PreemptExemptTime=-1"
    ]


def test_an_emptied_list_of_preempted_qos_is_said_twice_or_slurmdbd_goes_on_believing_it():
    assert said("set", "qos", "fast", preempts="none") == [
        "modify qos where name=fast set Preempt=",
        "modify qos where name=fast set Preempt=-old",
    ]


@pytest.mark.parametrize(
    ("kind", "known"), [("account", fake.ACCOUNT), ("user", fake.USER), ("qos", fake.QOS)]
)
def test_every_value_that_is_read_can_be_written_and_has_words(kind, known):
    what = (kind, "lab", "u1") if kind == "user" else (kind, "lab")
    for name in known:
        value = "1" if name in {"time", "min_run_time"} else "x"
        (*_, last) = said("set", *what, **{name: "yes" if name == "default" else value})
        assert " set " in last
        assert name in FIELDS


@pytest.mark.parametrize(
    "name", ["-x", "x[1-2]", "x'y", 'x"y', "x,y", "x y", "", "x=y", "x*", "x\n", "ä", "x|y", "`id`"]
)
def test_names_that_sacctmgr_would_unfold_or_rewrite_never_reach_it(name):
    for what in (("account", name), ("qos", name), ("user", "lab", name), ("user", name, "u1")):
        with pytest.raises(SlurmRefused, match="cannot be given to sacctmgr"):
            said("create", *what)


@given(text=st.text(max_size=40))
def test_a_description_reaches_sacctmgr_whole_or_not_at_all(text):
    try:
        (argv,) = calls_for("hpc", change("set", "qos", "fast", description=text))
    except SlurmRefused:
        assert any(char in "\"'`\\" or not char.isprintable() or ord(char) < 32 for char in text)
    else:
        assert argv[-1] == f"Description={text}"


# --- what it answers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" Nothing new added.\n", 1),
        (" Already existing account nlp on cluster hpc\n", 1),
        ("Request didn't affect anything\nNothing added.\nMake sure the accounts\n", 1),
        (" Nothing deleted\n", 1),
        (" Nothing removed\n", 1),
    ],
)
def test_nothing_to_do_is_no_error(text, code):
    assert outcome(answer(text, code)) is False


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (" Modified account associations...\n  Parent account x doesn't exist on cluster hpc\n", 0,
         "Parent account x doesn't exist"),
        (" These associations don't have access to their default qos.\n  DefQOS = debug\n", 0,
         "don't have access"),
        (" Modified account associations...\n  Requested parent account a is a child of b on\n", 0,
         "is a child of"),
        (" Error with request: Job(s) active, cancel job(s) before remove\n  JobID = 1\n", 1,
         "Job(s) active"),
        (" Nothing modified\n", 1, "Nothing modified"),
        (" Error with request: You can not remove the default account of a user\n", 1,
         "default account"),
    ],
)  # fmt: skip
def test_a_refusal_is_seen_whatever_the_code(text, code, words):
    with pytest.raises(SlurmRefused) as caught:
        outcome(answer(text, code))
    assert words in str(caught.value)


def test_sacctmgrs_complaint_is_shown_in_its_own_words():
    text = " Unknown option: qos=nosuch\n Use keyword 'where' to modify condition\n"
    complaint = "sacctmgr: error: You gave a bad qos 'nosuch'. Valid QOS's are normal,low\n"
    with pytest.raises(SlurmRefused, match=r"^You gave a bad qos 'nosuch'\. Valid QOS's"):
        outcome(answer(text, 1, complaint))


@pytest.mark.parametrize("name", ["error", "problem", "error-analysis", "cant"])
def test_an_account_that_is_called_an_error_is_none(name):
    listed = f" Adding Account(s)\n  {name}\n Associations\n  A = {name}   C = hpc\n"
    assert outcome(answer(listed)) is True


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        (" Problem adding accounts: Access/permission denied\n Adding Account(s)\n", ""),
        (" error: Only admins/operators/coordinators can add accounts\n", ""),
        ("", "sacctmgr: error: Your user doesn't have privilege to perform this action\n"),
    ],
)
def test_who_is_no_administrator_is_told_so(stdout, stderr):
    with pytest.raises(NotAllowed, match="be root, SlurmUser or a user whom"):
        outcome(answer(stdout, 1, stderr))


def test_a_slurmdbd_that_is_away_is_unavailable():
    words = "sacctmgr: error: slurm_persist_conn_open: failed to open persistent connection\n"
    with pytest.raises(SlurmUnavailable):
        outcome(answer("", 1, words))


# --- what is read -------------------------------------------------------------------------

# As 22.05.8 and 26.05.5 print them (sacctmgr -nP show …), of one database with two clusters.
ASSOCIATIONS = """\
elsewhere|lab|||root|77||||||||||
hpc|root||||1||high,low,normal|normal|||||||
hpc|lab|||root|30|7|+fast,normal|normal|cpu=10,gres/gpu=8|gres/gpu=4|04:00:00|10|50|5|25
hpc|lab|u1|||parent|||||||||2|3
hpc|lab|u1|gpu||1||||||||||
hpc|lab-a|||lab|2147483647||||||1-00:00:00||||
"""
USERS = """\
elsewhere|lab|u1||lab
hpc|lab|u1||lab-x
hpc|lab|u1|gpu|lab-x
hpc|gone|U9||gone
"""
ACCOUNTS = """\
lab|u1,u2|physics|the | lab
and its second line
lab-a||x|y
gone||x|y
"""
QOS = (
    "fast|50|0.500000|DenyOnLimit,NoDecay|slow,low|requeue|00:20:00|00:00:30|01:30:00|gres/gpu=4"
    "|gres/gpu=6|gres/gpu=7|cpu=1,gres/gpu=8|20|30|2|3|short | first\n"
    "slow|0|1.000000|||within,cancel||00:00:00||||||||||\n"
)


def test_what_it_prints_becomes_objects_with_their_own_values():
    rows = ASSOCIATIONS.splitlines()
    assert {line.count("|") for line in rows} == {15}
    found = parse_managed.present("HPC", ASSOCIATIONS, USERS, ACCOUNTS, QOS)
    lab = found.objects["account", "lab"]
    assert lab == {
        "parent": "root", "shares": "30", "priority": "7", "qos": "+fast,normal",
        "default_qos": "normal", "gpus": "8", "gpus_per_job": "4", "time": "14400",
        "running_jobs": "10", "submitted_jobs": "50", "running_jobs_per_user": "5",
        "submitted_jobs_per_user": "25", "organization": "physics", "description": "the | lab",
    }  # fmt: skip
    u1 = found.objects["user", "lab", "u1"]
    assert u1 == {
        **fake.USER, "shares": "parent", "running_jobs": "2", "submitted_jobs": "3",
    }  # fmt: skip
    assert found.objects["account", "lab-a"]["shares"] == "parent"
    assert found.objects["account", "lab-a"]["time"] == "86400"
    assert found.partition_bound == {("lab", "u1")}
    assert ("coordinator", "lab", "u2") in found.objects
    assert ("account", "gone") not in found.objects
    assert found.records["gone"] == {"organization": "x", "description": "y"}
    assert found.users == {"u1", "u9"}
    assert found.objects["qos", "fast"] == {
        "priority": "50", "usage_factor": "0.500000", "flags": "denyonlimit,nodecay",
        "preempts": "low,slow", "preempt_mode": "requeue", "min_run_time": "1200",
        "grace_seconds": "30", "time": "5400", "gpus_per_job": "4", "gpus_per_user": "6",
        "gpus_per_account": "7", "gpus": "8", "running_jobs": "20", "submitted_jobs": "30",
        "running_jobs_per_user": "2", "submitted_jobs_per_user": "3",
        "description": "short | first",
    }  # fmt: skip
    assert found.objects["qos", "slow"] == {
        **fake.QOS, "preempt_mode": "within,cancel", "description": "",
    }  # fmt: skip


def test_the_fake_has_the_same_values_as_the_commands_read():
    found = parse_managed.present("hpc", ASSOCIATIONS, USERS, ACCOUNTS, QOS).objects
    assert found["account", "lab"].keys() == fake.ACCOUNT.keys()
    assert found["user", "lab", "u1"].keys() == fake.USER.keys()
    assert found["qos", "fast"].keys() == fake.QOS.keys()


def test_the_policy_files_defaults_name_nothing_of_all_this():
    assert wanted(Policy()).objects == {}
