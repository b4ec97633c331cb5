"""A cluster's settings are judged, and each fault says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.policy.health import cluster_findings, controller_finding
from tests.builders import make_node, make_policy, make_snapshot
from tests.fakes.world import default_config

GOOD = dict(default_config().settings)


def levels(settings=None, version="24.11.5", **fields):
    config = ClusterConfig("c", version, {**GOOD, **(settings or {})})
    found = cluster_findings(make_snapshot(config=config, **fields))
    assert all(bool(finding.remedy) == (finding.level != "ok") for finding in found)
    return {finding.subject: finding.level for finding in found if finding.level != "ok"}


def test_a_cluster_as_it_should_be_has_no_fault():
    assert levels() == {}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"GresTypes": "(null)"}, {"GPUs": "fail"}),
        ({"SelectType": "select/linear"}, {"node sharing": "fail"}),
        ({"DefMemPerCPU": "UNLIMITED"}, {"memory": "warn"}),
        ({"DefMemPerCPU": "UNLIMITED", "DefMemPerNode": "4000"}, {}),
        ({"DefMemPerCPU": "UNLIMITED", "JobDefaults": "DefMemPerGPU=64000"}, {}),
        ({"PriorityType": "priority/basic"}, {"priority": "warn"}),
        ({"AccountingStorageType": "accounting_storage/none"}, {"accounting": "warn"}),
        ({"AccountingStorageType": ""}, {"accounting": "warn"}),
        ({"AccountingStorageTRES": "cpu,mem"}, {"GPU accounting": "warn"}),
        ({"AccountingStorageEnforce": "associations"}, {"limits": "warn"}),
        ({"AccountingStorageEnforce": "all"}, {}),
        ({"MinJobAge": "2 sec"}, {"job age": "warn"}),
        ({"PriorityFlags": "MAX_TRES,INCR_ONLY"}, {"priority flags": "warn"}),
        ({"PriorityFlags": "MAX_TRES"}, {}),
        ({"PrioritySiteFactorPlugin": "site_factor/ours"}, {"site factors": "warn"}),
        ({"PrioritySiteFactorPlugin": "site_factor/none"}, {}),
        ({"PrioritySiteFactorPlugin": "(null)"}, {}),
    ],
)
def test_a_setting_that_is_wrong_is_found(settings, fault):
    assert levels(settings) == fault


def test_an_old_release_is_a_warning():
    assert levels(version="21.08.8") == {"release": "warn"}
    assert levels(version="22.05.8") == {}
    assert levels(version="unknown") == {}


def test_nodes_out_of_order_are_a_warning_and_all_of_them_a_failure():
    nodes = [make_node("a"), make_node("b")]
    broken = replace(nodes[1], state="DOWN", reason="fan")
    assert levels(nodes=(nodes[0], broken)) == {"GPU nodes": "warn"}
    assert levels(nodes=(broken,)) == {"GPU nodes": "fail"}
    assert levels(nodes=(make_node("c", gpus=0),)) == {"GPU nodes": "fail"}


def test_without_settings_only_the_nodes_are_judged():
    found = cluster_findings(make_snapshot(config=None))
    assert [finding.subject for finding in found] == ["GPU nodes"]


# --- gpu-policyd ---------------------------------------------------------------------------------

ANSWER = {
    "actor": "gpu-policyd@ctl",
    "leading": True,
    "leader": "gpu-policyd@ctl:1:ab",
    "policy_problems": [],
    "last_errors": [],
}


def test_a_controller_that_answers_is_well():
    found = controller_finding(make_policy(), "at ctl:9812", ANSWER, "")
    assert (found.level, found.message) == ("ok", "gpu-policyd@ctl answers at ctl:9812, and leads")
    found = controller_finding(make_policy(), "at ctl:9812", ANSWER | {"leading": False}, "")
    assert (found.level, found.message.endswith("and stands by")) == ("ok", True)


@pytest.mark.parametrize("trouble", ["policy_problems", "last_errors"])
def test_a_controller_in_trouble_is_a_warning(trouble):
    found = controller_finding(make_policy(), "at ctl:9812", ANSWER | {trouble: ["bad line"]}, "")
    assert (found.level, found.remedy) == ("warn", "gpu-policy status")
    assert "bad line" in found.message


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        ({}, "ok"),
        ({"ordering": {"kind": "fcfs"}}, "warn"),
        ({"approvals": {"thresholds": [{"gpus": 2}], "approvers": {"users": ["a"]}}}, "warn"),
        ({"controller": {"reach": "ctl:9812"}}, "warn"),
        ({"controller": {"listen": "127.0.0.1:9812"}}, "warn"),
    ],
)
def test_no_controller_is_a_warning_where_the_policy_file_wants_one(policy, level):
    found = controller_finding(make_policy(**policy), "at x", None, "nobody listens there")
    assert (found.level, "nobody listens" in found.message) == (level, level == "warn")
    assert bool(found.remedy) == (level == "warn")
