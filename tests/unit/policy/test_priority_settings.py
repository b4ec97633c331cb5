from __future__ import annotations

import pytest

from slurm_gpu_policy.policy.priority import Settings
from slurm_gpu_policy.policy.priority_settings import calculation, read_settings

PRINTED = {
    "AccountingStorageTRES": "cpu,mem,energy,node,billing,fs/disk,vmem,pages,gres/gpu",
    "AccountingStorageType": "accounting_storage/slurmdbd",
    "PriorityDecayHalfLife": "7-00:00:00",
    "PriorityCalcPeriod": "00:01:00",
    "PriorityFavorSmall": "No",
    "PriorityFlags": "MAX_TRES",
    "PriorityMaxAge": "7-00:00:00",
    "PriorityUsageResetPeriod": "NONE",
    "PriorityType": "priority/multifactor",
    "PriorityWeightAge": "2000",
    "PriorityWeightAssoc": "1000",
    "PriorityWeightFairShare": "10000",
    "PriorityWeightJobSize": "500",
    "PriorityWeightPartition": "1000",
    "PriorityWeightQOS": "6000",
    "PriorityWeightTRES": "GRES/gpu=1500,CPU=100,Mem=100",
    "FairShareDampeningFactor": "1",
}


def test_what_scontrol_prints_is_read():
    read = read_settings(PRINTED)
    weights = read.weights
    assert (weights.age, weights.association, weights.fair_share) == (2000, 1000, 10_000)
    assert (weights.job_size, weights.partition, weights.qos) == (500, 1000, 6000)
    assert list(weights.tres.items()) == [("cpu", 100.0), ("mem", 100.0), ("gres/gpu", 1500.0)]
    assert read.flags == {"MAX_TRES"}
    assert read.fair_tree
    assert read.multifactor
    assert (read.max_age_seconds, read.half_life_seconds) == (604800, 604800)
    assert (read.calc_period_seconds, read.reset_period, read.dampening) == (60, "NONE", 1)
    assert not read.favor_small


def test_the_weights_of_tres_are_in_the_order_of_the_accounting():
    read = read_settings({**PRINTED, "AccountingStorageTRES": "gres/gpu:h100,gres/gpu",
                          "PriorityWeightTRES": "gres/gpu=1,gres/gpu:h100=2,node=3"})  # fmt: skip
    assert list(read.weights.tres) == ["node", "gres/gpu:h100", "gres/gpu"]


def test_what_is_missing_or_unset_has_slurms_default():
    unset = dict.fromkeys(PRINTED, "(null)")
    del unset["AccountingStorageType"], unset["PriorityType"]
    del unset["PriorityUsageResetPeriod"], unset["PriorityFavorSmall"]
    for settings in ({}, unset):
        read = read_settings(settings)
        assert read.weights.tres == {}
        assert read.weights.age == read.weights.fair_share == 0
        assert (read.max_age_seconds, read.half_life_seconds) == (604800, 604800)
        assert (read.calc_period_seconds, read.dampening) == (300, 1)
        assert read.fair_tree
        assert read.multifactor


def test_without_a_database_age_and_fair_share_have_no_weight():
    read = read_settings({**PRINTED, "AccountingStorageType": "accounting_storage/none"})
    assert (read.weights.age, read.weights.fair_share, read.weights.qos) == (0, 0, 6000)


def test_flags_are_a_list_in_any_case():
    read = read_settings({**PRINTED, "PriorityFlags": "ACCRUE_ALWAYS, no_fair_tree"})
    assert read.flags == {"ACCRUE_ALWAYS", "NO_FAIR_TREE"}
    assert not read.fair_tree


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00:00", 0), ("0", 0), ("1-02:03:04", 93784), ("600", 600), ("UNLIMITED", 2**32 - 1)],
)
def test_durations_are_read(text, seconds):
    assert read_settings({"PriorityDecayHalfLife": text}).half_life_seconds == seconds


def test_basic_priority_is_not_multifactor():
    assert not read_settings({"PriorityType": "priority/basic"}).multifactor


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("PriorityWeightAge", "lots"),
        ("PriorityWeightAge", "-1"),
        ("PriorityMaxAge", "a week"),
        ("PriorityWeightTRES", "cpu"),
        ("PriorityWeightTRES", "cpu=many"),
    ],
)
def test_what_slurm_does_not_print_is_named(key, text):
    with pytest.raises(ValueError, match=key if "many" not in text else "cpu"):
        read_settings({key: text})


def test_the_clusters_sizes_complete_the_settings():
    found = calculation(
        read_settings(PRINTED), cluster_cpus=128, nodes=2, max_qos_priority=9,
        max_association_priority=8, max_partition_factor=0,
    )  # fmt: skip
    assert isinstance(found, Settings)
    assert (found.cluster_cpus, found.nodes, found.max_qos_priority) == (128, 2, 9)
    assert (found.max_association_priority, found.max_partition_factor) == (8, 1)
