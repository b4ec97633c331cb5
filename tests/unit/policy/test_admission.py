"""What decide() makes of requests; each test is one line of docs/policy.md."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.account import Qos
from slurm_gpu_policy.model.cluster import ClusterConfig, NodeGpus
from slurm_gpu_policy.policy.admission import decide, needs_jobs
from tests.builders import (
    make_association,
    make_job,
    make_node,
    make_partition,
    make_policy,
    make_request,
    make_snapshot,
)

PRICED = {"h100": {"price_per_hour": "2.50"}, "a100": {"price_per_hour": "1.00"}}


def judge(request=None, snapshot=None, cluster=None, **policy_fields):
    policy = make_policy(**policy_fields)
    return decide(
        request or make_request(),
        snapshot or make_snapshot(),
        policy,
        cluster or policy.cluster_defaults,
    )


def rules(decision):
    return [reason.rule for reason in decision.reasons]


def refused_by(decision, rule):
    assert decision.kind == "refuse"
    found = next(reason for reason in decision.reasons if reason.rule == rule)
    assert found.message
    return found


def test_a_plain_request_is_admitted_with_account_qos_and_partition_filled_in():
    decision = judge(make_request(gpus=4))
    assert decision.kind == "admit"
    assert (decision.account, decision.qos, decision.partition) == ("nlp", "normal", "gpu")
    assert (decision.gpus, decision.gpu_type, decision.gres_type) == (4, "h100", "h100")
    assert decision.nodes == 1
    assert decision.reasons


def test_a_101_an_account_that_is_not_the_users_is_refused_and_theirs_are_named():
    reason = refused_by(judge(make_request(account="vision")), "A-101")
    assert (reason.value, reason.limit) == ("vision", "nlp")


def test_a_101_account_names_differ_in_case_only_for_people():
    assert judge(make_request(account="NLP")).account == "nlp"


def test_a_101_a_user_without_association_is_refused_only_where_slurm_enforces_them():
    nobody = make_snapshot(associations=())
    refused_by(judge(snapshot=nobody), "A-101")
    open_site = replace(nobody, config=ClusterConfig("c", "22.05.8"))
    assert judge(snapshot=open_site).kind == "admit"


def test_a_101_the_default_account_is_used_where_the_user_has_several():
    two = (make_association("a", is_default=False), make_association("b"))
    assert judge(snapshot=make_snapshot(associations=two)).account == "b"


def test_a_102_a_qos_the_account_does_not_allow_is_refused_and_the_allowed_are_named():
    reason = refused_by(judge(make_request(qos="urgent")), "A-102")
    assert reason.limit == "high, normal"


def test_a_102_the_qos_of_the_workload_class_is_used_where_allowed():
    site = {"training": {"qos": "high"}, "ocr": {"qos": "forbidden"}}
    assert judge(make_request(workload="training"), workloads=site).qos == "high"
    assert judge(make_request(workload="ocr"), workloads=site).qos == "normal"


def test_a_103_a_gpu_type_the_cluster_has_not_is_refused_and_its_types_are_named():
    reason = refused_by(judge(make_request(gpu_types=("b200",))), "A-103")
    assert (reason.value, reason.limit) == ("b200", "h100")


def test_a_103_of_several_wanted_types_the_first_that_exists_is_taken():
    assert judge(make_request(gpu_types=("b200", "h100"))).gpu_type == "h100"


def test_a_104_a_type_whose_nodes_are_all_drained_is_refused_with_their_state():
    down = make_node("gpu01", flags=frozenset({"DRAIN"}), reason="fan")
    reason = refused_by(judge(snapshot=make_snapshot(nodes=(down,))), "A-104")
    assert "gpu01 is idle+drain (fan)" in reason.message


def test_a_104_a_size_that_fits_only_with_drained_nodes_says_so():
    nodes = (make_node("gpu01"), make_node("gpu02", flags=frozenset({"DRAIN"})))
    reason = refused_by(judge(make_request(gpus=16), make_snapshot(nodes=nodes)), "A-104")
    assert "gpu02" in reason.message


@pytest.mark.parametrize(
    ("asked", "nodes", "gpus"),
    [
        ({"gpus": 1}, 1, 1),
        ({"gpus": 8}, 1, 8),
        ({"gpus": 12}, 2, 12),
        ({"gpus": 16}, 2, 16),
        ({"gpus": 9}, 2, 9),  # uneven, but the two nodes hold it
        ({"gpus": 8, "nodes": 2}, 2, 8),
        ({"gpus_per_node": 4}, 1, 4),
        ({"gpus_per_node": 8, "nodes": 2}, 2, 16),
    ],
)
def test_a_105_a_total_goes_to_the_fewest_nodes_that_share_it(asked, nodes, gpus):
    decision = judge(make_request(**asked))
    assert (decision.kind, decision.nodes, decision.gpus) == ("admit", nodes, gpus)


@pytest.mark.parametrize(
    "asked",
    [
        {"gpus": 17},
        {"gpus_per_node": 9},
        {"gpus_per_node": 8, "nodes": 3},
        {"gpus": 10, "nodes": 1},
        {"memory_mb": 2_000_000},
        {"cpus_per_task": 65},
        {"ntasks": 65},
        {"ntasks": 129, "nodes": 2, "gpus": 2},
        {"gpus": 1, "nodes": 2},
    ],
)
def test_a_105_what_can_never_fit_is_refused_with_what_would(asked):
    reason = refused_by(judge(make_request(**asked)), "A-105")
    assert reason.limit
    assert reason.remedy


def test_a_105_more_nodes_than_the_partition_gives_one_job_is_refused():
    tight = make_snapshot(partitions=(make_partition("gpu", "gpu01", "gpu02", max_nodes=1),))
    refused_by(judge(make_request(gpus=16), tight), "A-105")


@pytest.mark.parametrize(
    "closed",
    [
        {"state": "DOWN"},
        {"allow_accounts": frozenset({"vision"})},
        {"deny_accounts": frozenset({"nlp"})},
        {"allow_qos": frozenset({"high"})},
        {"deny_qos": frozenset({"normal"})},
    ],
)
def test_a_106_a_partition_that_is_closed_to_the_job_is_passed_over_or_refused(closed):
    shut = make_partition("gpu", "gpu01", "gpu02", **closed)
    other = make_partition("interactive", "gpu01", "gpu02")
    assert judge(snapshot=make_snapshot(partitions=(shut, other))).partition == "interactive"
    refused_by(judge(make_request(partition="gpu"), make_snapshot(partitions=(shut,))), "A-106")


def test_a_106_an_unknown_partition_is_refused_and_the_known_are_named():
    reason = refused_by(judge(make_request(partition="nope")), "A-106")
    assert reason.limit == "gpu, interactive, cpu"


def test_a_106_of_several_partitions_asked_for_all_that_fit_are_kept():
    assert judge(make_request(partition="gpu,interactive,cpu")).partition == "gpu,interactive"


def test_a_107_a_time_longer_than_the_partition_allows_is_refused_with_its_limit():
    asked = make_request(partition="interactive", time_seconds=9 * 3600)
    assert refused_by(judge(asked), "A-107").limit == "08:00:00"


def test_a_107_a_time_longer_than_the_qos_allows_is_refused():
    strict = make_snapshot(qos=(Qos("normal", max_wall_seconds=1800),))
    assert refused_by(judge(make_request(time_seconds=3600), strict), "A-107").limit == "00:30:00"


def test_r_305_a_default_time_is_cut_to_what_the_partition_allows():
    decision = judge(make_request(workload="training", partition="interactive"))
    assert (decision.kind, decision.time_seconds) == ("admit", 8 * 3600)


def test_a_108_an_unknown_workload_class_is_refused_and_the_known_are_named():
    assert "training" in refused_by(judge(make_request(workload="mining")), "A-108").limit


def test_a_109_a_limit_of_the_qos_that_no_waiting_can_overcome_is_refused():
    strict = make_snapshot(
        qos=(Qos("normal", max_tres_per_user=MappingProxyType({"gres/gpu": 2})),)
    )
    assert refused_by(judge(make_request(gpus=4), strict), "A-109").limit == "2"
    assert judge(make_request(gpus=2), strict).kind == "admit"


@pytest.mark.parametrize(
    ("text", "tasks"),
    [("0-9", 10), ("1,3,5", 3), ("0-99:10%2", 10), ("7", 1), ("1-3,8", 4), ("1,1", 1)],
)
def test_a_110_array_tasks_are_counted_as_slurm_counts_them(text, tasks):
    assert judge(make_request(array=text)).tasks == tasks


@pytest.mark.parametrize(
    "text", ["a", "5-1", "1-", "0-9:0", "1,,2", "-1", "１", "0-1001", "0-2%x", "0-2%", "0-2%2%3"]
)
def test_a_110_what_is_no_array_or_too_large_is_refused(text):
    refused_by(judge(make_request(array=text)), "A-110")


LIMITS = {"limits": {"everyone": {"gpus": 8, "gpus_per_job": 4, "time": "12h"}}}


def test_site_limits_are_said_and_not_enforced_where_the_site_observes():
    decision = judge(make_request(gpus=5, time_seconds=13 * 3600), **LIMITS)
    assert decision.kind == "admit"
    assert {"L-201", "L-203"} <= set(rules(decision))


def test_site_limits_refuse_where_the_site_enforces_and_say_what_would_pass():
    decision = judge(make_request(gpus=5), enforcement="enforce", **LIMITS)
    reason = refused_by(decision, "L-201")
    assert (reason.value, reason.limit) == ("5", "4")
    assert reason.remedy == "ask for at most 4 GPUs"


def test_l_202_gpus_held_now_count_against_the_limit_and_pending_ones_do_not():
    held = make_snapshot(jobs=(make_job(1, gpus=6), make_job(2, gpus=8, user="u2")))
    decision = judge(make_request(gpus=3), held, enforcement="enforce", **LIMITS)
    reason = refused_by(decision, "L-202")
    assert (reason.value, reason.limit) == ("9", "8")
    assert "2 GPUs" in reason.remedy
    assert judge(make_request(gpus=2), held, enforcement="enforce", **LIMITS).kind == "admit"


def test_a_users_own_limit_replaces_the_one_for_everyone():
    limits = {"limits": {"everyone": {"gpus_per_job": 1}, "users": {"u1": {"gpus_per_job": 8}}}}
    assert judge(make_request(gpus=8), enforcement="enforce", **limits).kind == "admit"


def test_an_accounts_limit_counts_all_its_users():
    limits = {"limits": {"accounts": {"nlp": {"gpus": 4}}}}
    held = make_snapshot(jobs=(make_job(1, gpus=4, user="u2"),))
    refused_by(judge(make_request(), held, enforcement="enforce", **limits), "L-202")


def test_a_workload_classes_limit_counts_jobs_of_that_class_alone():
    limits = {"limits": {"workloads": {"ocr": {"gpus": 2}}}}
    mark = "gpu-submit(token=x;workload=ocr)"
    jobs = (make_job(1, gpus=2, comment=mark), make_job(2, gpus=2))
    held = make_snapshot(jobs=jobs)
    refused_by(judge(make_request(workload="ocr"), held, enforcement="enforce", **limits), "L-202")
    assert judge(make_request(), held, enforcement="enforce", **limits).kind == "admit"


def test_the_queue_is_read_only_where_a_limit_on_gpus_at_once_asks_for_it():
    assert not needs_jobs(make_request(), make_policy())
    assert needs_jobs(make_request(), make_policy(**LIMITS))


def test_c_401_the_estimate_is_gpus_times_time_times_price_exactly():
    decision = judge(make_request(gpus=3, time_seconds=1000, gpu_types=("h100",)), gpu_types=PRICED)
    # Slurm keeps time limits in minutes, rounded up: 1000 s are 17 minutes.
    assert decision.cost_micros == -(-3 * 1020 * 2_500_000 // 3600)
    assert "C-401" in rules(decision)


def test_c_401_the_estimate_of_an_array_counts_every_task():
    one = judge(make_request(time_seconds=3600), gpu_types=PRICED).cost_micros
    ten = judge(make_request(time_seconds=3600, array="1-10"), gpu_types=PRICED).cost_micros
    assert ten == 10 * one


def test_c_403_a_type_without_price_says_that_there_is_no_estimate():
    decision = judge()
    assert decision.cost_micros is None
    assert "C-403" in rules(decision)


TWO_TYPES = make_snapshot(nodes=(make_node("gpu01"), make_node("gpu02", "a100")))


def test_r_301_the_workload_class_chooses_the_type_in_its_order():
    site = {"a": {"pools": ["a100", "h100"]}, "b": {"pools": ["h100", "a100"]}}
    assert judge(make_request(workload="a"), TWO_TYPES, workloads=site).gpu_type == "a100"
    assert judge(make_request(workload="b"), TWO_TYPES, workloads=site).gpu_type == "h100"


def test_r_301_a_star_stands_for_the_rest_cheapest_first():
    decision = judge(snapshot=TWO_TYPES, gpu_types=PRICED)
    assert (decision.gpu_type, rules(decision)[0]) == ("a100", "R-301")


def test_r_301_the_next_type_is_taken_where_the_first_cannot_hold_the_job():
    nodes = (make_node("gpu01", gpus=2), make_node("gpu02", "a100"))
    asked = make_request(gpus=4, gpu_types=("h100", "a100"))
    decision = judge(asked, make_snapshot(nodes=nodes))
    assert decision.gpu_type == "a100"
    assert "can never fit" in decision.reasons[0].message


def test_r_302_max_cost_takes_the_cheapest_type_that_fits_under_it():
    asked = make_request(time_seconds=3600, gpu_types=("h100", "a100"), max_cost_micros=3_000_000)
    decision = judge(asked, TWO_TYPES, gpu_types=PRICED)
    assert (decision.gpu_type, decision.cost_micros) == ("a100", 1_000_000)
    assert "R-302" in rules(decision)


def test_c_402_a_job_that_could_cost_more_is_refused_with_the_time_that_would_pass():
    asked = make_request(time_seconds=7200, max_cost_micros=2_500_000)
    reason = refused_by(judge(asked, gpu_types={"h100": PRICED["h100"]}), "C-402")
    assert "--time=01:00:00" in reason.remedy


def test_c_402_the_time_that_would_pass_does_pass_in_slurms_minutes():
    priced = {"gpu_types": {"h100": PRICED["h100"]}}
    cap = make_request(time_seconds=61, max_cost_micros=50_000)
    remedy = refused_by(judge(cap, **priced), "C-402").remedy
    assert "--time=00:01:00" in remedy
    assert judge(make_request(time_seconds=60, max_cost_micros=50_000), **priced).kind == "admit"


def test_r_303_a_fallback_keeps_within_one_node_with_all_its_tasks():
    asked = make_request(gpus=99, ntasks=8, nodes=2, workload="ocr", cpu_fallback=True)
    decision = judge(asked)
    assert (decision.kind, decision.nodes, decision.cpus) == ("admit", 1, 8)


def test_r_303_a_fallback_asks_for_no_more_cpus_than_a_node_has_memory_for():
    enforced = {"AccountingStorageEnforce": "limits", "DefMemPerCPU": "32000"}
    small = make_snapshot(config=ClusterConfig("c", "22.05.8", MappingProxyType(enforced)))
    asked = make_request(gpus=99, workload="ocr", cpu_fallback=True)
    assert judge(asked, small).cpus == 31  # of 64: 1,000,000 MiB at 32,000 each
    assert judge(replace(asked, memory_mb=1000), small).cpus == 64


def test_c_403_max_cost_without_prices_is_refused_and_not_ignored():
    refused_by(judge(make_request(max_cost_micros=1)), "C-403")


def test_r_303_a_job_falls_back_to_cpus_only_where_asked_and_the_class_can():
    too_many = {"gpus": 17, "workload": "ocr"}
    assert judge(make_request(**too_many)).kind == "refuse"
    decision = judge(make_request(**too_many, cpu_fallback=True))
    assert (decision.kind, decision.gpus, decision.partition) == ("admit", 0, "cpu")
    assert decision.cpus == 64
    assert "R-303" in rules(decision)
    training = make_request(gpus=17, workload="training", cpu_fallback=True)
    refused_by(judge(training), "R-303")


def test_r_304_a_job_without_gpus_goes_to_nodes_without_gpus():
    decision = judge(make_request(gpus=None))
    assert (decision.kind, decision.partition, decision.gpus) == ("admit", "cpu", 0)


def test_an_untyped_site_tells_types_apart_by_features_and_asks_without_a_type():
    nodes = (
        make_node("gpu01", "", features=frozenset({"hopper"})),
        make_node("gpu02", "", features=frozenset({"ampere"})),
    )
    site = {
        "gpu_types": {"h100": {"features": ["hopper"]}, "a100": {"features": ["ampere"]}},
        "cluster_defaults": {"typed": False},
    }
    decision = judge(make_request(gpu_types=("a100",)), make_snapshot(nodes=nodes), **site)
    assert (decision.gpu_type, decision.gres_type) == ("a100", None)
    assert decision.features == ("ampere",)
    refused_by(judge(make_request(gpus=9), make_snapshot(nodes=nodes), **site), "A-105")


def test_an_untyped_site_without_listed_types_has_one_called_gpu():
    decision = judge(snapshot=make_snapshot(nodes=(make_node("gpu01", ""),)))
    assert (decision.kind, decision.gpu_type, decision.gres_type) == ("admit", "gpu", None)


def test_a_site_may_give_slurms_type_another_name():
    site = {"gpu_types": {"big": {"gres_type": "h100", "price_per_hour": "1"}}}
    decision = judge(make_request(gpu_types=("big",)), **site)
    assert (decision.gpu_type, decision.gres_type) == ("big", "h100")
    by_slurms_name = judge(make_request(gpu_types=("h100",)), **site)
    assert by_slurms_name.gpu_type == "big"


@given(
    counts=st.lists(st.integers(1, 8), min_size=1, max_size=6),
    gpus=st.integers(1, 60),
    nodes=st.none() | st.integers(1, 7),
)
def test_an_admitted_size_always_fits_and_a_refused_one_never_does(counts, gpus, nodes):
    machines = tuple(
        replace(make_node(f"n{i}"), gpus=(NodeGpus("h100", count, 0),))
        for i, count in enumerate(counts)
    )
    decision = judge(make_request(gpus=gpus, nodes=nodes), make_snapshot(nodes=machines))
    largest = sorted(counts, reverse=True)
    wanted = [nodes] if nodes else range(1, len(counts) + 1)
    possible = any(n <= min(len(counts), gpus) and sum(largest[:n]) >= gpus for n in wanted)
    assert (decision.kind == "admit") == possible
    if possible:
        assert decision.gpus == gpus
        assert sum(largest[: decision.nodes]) >= gpus


APPROVALS = {"thresholds": [{"gpus": 4}], "approvers": {"users": ["ann"]}}


def test_v_901_a_job_above_a_threshold_is_held_where_the_site_enforces():
    decision = judge(make_request(gpus=8), approvals=APPROVALS, enforcement="enforce")
    assert decision.kind == "hold"
    assert decision.reasons[0].rule == "V-901"
    assert "ann" in decision.reasons[0].message
    assert judge(make_request(gpus=4), approvals=APPROVALS, enforcement="enforce").kind == "admit"


@pytest.mark.parametrize("level", ["observe", "advise"])
def test_v_901_elsewhere_it_is_said_and_the_job_passes(level):
    decision = judge(make_request(gpus=8), approvals=APPROVALS, enforcement=level)
    assert decision.kind == "admit"
    assert "V-901" in rules(decision)


def test_v_901_has_a_level_of_its_own():
    decision = judge(make_request(gpus=8), approvals=APPROVALS, rules={"V-901": "enforce"})
    assert decision.kind == "hold"


def test_v_901_what_is_refused_anyway_waits_for_no_approval():
    decision = judge(make_request(gpus=99), approvals=APPROVALS, enforcement="enforce")
    assert decision.kind == "refuse"


def test_v_901_hours_cost_and_tasks_are_those_of_the_decision():
    costly = {**APPROVALS, "thresholds": [{"cost": "20", "gpu_hours": 7}]}
    request = make_request(gpus=1, time_seconds=3600, array="0-8")
    held = judge(request, approvals=costly, gpu_types=PRICED, enforcement="enforce")
    assert held.kind == "hold"
    request = make_request(gpus=1, time_seconds=3600, array="0-6")
    passed = judge(request, approvals=costly, gpu_types=PRICED, enforcement="enforce")
    assert passed.kind == "admit"


def test_t_802_more_retries_than_the_site_allows_are_refused_with_what_would_pass():
    reason = refused_by(judge(make_request(retries=9), enforcement="enforce"), "T-802")
    assert (reason.value, reason.limit) == ("9", "3")
    assert "--retries 3" in reason.remedy
    assert judge(make_request(retries=3), enforcement="enforce").kind == "admit"
    assert judge(make_request(retries=9)).kind == "admit"  # and the controller caps them
