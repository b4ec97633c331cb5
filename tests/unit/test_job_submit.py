"""job_submit.lua's logic, simulated: in a plain Lua interpreter with a stub of Slurm's table.

tests/e2e/test_job_submit.py asks the real slurmctld of two releases.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.tag import CONTROLLER, read_tag
from slurm_gpu_policy.policy.limits_table import file_text, lua, table_text
from tests.builders import (
    make_association,
    make_node,
    make_partition,
    make_policy,
    make_snapshot,
)
from tests.job_submit import (
    INFINITE,
    INTERPRETERS,
    NO_VAL,
    SCRIPT,
    change,
    judge,
    submission,
)

SNAPSHOT = make_snapshot(
    nodes=(
        make_node("gpu01"),
        make_node("gpu02"),
        make_node("cpu01", gpus=0),
        make_node("mix01", gpus=0),
        make_node("mix02", gpu_type="A100", gpus=4),
        make_node("mix03"),
    ),
    partitions=(
        make_partition("gpu", "gpu01", "gpu02"),
        make_partition("interactive", "gpu01", "gpu02"),
        make_partition("cpu", "cpu01"),
        make_partition("mixed", "mix01", "mix02", "mix03"),
        make_partition("whole", "gpu01"),
    ),
    associations=(
        make_association("root", "", parent=""),
        make_association("nlp", "", parent="root"),
        make_association("nlp-pretrain", "", parent="nlp"),
        make_association("vision", "", parent="root"),
        make_association("nlp", "u1"),
    ),
    config=ClusterConfig("cluster", "26.05.5", {"SlurmUser": "slurm(64030)"}),
)
UNTYPED_PASS = {"submission": {"untyped": "pass", "missing_time": "pass"}}


def text_of(closed=(), **policy):
    fields = {"enforcement": "enforce", **policy}
    return table_text(make_policy(**fields), SNAPSHOT, closed=closed)


def one(tmp_path, case, closed=(), **policy):
    return judge(tmp_path, text_of(closed, **policy), [case])[0]


# --- the script itself ----------------------------------------------------------------


@pytest.mark.parametrize("interpreter", ["lua5.1", *(i for i in INTERPRETERS if i != "lua5.1")])
def test_every_lua_gives_the_same_answer(tmp_path, interpreter):
    policy = {"limits": {"everyone": {"gpus_per_job": 2, "time": "2h"}}}
    answer = judge(
        tmp_path,
        text_of(**policy),
        [submission(tres_per_node="gres/gpu:h100:4", time_limit=300)],
        interpreter,
    )[0]
    assert answer.refused
    assert answer.said == (
        "gpu-policy: a job of user u1 may have 2 GPUs at most, not 4 (rule L-201)\n"
        "gpu-policy: a job of user u1 may run 02:00:00 at most, not 05:00:00 (rule L-203)"
    )


@pytest.mark.skipif(not shutil.which("luac5.1"), reason="no luac5.1 (apt-get install lua5.1)")
def test_the_script_sets_no_global_but_slurms_entry_points():
    listing = subprocess.run(
        ["luac5.1", "-l", "-p", SCRIPT], capture_output=True, text=True, check=True
    ).stdout
    written = {line.split(";")[1].strip() for line in listing.splitlines() if "SETGLOBAL" in line}
    assert written == {"slurm_job_submit", "slurm_job_modify"}


def test_the_script_can_be_read_at_a_sitting():
    assert len(SCRIPT.read_text().splitlines()) <= 550


# --- how many GPUs a request may hold ---------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        ({"tres_per_node": "gres:gpu:2"}, 2),
        ({"tres_per_node": "gres/gpu:h100:2"}, 2),
        ({"tres_per_node": "gres/gpu"}, 1),
        ({"tres_per_node": "gres:gpu:h100"}, 1),
        ({"tres_per_node": "gpu:h100:2"}, 2),
        ({"tres_per_node": "gres/gpu:4090:2"}, 2),
        ({"tres_per_node": "gres/gpu:2k"}, 2048),
        ({"tres_per_node": "gres/gpu:10K"}, 10240),
        ({"tres_per_node": "gres/gpu:0"}, 0),
        ({"tres_per_node": "gres:gpu:h100:+7"}, 7),  # all that strtoull takes
        ({"tres_per_node": "gres:gpu:h100: 7"}, 7),
        ({"tres_per_node": "gres/gpu:+7"}, 7),
        ({"tres_per_task": "gres/gpu:h100=+3", "num_tasks": 2}, 6),
        ({"tres_per_node": "gres/gpu:h100:2,gres/gpu:A100:3"}, 5),
        ({"tres_per_node": "gres/gpu:1,gres/gpu:3"}, 3),
        ({"tres_per_node": "gres/shard:4,gres/mps:100"}, 0),
        ({"tres_per_node": "gres/shard:4,gres/gpu:h100:1"}, 1),
        ({"tres_per_node": "gres/gpux:9"}, 0),
        ({"tres_per_node": "gres/gpu:2", "min_nodes": 2, "max_nodes": 2}, 4),
        ({"tres_per_node": "gres/gpu:2", "min_nodes": 1, "max_nodes": 4}, 8),
        ({"tres_per_node": "gres/gpu:1", "num_tasks": 4, "ntasks_per_node": 2}, 2),
        ({"tres_per_node": "gres/gpu:1", "num_tasks": 64, "min_cpus": 128}, 2),
        ({"tres_per_node": "gres/gpu:1", "req_nodes": "gpu[01-02]"}, 2),
        ({"tres_per_node": "gres/gpu:1", "req_nodes": "r[1-2]n[01-04,07],login"}, 11),
        ({"tres_per_node": "gres/gpu:1", "num_tasks": 3, "bitflags": 469778688}, 3),  # spread
        (
            {
                "tres_per_node": "gres/gpu:1",
                "num_tasks": 3,
                "bitflags": 469778688,
                "min_nodes": 1,
                "max_nodes": 2,
            },
            2,
        ),
        ({"tres_per_node": "gres/gpu:1", "num_tasks": 3, "bitflags": 469762048}, 1),
        ({"tres_per_job": "gres/gpu:6", "min_nodes": 3}, 6),
        ({"tres_per_job": "gres/gpu:4", "tres_per_node": "gres/gpu:h100:2", "min_nodes": 2}, 4),
        ({"tres_per_task": "gres/gpu:h100=2", "num_tasks": 3}, 6),
        ({"tres_per_task": "cpu=4,gres/gpu=2", "num_tasks": 3}, 6),
        ({"tres_per_task": "cpu=4"}, 0),
        ({"tres_per_task": "gres:gpu:1", "min_nodes": 2, "ntasks_per_node": 4}, 8),
        ({"tres_per_socket": "gres/gpu:1", "sockets_per_node": 2, "min_nodes": 2}, 4),
        ({"num_tasks": 8, "ntasks_per_tres": 2}, 4),
        ({"num_tasks": 4, "ntasks_per_tres": 2, "tres_per_job": "gres/gpu:2"}, 2),
        ({"shared": 0, "min_nodes": 2}, 16),
        ({"shared": 0, "tres_per_node": "gres/gpu:h100:1"}, 8),
        ({"shared": 0, "partition": "cpu"}, 0),
        ({"shared": 0, "partition": "mixed"}, 0),
        ({"shared": 0, "partition": "cpu,gpu", "min_nodes": 2}, 16),  # it may start in either
        ({"shared": 0, "partition": "gpu,mixed"}, 8),
        ({"shared": 0, "partition": "mixed", "tres_per_node": "gres/gpu:h100:1"}, 8),
        ({"shared": 2, "tres_per_node": "gres/gpu:h100:1"}, 1),
        ({"partition": "whole"}, 8),
        ({"partition": "nobody-knows", "tres_per_node": "gres/gpu:h100:3"}, 3),
        ({}, 0),
    ],
)
def test_the_gpus_of_a_request_are_those_it_may_hold_at_once(tmp_path, asked, gpus):
    """Each is refused by a limit of one fewer, and passes a limit of as many."""
    at = {"limits": {"everyone": {"gpus_per_job": gpus}}, "rules": {"A-103": "observe"}}
    case = submission(**asked)
    assert not one(tmp_path, case, **at, **UNTYPED_PASS).refused
    if gpus:
        at["limits"]["everyone"]["gpus_per_job"] = gpus - 1
        answer = one(tmp_path, case, **at, **UNTYPED_PASS)
        assert answer.said.endswith(f"{gpus - 1} GPUs at most, not {gpus} (rule L-201)")
        assert answer.refused


def test_a_count_may_be_as_large_as_slurm_reads_it(tmp_path):
    answer = one(
        tmp_path,
        submission(tres_per_node="gres/gpu:h100:1G"),
        limits={"everyone": {"gpus_per_job": 9}},
    )
    assert "not 1073741824 (rule L-201)" in answer.said


@pytest.mark.parametrize(
    "count", ["-7", "-1", "+9999999999999P", "0x7", "7 8", "99999999999999999"]
)
@pytest.mark.parametrize("interpreter", ["lua5.1", "lua5.4"])
def test_a_count_that_is_no_plain_number_is_more_than_any_limit(tmp_path, count, interpreter):
    """Slurm takes -7 as 18446744073709551609 GPUs, and such a job stays in its queue."""
    for case in (
        submission(tres_per_node=f"gres:gpu:h100:{count}", min_nodes=4),
        submission(tres_per_node=f"gres:gpu:h100={count}"),
        submission(tres_per_node=f"gres:gpu:h100:{count}", max_nodes=2**31, array_inx="0-3999999"),
    ):
        policy = text_of(limits={"everyone": {"gpus_per_job": 1000000}})
        answer = judge(tmp_path, policy, [case], interpreter)[0]
        assert answer.refused
        assert "(rule L-201)" in answer.said


@pytest.mark.parametrize(
    ("array", "at_once"),
    [("0-9", 10), ("0-9%2", 2), ("0-9:3", 4), ("1,3,5", 3), ("7", 1), ("0-1,5-6%9", 4), (None, 1)],
)
def test_of_an_array_one_task_is_a_job_and_those_that_run_at_once_are_held(
    tmp_path, array, at_once
):
    case = submission(tres_per_node="gres/gpu:h100:2", **({"array_inx": array} if array else {}))
    held = 2 * at_once
    passes = {"everyone": {"gpus_per_job": 2, "gpus": held}}
    assert not one(tmp_path, case, limits=passes, **UNTYPED_PASS).refused
    answer = one(tmp_path, case, limits={"everyone": {"gpus": held - 1}}, **UNTYPED_PASS)
    assert answer.refused
    assert f"at once, and this asks for {held} (rule L-202)" in answer.said


# --- whose limits hold ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "fields", "owner"),
    [
        ({"users": {"u1": {"gpus_per_job": 1}}}, {}, "user u1"),
        ({"accounts": {"nlp": {"gpus_per_job": 1}}}, {}, "account nlp"),
        ({"accounts": {"NLP": {"gpus_per_job": 1}}}, {"account": "Nlp"}, "account nlp"),
        (
            {"accounts": {"nlp": {"gpus_per_job": 1}}},
            {"account": "nlp-pretrain"},
            "account nlp-pretrain",
        ),
        ({"accounts": {"nlp": {"gpus_per_job": 1}}}, {"account": "vision"}, None),
        ({"users": {"u2": {"gpus_per_job": 1}}}, {}, None),
        ({"everyone": {"gpus_per_job": 1}, "users": {"u1": {"gpus_per_job": 2}}}, {}, None),
        (
            {"workloads": {"training": {"gpus_per_job": 1}}},
            {"comment": "mine gpu-submit(token=a;workload=training)"},
            "workload class training",
        ),
        (
            {"workloads": {"training": {"gpus_per_job": 1}}},
            {"comment": "urgent workload=training"},
            "workload class training",
        ),
        (
            {"workloads": {"training": {"gpus_per_job": 1}}},
            {"comment": "workload=training gpu-submit(workload=ocr)"},
            None,
        ),
        (
            {"workloads": {"training": {"gpus_per_job": 1}}},
            {"comment": "myworkload=training"},
            None,
        ),
        ({"workloads": {"generic": {"gpus_per_job": 1}}}, {}, "workload class generic"),
    ],
)
def test_the_limits_of_the_user_the_account_and_the_class_hold(tmp_path, limits, fields, owner):
    answer = one(tmp_path, submission(tres_per_job="gres/gpu:h100:2", **fields), limits=limits)
    assert answer.refused == (owner is not None)
    assert owner is None or f"a job of {owner} may have 1 GPUs at most" in answer.said


def test_no_rule_binds_root_and_slurmuser(tmp_path):
    policy = {"limits": {"everyone": {"gpus_per_job": 0}}}
    cases = [submission(user_id=uid, tres_per_node="gres/gpu:1") for uid in (0, 64030, 6001)]
    answers = judge(tmp_path, text_of(**policy), cases)
    assert [answer.refused for answer in answers] == [False, False, True]
    assert answers[0].written == {}


def test_who_submits_for_another_is_bound_by_the_others_limits(tmp_path):
    policy = {"limits": {"users": {"u1": {"gpus_per_job": 0}}}}
    assert one(tmp_path, submission(uid=0, tres_per_node="gres/gpu:h100:1"), **policy).refused


@pytest.mark.parametrize(
    ("level", "refused", "said"), [("observe", 0, 0), ("advise", 0, 1), ("enforce", 1, 1)]
)
def test_the_rules_own_level_decides_what_happens(tmp_path, level, refused, said):
    policy = {"limits": {"everyone": {"gpus_per_job": 0}}, "rules": {"L-201": level}}
    answer = one(tmp_path, submission(tres_per_node="gres/gpu:h100:1"), **policy)
    assert (answer.refused, "L-201" in answer.said) == (bool(refused), bool(said))
    assert said or "would say L-201" in answer.logged


def test_a_fresh_install_changes_no_job_and_tells_nobody(tmp_path):
    answer = one(
        tmp_path,
        submission(tres_per_node="gres/gpu:9"),
        enforcement="observe",
        limits={"everyone": {"gpus_per_job": 1, "time": "1m"}},
    )
    assert (answer.refused, answer.said, answer.written) == (False, "", {})


# --- GPU types ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ({"tres_per_node": "gres:gpu:2"}, {"tres_per_node": "gres:gpu:h100:2"}),
        ({"tres_per_node": "gres/gpu:2"}, {"tres_per_node": "gres/gpu:h100:2"}),
        ({"tres_per_node": "gres/gpu"}, {"tres_per_node": "gres/gpu:h100"}),
        ({"tres_per_job": "gres/gpu:1k"}, {"tres_per_job": "gres/gpu:h100:1k"}),
        ({"tres_per_task": "gres:gpu:2"}, {"tres_per_task": "gres:gpu:h100:2"}),
        ({"tres_per_task": "cpu=4,gres/gpu=2"}, {"tres_per_task": "cpu=4,gres/gpu:h100=2"}),
        (
            {"tres_per_socket": "gres/gpu:1", "sockets_per_node": 2},
            {"tres_per_socket": "gres/gpu:h100:1"},
        ),
        (
            {"tres_per_node": "gres/shard:2,gres/gpu:1"},
            {"tres_per_node": "gres/shard:2,gres/gpu:h100:1"},
        ),
        (
            {"tres_per_job": "gres/gpu:4", "tres_per_node": "gres/gpu:2"},
            {"tres_per_job": "gres/gpu:h100:4", "tres_per_node": "gres/gpu:h100:2"},
        ),
        ({"num_tasks": 8, "ntasks_per_tres": 2}, {"tres_per_job": "gres/gpu:h100:4"}),
        ({"tres_per_node": "gres/gpu:h100:2"}, {}),
        ({"tres_per_node": "gres/shard:2"}, {}),
        ({"tres_per_node": "gres/gpu:0"}, {}),
        (
            {"partition": "interactive,gpu", "tres_per_job": "gres/gpu:1"},
            {"tres_per_job": "gres/gpu:h100:1"},
        ),
        ({"shared": 0}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_an_untyped_request_is_typed_in_its_own_words(tmp_path, asked, written):
    answer = one(tmp_path, submission(time_limit=5, **asked))
    assert (answer.refused, answer.written) == (False, written)
    assert ("taken as h100 (rule L-204)" in answer.said) == bool(written)


def test_a_partition_of_several_types_wants_the_type_or_has_a_default(tmp_path):
    case = submission(partition="mixed", tres_per_node="gres/gpu:1", time_limit=5)
    answer = one(tmp_path, case)
    assert answer.refused
    assert "names no GPU type: write TYPE:COUNT, with one of A100, h100 (rule L-204)" in answer.said
    for policy in (
        {"submission": {"default_types": {"mixed": "A100"}}},
        {"defaults": {"gpu_type": "A100"}},
        {"defaults": {"gpu_type": "big"}, "gpu_types": {"big": {"gres_type": "A100"}}},
    ):
        assert one(tmp_path, case, **policy).written == {"tres_per_node": "gres/gpu:A100:1"}
    assert one(tmp_path, case, **UNTYPED_PASS).written == {}  # fmt: skip


def test_where_the_site_says_so_an_untyped_request_is_refused(tmp_path):
    answer = one(tmp_path, submission(tres_per_node="gres/gpu:1"), submission={"untyped": "refuse"})
    assert (answer.refused, "L-204" in answer.said) == (True, True)


def test_a_gpu_type_that_is_not_written_as_in_gres_conf_is_refused(tmp_path):
    cases = [submission(time_limit=5, tres_per_node=f"gres/gpu:{kind}:1")
             for kind in ("tesla", "H100", "A100", "gpu")]  # fmt: skip
    answers = judge(tmp_path, text_of(), cases)
    assert [answer.refused for answer in answers] == [True, True, False, True]
    assert "there is no GPU type tesla here, only A100, h100 (rule A-103)" in answers[0].said


def test_a_site_with_untyped_gpus_is_asked_for_no_type(tmp_path):
    case = submission(tres_per_node="gres/gpu:1", time_limit=5)
    assert one(tmp_path, case, cluster_defaults={"typed": False}).written == {}


def test_a_partition_that_the_table_does_not_know_yet_is_left_to_slurm(tmp_path):
    case = submission(partition="new", tres_per_node="gres/gpu:1", time_limit=5)
    answer = one(tmp_path, case)
    assert (answer.refused, answer.written, answer.said) == (False, {}, "")


# --- time -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "fields", "minutes"),
    [
        ({}, {}, None),  # the partition's default, which Slurm gives itself
        ({"defaults": {"time": "30m"}}, {}, 30),
        ({"defaults": {"time": "90s"}}, {}, 2),
        ({"defaults": {"time": "30m"}}, {"time_limit": 5}, None),
        ({"defaults": {"time": "30m"}}, {"comment": "workload=training"}, 1440),
        ({"defaults": {"time": "30d"}}, {}, 10080),
        ({"defaults": {"time": "5h"}, "limits": {"everyone": {"time": "2h"}}}, {}, 120),
        ({"limits": {"everyone": {"time": "90s"}}}, {}, 1),
        ({"limits": {"everyone": {"time": "2h"}}}, {}, None),
        ({"limits": {"everyone": {"time": "2h"}}}, {"partition": "whole"}, 120),
        ({"defaults": {"time": "30m"}, **UNTYPED_PASS}, {}, None),
    ],
)
def test_a_missing_time_limit_is_completed_within_the_limits(tmp_path, policy, fields, minutes):
    answer = one(tmp_path, submission(**fields), **policy)
    assert not answer.refused
    assert answer.written == ({} if minutes is None else {"time_limit": minutes})
    assert minutes is None or "without --time it gets " in answer.said


def test_where_the_site_says_so_a_missing_time_limit_is_refused(tmp_path):
    policy = {"submission": {"missing_time": "refuse"}}
    answer = one(tmp_path, submission(), **policy)
    assert (answer.refused, "(rule L-205)" in answer.said) == (True, True)
    assert not one(tmp_path, submission(time_limit=5), **policy).refused


@pytest.mark.parametrize(
    ("asked", "words"), [(121, "02:01:00"), (INFINITE, "unlimited"), (1500, "1-01:00:00")]
)
def test_too_long_a_time_limit_is_refused(tmp_path, asked, words):
    policy = {"limits": {"accounts": {"nlp": {"time": "2h"}}}}
    answer = one(tmp_path, submission(time_limit=asked), **policy)
    assert answer.refused
    assert f"a job of account nlp may run 02:00:00 at most, not {words} (rule L-203)" in answer.said
    assert not one(tmp_path, submission(time_limit=120), **policy).refused


def test_a_partitions_default_is_held_to_the_limit_too(tmp_path):
    policy = {"limits": {"everyone": {"time": "30m"}}, "submission": {"missing_time": "pass"}}
    assert "not 01:00:00 (rule L-203)" in one(tmp_path, submission(), **policy).said


# --- accounts and classes ---------------------------------------------------------------


def test_a_closed_account_and_those_below_it_take_no_job(tmp_path):
    cases = [submission(account=name) for name in ("nlp", "NLP-pretrain", "vision")]
    answers = judge(tmp_path, text_of(closed=["nlp"]), cases)
    assert [answer.refused for answer in answers] == [True, True, False]
    assert (
        "account nlp-pretrain is closed: use another one of yours (rule L-206)" in answers[1].said
    )


# --- budgets ----------------------------------------------------------------------------

GPU_HOUR = {"tres_per_node": "gres/gpu:h100:1", "time_limit": 60}


def with_budgets(folder, *, site=None, text=None, **table):
    """Write what accounts have left, and return the table that says where."""
    path = folder / "budgets.lua"
    whole = {
        "valid_until": 10_000, "way": "hold", "minimum": 0, "nodes": {},
        "prices": {"": 2 * 10**6, "h100": 2 * 10**6},
        "left": {}, "lines": {"nlp": ["nlp"], "nlp-pretrain": ["nlp"]}, **table,
    }  # fmt: skip
    path.write_text(file_text(whole) if text is None else text)
    return text_of(budgets={"nlp": {"gpu_hours": 1}}, ledger={"table": str(path)}, **(site or {}))


def left(amount, *, unit="gpu_seconds", spent=False):
    return {"amount": amount, "unit": unit, "spent": spent}


def test_what_was_let_through_is_subtracted_until_the_table_is_written_anew(tmp_path):
    text = with_budgets(tmp_path, left={"nlp": left(3 * 3600)})
    two_hours = GPU_HOUR | {"time_limit": 120}
    answers = judge(
        tmp_path, text, [submission(**two_hours), submission(**two_hours), submission(**GPU_HOUR)]
    )
    assert [answer.written.get("priority") for answer in answers] == [None, 0, None]
    assert answers[1].written["admin_comment"] == "gpu-policy(money=hold)"
    assert "account nlp may have too little left of its budget" in answers[1].said
    assert "(rule B-006)" in answers[1].said


def test_every_level_above_the_account_and_the_user_must_cover_a_job(tmp_path):
    levels = {"nlp": left(10_000), "nlp u1": left(1000), "vision u1": left(0)}
    text = with_budgets(tmp_path, left=levels)
    cases = [
        submission(**GPU_HOUR),
        submission(**GPU_HOUR, account="nlp-pretrain"),
        submission(**GPU_HOUR, user_id=6002, user_name="u2"),
        submission(time_limit=60),
    ]
    answers = judge(tmp_path, text, cases)
    assert [answer.written.get("priority") for answer in answers] == [0, None, None, None]
    assert "user u1 in account nlp" in answers[0].said


def test_money_counts_the_dearest_price_the_minimum_and_whole_nodes(tmp_path):
    def is_held(amount, case, **more):
        text = with_budgets(tmp_path, left={"nlp": left(amount, unit="money")}, **more)
        return judge(tmp_path, text, [case])[0].written.get("priority") == 0

    two = submission(tres_per_node="gres/gpu:h100:2", time_limit=60)
    assert not is_held(4_000_001, two)
    assert is_held(4_000_000, two)  # a micro-unit for each run, which is rounded up
    assert is_held(
        4_000_001, submission(tres_per_node="gres/gpu:h100:2", time_limit=60, array_inx="1-2")
    )
    assert is_held(8_999_999, two, minimum=9_000_000)
    cpus = submission(time_limit=60, partition="cpu")
    assert not is_held(0, cpus)
    assert is_held(999, cpus, nodes={"cpu": 1000})


def test_what_squeue_does_not_show_of_a_waiting_job_is_noted_for_the_controller(tmp_path):
    whole = submission(shared=0, time_limit=60)  # --exclusive: all GPUs of its node
    ranged = submission(tres_per_node="gres/gpu:h100:2", time_limit=60, min_nodes=1, max_nodes=2)

    def notes(amount, **more):
        text = with_budgets(tmp_path, left={"nlp": left(amount)}, **more)
        answers = judge(tmp_path, text, [whole, ranged, submission(**GPU_HOUR)])
        return [one.written.get("admin_comment") for one in answers]

    assert notes(10**6) == ["gpu-policy(most=8)", "gpu-policy(most=4)", None]
    assert notes(1) == [
        "gpu-policy(money=hold;most=8)",
        "gpu-policy(money=hold;most=4)",
        "gpu-policy(money=hold)",
    ]
    assert notes(1, way="qos", qos="low") == [
        "gpu-policy(money=qos;most=8)",
        "gpu-policy(money=qos;most=4)",
        "gpu-policy(money=qos)",
    ]
    text = with_budgets(tmp_path, left={"vision": left(1)})  # nothing limits nlp
    assert "admin_comment" not in judge(tmp_path, text, [whole])[0].written


def test_a_job_without_a_time_limit_is_held_whatever_is_left(tmp_path):
    text = with_budgets(tmp_path, site=UNTYPED_PASS, left={"nlp": left(2**50)})
    case = submission(tres_per_node="gres/gpu:h100:1", partition="whole")
    assert judge(tmp_path, text, [case])[0].written.get("priority") == 0


def test_a_spent_account_gets_the_sites_qos_or_no_gpus(tmp_path):
    spent = {"nlp": left(0, spent=True)}
    answer = judge(tmp_path, with_budgets(tmp_path, left=spent), [submission(**GPU_HOUR)])[0]
    assert answer.refused
    assert "account nlp has spent its budget (rule L-207)" in answer.said
    text = with_budgets(tmp_path, left=spent, qos="low")
    cases = [submission(**GPU_HOUR, **more) for more in ({}, {"qos": "high"}, {"qos": "low"})]
    cases.append(submission(time_limit=60))
    answers = judge(tmp_path, text, cases)
    assert [answer.written.get("qos") for answer in answers] == ["low", "low", None, None]
    mark = read_tag(answers[1].written["admin_comment"], CONTROLLER)
    assert mark == {"money": "qos", "money_home": "high"}
    assert not any(answer.refused for answer in answers)


def test_what_is_too_large_goes_to_the_sites_qos_where_it_wants_that(tmp_path):
    text = with_budgets(tmp_path, left={"nlp": left(60)}, way="qos", qos="low")
    answer = judge(tmp_path, text, [submission(**GPU_HOUR)])[0]
    assert answer.written["qos"] == "low"
    assert "(rule B-007)" in answer.said
    text = with_budgets(tmp_path, left={"nlp": left(60)}, way="nothing")
    assert judge(tmp_path, text, [submission(**GPU_HOUR)])[0].written == {}


def test_nobody_makes_a_waiting_job_larger_than_what_is_left(tmp_path):
    text = with_budgets(tmp_path, left={"nlp": left(3600)}, qos="low")
    cases = [
        change({}, time_limit=90),  # of 2 GPUs and an hour: just what is left
        change({}, time_limit=91),
        change({"qos": "low"}, qos="normal"),
        change({"admin_comment": "gpu-policy(money=held)", "priority": 0}, time_limit=600),
    ]
    answers = judge(tmp_path, text, cases)
    assert [answer.refused for answer in answers] == [False, True, True, False]
    assert "too little left of its budget (rule L-207)" in answers[1].said


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"admin_comment": "gpu-policy(money=held)", "priority": 0},
        {"admin_comment": "gpu-policy(money=qos)", "qos": "low"},
    ],
)
def test_a_waiting_job_on_a_budget_gets_no_more_nodes_for_squeue_would_not_show_their_gpus(
    tmp_path, record
):
    text = with_budgets(tmp_path, left={"nlp": left(10**9)}, qos="low")
    more = change(record | {"tres_per_node": "gres/gpu:h100:2"}, min_nodes=2, max_nodes=2)
    fewer = change(record | {"tres_per_node": "gres/gpu:h100:2"}, min_nodes=1, max_nodes=1)
    answers = judge(tmp_path, text, [more, fewer])
    assert [answer.refused for answer in answers] == [True, False]
    assert "submit the job anew with so many GPUs (rule L-207)" in answers[0].said


def test_a_waiting_job_with_whole_nodes_gets_no_more_of_them_either(tmp_path):
    """The record does not say --exclusive, nor any GPU; the mark says how many it may get."""
    text = with_budgets(tmp_path, left={"nlp": left(10**9)}, qos="low")
    record = {"tres_fmt_req_str": "cpu=64", "admin_comment": "gpu-policy(most=8)"}
    more = change(record, min_nodes=2, max_nodes=2)
    same = change(record, min_nodes=1, max_nodes=1)
    answers = judge(tmp_path, text, [more, same])
    assert [answer.refused for answer in answers] == [True, False]
    assert "submit the job anew with so many GPUs (rule L-207)" in answers[0].said
    free = with_budgets(tmp_path, left={"vision": left(1)}, qos="low")
    assert not judge(tmp_path, free, [more])[0].refused


@pytest.mark.parametrize("mark", ["hold", "held"])
def test_its_owner_does_not_release_a_job_that_is_held_for_its_budget(tmp_path, mark):
    text = with_budgets(tmp_path, left={"nlp": left(0)})
    record = {"admin_comment": f"gpu-policy(money={mark})", "priority": 0}
    answers = judge(tmp_path, text, [change(record, priority=INFINITE), change({}, priority=9)])
    assert [answer.refused for answer in answers] == [True, False]
    assert "(rule B-006)" in answers[0].said


def test_a_job_that_its_owner_submits_held_is_not_made_ours(tmp_path):
    text = with_budgets(tmp_path, left={"nlp": left(0)})
    assert judge(tmp_path, text, [submission(**GPU_HOUR, priority=0)])[0].written == {}


def test_a_job_that_waits_for_an_approval_has_one_mark_and_one_hold(tmp_path):
    site = {"approvals": {"thresholds": [{"gpus": 1}], "approvers": {"users": ["u4"]}}}
    text = with_budgets(tmp_path, site=site, left={"nlp": left(0)})
    large = submission(tres_per_node="gres/gpu:h100:2", time_limit=60)
    answer = judge(tmp_path, text, [large])[0]
    assert answer.written["admin_comment"] == "gpu-policy(approval=pending;size=2:3600:1;most=2)"
    assert "B-006" not in answer.said


@pytest.mark.parametrize("level", ["observe", "advise"])
def test_a_budget_only_says_so_where_its_rule_is_not_enforced(tmp_path, level):
    text = with_budgets(tmp_path, site={"rules": {"B-006": level}}, left={"nlp": left(0)})
    answer = judge(tmp_path, text, [submission(**GPU_HOUR)])[0]
    assert answer.written == {}
    assert ("B-006" in answer.said) == (level == "advise")


def test_a_missing_or_broken_table_of_budgets_costs_no_job_and_is_said_once(tmp_path):
    text = with_budgets(tmp_path, text="return {")
    cases = [submission(**GPU_HOUR), submission(**GPU_HOUR, later=2)]
    first, second = judge(tmp_path, text, cases)
    assert (first.code, second.code, first.written) == (0, 0, {})
    assert "budgets.lua is broken and was not taken over" in first.logged
    assert second.logged == ""
    (tmp_path / "budgets.lua").unlink()
    first, second = judge(tmp_path, text, cases)
    assert "budgets.lua cannot be read" in first.logged
    assert (first.code, second.code, second.logged) == (0, 0, "")


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_a_table_that_nobody_writes_any_more_holds_only_where_the_site_says_closed(
    tmp_path, on_failure
):
    site = {"on_failure": on_failure}
    text = with_budgets(tmp_path, site=site, left={"nlp": left(0)}, valid_until=999)
    answer = judge(tmp_path, text, [submission(**GPU_HOUR)])[0]
    assert (answer.written.get("priority") == 0) == (on_failure == "closed")


def test_an_unknown_workload_class_is_refused(tmp_path):
    answer = one(tmp_path, submission(comment="workload=trainign"))
    assert (answer.refused, answer.said) == (
        True,
        "gpu-policy: there is no workload class trainign (rule A-108)",
    )


# --- approvals ------------------------------------------------------------------------

ANN = {"users": ["ann"]}
FOUR = {"approvals": {"thresholds": [{"gpus": 4}], "approvers": ANN}}


@pytest.mark.parametrize(
    ("threshold", "fields", "held"),
    [
        ({"gpus": 4}, {"tres_per_job": "gres/gpu:h100:4"}, False),
        ({"gpus": 4}, {"tres_per_job": "gres/gpu:h100:5"}, True),
        ({"gpus": 4, "time": "2h"}, {"tres_per_job": "gres/gpu:h100:5"}, False),
        ({"gpus": 4, "time": "30m"}, {"tres_per_job": "gres/gpu:h100:5"}, True),
        ({"time": "2h"}, {"tres_per_job": "gres/gpu:h100:1", "time_limit": 121}, True),
        ({"gpu_hours": 9}, {"tres_per_job": "gres/gpu:h100:1", "array_inx": "0-9%1"}, True),
        ({"gpu_hours": 10}, {"tres_per_job": "gres/gpu:h100:1", "array_inx": "0-9%1"}, False),
        ({"cost": "4.99"}, {"tres_per_job": "gres/gpu:h100:2"}, True),
        ({"cost": "5"}, {"tres_per_job": "gres/gpu:h100:2"}, False),
        ({"cost": "5"}, {"tres_per_job": "gres/gpu:A100:200"}, False),  # without a price
        ({"cost": "5"}, {"tres_per_job": "gres/gpu:3"}, True),
        ({"cost": "5"}, {"tres_per_job": "gres/gpu:h100:1", "time_limit": INFINITE}, True),
        ({"cost": "5"}, {"shared": 0}, True),
        ({"gpus": 1, "accounts": ["root"]}, {"tres_per_job": "gres/gpu:h100:2"}, True),
        ({"gpus": 1, "accounts": ["vision"]}, {"tres_per_job": "gres/gpu:h100:2"}, False),
        ({"workloads": ["ocr"]}, {"comment": "workload=ocr"}, True),
        ({"gpus": 4}, {}, False),
        ({"gpu_hours": 4}, {"time_limit": INFINITE}, False),
        ({"gpus": 4}, {"tres_per_node": "gres/gpu:h100:2", "min_nodes": 1, "max_nodes": 3}, True),
    ],
)
def test_above_a_threshold_a_job_is_held_with_the_mark_that_says_so(
    tmp_path, threshold, fields, held
):
    answer = one(
        tmp_path,
        submission(**{"time_limit": 60, **fields}),
        approvals={"thresholds": [threshold], "approvers": ANN},
        gpu_types={"h100": {"price_per_hour": "2.50"}},
    )
    assert not answer.refused
    answer.written.pop("tres_per_job", None)
    comment = answer.written.pop("admin_comment", "")
    assert answer.written == ({"priority": 0} if held else {})
    assert comment.startswith("gpu-policy(approval=pending;size=") == held
    assert ("need an approval: the job is held until then (rule V-901)" in answer.said) == held


def test_a_job_that_is_refused_is_not_said_to_wait_for_an_approval(tmp_path):
    case = submission(tres_per_job="gres/gpu:h100:9")
    answer = one(tmp_path, case, limits={"everyone": {"gpus_per_job": 8}}, **FOUR)
    assert answer.refused
    assert "approval" not in answer.said
    assert not answer.written


def test_a_user_cannot_bring_an_approval_along(tmp_path):
    # Taking the inner mark out must not put an outer one together.
    forged = "hm gpu-policygpu-policy()(approval=approved)"
    answer = one(tmp_path, submission(tres_per_job="gres/gpu:h100:5", admin_comment=forged), **FOUR)
    written = answer.written["admin_comment"]
    assert read_tag(written, CONTROLLER)["approval"] == "pending"
    assert "gpu-policy(approval=approved" not in written


@pytest.mark.parametrize(
    ("mark", "uid", "priority", "refused"),
    [
        ("gpu-policy(approval=pending)", 6001, INFINITE, True),
        ("gpu-policy(approval=pending)", 6001, 5, True),
        ("gpu-policy(approval=denied;class=low)", 6001, INFINITE, True),
        ("gpu-policy(class=low;approval=expired)", 6001, INFINITE, True),
        ("gpu-policy(approval=pending)", 6002, INFINITE, True),  # a coordinator or operator
        ("gpu-policy(approval=pending)", 0, INFINITE, False),
        ("gpu-policy(approval=pending)", 64030, INFINITE, False),
        ("gpu-policy(approval=approved)", 6001, INFINITE, False),
        ("gpu-policy(class=low)", 6001, INFINITE, False),
        ("", 6001, INFINITE, False),
        ("gpu-policy(approval=pending)", 6001, 0, False),
        ("gpu-policy(approval=pending)", 6001, NO_VAL, False),
    ],
)
def test_only_an_approval_releases_a_job_that_waits_for_one(tmp_path, mark, uid, priority, refused):
    answer = one(tmp_path, change({"admin_comment": mark}, uid, priority=priority), **FOUR)
    assert answer.refused == refused
    assert ("(rule V-902)" in answer.said) == refused


@pytest.mark.parametrize(
    ("record", "fields", "refused"),
    [
        ({}, {"min_nodes": 2}, False),
        ({}, {"min_nodes": 3}, True),
        ({}, {"tres_per_node": "gres/gpu:h100:5"}, True),
        ({"tres_fmt_req_str": "cpu=1,gres/gpu=8"}, {"time_limit": 30}, False),
        ({"tres_fmt_req_str": "cpu=1,gres/gpu=8", "min_nodes": 4}, {"time_limit": 90}, True),
        ({"tres_fmt_req_str": "cpu=1,gres/gpu=8", "min_nodes": 4}, {"min_nodes": 3}, False),
        ({"tres_fmt_req_str": "cpu=1,gres/gpu=8", "min_nodes": 4}, {"min_nodes": 5}, True),
        ({"admin_comment": "gpu-policy(approval=pending)"}, {"min_nodes": 3}, False),
        ({"admin_comment": "gpu-policy(approval=approved)"}, {"min_nodes": 3}, True),
        ({"tres_per_node": "", "tres_per_task": "gres/gpu:1", "tres_fmt_req_str": "gres/gpu=4"},
         {"num_tasks": 5}, True),
    ],
)  # fmt: skip
def test_a_job_does_not_grow_over_a_threshold(tmp_path, record, fields, refused):
    answer = one(tmp_path, change(record, **fields), **FOUR)
    assert answer.refused == refused
    assert ("(rule V-906)" in answer.said) == refused


def test_a_job_does_not_move_to_an_account_where_it_needs_an_approval(tmp_path):
    thresholds = [{"gpus": 1, "accounts": ["vision"]}]
    policy = {"approvals": {"thresholds": thresholds, "approvers": ANN}}
    assert "(rule V-906)" in one(tmp_path, change({}, account="vision"), **policy).said
    assert not one(tmp_path, change({}, account="nlp-pretrain"), **policy).refused


# --- changes of a waiting job -----------------------------------------------------------

TWO = {"limits": {"everyone": {"gpus_per_job": 2, "time": "2h"}}}


@pytest.mark.parametrize(
    ("record", "uid", "fields", "rule"),
    [
        ({}, 6001, {"min_nodes": 2}, "L-201"),
        ({}, 6001, {"tres_per_node": "gres/gpu:h100:3"}, "L-201"),
        ({}, 6001, {"req_nodes": "gpu[01-02]"}, "L-201"),
        ({}, 6001, {"req_nodes": "gpu01"}, None),
        ({}, 6001, {"time_limit": 121}, "L-203"),
        ({}, 6001, {"time_limit": INFINITE}, "L-203"),
        ({}, 6001, {"time_limit": 120}, None),
        ({}, 0, {"time_limit": 121}, None),
        ({}, 6002, {"time_limit": 121}, None),  # an operator: Slurm refuses anybody else
        ({}, 6002, {"min_nodes": 2}, "L-201"),  # a coordinator may do that
        ({}, 6002, {"tres_per_node": "gres/gpu:h100:3"}, "L-201"),
        ({}, 6002, {"tres_per_node": "gres/gpu:h100:1"}, None),
        ({}, 6002, {"account": "vision"}, None),
        ({}, 0, {"min_nodes": 2}, None),
        ({"tres_fmt_req_str": "gres/gpu=9", "min_nodes": 9}, 6001, {"comment": "x"}, None),
        ({"tres_fmt_req_str": "gres/gpu=9", "min_nodes": 9}, 6001, {}, None),
        ({"tres_per_node": "gres/gpu:2"}, 6001, {"time_limit": 5}, None),
        ({}, 6001, {"tres_per_node": "gres/gpu:nope:1"}, "A-103"),
        ({}, 6001, {"account": "vision"}, "L-206"),
        # 26.05 records the number of tasks as the most nodes of `-n8`.
        ({"max_nodes": 8}, 6001, {"time_limit": 90}, None),
        ({"tres_fmt_req_str": "cpu=1,gres/gpu=3"}, 6001, {"time_limit": 90}, "L-201"),
    ],
)
def test_a_change_is_judged_by_what_the_job_then_asks_for(tmp_path, record, uid, fields, rule):
    unset = {"user_name": "u1", "default_account": "x", "time_limit": NO_VAL, **fields}
    answer = one(tmp_path, change(record, uid, **unset), closed=["vision"], **TWO)
    assert answer.refused == (rule is not None)
    assert rule is None or f"(rule {rule})" in answer.said


@pytest.mark.parametrize(
    ("throttle", "tasks", "held"),
    [("2", 9, 4), ("5", 9, 10), ("0", 9, 18), ("20", 9, 18), ("0", 2, 4)],
)
def test_a_change_of_the_array_throttle_is_held_to_the_gpus_at_once(
    tmp_path, throttle, tasks, held
):
    unset = {"user_name": "u1", "time_limit": NO_VAL, "array_inx": throttle}
    at = {"limits": {"everyone": {"gpus": 4}}}
    answer = one(tmp_path, change({"array_task_cnt": tasks}, **unset), **at)
    assert answer.refused == (held > 4)
    assert not answer.refused or f"this asks for {held} (rule L-202)" in answer.said


def test_an_untyped_change_is_typed(tmp_path):
    answer = one(tmp_path, change({}, tres_per_node="gres/gpu:1"))
    assert answer.written == {"tres_per_node": "gres/gpu:h100:1"}


# --- the table ------------------------------------------------------------------------

NONE = "return { everyone = { gpus_per_job = 0 } }"
ASKS = {"tres_per_node": "gres/gpu:h100:1"}


def test_a_new_table_counts_a_second_later(tmp_path):
    cases = [
        submission(**ASKS),
        submission(table="-- generation 2\n" + NONE, **ASKS),
        submission(later=1, **ASKS),
    ]
    answers = judge(tmp_path, "-- generation 1\nreturn {}", cases)
    assert [answer.refused for answer in answers] == [False, False, True]
    assert ["read" in answer.logged for answer in answers] == [True, False, True]


def test_a_table_is_read_anew_only_where_its_generation_differs(tmp_path):
    cases = [
        submission(**ASKS),
        submission(later=1, table="-- generation 1\n" + NONE, **ASKS),
        submission(later=1, table=NONE, **ASKS),
        submission(later=1, gone=True, **ASKS),
    ]
    answers = judge(tmp_path, "-- generation 1\nreturn {}", cases)
    assert [answer.refused for answer in answers] == [False, False, True, False]


@pytest.mark.parametrize(
    "broken",
    ["return {", "return 1", "while true do end", "error('x')", "\x1bLua", "", "os.exit()",
     "return { accounts = 1 }", "return { levels = 'x' }"],
)  # fmt: skip
def test_a_broken_table_costs_no_job_and_lifts_nothing(tmp_path, broken):
    first = judge(tmp_path, broken, [submission(**ASKS), submission(later=1, **ASKS)])
    assert [answer.refused for answer in first] == [False, False]
    assert ["is broken" in answer.logged for answer in first] == [True, False]
    cases = [submission(**ASKS), submission(later=1, table=broken, **ASKS)]
    assert [answer.refused for answer in judge(tmp_path, NONE, cases)] == [True, True]


def test_a_table_that_cannot_be_read_lifts_nothing_and_is_said_once(tmp_path):
    """Wrong rights, or slurmctld out of file descriptors."""
    ask = {"tres_per_node": "gres/gpu:h100:9"}
    at = {"limits": {"everyone": {"gpus_per_job": 8}}}
    good, lost, again, back = judge(
        tmp_path,
        text_of(**at),
        [
            submission(**ask),
            submission(**ask, later=5, unreadable=True),
            submission(**ask, later=5, unreadable=True),
            submission(**ask, later=5, table=text_of()),
        ],
    )
    assert good.refused
    assert lost.refused
    assert "cannot be read and stays in force as it was" in lost.logged
    assert "Permission denied" in lost.logged
    assert again.refused
    assert again.logged == ""
    assert not back.refused


@pytest.mark.parametrize(("on_failure", "refused"), [("open", False), ("closed", True)])
def test_an_error_in_the_script_costs_a_job_only_where_the_site_chose_so(
    tmp_path, on_failure, refused
):
    text = f'return {{ on_failure = "{on_failure}", users = {{ u1 = {{ gpus_per_job = "x" }} }} }}'
    answer = judge(tmp_path, text, [submission(**ASKS)])[0]
    assert answer.refused == refused
    assert "job_submit.lua failed" in answer.logged


def test_a_hostile_account_name_writes_no_line_of_its_own(tmp_path):
    answer = judge(
        tmp_path,
        "return { accounts = { " + f"[{lua('a%s' + chr(10) + 'b')}] = {{ closed = true }} }} }}",
        [submission(account="a%s\nb")],
    )[0]
    assert (
        answer.said == "gpu-policy: account a%s?b is closed: use another one of yours (rule L-206)"
    )
