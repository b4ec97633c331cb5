from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.slurm import parse_accounts, parse_cluster, parse_detail
from slurm_gpu_policy.adapters.slurm.parse_accounting import FIELDS, backlog, records
from slurm_gpu_policy.errors import SlurmUnreadable
from slurm_gpu_policy.model.job import JobState
from tests.builders import make_job

NODE = (
    "NodeName=n1 CPUAlloc=3 CPUTot=64 AvailableFeatures=h100,ib Gres={gres} GresUsed={used} "
    "OS=Linux 6.1 #1 State=x RealMemory=1000 AllocMem=10 State={state} Weight=5 "
    "Partitions=gpu,all {end}\n"
)


def node(gres="gpu:h100:8(S:0-1)", used="gpu:h100:3(IDX:0-2)", state="MIXED", end=""):
    (found,) = parse_cluster.nodes(
        NODE.replace("State=x ", "").format(gres=gres, used=used, state=state, end=end)
    )
    return found


@pytest.mark.parametrize(
    ("gres", "used", "seen"),
    [
        ("gpu:h100:8(S:0-1)", "gpu:h100:3(IDX:0-2)", [("h100", 8, 3)]),
        ("gpu:8", "gpu:(null):2(IDX:0-1)", [("", 8, 2)]),
        ("gpu:8", "gpu:2", [("", 8, 2)]),
        ("gpu:h100:4,gpu:a100:4", "gpu:h100:1(IDX:0),gpu:a100:0(IDX:N/A)",
         [("h100", 4, 1), ("a100", 4, 0)]),
        ("gpu:h100:2(S:0),gpu:h100:2(S:1),shard:16", "gpu:h100:4(IDX:0-3),shard:0(0/4)",
         [("h100", 4, 4)]),
        ("gpu:1g.10gb:7,gpu:3g.40gb:2", "gpu:1g.10gb:2(IDX:0-1),gpu:3g.40gb:0(IDX:N/A)",
         [("1g.10gb", 7, 2), ("3g.40gb", 2, 0)]),
        ("(null)", "gpu:0", []),
    ],
)  # fmt: skip
def test_gpus_of_a_node_by_type(gres, used, seen):
    assert [(g.type, g.total, g.used) for g in node(gres, used).gpus] == seen


@pytest.mark.parametrize(
    ("text", "state", "flags", "usable"),
    [
        ("IDLE", "IDLE", set(), True),
        ("MIXED+PLANNED", "MIXED", {"PLANNED"}, True),
        ("IDLE+DRAIN", "IDLE", {"DRAIN"}, False),
        ("DOWN*", "DOWN", {"NOT_RESPONDING"}, False),
        ("DOWN*+DRAIN", "DOWN", {"NOT_RESPONDING", "DRAIN"}, False),
        ("IDLE+CLOUD+POWERED_DOWN", "IDLE", {"CLOUD", "POWERED_DOWN"}, True),
    ],
)
def test_states_are_a_base_and_flags(text, state, flags, usable):
    found = node(state=text)
    assert (found.state, found.flags, found.usable) == (state, flags, usable)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_no_reason_of_an_administrator_changes_a_field(reason):
    found = node(end=f"Reason={reason} State=DOWN CPUTot=1 [root@2027-01-01T00:00:00]")
    assert (found.state, found.cpus) == ("MIXED", 64)


def test_an_unreadable_field_names_itself_and_its_node():
    with pytest.raises(SlurmUnreadable, match="CPUTot of NodeName=n1"):
        parse_cluster.nodes("NodeName=n1 CPUTot=many State=IDLE\n")


def test_no_reservations():
    assert parse_cluster.reservations("No reservations in the system\n") == ()


def test_a_reservation():
    text = (
        "ReservationName=maint StartTime=1800000000 EndTime=1800003600 Duration=01:00:00 "
        "Nodes=gpu[01-02] NodeCnt=2 CoreCnt=128 Features=(null) PartitionName=(null) "
        "Flags=MAINT,SPEC_NODES TRES=cpu=128 Users=root,u1 Groups=(null) Accounts=(null) "
        "Licenses=(null) State=INACTIVE BurstBuffer=(null) MaxStartDelay=(null)\n"
    )
    (found,) = parse_cluster.reservations(text)
    assert found.nodes == ("gpu01", "gpu02")
    assert found.users == ("root", "u1")
    assert found.accounts == ()
    assert found.flags == {"MAINT", "SPEC_NODES"}
    assert (found.start_time, found.end_time) == (1800000000, 1800003600)
    assert dict(found.tres) == {"cpu": 128}


def test_settings_keep_their_text():
    found = parse_cluster.config(
        "Configuration data as of 1800000000\nClusterName = c\nSLURM_VERSION = 22.05.8\n"
        "PriorityFlags           = \nTaskEpilog = a = b\n\nSlurmctld(primary) at vm is UP\n"
    )
    assert (found.name, found.release) == ("c", (22, 5))
    assert found.settings["TaskEpilog"] == "a = b"
    assert found.settings["PriorityFlags"] == ""


