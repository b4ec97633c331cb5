"""Whatever a cluster is called and has, the file written for it is right."""

from __future__ import annotations

import re

import yaml
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.config.starting import starting_policy
from slurm_gpu_policy.config.validation import validate
from slurm_gpu_policy.model.account import Association
from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.policy.naming import unknown_names
from tests.builders import make_node, make_partition, make_snapshot

NAMES = st.text(max_size=12) | st.sampled_from(
    ["no", "null", "true", "~", "*", "&a", "#", "a: b", "1e3", "'", '"', "a\nb", "-", "{x}", "é"]
)


def test_the_file_for_a_cluster_is_right_and_names_what_it_has():
    snapshot = make_snapshot()
    policy = validate(starting_policy(snapshot).encode(), "new")
    assert policy.clusters["cluster"].typed
    assert policy.gpu_types["h100"].partitions == ("gpu", "interactive")
    assert unknown_names(policy, snapshot, ("batch", "interactive")) == ()


def test_the_file_says_how_many_gpus_there_are_and_names_the_accounts():
    text = starting_policy(make_snapshot())
    assert "# 16 GPUs on 2 nodes (gpu01, gpu02)" in text
    assert "#     nlp: {gpus: 16}" in text


def test_the_proposals_are_right_once_their_mark_is_taken_away():
    text = starting_policy(make_snapshot())
    start = text.index("# limits:\n")
    proposal = text[start : text.index("\n\n", start)]
    lines = [line.removeprefix("# ") for line in proposal.splitlines()]
    policy = validate("\n".join(lines).encode(), "proposal")
    assert policy.limits.accounts["nlp"].gpus == 16
    assert policy.limits.everyone.time == 3 * 86400


def test_all_that_can_be_proposed_is_right_taken_together():
    text = starting_policy(make_snapshot())
    tail = text[text.index("# What gpu-policyd does") :].splitlines()
    lines = [line[2:] for line in tail if re.match(r"# ([a-z_]+:| )", line)]
    policy = validate("\n".join(lines).encode(), "proposal")
    assert policy.ordering.kind == "fair_share"
    assert policy.approvals.thresholds[0].gpus == 16
    assert policy.pricing.hours[0].factor == 500_000
    assert policy.budgets["nlp"].period == "month"


def test_a_cluster_without_gpu_types_gets_an_untyped_file():
    snapshot = make_snapshot(nodes=(make_node("g1", gpu_type=""),))
    policy = validate(starting_policy(snapshot).encode(), "new")
    assert not policy.clusters["cluster"].typed
    assert policy.gpu_types == {}


def test_an_empty_cluster_gets_a_file_too():
    snapshot = make_snapshot(nodes=(), partitions=(), associations=(), config=None)
    validate(starting_policy(snapshot).encode(), "new")


@given(cluster=NAMES, kind=NAMES, partition=NAMES, account=NAMES, node=NAMES)
def test_no_name_a_cluster_may_have_breaks_the_file(cluster, kind, partition, account, node):
    snapshot = make_snapshot(
        config=ClusterConfig(cluster, "24.11.5"),
        nodes=(
            make_node(node, gpu_type=kind, partitions=(partition,)),
            make_node("other", gpu_type=kind, partitions=(partition,)),
        ),
        partitions=(make_partition(partition),),
        associations=(Association(account, ""),),
    )
    text = starting_policy(snapshot)
    validate(text.encode("utf-8"), "new")
    assert yaml.safe_load(text) is not None