def test_an_answer_without_a_version_is_unreadable():
    with pytest.raises(SlurmUnreadable, match="SLURM_VERSION"):
        parse_cluster.config("hello\n")


def test_parent_shares_are_no_number():
    line = "c|nlp||||parent|normal|normal|gres/gpu=8||gres/gpu=60|1-00:00:00|5|\n"
    (found,) = parse_accounts.associations(line, "C")
    assert found.raw_shares is None
    assert dict(found.max_tres_per_job) == {"gres/gpu": 8}
    assert dict(found.grp_tres_mins) == {"gres/gpu": 60}
    assert (found.max_wall_seconds, found.max_jobs, found.max_submit_jobs) == (86400, 5, None)


def test_a_row_with_a_bar_too_many_is_unreadable():
    with pytest.raises(SlurmUnreadable, match="count of fields"):
        parse_accounts.qos("a|b|c\n")


SACCT = {
    "JobIDRaw": "7", "JobID": "7", "User": "u1", "Account": "nlp", "Partition": "gpu",
    "QOS": "normal", "State": "CANCELLED by 6001", "Submit": "1", "Eligible": "2", "Start": "3",
    "End": "9", "ElapsedRaw": "6", "Suspended": "00:00:00", "TimelimitRaw": "60",
    "ExitCode": "0:15", "NodeList": "gpu01", "AllocTRES": "billing=8,gres/gpu=1,mem=8000M",
    "JobName": "x", "Comment": "", "AdminComment": "",
}  # fmt: skip
HOSTILE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def accounted(**fields):
    values = SACCT | fields
    return "".join(values[name] + "\x1fMARK" for name, _f, _r in FIELDS) + "\n"


@given(st.lists(st.tuples(HOSTILE, HOSTILE), max_size=4))
def test_no_name_or_comment_shifts_the_accounting(texts):
    text = "".join(
        accounted(JobIDRaw=str(number), JobName=name, Comment=comment)
        for number, (name, comment) in enumerate(texts)
    )
    found = records(text, "\x1fMARK")
    assert [(one.name, one.comment) for one in found] == texts
    assert {one.user for one in found} <= {"u1"}


def test_an_accounted_run():
    (one,) = records(accounted(), "\x1fMARK")
    assert one.state is JobState.CANCELLED
    assert (one.exit_code, one.exit_signal) == (0, 15)
    assert one.time_limit_seconds == 3600
    assert dict(one.allocated_tres) == {"billing": 8, "gres/gpu": 1, "mem": 8000}


def test_runs_of_a_requeued_job_are_numbered_in_time():
    text = accounted(Submit="5", Start="6") + accounted(Submit="1") + accounted(JobIDRaw="8")
    assert [(one.job_id, one.submit_time, one.restarts) for one in records(text, "\x1fMARK")] == [
        (7, 1, 0), (8, 1, 0), (7, 5, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "elapsed"),
    [("100", "85"), ("140", "45")],  # Slurm 22.05, 26.05; 5 s of it suspended after the resize
)
def test_the_time_before_a_resize_is_counted_once(start, elapsed):
    text = accounted(State="RESIZING", Submit="90", Start="100", End="140", ElapsedRaw="40")
    text += accounted(
        State="COMPLETED", Submit="140", Start=start, End="190", ElapsedRaw=elapsed,
        Suspended="00:00:05",
    )  # fmt: skip
    before, after = records(text, "\x1fMARK")
    assert (before.state, before.is_over, before.elapsed_seconds) == (JobState.RESIZING, True, 40)
    assert (after.start_time, after.end_time, after.elapsed_seconds) == (140, 190, 45)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("Server thread count: 1\nDBD Agent queue size: 13\n\nJobs submitted: 2\n", 13),
        ("\tDBD Agent queue size:  0\n", 0),
        ("Server thread count: 1\n", None),
    ],
)
def test_what_slurmdbd_has_not_heard_of_yet(text, messages):
    assert backlog(text) == messages


def test_a_record_whose_start_has_not_arrived_is_left_out():
    assert records(accounted(Partition="", JobName="allocation"), "\x1fMARK") == ()


def test_an_unlimited_or_partition_limit_is_none():
    for text in ("UNLIMITED", "Partition_Limit", ""):
        (one,) = records(accounted(TimelimitRaw=text), "\x1fMARK")
        assert one.time_limit_seconds is None


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/a/%x-%j.out", "/a/train-9.out"),
        ("%A_%a.%u", "/w/7_3.u1"),
        ("/a/%5j-%%-%N-%t", "/a/00009-%-gpu01-%t"),
        ("", ""),
    ],
)
def test_patterns_of_paths_are_filled_in(path, seen):
    job = make_job(
        9, array_job_id=7, array_task="3", name="train", user="u1", node_list="gpu[01-02]"
    )
    assert parse_detail.filled(path, job, "/w") == seen
